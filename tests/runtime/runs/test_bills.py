"""What the loop does with budgets: reserve, ask, settle, and end a run with the figures when there is no room."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import text

from agentos.control.budgets import service as budgets
from agentos.control.budgets.model import Limits, Period, Price
from agentos.kernel.clock import now
from agentos.kernel.telemetry.catalogue import BUDGET_OVERSHOTS, BUDGET_REFUSALS, MODEL_COST_UNKNOWN, Metric
from agentos.kernel.units import MICROS
from agentos.runtime.inference import Answer, Question, Usage
from agentos.runtime.inference.model import ModelRateLimited, ModelUnavailable
from agentos.runtime.runs import service
from agentos.runtime.runs.model import RunStatus
from tests.runtime.runs.harness import DONE, Crash, Harness, calls, losing


class Scripted:
    """A model that says, raises or does what it is told next; ``provider`` is nobody's."""

    provider = "elsewhere"
    instant = False
    local = False

    def __init__(self) -> None:
        self.next: list[Any] = []
        self.asked = 0

    def for_policy(self, _policy: dict[str, Any]) -> Scripted:
        return self

    async def ask(self, question: Question, **_more: Any) -> Answer:
        self.asked += 1
        said = self.next.pop(0) if self.next else Usage(100, 10)
        if isinstance(said, BaseException):
            raise said
        if isinstance(said, Usage):
            return Answer("done", self.provider, question.model, usage=said)
        await said
        raise AssertionError("it was interrupted")

    async def close(self) -> None:
        pass


@pytest.fixture
async def scripted(held: Harness) -> Scripted:
    model = Scripted()
    held.parts.models = model
    await priced(held, Price("elsewhere", "*", input=MICROS, output=MICROS))  # a millionth for each token
    return model


async def priced(held: Harness, price: Price) -> None:
    async with held.doors.open(held.organization) as work:
        await budgets.set_price(work, price.provider, price.model, price, by="admin", at=now())


async def cap(held: Harness, period: Period = Period.DAY, agent: str = "", **limits: int) -> None:
    async with held.doors.open(held.organization) as work:
        await budgets.set_budget(work, agent, period, Limits(**limits), by="admin", at=now())


async def used(held: Harness, agent: str = "") -> dict[str, int]:
    """Of today; all zero when nothing was used."""
    async with held.doors.open(held.organization) as work:
        found = await budgets.used(work, on=None, at=now())
    names = ("money", "tokens", "steps", "calls", "unknown_calls", "reserved_money")
    (one,) = [one for one in found if one.period is Period.DAY and one.agent_id == agent] or [None]
    return {name: getattr(one, name) if one else 0 for name in names}


def counted(held: Harness, metric: Metric) -> float:
    return sum(
        sample.value
        for family in held.parts.meter.registry.collect()
        for sample in family.samples
        if sample.name == metric.name
    )


async def test_a_run_ends_blocked_with_the_figures_when_a_cap_has_no_room(held: Harness, scripted: Scripted) -> None:
    await held.agent([DONE], model={"provider": "stub", "script": [DONE], "max_tokens": 500})
    await cap(held, agent="tester", money=2_000)
    run = await held.finish(await held.start())
    assert run.status is RunStatus.BLOCKED
    assert run.problem is not None
    assert run.problem["code"] == "budget_exhausted"
    figures = run.problem["cap"]
    assert (figures["of"], figures["period"], figures["limit"]) == ("agent", "day", "0.002")
    assert float(figures["wanted"]) > 0.002
    assert scripted.asked == 0
    assert counted(held, BUDGET_REFUSALS) == 1


async def test_an_answer_is_settled_with_its_row_and_the_row_says_what_it_cost(
    held: Harness, scripted: Scripted
) -> None:
    await held.agent([DONE])
    await cap(held, money=MICROS)
    run = await held.finish(await held.start())
    assert run.status is RunStatus.COMPLETED
    (row,) = await held.steps(run.id)
    cost = row["meta"]["cost"]
    assert {name: cost[name] for name in ("micros", "tokens", "steps", "unknown")} == {
        "micros": 110,
        "tokens": 110,
        "steps": 0,
        "unknown": False,
    }
    assert cost["reserved_micros"] > 4096
    assert await used(held) == await used(held, "tester")
    assert (await used(held))["money"] == 110
    assert (await used(held))["reserved_money"] == 0


async def test_a_worker_lost_while_the_model_answered_leaves_its_reserve_spent(
    held: Harness, scripted: Scripted
) -> None:
    await held.agent([DONE])
    await cap(held, money=MICROS)
    run_id = await held.start()
    scripted.next = [Crash()]
    with pytest.raises(Crash):
        await held.segment(run_id)
    reserved = (await used(held))["reserved_money"]
    assert reserved > 4096
    run = await held.finish(run_id)
    assert run.status is RunStatus.COMPLETED
    done = await used(held)
    assert done["money"] == reserved + 110
    assert (done["calls"], done["unknown_calls"], done["reserved_money"]) == (2, 1, 0)


async def test_a_worker_lost_before_its_answer_is_committed_settles_nothing_of_it(
    held: Harness, scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    await held.agent([DONE])
    await cap(held, money=MICROS)
    run_id = await held.start()
    with losing(held, monkeypatch, "journal_append"), pytest.raises(Crash):
        await held.segment(run_id)
    assert (await used(held))["money"] == 0
    await held.finish(run_id, 2)
    assert ((await used(held))["calls"], (await used(held))["unknown_calls"]) == (2, 1)


async def test_an_answer_and_its_bill_are_committed_together(
    held: Harness, scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    await held.agent([DONE])
    await cap(held, money=MICROS)
    run_id = await held.start()
    with losing(held, monkeypatch, "run_end"), pytest.raises(Crash):
        await held.segment(run_id)
    async with held.doors.open(held.organization) as work:
        commits = "SELECT xmin::text AS commit FROM journal UNION SELECT xmin::text FROM budget_periods"
        assert len(await work.all(text(commits))) == 1
    await held.finish(run_id)
    assert ((await used(held))["money"], (await used(held))["calls"], scripted.asked) == (110, 1, 1)


async def test_a_run_that_is_cancelled_after_a_crash_leaves_nothing_reserved(held: Harness, scripted: Scripted) -> None:
    await held.agent([DONE])
    await cap(held, money=MICROS)
    run_id = await held.start()
    scripted.next = [Crash()]
    with pytest.raises(Crash):
        await held.segment(run_id)
    async with held.doors.open(held.organization) as work:
        await service.order(work, run_id, "cancel", by="author")
    assert (await held.finish(run_id)).status is RunStatus.CANCELLED
    done = await used(held)
    assert (done["reserved_money"], done["unknown_calls"]) == (0, 1)


@pytest.mark.parametrize(
    ("error", "unknown"),
    [
        (ModelRateLimited("slow down"), 0),
        (ModelUnavailable("overloaded", begun=False), 0),
        (ModelUnavailable("broke off"), 1),
    ],
)
async def test_a_call_that_failed_costs_its_reserve_only_if_it_may_have_been_billed(
    held: Harness, scripted: Scripted, error: Exception, unknown: int
) -> None:
    await held.agent([DONE])
    await cap(held, money=MICROS)
    run_id = await held.start()
    scripted.next = [error]
    assert (await held.segment(run_id)).state == "wait"
    left = await used(held)
    assert (left["reserved_money"], left["unknown_calls"], left["money"] > 0) == (0, unknown, bool(unknown))


async def test_an_interrupted_call_counts_as_its_reserve(held: Harness, scripted: Scripted) -> None:
    await held.agent([DONE])
    await cap(held, money=MICROS)
    run_id = await held.start()

    def at_once(segment: Any) -> None:
        async def interrupt() -> None:
            async with held.doors.open(held.organization) as work:
                await service.order(work, run_id, "pause", by="author")
            segment.interrupt.set()
            await asyncio.sleep(60)

        scripted.next = [interrupt()]

    await held.segment(run_id, watch=at_once)
    assert (await held.run(run_id)).status is RunStatus.PAUSED
    left = await used(held)
    assert (left["reserved_money"], left["calls"], left["unknown_calls"]) == (0, 1, 1)


async def test_a_provider_that_does_not_say_what_it_used_is_charged_the_reserve(
    held: Harness, scripted: Scripted
) -> None:
    await held.agent([DONE])
    await cap(held, money=MICROS)
    scripted.next = [Usage()]
    run = await held.finish(await held.start())
    (row,) = await held.steps(run.id)
    cost = row["meta"]["cost"]
    assert cost["unknown"]
    assert cost["micros"] == cost["reserved_micros"] == (await used(held))["money"]
    assert counted(held, MODEL_COST_UNKNOWN) == 1


async def test_a_bill_over_the_reserve_is_counted_whole(held: Harness, scripted: Scripted) -> None:
    await held.agent([DONE])
    await cap(held, money=MICROS)
    scripted.next = [Usage(900_000, 10)]
    await held.finish(await held.start())
    assert (await used(held))["money"] == 900_010
    assert counted(held, BUDGET_OVERSHOTS) == 1


async def test_an_unpriced_model_is_not_asked(held: Harness) -> None:
    model = Scripted()
    held.parts.models = model
    await held.agent([DONE])
    run = await held.finish(await held.start())
    assert run.status is RunStatus.BLOCKED
    assert run.problem is not None
    assert run.problem["code"] == "model_unpriced"
    assert model.asked == 0


async def test_a_run_under_no_cap_makes_no_statement_more_and_is_counted_with_its_end(
    held: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await held.agent([calls(("look", 1), ("look", 2)), calls(("note", 1)), DONE])
    await held.finish(await held.start())  # the process has read now what the organization has set
    made: list[str] = []
    real = held.parts.database.group.row

    async def seen(statement: str, *arguments: Any) -> Any:
        made.append(next(name for name in ("run_claim", "journal_append", "run_end", "budget") if name in statement))
        return await real(statement, *arguments)

    run_id = await held.start()
    monkeypatch.setattr(held.parts.database.group, "row", seen)
    await held.segment(run_id)
    assert set(made) == {"run_claim", "journal_append", "run_end"}
    done = await used(held)
    assert (done["calls"], done["steps"], done["money"], done["reserved_money"]) == (6, 6, 0, 0)
    assert done["tokens"] > 0
    async with held.doors.open(held.organization) as work:
        assert await work.all(text("SELECT 1 FROM budget_runs")) == []


async def test_a_cap_that_is_set_during_a_run_binds_its_next_call_with_what_it_spent_before(
    held: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentos.control.budgets.spending.FRESH_SECONDS", 0.0)
    await held.agent([calls(("look", 1)), DONE])
    await priced(held, Price("stub", "*", input=MICROS, output=MICROS))

    async def capped(_given: dict[str, Any]) -> dict[str, Any]:
        await cap(held, money=10)
        return {}

    held.world.next("look", capped)
    run = await held.finish(await held.start())
    assert run.status is RunStatus.BLOCKED
    assert run.problem is not None
    assert run.problem["cap"]["limit"] == "0.00001"
    assert float(run.problem["cap"]["spent"]) > 0


async def test_what_a_provider_counted_makes_the_next_reserve_a_close_one(held: Harness) -> None:
    await held.agent([calls(("look", 1)), DONE], instructions="Follow the script. " * 500)
    await cap(held, tokens=10**9)
    run = await held.finish(await held.start())
    first, second = [row["meta"]["cost"] for row in await held.steps(run.id) if row["kind"] == "model"]
    assert second["reserved_tokens"] < first["reserved_tokens"] / 1.5


async def test_a_versions_money_binds_each_of_its_runs(held: Harness) -> None:
    await held.agent([DONE], budgets={"money": "0.001 USD"})
    await priced(held, Price("stub", "*", input=MICROS, output=MICROS))
    run = await held.finish(await held.start())
    assert run.status is RunStatus.BLOCKED
    assert run.problem is not None
    assert (run.problem["cap"]["of"], run.problem["cap"]["limit"]) == ("version", "0.001")
