"""When a cap runs out follows from what was used within the last hour and day; without a measurement it is unknown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from agentos.control.budgets.model import Budget, Limits, Period
from agentos.evidence.usage import model, service
from agentos.evidence.usage.counting import Counting
from agentos.evidence.usage.model import Burn, Outlook
from agentos.kernel.ids import OrgId
from agentos.kernel.unit_of_work import Doors
from tests.control.budgets.purses import NOON, Purse, cap, priced


async def burning(doors: Doors, organization: OrgId, at: datetime) -> dict[tuple[str, str, str], Burn]:
    async with doors.open(organization) as work:
        found = await service.burn(work, at=at)
    return {(one.agent_id, one.period, one.resource): one for one in found}


async def spend(purse: Purse, money: int, at: datetime) -> None:
    purse.at = at
    assert await purse.reserve(money, money) is None
    await purse.answer(money, money)


@pytest.fixture
async def purse(doors: Doors, organization: OrgId) -> Purse:
    await priced(doors, organization)
    return Purse(doors, organization, "run_1")


async def test_a_cap_tells_its_part_and_when_it_runs_out_at_the_rate_of_the_last_hour(purse: Purse) -> None:
    doors, organization = purse.doors, purse.organization
    await cap(doors, organization, Period.DAY, money=1000)
    await cap(doors, organization, Period.MONTH, "tester", money=1000, tokens=10**9)
    counting = Counting(doors)
    await spend(purse, 100, NOON - timedelta(hours=3))
    await counting.mark(at=NOON - timedelta(hours=3))
    await spend(purse, 200, NOON - timedelta(minutes=30))
    await counting.mark(at=NOON - timedelta(minutes=30))
    assert await purse.reserve(50, 50) is None  # a call that is under way
    found = await burning(doors, organization, NOON)
    day = found["", "day", "money"]
    assert (day.most, day.used, day.reserved, day.part) == (1000, 300, 50, 0.35)
    hour = day.rates["hour"]
    assert (hour.per_hour, hour.outlook) == (200, Outlook.RUNS_OUT)
    assert hour.runs_out_at == NOON + timedelta(hours=3.25), "650 are left"
    assert day.rates["day"].per_hour == pytest.approx(300 / 24)
    assert day.rates["day"].outlook is Outlook.LASTS
    assert found["tester", "month", "money"].rates["day"].outlook is Outlook.RUNS_OUT
    assert found["tester", "month", "tokens"].rates["hour"].outlook is Outlook.LASTS
    late = await burning(doors, organization, NOON + timedelta(hours=2))
    assert (late["", "day", "money"].rates["hour"].per_hour, late["", "day", "money"].rates["hour"].outlook) == (
        0,
        Outlook.LASTS,
    )


async def test_a_rate_goes_back_over_midnight(purse: Purse) -> None:
    doors, organization = purse.doors, purse.organization
    await cap(doors, organization, Period.MONTH, money=10**9)
    midnight = datetime(2026, 11, 22, tzinfo=UTC)
    await spend(purse, 100, midnight - timedelta(hours=2))
    await Counting(doors).mark(at=midnight - timedelta(hours=2))
    await spend(purse, 40, midnight - timedelta(minutes=20))
    await spend(purse, 7, midnight + timedelta(minutes=10))
    found = await burning(doors, organization, midnight + timedelta(minutes=30))
    assert found["", "month", "money"].rates["hour"].per_hour == 47
    assert found["", "month", "money"].rates["day"].per_hour == pytest.approx(147 / 24)


async def test_nothing_measured_is_unknown_and_a_full_cap_is_full(purse: Purse) -> None:
    doors, organization = purse.doors, purse.organization
    await cap(doors, organization, Period.DAY, money=100)
    unknown = (await burning(doors, organization, NOON))["", "day", "money"]
    assert {(one.per_hour, one.outlook) for one in unknown.rates.values()} == {(None, Outlook.UNKNOWN)}
    await spend(purse, 100, NOON)
    full = (await burning(doors, organization, NOON))["", "day", "money"]
    assert (full.part, full.rates["hour"].outlook) == (1.0, Outlook.FULL)


async def test_a_mark_is_made_once_in_five_minutes_and_forgotten_after_days(purse: Purse) -> None:
    doors, organization = purse.doors, purse.organization
    first, second = Counting(doors), Counting(doors)

    async def marks() -> int:
        async with doors.open(organization) as work:
            row = await work.first(text("SELECT count(*) AS marks FROM usage_marks"))
        assert row is not None
        return int(row.marks)

    await cap(doors, organization, Period.DAY, money=100)
    await spend(purse, 10, NOON)
    await first.mark(at=NOON)
    assert await marks() == 2, "of the organization and of the agent"
    await spend(purse, 10, NOON)
    await second.mark(at=NOON + timedelta(minutes=4))
    assert await marks() == 2
    await second.mark(at=NOON + timedelta(minutes=5))
    await first.mark(at=NOON + timedelta(minutes=11))
    assert await marks() == 4, "and none where nothing went on"
    await first.mark(at=NOON + timedelta(days=4))
    assert await marks() == 0


def test_a_cap_on_each_run_is_in_no_rate() -> None:
    budget = Budget("", Period.RUN, Limits(money=5), "admin", NOON)
    assert model.burns([budget], [], {"hour": {}, "day": {}}, NOON) == []


@pytest.mark.parametrize(
    ("at", "end"), [("2026-12-31T12:00", "2027-01-01T00:00"), ("2026-02-28T12:00", "2026-03-01T00:00")]
)
def test_a_month_is_over_when_the_next_begins(at: str, end: str) -> None:
    moment = datetime.fromisoformat(at).replace(tzinfo=UTC)
    assert model._end("month", moment) == datetime.fromisoformat(end).replace(tzinfo=UTC)
    assert model._end("day", moment) == datetime.fromisoformat(end).replace(tzinfo=UTC)
