"""What is spent and reserved together never passes a cap, and every call is counted once, whatever happens between."""

from __future__ import annotations

import asyncio
import os
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr
from sqlalchemy import make_url, text
from sqlalchemy.exc import ProgrammingError

from agentos.control.budgets import model
from agentos.control.budgets.model import Full, Period
from agentos.control.budgets.spending import SpendingFenced
from agentos.intake.identity import service as identity
from agentos.kernel.database import Database
from agentos.kernel.facts import Fact
from agentos.kernel.ids import OrgId
from agentos.kernel.settings import DatabaseSettings
from agentos.kernel.unit_of_work import Doors
from tests.control.budgets.purses import NOON, Purse, cap, periods, priced, told

DAY = "2026-11-21"
MONTH = "2026-11-01"


@pytest.fixture
async def purse(doors: Doors, organization: OrgId) -> Purse:
    await priced(doors, organization)
    return Purse(doors, organization, "run_1")


async def day(purse: Purse, agent: str = "", since: str = DAY) -> dict[str, Any]:
    return (await periods(purse.doors.database, purse.organization))[agent, "day", since]


async def test_a_call_is_reserved_at_its_most_and_settled_at_its_bill(purse: Purse) -> None:
    await cap(purse.doors, purse.organization, Period.DAY, money=100)
    assert await purse.reserve(60, 80) is None
    held = await day(purse)
    assert (held["money"], held["reserved_money"], held["reserved_tokens"]) == (0, 60, 80)
    await purse.answer(20, 30, steps=2)
    found = await periods(purse.doors.database, purse.organization)
    assert set(found) == {(who, *when) for who in ("", "tester") for when in (("day", DAY), ("month", MONTH))}
    for one in found.values():
        assert (one["money"], one["tokens"], one["steps"], one["calls"]) == (20, 30, 2, 1)
        assert (one["reserved_money"], one["reserved_tokens"], one["peak_money"]) == (0, 0, 60)


async def test_a_call_that_has_no_room_is_refused_with_every_figure(purse: Purse) -> None:
    await cap(purse.doors, purse.organization, Period.DAY, "tester", money=100)
    other = Purse(purse.doors, purse.organization, "run_2")
    assert await purse.reserve(50, 50) is None
    await purse.answer(40, 40)
    assert await purse.reserve(35, 35) is None
    full = await other.reserve(30, 30)
    assert full == Full("agent", Period.DAY, NOON.date(), "money", 100, 40, 35, 30)
    error = full.error("tester")
    assert error.code == "budget_exhausted"
    assert error.extra["cap"] == {
        "of": "agent",
        "period": "day",
        "since": DAY,
        "resource": "money",
        "currency": "USD",
        "limit": "0.0001",
        "spent": "0.00004",
        "reserved": "0.000035",
        "wanted": "0.00003",
    }
    assert (await day(purse))["reserved_money"] == 35  # nothing of what was refused
    assert await other.reserve(25, 25) is None


@pytest.mark.parametrize("resource", ["money", "tokens"])
@pytest.mark.parametrize(("period", "agent"), [(one, who) for one in Period for who in ("", "tester")])
async def test_each_cap_binds_by_itself(purse: Purse, period: Period, agent: str, resource: str) -> None:
    await cap(purse.doors, purse.organization, period, agent, **{resource: 100})
    assert await purse.reserve(60, 60) is None
    await purse.answer(60, 60)
    full = await purse.reserve(41, 41)
    assert full is not None
    assert (full.of, full.period, full.resource) == ("agent" if agent else "organization", period, resource)
    assert await purse.reserve(40, 40) is None


async def test_the_versions_own_caps_bind_the_run(doors: Doors, organization: OrgId) -> None:
    await priced(doors, organization)
    purse = Purse(doors, organization, "run_1", allowed=(100, None))
    assert await purse.reserve(60, 60) is None
    await purse.answer(60, 60)
    full = await purse.reserve(41, 41)
    assert full is not None
    assert (full.of, full.period, full.most, full.used) == ("version", Period.RUN, 100, 60)
    assert await Purse(doors, organization, "run_2", allowed=(100, None)).reserve(100, 100) is None


@pytest.mark.parametrize("resource", ["steps", "seconds"])
@pytest.mark.parametrize("period", list(Period))
async def test_no_model_is_asked_once_steps_or_time_are_used_up(purse: Purse, period: Period, resource: str) -> None:
    await cap(purse.doors, purse.organization, period, **{resource: 3})
    assert await purse.reserve(1, 1) is None
    purse.wall = 3
    await purse.answer(1, 1, steps=3)
    full = await purse.reserve(1, 1)
    assert full is not None
    assert (full.resource, full.most, full.used, full.period) == (resource, 3, 3, period)


async def test_a_model_that_costs_nothing_is_asked_when_money_is_used_up(purse: Purse) -> None:
    await cap(purse.doors, purse.organization, Period.DAY, money=0)
    assert await purse.reserve(1, 1) is not None
    assert await purse.reserve(0, 5) is None


async def test_the_reserves_of_50_concurrent_runs_never_pass_one_of_3_caps(
    doors: Doors, database_url: str, organization: OrgId
) -> None:
    """The database itself refuses, by a constraint, any committed moment in which a cap is passed."""
    await priced(doors, organization)
    caps = {("", "day"): 6_000, ("a", "day"): 3_000, ("b", "month"): 3_500}
    for (who, when), most in caps.items():
        await cap(doors, organization, Period(when), who, money=most)
    admin = await asyncpg.connect(await owned(database_url))
    name = f"never_over_{organization}"
    within = " AND ".join(
        f"(agent_id <> '{who}' OR period <> '{when}' OR money + reserved_money <= {most})"
        for (who, when), most in caps.items()
    )
    await admin.execute(
        f"ALTER TABLE agentos.budget_periods ADD CONSTRAINT {name} CHECK (org <> '{organization}' OR ({within}))"
    )
    workers = [
        Database(DatabaseSettings(url=SecretStr(database_url), pool_size=5)) for _ in range(3)
    ]  # processes of their own
    chance = random.Random(7)
    refused: list[str] = []

    async def run(number: int) -> None:
        purse = Purse(Doors(workers[number % 3]), organization, f"run_{number}", "ab"[number % 2])
        for _ in range(10):
            most = chance.randrange(50, 200)
            full = await purse.reserve(most, most)
            if full is not None:
                refused.append(f"{full.of} {full.period}")
                return
            await asyncio.sleep(0)
            what = chance.random()
            if what < 0.1:
                purse.lose()
            elif what < 0.2:
                purse.spending.release()
                await purse.close()
            else:
                spent = None if what < 0.25 else chance.randrange(most + 1)
                await purse.answer(spent, spent or 0)
        await purse.close()

    try:
        await asyncio.gather(*(run(number) for number in range(50)))
        found = await periods(doors.database, organization)
        assert refused
        for (who, when), most in caps.items():
            one = found[who, when, DAY if when == "day" else MONTH]
            assert one["peak_money"] <= most
            assert one["peak_money"] > most * 0.7  # each was fought for
    finally:
        await admin.execute(f"ALTER TABLE agentos.budget_periods DROP CONSTRAINT {name}")
        await admin.close()
        for worker in workers:
            await worker.close()


async def owned(database_url: str) -> str:
    """The superuser's way to the tests' database."""
    name = make_url(database_url).database
    url = make_url(os.environ["AGENTOS_TEST_SUPERUSER_URL"]).set(drivername="postgresql", database=name)
    return url.render_as_string(hide_password=False)


async def test_a_worker_lost_before_its_answer_leaves_its_reserve_as_spent_once(purse: Purse) -> None:
    await cap(purse.doors, purse.organization, Period.DAY, money=1000)
    await purse.reserve(60, 60)
    purse.lose()
    await purse.reserve(50, 50)
    held = await day(purse)
    assert (held["money"], held["reserved_money"], held["calls"], held["unknown_calls"]) == (60, 50, 1, 1)
    purse.lose()
    purse.lose()
    await purse.reserve(50, 50)
    await purse.answer(5, 5)
    await purse.end()
    done = await day(purse)
    assert (done["money"], done["reserved_money"], done["calls"], done["unknown_calls"]) == (115, 0, 3, 2)


async def test_a_worker_lost_after_its_answer_counts_it_once(purse: Purse) -> None:
    await cap(purse.doors, purse.organization, Period.DAY, money=1000)
    await purse.reserve(60, 60)
    await purse.answer(20, 20)
    purse.lose()
    await purse.close()
    await purse.reserve(60, 60)
    held = await day(purse)
    assert (held["money"], held["reserved_money"], held["calls"], held["unknown_calls"]) == (20, 60, 1, 0)


async def test_an_attempt_that_leaves_before_it_asks_spends_what_the_lost_one_reserved(purse: Purse) -> None:
    await cap(purse.doors, purse.organization, Period.DAY, money=1000)
    await purse.reserve(60, 60)
    await purse.answer(20, 20)
    await purse.reserve(50, 50)
    purse.lose()
    await purse.close()  # it has to wait for something else
    left = await day(purse)
    assert (left["money"], left["reserved_money"], left["unknown_calls"]) == (70, 0, 1)


async def test_an_answer_whose_bill_was_lost_is_settled_from_the_journal(purse: Purse) -> None:
    await cap(purse.doors, purse.organization, Period.DAY, money=1000)
    await purse.reserve(60, 60)
    cost, _bill = await purse.spending.settle(None, "tester", 0, at=NOON)
    purse.totals.add(model.Cost(25, 25, unknown=False))  # as the journal has it; the bill never arrived
    assert cost.unknown
    purse.lose()
    await purse.reserve(60, 60)
    held = await day(purse)
    assert (held["money"], held["reserved_money"], held["unknown_calls"]) == (25, 60, 0)


async def test_the_end_of_a_run_closes_what_a_lost_worker_reserved(purse: Purse) -> None:
    await cap(purse.doors, purse.organization, Period.DAY, money=1000)
    await purse.reserve(60, 60)
    purse.lose()  # and the run is cancelled
    await purse.end()
    await purse.end()
    done = await day(purse)
    assert (done["money"], done["reserved_money"], done["calls"]) == (60, 0, 1)


async def test_an_attempt_that_was_taken_over_reserves_nothing(purse: Purse) -> None:
    await cap(purse.doors, purse.organization, Period.DAY, money=1000)
    await purse.reserve(60, 60)
    stale = purse.spending
    purse.lose()
    await purse.reserve(60, 60)
    with pytest.raises(SpendingFenced):
        await stale.reserve("t0", "elsewhere", "tester", lambda: 10, 0, at=NOON)
    await stale.close("t0")
    held = await day(purse)
    assert (held["reserved_money"], held["money"]) == (60, 60)  # its own, spent as lost, and nothing of the other's
    await purse.answer(1, 1)
    await purse.end()
    with pytest.raises(SpendingFenced):
        await purse.spending.reserve("t1", "elsewhere", "tester", lambda: 10, 0, at=NOON)
    assert (await day(purse))["reserved_money"] == 0


async def test_a_refused_call_costs_nothing_and_one_that_broke_off_its_reserve(purse: Purse) -> None:
    await cap(purse.doors, purse.organization, Period.DAY, money=1000)
    await purse.reserve(60, 60)
    purse.spending.release()
    await purse.close()
    assert ((await day(purse))["money"], (await day(purse))["reserved_money"]) == (0, 0)
    await purse.reserve(60, 60)
    await purse.close()
    assert ((await day(purse))["money"], (await day(purse))["unknown_calls"]) == (60, 1)


async def test_a_fallback_to_another_model_is_reserved_anew(purse: Purse) -> None:
    await cap(purse.doors, purse.organization, Period.DAY, money=100)
    assert await purse.reserve(60, 60) is None
    purse.spending.release()
    assert await purse.reserve(90, 90) is None  # the first reserve is gone, or this would have no room
    held = await day(purse)
    assert (held["money"], held["reserved_money"], held["calls"]) == (0, 90, 0)
    assert await purse.reserve(20, 20) is not None  # the second may have been billed


async def test_an_unknown_usage_counts_as_what_was_reserved(purse: Purse) -> None:
    await cap(purse.doors, purse.organization, Period.DAY, money=1000)
    await purse.reserve(60, 80)
    await purse.answer(None)
    done = await day(purse)
    assert (done["money"], done["tokens"], done["unknown_calls"]) == (60, 80, 1)


async def test_a_bill_over_the_reserve_is_counted_whole_and_told(purse: Purse) -> None:
    await cap(purse.doors, purse.organization, Period.DAY, money=100)
    await purse.reserve(60, 60)
    await purse.answer(130, 150)
    assert (await day(purse))["money"] == 130
    (fact,) = await told(purse.doors, purse.organization, "BudgetOvershot")
    assert Fact.read("BudgetOvershot", fact) == model.BudgetOvershot("run_1", "t0", 60, 130, 60, 150, "tester", DAY)
    found = await periods(purse.doors.database, purse.organization)
    assert {one["overshot_calls"] for one in found.values()} == {1}
    assert await purse.reserve(1, 1) is not None


async def test_75_and_100_percent_are_told_once_for_a_period_and_cap(purse: Purse) -> None:
    await cap(purse.doors, purse.organization, Period.DAY, "tester", money=100)
    for spent in (70, 4, 1, 1):
        await purse.reserve(spent, spent)
        await purse.answer(spent, spent)
    (first,) = await told(purse.doors, purse.organization, "BudgetReached")
    assert Fact.read("BudgetReached", first) == model.BudgetReached("agent:tester", "day", DAY, "money", 75, 100, 75)
    for _ in range(2):
        assert await purse.reserve(30, 30) is not None  # no room: as good as used up
    await purse.reserve(24, 24)
    await purse.answer(24, 24)
    assert [one["percent"] for one in await told(purse.doors, purse.organization, "BudgetReached")] == [75, 100]
    purse.at = NOON + timedelta(days=1)
    await purse.reserve(80, 80)
    await purse.answer(80, 80)
    assert [one["since"] for one in await told(purse.doors, purse.organization, "BudgetReached")] == [
        DAY,
        DAY,
        "2026-11-22",
    ]


async def reached(purse: Purse) -> list[tuple[str, str, int, int, int, bool]]:
    """What was told of caps of single runs, in order."""
    facts = [Fact.read("BudgetReached", one) for one in await told(purse.doors, purse.organization, "BudgetReached")]
    return [
        (one.run_id, one.resource, one.percent, one.most, one.used, one.of_version)
        for one in facts
        if isinstance(one, model.BudgetReached) and (one.period, one.since) == ("run", DAY)
    ]


@pytest.mark.parametrize("of_version", [True, False])
async def test_75_and_100_percent_of_a_cap_of_a_run_are_told_once_for_each_run(purse: Purse, of_version: bool) -> None:
    if of_version:
        purse = Purse(purse.doors, purse.organization, "run_1", allowed=(100, None))
    else:
        await cap(purse.doors, purse.organization, Period.RUN, "tester", money=100)
    for spent in (70, 4, 1, 1):
        await purse.reserve(spent, spent)
        await purse.answer(spent, spent)
        await purse.close()
    assert await reached(purse) == [("run_1", "money", 75, 100, 75, of_version)]
    purse.lose()
    for _ in range(2):
        assert await purse.reserve(30, 30) is not None  # no room: as good as used up
    await purse.reserve(24, 24)
    await purse.answer(24, 24)
    await purse.end()
    assert [one[2] for one in await reached(purse)] == [75, 100]
    other = Purse(purse.doors, purse.organization, "run_2", allowed=purse.allowed)
    await other.reserve(100, 100)
    await other.answer(100, 100)
    assert [(one[0], one[2]) for one in await reached(purse)] == [
        ("run_1", 75),
        ("run_1", 100),
        ("run_2", 75),
        ("run_2", 100),
    ]


async def test_every_cap_of_a_run_is_told_and_one_that_was_lowered_is_another(purse: Purse) -> None:
    purse.allowed = (None, 100)
    purse.spending = purse._spending()
    await cap(purse.doors, purse.organization, Period.RUN, steps=4, seconds=1000)
    purse.wall = 800
    await purse.reserve(10, 80)
    await purse.answer(10, 80, steps=3)
    assert await reached(purse) == [
        ("run_1", "seconds", 75, 1000, 800, False),  # known when the model is asked
        ("run_1", "tokens", 75, 100, 80, True),
        ("run_1", "steps", 75, 4, 3, False),
    ]
    await cap(purse.doors, purse.organization, Period.RUN, steps=3)
    assert await purse.reserve(1, 1) is not None
    assert (await reached(purse))[3:] == [("run_1", "steps", 100, 3, 3, False)]


async def test_what_a_lost_worker_reserved_counts_towards_what_is_told_of_a_run(purse: Purse) -> None:
    purse = Purse(purse.doors, purse.organization, "run_1", allowed=(100, None))
    await purse.reserve(80, 80)
    purse.lose()
    await purse.end()
    assert await reached(purse) == [("run_1", "money", 75, 100, 80, True)]


async def test_a_day_and_a_month_end_at_midnight_of_utc(purse: Purse) -> None:
    await cap(purse.doors, purse.organization, Period.DAY, money=100)
    await cap(purse.doors, purse.organization, Period.MONTH, money=150)
    east = datetime(2026, 12, 1, 3, 59, 59, tzinfo=UTC).astimezone(tz=None) - timedelta(hours=4)
    purse.at = east  # 23:59:59 on 30 November, whatever zone it is written in
    assert await purse.reserve(100, 100) is None
    purse.at = datetime(2026, 12, 1, tzinfo=UTC)
    await purse.answer(90, 90)  # the answer comes in December, and is spent on the day that it was reserved
    assert (await day(purse, since="2026-11-30"))["money"] == 90
    assert await purse.reserve(100, 100) is None
    found = await periods(purse.doors.database, purse.organization)
    assert found["", "month", "2026-12-01"]["reserved_money"] == 100
    assert found["", "month", "2026-11-01"]["money"] == 90


async def test_a_run_under_no_cap_reserves_nothing_and_is_counted_once(purse: Purse) -> None:
    for spent in (10, 20):
        assert await purse.reserve(60, 60) is None
        await purse.answer(spent, spent)
    assert await periods(purse.doors.database, purse.organization) == {}
    await purse.close()
    await purse.close()
    purse.lose()
    await purse.close()
    assert await purse.reserve(60, 60) is None
    await purse.answer(5, 5)
    await purse.end()
    done = await day(purse)
    assert (done["money"], done["calls"], done["reserved_money"]) == (35, 3, 0)


async def test_what_a_run_spent_before_a_cap_counts_towards_it(purse: Purse) -> None:
    await purse.reserve(60, 60)
    await purse.answer(60, 60)
    await cap(purse.doors, purse.organization, Period.DAY, money=100)
    purse.books.seen(purse.organization, 10**9)  # the process reads again
    full = await purse.reserve(50, 50)
    assert full is not None
    assert full.used == 60


async def test_a_newer_epoch_makes_a_process_read_again(purse: Purse) -> None:
    before = await purse.books.standing(purse.doors.database, purse.organization)
    assert not before.caps("tester")
    await cap(purse.doors, purse.organization, Period.DAY, "tester", money=1)
    purse.books.seen(purse.organization, before.epoch)
    assert not (await purse.books.standing(purse.doors.database, purse.organization)).caps("tester")
    purse.books.seen(purse.organization, before.epoch + 1)
    after = await purse.books.standing(purse.doors.database, purse.organization)
    assert after.caps("tester")
    assert not after.caps("another")


async def test_organizations_do_not_share_caps_or_counters(
    doors: Doors, database: Database, organization: OrgId
) -> None:
    other = OrgId(organization + "_b")
    await identity.found_organization(database, other, name="Other")
    for one in (organization, other):
        await priced(doors, one)
        await cap(doors, one, Period.DAY, money=100)
    assert await Purse(doors, organization, "run_1").reserve(100, 100) is None
    assert await Purse(doors, other, "run_1").reserve(100, 100) is None
    for table in ("budgets", "model_prices", "budget_periods", "budget_runs", "budget_alerts"):
        async with doors.open(organization) as work:
            assert await work.all(text(f"SELECT 1 FROM {table} WHERE org = :other"), {"other": other}) == []
        async with database.connection("agentos_app") as connection:
            assert (await connection.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one() == 0
    with pytest.raises(ProgrammingError, match="row-level security"):
        async with doors.open(organization) as work:
            await work.run(text("UPDATE budgets SET org = :other"), {"other": other})
    for table in ("budget_periods", "budget_runs", "budget_alerts"):
        with pytest.raises(ProgrammingError, match="permission denied"):
            async with doors.open(organization) as work:
                await work.run(text(f"DELETE FROM {table}"))
