"""When an HTTP peer wants to be asked again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

from agentos.kernel import clock

# Whoever asks to be left alone for longer is asked once a day all the same: what it said may be a slip.
LONGEST: Final = timedelta(days=1)


def retry_after(headers: Mapping[str, str]) -> timedelta | None:
    """When to ask again, by ``retry-after`` in seconds or as a date; a date is read against the sender's own clock."""
    said = headers.get("retry-after", "").strip()
    try:
        return bounded(float(said))
    except ValueError:
        pass
    try:
        sent = headers.get("date")
        since = parsedate_to_datetime(sent) if sent else clock.now()
        return bounded((_aware(parsedate_to_datetime(said)) - _aware(since)).total_seconds())
    except ValueError:
        return None


def bounded(seconds: float) -> timedelta:
    """A wait that a peer asks for, as far as it is honoured: from none to a day."""
    return timedelta(seconds=min(max(0.0, seconds), LONGEST.total_seconds()))


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
