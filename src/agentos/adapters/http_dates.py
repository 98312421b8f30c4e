"""When an HTTP peer wants to be asked again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from agentos.kernel import clock


def retry_after(headers: Mapping[str, str]) -> timedelta | None:
    """When to ask again, by ``retry-after`` in seconds or as a date; a date is read against the sender's own clock."""
    said = headers.get("retry-after", "").strip()
    try:
        return timedelta(seconds=max(0.0, float(said)))
    except (ValueError, OverflowError):
        pass
    try:
        sent = headers.get("date")
        since = parsedate_to_datetime(sent) if sent else clock.now()
        return max(timedelta(), _aware(parsedate_to_datetime(said)) - _aware(since))
    except ValueError:
        return None


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
