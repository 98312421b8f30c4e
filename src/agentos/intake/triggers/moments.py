"""When a schedule fires: cron in a time zone, as Debian's cron has it when clocks change.

In spring, a time of day that does not exist fires at the moment the clocks jump to. In autumn, a time of day that comes
twice fires the first time only. Expressions with a star for the hour or the minute follow elapsed time: they neither
leave out nor repeat a moment on either day.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from agentos.intake.triggers.model import BadTrigger, Schedule


def checked(schedule: Schedule, at: datetime) -> Schedule:
    """Return the schedule when it is one that fires again. Raises BadTrigger (Invalid)."""
    if len(schedule.cron.split()) != 5:
        raise BadTrigger(
            f"'{schedule.cron[:80]}' has not the five fields of cron",
            where="cron",
            then="minute hour day month weekday",
        )
    zone(schedule.time_zone)
    try:
        next_after(schedule, at)
    except (CronSimError, StopIteration) as error:
        raise BadTrigger(f"'{schedule.cron[:80]}' is not a cron expression: {error}", where="cron") from None
    return schedule


def zone(name: str) -> ZoneInfo:
    """A time zone of the IANA database. Raises BadTrigger (Invalid)."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise BadTrigger(
            f"there is no time zone '{name[:64]}'", where="time_zone", then="Use a name such as Europe/Berlin."
        ) from None


def next_after(schedule: Schedule, at: datetime) -> datetime:
    """The first moment after ``at``."""
    return next(_moments(schedule, at))


def between(schedule: Schedule, first: datetime, at: datetime, most: int) -> tuple[list[datetime], datetime]:
    """The moments from ``first``, which is one, until ``at``, at most so many; and the one after them."""
    found = [first]
    for moment in _moments(schedule, first):
        if moment > at or len(found) == most:
            return found, moment
        found.append(moment)
    raise AssertionError("a schedule that was checked fires again")


def _moments(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    last = after
    for moment in CronSim(schedule.cron, after.astimezone(zone(schedule.time_zone))):
        found = moment.astimezone(UTC)
        if found > last:  # two times of day that do not exist fall on one moment
            last = found
            yield found
