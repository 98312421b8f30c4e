"""Units as people write them: durations such as ``90s``, ``1h30m`` or ``500ms``."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final, NewType

from agentos.kernel.errors import Invalid

Tokens = NewType("Tokens", int)

_UNITS: Final = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
_PART: Final = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(ms|s|m|h|d|w)")


class MalformedDuration(Invalid):
    """A duration that is not written as number and unit."""

    code = "malformed_duration"


def duration(text: str) -> timedelta:
    """Read a duration such as ``90s``, ``1h30m``, ``500ms`` or ``2w``. Raises MalformedDuration (Invalid)."""
    total, end = timedelta(), 0
    for part in _PART.finditer(text):
        if part.start() != end:
            break
        total += float(part[1]) * _UNITS[part[2]]
        end = part.end()
    if not text or end != len(text):
        raise MalformedDuration(
            f"'{text[:40]}' is not a duration", then="Write a number and ms, s, m, h, d or w, for example 90s or 1h30m."
        )
    return total


def written(length: timedelta) -> str:
    """Write a duration the way ``duration`` reads it, in the largest units that divide it."""
    left, parts = round(length / timedelta(milliseconds=1)), []
    for unit in ("w", "d", "h", "m", "s", "ms"):
        size = _UNITS[unit] // timedelta(milliseconds=1)
        if left >= size:
            parts.append(f"{left // size}{unit}")
            left %= size
    return "".join(parts) or "0s"
