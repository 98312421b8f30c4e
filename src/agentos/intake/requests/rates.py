"""How often a key may ask and an address may guess, counted in this process."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from agentos.kernel.clock import now
from agentos.kernel.errors import Exhausted

# A person who mistypes a key tries a few times; whoever tries more often is guessing.
GUESSES_PER_MINUTE: Final = 60


class RateExceeded(Exhausted):
    """Too many requests of one key, or too many wrong keys from one address."""

    code = "rate_exceeded"


class Rates:
    """Counts over a sliding minute."""

    def __init__(self, per_minute: int) -> None:
        self._each = RateLimitItemPerMinute(per_minute)
        self._guesses = RateLimitItemPerMinute(GUESSES_PER_MINUTE)
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    def take(self, key_id: str) -> None:
        """Count one request of this key. Raises RateExceeded (429) with the time to wait."""
        if not self._limiter.hit(self._each, "key", key_id):
            raise self._exceeded(self._each, "key", key_id)

    def guess(self, whose: str) -> None:
        """Count a key or a password that opens nothing. Raises RateExceeded (429) when there were too many of them."""
        if not self._limiter.hit(self._guesses, "guess", whose):
            raise self._exceeded(self._guesses, "guess", whose)

    def _exceeded(self, item: RateLimitItemPerMinute, kind: str, whose: str) -> RateExceeded:
        ends = self._limiter.get_window_stats(item, kind, whose).reset_time
        wait = max(1.0, ends - now().timestamp())
        return RateExceeded(
            f"more than {item.amount} {'requests' if kind == 'key' else 'wrong tries'} in a minute",
            then="Wait as long as Retry-After says.",
            retry_after=timedelta(seconds=min(wait, 60.0)),
        )
