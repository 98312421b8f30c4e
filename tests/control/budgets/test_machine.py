"""Budgets against a model of them: whatever happens in whatever order, both hold the same figures."""

from __future__ import annotations

import asyncio
import uuid
from collections import defaultdict
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from pydantic import SecretStr

from agentos.control.budgets.model import Period
from agentos.control.budgets.spending import SpendingFenced
from agentos.intake.identity import service as identity
from agentos.kernel.database import Database
from agentos.kernel.ids import OrgId
from agentos.kernel.settings import DatabaseSettings
from agentos.kernel.unit_of_work import Doors
from tests.control.budgets.purses import NOON, Purse, cap, periods, priced, told

T = TypeVar("T")
Key = tuple[str, str, str]  # subject, period, its first day

AMOUNTS = st.integers(0, 60)
RUNS = st.integers(0, 3)
CAPS = st.sampled_from(
    [("", Period.DAY), ("", Period.MONTH), ("a", Period.DAY), ("b", Period.MONTH), ("a", Period.RUN)]
)
NOTHING = (0, 0, 0, 0)  # money, tokens, calls, unknown calls


@dataclass
class Held:
    """What the model knows of a run."""

    spent: tuple[int, int] = (0, 0)
    on: date | None = None  # when what is open was reserved
    open: tuple[int, int] | None = None
    lost: bool = False  # nobody will answer what is open
    known: bool = False  # the database has a row of it
    over: bool = False


class Budgets(RuleBasedStateMachine):
    """Four runs at a time, of two agents, under caps that come, go and change, over the end of a month."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.database = Database(DatabaseSettings(url=SecretStr(self.url), pool_size=2))
        self.doors = Doors(self.database)
        self.organization = OrgId(f"o{uuid.uuid4().hex[:12]}")
        self.at = NOON.replace(day=29)
        self.caps: dict[tuple[str, Period], int] = {}
        self.spent: dict[Key, tuple[int, ...]] = defaultdict(lambda: NOTHING)
        self.reserved: dict[Key, tuple[int, int]] = defaultdict(lambda: (0, 0))
        self.overshot = self.started = 0
        self.purses: dict[int, Purse] = {}
        self.helds: dict[int, Held] = {}

    def teardown(self) -> None:
        self.do(self.database.close())
        self.loop.close()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    @initialize()
    def begin(self) -> None:
        self.do(identity.found_organization(self.database, self.organization, name="Machine"))
        self.do(priced(self.doors, self.organization))
        self.set_cap(("", Period.MONTH), 300)
        for number in range(4):
            self._start(number)

    @rule(which=CAPS, most=st.integers(0, 300))
    def set_cap(self, which: tuple[str, Period], most: int) -> None:
        self.caps[which] = most
        self.do(cap(self.doors, self.organization, which[1], which[0], money=most))

    @rule(number=RUNS, money=AMOUNTS, more=AMOUNTS)
    def reserve(self, number: int, money: int, more: int) -> None:
        if self.helds[number].over:
            self._start(number)
        purse, held = self.purses[number], self.helds[number]
        self._close(number, unknown=True)  # to ask again before an answer came: the first call may have been billed
        full = self.do(purse.reserve(money, money + more))
        held.known = True
        no_room = [which for which, most in self.caps.items() if self._wants(number, which) + money > most and money]
        assert (full is not None) == bool(no_room), (full, no_room)
        if full is None:
            self._add(number, self.at.date(), reserved=(money, money + more))
            held.open, held.on, held.lost = (money, money + more), self.at.date(), False

    @precondition(lambda self: any(one.open and not one.lost for one in self.helds.values()))
    @rule(data=st.data(), money=st.none() | st.integers(0, 80))
    def answer(self, data: st.DataObject, money: int | None) -> None:
        number = data.draw(st.sampled_from([n for n, one in self.helds.items() if one.open and not one.lost]))
        self._answer(number, money)

    @rule(number=RUNS, money=AMOUNTS, more=AMOUNTS, used=st.none() | st.integers(0, 80))
    def reserve_and_answer(self, number: int, money: int, more: int, used: int | None) -> None:
        self.reserve(number, money, more)
        if self.helds[number].open:
            self._answer(number, used)

    def _answer(self, number: int, money: int | None) -> None:
        held = self.helds[number]
        assert held.open is not None
        spent = held.open if money is None else (money, money)
        self.overshot += spent[0] > held.open[0] or spent[1] > held.open[1]
        self.do(self.purses[number].answer(money, money or 0))
        self._spend(number, spent, unknown=money is None)

    @rule(number=RUNS)
    def lose_the_worker(self, number: int) -> None:
        self.purses[number].lose()
        self.helds[number].lost = True

    @rule(number=RUNS, refused=st.booleans())
    def leave(self, number: int, refused: bool) -> None:
        purse, held = self.purses[number], self.helds[number]
        if refused:
            purse.spending.release()
        self.do(purse.close())
        self._close(number, unknown=held.lost or not refused)  # nobody knows what became of a lost worker's call

    @rule(number=RUNS)
    def end(self, number: int) -> None:
        held = self.helds[number]
        self.do(self.purses[number].end())
        self._close(number, unknown=True)
        held.over = held.over or held.known

    @rule(number=RUNS)
    def a_stale_attempt_reserves_nothing(self, number: int) -> None:
        purse = self.purses[number]
        stale, purse.attempt = purse.spending, purse.attempt + 1
        stale.token = (0, 1)
        try:
            if self.helds[number].known:
                self.do(stale.reserve("t0", "elsewhere", "tester", lambda: 1, 0, at=self.at, spent_on=self.at))
                raise AssertionError("a stale attempt reserved")
        except SpendingFenced:
            pass
        finally:
            purse.lose()
            self.helds[number].lost = True

    @rule()
    def next_day(self) -> None:
        self.at += timedelta(days=1)
        for purse in self.purses.values():
            purse.at = self.at

    @invariant()
    def both_hold_the_same(self) -> None:
        found = self.do(periods(self.database, self.organization))
        for key in set(found) | set(self.spent) | set(self.reserved):
            one = found.get(key)
            figures = ("money", "tokens", "calls", "unknown_calls", "reserved_money", "reserved_tokens")
            said = tuple(one[name] for name in figures) if one else (*NOTHING, 0, 0)
            assert said == (*self.spent[key], *self.reserved[key]), key

    @invariant()
    def every_overshoot_is_told(self) -> None:
        assert len(self.do(told(self.doors, self.organization, "BudgetOvershot"))) == self.overshot

    @invariant()
    def the_overshoots_of_a_month_are_counted_in_it(self) -> None:
        found = self.do(periods(self.database, self.organization))
        counted = [one["overshot_calls"] for (who, period, _), one in found.items() if (who, period) == ("", "month")]
        assert sum(counted) == self.overshot

    @invariant()
    def a_cap_is_told_once_for_each_run_and_only_when_it_is_reached(self) -> None:
        facts = self.do(told(self.doors, self.organization, "BudgetReached"))
        named = ("subject", "period", "run_id", "resource", "most", "percent")
        of_runs = [tuple(one[name] for name in named) for one in facts if one["period"] == "run"]
        assert len(of_runs) == len(set(of_runs))
        assert all(one["percent"] == 100 or one["used"] * 100 >= one["most"] * 75 for one in facts)

    def _start(self, number: int) -> None:
        """Start a run, in the place of the one that is over."""
        self.started += 1
        run_id, agent = f"run_{self.started}", "ab"[number % 2]
        self.purses[number] = Purse(self.doors, self.organization, run_id, agent, at=self.at)
        self.helds[number] = Held()

    def _wants(self, number: int, which: tuple[str, Period]) -> int:
        """What is spent and reserved under a cap, or nothing for a cap that is not about the run."""
        who, period = which
        if who and who != self.purses[number].agent_id:
            return -(10**9)
        if period is Period.RUN:
            return self.helds[number].spent[0]
        since = self.at.date() if period is Period.DAY else self.at.date().replace(day=1)
        key = (who, period.value, since.isoformat())
        return self.spent[key][0] + self.reserved[key][0]

    def _keys(self, number: int, on: date) -> list[Key]:
        return [
            (who, period, since.isoformat())
            for who in ("", self.purses[number].agent_id)
            for period, since in (("day", on), ("month", on.replace(day=1)))
        ]

    def _add(
        self, number: int, on: date, *, spent: tuple[int, ...] = NOTHING, reserved: tuple[int, int] = (0, 0)
    ) -> None:
        for key in self._keys(number, on):
            self.spent[key] = tuple(a + b for a, b in zip(self.spent[key], spent, strict=True))
            self.reserved[key] = (self.reserved[key][0] + reserved[0], self.reserved[key][1] + reserved[1])

    def _spend(self, number: int, amount: tuple[int, int], *, unknown: bool) -> None:
        held = self.helds[number]
        assert held.open is not None
        assert held.on is not None
        self._add(number, held.on, spent=(*amount, 1, int(unknown)), reserved=(-held.open[0], -held.open[1]))
        held.spent = (held.spent[0] + amount[0], held.spent[1] + amount[1])
        held.open = None

    def _close(self, number: int, *, unknown: bool) -> None:
        """What is open is spent as unknown, or it cost nothing."""
        held = self.helds[number]
        if held.open is None:
            return
        if unknown:
            self._spend(number, held.open, unknown=True)
            return
        assert held.on is not None
        self._add(number, held.on, reserved=(-held.open[0], -held.open[1]))
        held.open = None


def test_budgets_behave_like_their_model(database_url: str) -> None:
    machine = type("BudgetsHere", (Budgets,), {"url": database_url})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=25,
            stateful_step_count=30,
            deadline=None,
            database=None,
            derandomize=True,
            # To look for a shorter story takes minutes with a real database: the test's time would be up before it
            # told what failed.
            phases=[Phase.generate],
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
