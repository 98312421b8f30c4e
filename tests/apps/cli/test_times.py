"""What people call a time is one moment, or refused."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from agentos.apps.cli.times import MomentUnclear, moment, zone_of
from agentos.kernel.units import MalformedDuration

AT = datetime(2026, 11, 21, 16, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("now", "2026-11-21T16:30:00+00:00"),
        ("14:02", "2026-11-21T13:02:00+00:00"),
        ("9:05", "2026-11-21T08:05:00+00:00"),
        ("today", "2026-11-20T23:00:00+00:00"),
        ("yesterday", "2026-11-19T23:00:00+00:00"),
        ("yesterday 22:30", "2026-11-20T21:30:00+00:00"),
        ("2026-11-01 14:02", "2026-11-01T13:02:00+00:00"),
        ("2026-07-01T14:02:30", "2026-07-01T12:02:30+00:00"),
        ("2026-11-21T14:02Z", "2026-11-21T14:02:00+00:00"),
        ("2026-11-21T14:02:00-05:00", "2026-11-21T19:02:00+00:00"),
        ("90m ago", "2026-11-21T15:00:00+00:00"),
        ("1h 30m ago", "2026-11-21T15:00:00+00:00"),
        ("2026-10-25T02:30+02:00", "2026-10-25T00:30:00+00:00"),
    ],
)
def test_a_time_is_read_in_the_zone_that_is_meant(said: str, meant: str) -> None:
    assert moment(said, at=AT, zone=zone_of("Europe/Berlin")).astimezone(UTC).isoformat() == meant


def test_a_time_without_a_zone_is_the_terminals() -> None:
    assert moment("14:02", at=AT) == AT.astimezone().replace(hour=14, minute=2)


@pytest.mark.parametrize("said", ["", "soon", "25:00", "tomorrow", "2026-13-01", "14:02 yesterday", "9999-99-99T1"])
def test_what_is_no_time_is_refused(said: str) -> None:
    with pytest.raises(MomentUnclear):
        moment(said, at=AT)


@pytest.mark.parametrize(("said", "how"), [("2026-10-25 02:30", "twice"), ("2026-03-29 02:30", "not at all")])
def test_a_time_that_the_clocks_skipped_or_repeated_is_refused(said: str, how: str) -> None:
    with pytest.raises(MomentUnclear, match=how):
        moment(said, at=AT, zone=zone_of("Europe/Berlin"))


def test_a_zone_and_a_duration_that_are_none_are_refused() -> None:
    with pytest.raises(MomentUnclear):
        zone_of("Berlin, I think")
    with pytest.raises(MalformedDuration):
        moment("long ago", at=AT)
