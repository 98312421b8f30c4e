"""Moments as people at a terminal say them: ``14:02``, ``yesterday 22:30``, ``90m ago``, or a time with its zone.

Every command reads them here. A time without a zone is the terminal's, or that of ``--zone``; a length of time alone is
so long ago.
"""

from __future__ import annotations

import os
import re
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer

from agentos.kernel.clock import now
from agentos.kernel.errors import Invalid
from agentos.kernel.units import MalformedDuration, duration

SAID: Final = "14:02, yesterday 22:30, 90m ago, 2026-01-31 or 2026-01-31T08:00+01:00"

Zone = Annotated[str, typer.Option("--zone", help="Of times that name none, as Europe/Berlin; else this terminal's.")]
From = Annotated[str, typer.Option("--from", "--since", help=f"Not before: {SAID}.")]
To = Annotated[str, typer.Option("--to", "--until", help="Before, likewise: before a day's beginning; else now.")]

_LOCAL: Final = Path("/etc/localtime")
_LENGTH: Final = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d|w))+")
_DAYS: Final = {"today": 0, "yesterday": -1}
_WORDS: Final = re.compile(r"(?:(today|yesterday|\d{4}-\d\d-\d\d)(?:[ tT]+|$))?(?:(\d{1,2}:\d\d(?::\d\d)?))?")


class MomentUnclear(Invalid):
    """A time that is none, that is said twice, or is there twice or not at all because the clocks were changed."""

    code = "moment_unclear"


def zone_of(name: str) -> ZoneInfo | None:
    """The zone of that name; None: the terminal's own. Raises MomentUnclear (Invalid)."""
    try:
        return ZoneInfo(name) if name else None
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise MomentUnclear(
            f"'{name[:40]}' is no time zone", where="--zone", then="Write one as Europe/Berlin."
        ) from None


def terminals() -> str:
    """The name of this terminal's zone, for who reads words of time elsewhere."""
    named = os.environ.get("TZ", "").lstrip(":")
    return named or (_LOCAL.resolve().as_posix().partition("/zoneinfo/")[2] or "UTC")


def only_one(since: str, last: str) -> None:
    """--from and --last both say where a time begins. Raises MomentUnclear (Invalid) where both are there."""
    if since and last:
        raise MomentUnclear("--from and --last both say where it begins", where="--last", then="Write one of them.")


def exact(said: str, *, where: str, zone: str = "") -> str:
    """What somebody says now, as the API reads it; nothing where nothing is said. Raises MomentUnclear (Invalid)."""
    return moment(said, at=now(), zone=zone_of(zone), where=where).isoformat() if said else ""


def moment(said: str, *, at: datetime, zone: ZoneInfo | None = None, where: str = "") -> datetime:
    """What somebody means who says this ``at`` a time. Raises MomentUnclear (Invalid)."""
    try:
        return _moment(" ".join(said.split()), at, zone, where)
    except (MalformedDuration, ValueError, OverflowError):
        raise MomentUnclear(f"'{said[:40]}' is not a time", where=where, then=f"Write {SAID}.") from None


def _moment(text: str, at: datetime, zone: ZoneInfo | None, where: str) -> datetime:
    if text == "now":
        return at
    if text.endswith(" ago") or _LENGTH.fullmatch(text):
        return at - duration(text.removesuffix(" ago").replace(" ", ""))
    found = _WORDS.fullmatch(text)
    if found is None or not text:
        read = datetime.fromisoformat(text)
        return read if read.tzinfo is not None else _there(read, zone, text, where)
    here = at.astimezone(zone).date()
    day = found[1] or "today"
    on = here + timedelta(days=_DAYS[day]) if day in _DAYS else date.fromisoformat(day)
    hour, _, rest = (found[2] or "0:00").partition(":")
    return _there(datetime.combine(on, time.fromisoformat(f"{hour:0>2}:{rest}")), zone, text, where)


def _there(naive: datetime, zone: ZoneInfo | None, said: str, where: str) -> datetime:
    """A wall clock's time in the zone."""
    first, second = (
        one.astimezone() if zone is None else one.replace(tzinfo=zone)
        for one in (naive.replace(fold=0), naive.replace(fold=1))
    )
    if first.utcoffset() != second.utcoffset():
        twice = (first.utcoffset() or timedelta()) > (second.utcoffset() or timedelta())
        raise MomentUnclear(
            f"'{said[:40]}' is there {'twice' if twice else 'not at all'}: the clocks were changed",
            where=where,
            then="Write it with its offset, as 2026-10-25T02:30+02:00.",
        )
    return first
