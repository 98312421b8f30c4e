"""Synchronous skills, each call on a thread of its own, and not too many of them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, Final

from agentos.runtime.skills.model import (
    SkillsBusy,
)

# A synchronous skill that never ends keeps its thread until the process ends, so their number is bounded: 64 stuck
# threads cost ~1 MB of resident memory here, and a healthy worker rarely has more than a handful under way.
MAX_SYNC_CALLS: Final = 64
_sync_calls = threading.BoundedSemaphore(MAX_SYNC_CALLS)


async def in_thread(work: Callable[[], Any]) -> Any:
    """Run blocking work on a daemon thread of its own: a call that never ends blocks neither the pool nor the exit."""
    places = _sync_calls
    if not places.acquire(blocking=False):
        raise SkillsBusy(
            f"{MAX_SYNC_CALLS} synchronous skill calls are under way in this worker",
            then="Look for skills that never end, restart the worker.",
        )
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def settle(value: Any, error: BaseException | None) -> None:
        if not future.done():
            future.set_exception(error) if error else future.set_result(value)

    def run() -> None:
        value, caught = None, None
        try:
            value = work()
        except BaseException as error:  # handed to the caller whole: it decides what the error means
            # A future cannot carry StopIteration.
            caught = RuntimeError("StopIteration") if isinstance(error, StopIteration) else error
        finally:
            places.release()
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, value, caught)

    threading.Thread(target=run, name="skill", daemon=True).start()
    return await future
