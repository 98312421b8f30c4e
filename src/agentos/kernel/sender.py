"""What is due outside is claimed, sent and written down, by as many workers as there are.

A claim is a lease: a worker that dies between sending and writing it down leaves one that runs out, and another worker
sends it again. No transaction is open while a receiver is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import datetime
from typing import Any, Final, Generic, TypeVar

import structlog

from agentos.kernel.looking import pause

log = structlog.get_logger(__name__)

T = TypeVar("T")

IDLE_SECONDS: Final = 0.5  # between looks when nothing is due
LAST_SECONDS: Final = 5.0  # for tries that are under way when the worker is told to stop

# Claims at most so many that are due at that time (None: now, by the database's clock).
Claim = Callable[[int, datetime | None], Awaitable[Sequence[T]]]


class Sender(Generic[T]):
    """Sends what is due. ``most``: under way in one worker; ``what``: for the logs."""

    def __init__(
        self,
        what: str,
        most: int,
        claim: Claim[T],
        send: Callable[[T], Coroutine[Any, Any, None]],
    ) -> None:
        self._what = what
        self._most = most
        self._claim = claim
        self._send = send
        self._wake = asyncio.Event()
        self._under_way: set[asyncio.Task[None]] = set()

    def wake(self) -> None:
        """Something may be due now."""
        self._wake.set()

    async def send_for_ever(self, stop: asyncio.Event) -> None:
        """Send what is due until ``stop``; an outage of the database is waited out."""
        waking = asyncio.create_task(self._wake_at(stop))
        wait = 0.0
        try:
            while not stop.is_set():
                self._wake.clear()
                found = 0
                try:
                    found = len(await self.begin())
                    wait = 0.0
                except Exception as error:  # it outlives every outage: what is owed is in the database
                    wait = min(max(wait, IDLE_SECONDS) * 2, 5.0)
                    log.warning("sender_waits", what=self._what, error=type(error).__name__, seconds=wait)
                if wait:
                    await pause(stop, wait)
                elif not found:
                    await pause(self._wake, IDLE_SECONDS)
            await self._finish()
        finally:
            waking.cancel()

    async def _wake_at(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._wake.set()

    async def turn(self, at: datetime | None = None) -> int:
        """Send everything that is due at that time, wait for the answers, and return how much there was."""
        tasks = await self.begin(at)
        if tasks:
            await asyncio.wait(tasks)
        return len(tasks)

    async def begin(self, at: datetime | None = None) -> list[asyncio.Task[None]]:
        """Claim what is due and begin to send it. Raises DatabaseUnavailable."""
        room = self._most - len(self._under_way)
        if room <= 0:
            return []
        tasks = [asyncio.create_task(self._send(one)) for one in await self._claim(room, at)]
        for task in tasks:
            self._under_way.add(task)
            task.add_done_callback(self._done)
        return tasks

    def _done(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._wake.set()

    async def _finish(self) -> None:
        if self._under_way:
            _, late = await asyncio.wait(self._under_way, timeout=LAST_SECONDS)
            for task in late:  # its lease runs out, and another worker sends it
                task.cancel()
