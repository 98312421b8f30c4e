"""A year of schedules in five zones, looked at as irregularly as an outage makes it: none lost, none doubled."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text

from agentos.intake.triggers import moments, service
from agentos.intake.triggers.model import Schedule, Trigger, Wanted
from agentos.intake.triggers.ticker import tick
from agentos.kernel import outbox
from agentos.kernel.ids import OrgId
from agentos.kernel.outbox import Consumer, Delivery
from agentos.kernel.telemetry import Meter
from agentos.kernel.unit_of_work import Doors

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
END = datetime(2027, 1, 1, tzinfo=UTC)
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu")
# Five times a day, one of them in the hour that clocks skip or repeat, and once a night in that hour: 10,950 firings,
# as no day is without its six, whatever the clocks do.
CRON = "30 2,7,12,17,22 * * *"
NIGHTLY = "0 2 * * *"


@pytest.fixture(autouse=True)
async def leaves_nothing(doors: Doors, organization: OrgId) -> AsyncIterator[None]:
    """What is due for weeks, and ten thousand facts, would be made good by whatever test runs a clock next."""
    yield
    async with doors.open(organization) as work:
        for row in await work.all(text("SELECT id FROM triggers")):
            await service.remove(work, row.id, by="tester")
    await outbox.skip(doors.database, Consumer("run_firings", (), nothing))


async def nothing(_deliveries: Sequence[Delivery]) -> None:
    """Nobody reads."""


async def schedule(doors: Doors, organization: OrgId, name: str, zone: str, cron: str) -> Trigger:
    async with doors.open(organization) as work:
        on = Schedule(cron, zone, catch_up=timedelta(days=7))
        made, _ = await service.add(work, Wanted(name, "tester", "production", on), by="tester", at=BEGIN)
        return made


async def test_ten_thousand_firings_of_a_year_in_five_zones(doors: Doors, organization: OrgId) -> None:
    made = [
        await schedule(doors, organization, f"t{number}-{len(cron)}", zone, cron)
        for number, zone in enumerate(ZONES)
        for cron in (CRON, NIGHTLY)
    ]
    dice, at, meter = random.Random(7), BEGIN, Meter()
    while at < END:  # looks come from every minute to after five days of silence
        at = min(at + timedelta(minutes=dice.choice((1, 60, 600, 3000, 7200))), END)
        await tick(doors, meter, at)
        if dice.random() < 0.2:
            await tick(doors, meter, at)  # another process looks at the same moment
    async with doors.open(organization) as work:
        rows = await work.all(text("SELECT trigger_id, due_at FROM firings ORDER BY due_at"))
        facts = await work.first(text("SELECT count(*) AS n FROM outbox WHERE name = 'TriggerFired'"))
    assert facts is not None
    assert facts.n == len(rows) > 10_000
    for one in made:
        due = [row.due_at for row in rows if row.trigger_id == one.id]
        assert isinstance(one.on, Schedule)
        assert len(set(due)) == len(due)
        assert due == expected(one.on)
        days = Counter(moment.astimezone(ZoneInfo(one.on.time_zone)).date() for moment in due)
        whole = [count for _, count in sorted(days.items())[1:-1]]  # the year begins and ends within a day there
        assert set(whole) == {5 if one.on.cron == CRON else 1}, one.on.time_zone


def expected(on: Schedule) -> list[datetime]:
    """Every moment of the year, by walking it from the zone's own wall clock rather than from the last moment."""
    hours = [int(hour) for hour in on.cron.split()[1].split(",")]
    minute, zone, found = int(on.cron.split()[0]), ZoneInfo(on.time_zone), set()
    day = (BEGIN - timedelta(days=2)).date()
    while day <= (END + timedelta(days=2)).date():
        for hour in hours:
            wall = datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone)
            there = wall.astimezone(UTC)
            while there.astimezone(zone).replace(tzinfo=None) != wall.replace(tzinfo=None):
                wall += timedelta(minutes=1)  # it does not exist: the next that does
                there = wall.astimezone(UTC)
            found.add(there)
        day += timedelta(days=1)
    return sorted(moment for moment in found if BEGIN < moment <= END)


async def test_what_was_missed_longer_than_the_catch_up_is_told_and_not_fired(
    doors: Doors, organization: OrgId
) -> None:
    async with doors.open(organization) as work:
        on = Schedule("0 * * * *", "UTC", catch_up=timedelta(hours=3))
        made, _ = await service.add(work, Wanted("hourly", "tester", "production", on), by="tester", at=BEGIN)
    await tick(doors, Meter(), BEGIN + timedelta(hours=10, minutes=30))
    async with doors.open(organization) as work:
        fired = await service.firings(work, made.id, state="", before="", most=50)
        (missed,) = await work.all(text("SELECT body FROM outbox WHERE name = 'FiringsMissed'"))
        now = await service.get(work, made.id)
    assert [f"{one.due_at:%H}" for one in reversed(fired)] == ["08", "09", "10"]
    assert missed.body["count"] == 7
    assert now.next_at == BEGIN + timedelta(hours=11)


async def test_a_process_that_stops_leaves_what_is_due_to_another(doors: Doors, organization: OrgId) -> None:
    await schedule(doors, organization, "left", "UTC", CRON)
    stop = asyncio.Event()
    stop.set()
    for told, fired in ((stop, 0), (None, 6)):
        await tick(doors, Meter(), BEGIN + timedelta(days=1, hours=3), stop=told)
        async with doors.open(organization) as work:
            assert len(await work.all(text("SELECT 1 FROM firings"))) == fired


async def test_a_long_silence_is_made_good_in_pieces(doors: Doors, organization: OrgId) -> None:
    async with doors.open(organization) as work:
        on = Schedule("* * * * *", "UTC", catch_up=timedelta(days=30))
        made, _ = await service.add(work, Wanted("minutely", "tester", "production", on), by="tester", at=BEGIN)
    later = BEGIN + timedelta(minutes=2 * service.MOST_MISSED + 10)
    await tick(doors, Meter(), later)
    async with doors.open(organization) as work:
        (row,) = await work.all(text("SELECT count(*) AS n FROM firings WHERE trigger_id = :id"), {"id": made.id})
    assert row.n == 2 * service.MOST_MISSED + 10
    assert moments.next_after(Schedule("* * * * *"), later) == later + timedelta(minutes=1)
