"""Requests in service are few, and whoever waits is let in fairly: one organization after the other, each in order.

However many requests one organization sends, only a few of them are in service, so another's next one finds a place,
and where all places are taken it waits for one turn of those who wait too, never for an organization's whole queue.

What a request leaves behind (the run that it started) shares the machine with whoever comes next. So the places of an
organization that has requests waiting rest between them while others are about: that leaves the machine some air.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

from agentos.kernel.clock import elapsed
from agentos.kernel.errors import Unavailable
from agentos.kernel.ids import OrgId

# A queue of this process empties within seconds, so whoever comes back this much later mostly finds a place.
RETRY_AFTER: Final = timedelta(seconds=1)


# Others are about when one of them came this recently: longer than a person's or a machine's pause between two requests
# of one piece of work, short enough that a noisy organization has the machine to itself again a moment later.
ABOUT_SECONDS: Final = 1.0


class TooManyWaiting(Unavailable):
    """So many requests of this organization wait already that another would wait too long. Nothing was done."""

    code = "too_many_waiting"


class Turns:
    """The requests of one process: ``at_once`` in service, of each organization at most ``each``, and at most
    ``waiting`` of each before the door. ``rest``: how many times as long as it was taken a place rests, when more of
    its organization wait and others are about.
    """

    def __init__(self, at_once: int, each: int, waiting: int, rest: float = 0.0) -> None:
        self._free = at_once
        self._each = each
        self._most = waiting
        self._rest = rest
        self._seen: OrderedDict[OrgId, float] = OrderedDict()  # when each came last; the latest at the end
        self._held: Counter[OrgId] = Counter()
        self._queues: dict[OrgId, deque[asyncio.Future[None]]] = {}
        self._order: deque[OrgId] = deque()  # every organization that waits, once; the next one first

    @asynccontextmanager
    async def turn(self, organization: OrgId) -> AsyncIterator[None]:
        """Wait for a turn of this organization and hold it while the block runs. Raises TooManyWaiting (503)."""
        self._seen[organization] = elapsed()
        self._seen.move_to_end(organization)
        await self._enter(organization)
        began = elapsed()
        try:
            yield
        finally:
            if self._rest and organization in self._queues and self._others_are_about(organization):
                asyncio.get_running_loop().call_later((elapsed() - began) * self._rest, self._leave, organization)
            else:
                self._leave(organization)

    async def _enter(self, organization: OrgId) -> None:
        queue = self._queues.get(organization)
        if queue is None and self._may_enter(organization):  # then all who wait are kept by their own limit
            self._take(organization)
            return
        if queue is None:
            queue = self._queues[organization] = deque()
            self._order.append(organization)
        elif len(queue) >= self._most:
            raise TooManyWaiting(
                f"{self._most} requests of your organization wait here already",
                then="Wait as long as Retry-After says, and send fewer at once.",
                retry_after=RETRY_AFTER,
            )
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():  # the turn came and nobody takes it any more
                self._leave(organization)
            raise

    def _others_are_about(self, organization: OrgId) -> bool:
        since = elapsed() - ABOUT_SECONDS
        while self._seen and next(iter(self._seen.values())) < since:
            self._seen.popitem(last=False)
        return any(one != organization for one in self._seen)

    def _may_enter(self, organization: OrgId) -> bool:
        return self._free > 0 and self._held[organization] < self._each

    def _take(self, organization: OrgId) -> None:
        self._free -= 1
        self._held[organization] += 1

    def _leave(self, organization: OrgId) -> None:
        self._free += 1
        self._held[organization] -= 1
        if not self._held[organization]:
            del self._held[organization]
        for _ in range(len(self._order)):
            if not self._free:
                return
            following = self._order.popleft()
            queue = self._queues[following]
            while queue and queue[0].cancelled():  # whoever went away while waiting
                queue.popleft()
            if queue and self._may_enter(following):
                self._take(following)
                queue.popleft().set_result(None)
            if queue:
                self._order.append(following)
            else:
                del self._queues[following]
