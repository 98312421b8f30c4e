"""Looking again and again, as clocks, watches and sweepers do, until the process is told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import structlog

log = structlog.get_logger(__name__)

LEAST_SECONDS: Final = 0.001  # between two looks: one that always finds something due keeps nobody else from working


async def look_for_ever(
    look: Callable[[], Awaitable[float | None]], stop: asyncio.Event, *, every_seconds: float, waits: str
) -> None:
    """Look until ``stop``, whatever happens to what it reads from: a look that fails is logged and made again.

    ``look`` may return the seconds until the next. ``waits``: what the log calls a look that failed.
    """
    while not stop.is_set():
        wait: float | None = None
        try:
            wait = await look()
        except Exception as error:  # it outlives every outage: what is due is in the database
            log.warning(waits, error=type(error).__name__)
        await pause(stop, every_seconds if wait is None else wait)


async def pause(until: asyncio.Event, seconds: float) -> None:
    """Wait so long, or until the event."""
    with suppress(TimeoutError):
        await asyncio.wait_for(until.wait(), max(seconds, LEAST_SECONDS))
