"""A breaker for each model: after failures in a row it is not asked, until a probe was answered.

    closed ──failures in a row──▶ open ──time is up──▶ half-open (one probe is under way)
       ▲                           ▲                      │            │
       └──────── answered ─────────┼──────────────────────┘            │
                                   └── failed; the wait is doubled ────┘

No caller waits for a model whose breaker is not closed. The probe is nobody's question, so its failure costs nobody
anything but the probe. After a probe the first failure opens the breaker again.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """Whether a model is asked."""

    CLOSED = "closed"
    HALF_OPEN = "half-open"
    OPEN = "open"


@dataclass(slots=True)
class Breaker:
    """The breaker of one model. Times are seconds of any clock that does not go back."""

    most_failures: int
    first_wait: float
    longest_wait: float
    state: State = State.CLOSED
    failures: int = 0  # in a row
    until: float = 0.0  # when it may be probed, while it is open
    rests_until: float = 0.0  # the provider asked to be left alone until then
    wait: float = 0.0

    def answered(self) -> bool:
        """Take note of an answer; whether the state changed. An answer also ends what a late one finds open."""
        changed = self.state is not State.CLOSED
        self.state, self.failures, self.wait = State.CLOSED, 0, 0.0
        return changed

    def failed(self, at: float) -> bool:
        """Take note of a failure of a call; whether the state changed."""
        self.failures += 1
        if self.state is not State.CLOSED or self.failures < self.most_failures:
            return False
        return self._open(at)

    def probe_due(self, at: float) -> bool:
        """Whether to send a probe now; then it counts as under way until ``probed``."""
        if self.state is not State.OPEN or at < self.until:
            return False
        self.state = State.HALF_OPEN
        return True

    def probed(self, at: float, *, answered: bool) -> None:
        """Take note of the end of a probe."""
        if self.state is not State.HALF_OPEN:
            return  # an answer that came late closed it meanwhile
        if answered:
            self.state, self.failures = State.CLOSED, self.most_failures - 1
        else:
            self._open(at)

    def rest(self, at: float, seconds: float) -> None:
        """Take note that the provider asked to be left alone for so long."""
        self.rests_until = max(self.rests_until, at + seconds)

    def _open(self, at: float) -> bool:
        self.wait = min(self.wait * 2 or self.first_wait, self.longest_wait)
        self.state, self.until = State.OPEN, at + self.wait
        return True
