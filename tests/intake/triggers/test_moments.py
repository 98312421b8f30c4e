"""When schedules fire on the days on which clocks change: nothing lost, nothing doubled, as the module says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentos.intake.triggers import moments
from agentos.intake.triggers.model import BadTrigger, Schedule

FIRST = datetime(2025, 1, 1, tzinfo=UTC)


def fires(cron: str, zone: str, first: str, count: int) -> list[str]:
    found, at = [], datetime.fromisoformat(first).replace(tzinfo=UTC)
    for _ in range(count):
        at = moments.next_after(Schedule(cron, zone), at)
        found.append(f"{at:%m-%d %H:%M}")
    return found


@pytest.mark.parametrize(
    ("cron", "zone", "first", "expected"),
    [
        # Spring in Berlin, 2026-03-29: 02:00 becomes 03:00. The time of day that is missing fires at the jump, once.
        ("30 2 * * *", "Europe/Berlin", "2026-03-28", ["03-28 01:30", "03-29 01:00", "03-30 00:30"]),
        ("0,30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", ["03-29 01:00", "03-30 00:00", "03-30 00:30"]),
        # Autumn, 2026-10-25: 03:00 becomes 02:00. The time of day that comes twice fires the first time.
        ("30 2 * * *", "Europe/Berlin", "2026-10-24", ["10-24 00:30", "10-25 00:30", "10-26 01:30"]),
        # With a star for hour or minute, elapsed time counts: every half hour is every half hour.
        (
            "*/30 * * * *",
            "Europe/Berlin",
            "2026-10-25",
            ["10-25 00:30", "10-25 01:00", "10-25 01:30", "10-25 02:00", "10-25 02:30"],
        ),
        ("0 * * * *", "Europe/Berlin", "2026-03-29", ["03-29 01:00", "03-29 02:00", "03-29 03:00"]),
        # A jump of half an hour, and one at midnight, which some days do not have.
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-03", ["10-03 15:30", "10-04 15:15"]),
        ("0 0 * * *", "Africa/Cairo", "2026-04-23", ["04-23 22:00", "04-24 21:00"]),
        # No clock changes here, on an offset of three quarters of an hour.
        ("0 9 * * 1", "Asia/Kathmandu", "2026-11-20", ["11-23 03:15", "11-30 03:15"]),
    ],
)
def test_moments_around_a_change_of_clocks(cron: str, zone: str, first: str, expected: list[str]) -> None:
    assert fires(cron, zone, first, len(expected)) == expected


@given(
    start=st.integers(0, 2 * 365 * 24 * 60).map(lambda minutes: FIRST + timedelta(minutes=minutes)),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo"]),
    cron=st.sampled_from(["*/15 * * * *", "30 2 * * *", "0 */6 * * *", "5 0 1 * *", "0,30 1-3 * * *", "59 23 * * 7"]),
    steps=st.lists(st.integers(1, 3 * 24 * 60), max_size=8),
)
def test_however_often_it_is_asked_each_moment_comes_once_and_in_order(
    start: datetime, zone: str, cron: str, steps: list[int]
) -> None:
    """Looking in steps of any length finds just what looking once finds."""
    schedule, begin = Schedule(cron, zone), start
    end = begin + timedelta(minutes=sum(steps))
    at_once, next_at = [], moments.next_after(schedule, begin)
    if next_at <= end:
        at_once, _ = moments.between(schedule, next_at, end, 100_000)
    looked, at, due = [], begin, next_at
    for step in steps:
        at += timedelta(minutes=step)
        if due <= at:
            found, due = moments.between(schedule, due, at, 100_000)
            looked += found
    assert looked == at_once
    assert looked == sorted(set(looked))


@pytest.mark.parametrize(
    ("cron", "zone", "says"),
    [
        ("* * * *", "UTC", "five fields"),
        ("0 0 0 * * *", "UTC", "five fields"),
        ("61 * * * *", "UTC", "not a cron expression"),
        ("0 0 30 2 *", "UTC", "not a cron expression"),
        ("@daily", "UTC", "five fields"),
        ("0 0 * * *", "Mars/Olympus", "no time zone"),
        ("0 0 * * *", "../../etc/passwd", "no time zone"),
        ("0 0 * * *", "", "no time zone"),
    ],
)
def test_a_schedule_that_never_fires_is_refused(cron: str, zone: str, says: str) -> None:
    with pytest.raises(BadTrigger, match=says):
        moments.checked(Schedule(cron, zone), datetime(2026, 1, 1, tzinfo=UTC))
