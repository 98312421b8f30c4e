"""When what failed is tried again, and when it is given up."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Backoff:
    """How patiently something is tried.

    ``steps``: the waits after the first, second … failure; the last is repeated. ``tried_for``: how long at all; the
    very last try is at its end. ``held_for``: between looks at what cannot be tried before a person acts.
    ``jitter``: of a wait is added at most, so that what failed together does not come back together.
    """

    steps: tuple[timedelta, ...]
    tried_for: timedelta
    held_for: timedelta
    jitter: float

    def next_try(
        self, failures: int, *, first: datetime, at: datetime, luck: float, asked: timedelta | None = None
    ) -> datetime | None:
        """When to try again what has failed so often, or None when it is given up.

        ``luck`` in 0…1 is the share of the jitter. ``asked`` is the receiver's Retry-After: it can make the wait
        longer, up to the wait that would follow. A wait never passes the end of the tries: the last is made just then.
        """
        end = first + self.tried_for
        if at >= end:
            return None
        wait = self._step(failures) * (1 + self.jitter * luck)
        if asked is not None:
            wait = max(wait, min(asked, self._step(failures + 1)))
        return min(at + wait, end)

    def held_until(self, *, first: datetime, at: datetime) -> datetime | None:
        """When to look again for what cannot be sent before a person acts, or None when it is given up."""
        end = first + self.tried_for
        return None if at >= end else min(at + self.held_for, end)

    def _step(self, failures: int) -> timedelta:
        return self.steps[min(max(failures, 1), len(self.steps)) - 1]
