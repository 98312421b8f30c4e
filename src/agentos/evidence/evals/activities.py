"""The workers' door to evals: one eval under heartbeats."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from temporalio import activity
from temporalio.exceptions import ApplicationError

from agentos.evidence.evals import examining
from agentos.evidence.evals.settings import EvalSettings
from agentos.evidence.evals.workflow import EXAMINE, EvalWork
from agentos.kernel.clock import elapsed
from agentos.kernel.durable import HEARTBEAT_TIMEOUT, across
from agentos.kernel.errors import AgentOSError
from agentos.kernel.ids import OrgId
from agentos.runtime.runs.ports import Parts


def activities(parts: Parts, settings: EvalSettings) -> list[Callable[[EvalWork], Awaitable[None]]]:
    """The activities of evals, over the parts of this process."""

    @activity.defn(name=EXAMINE)
    async def examine(wanted: EvalWork) -> None:
        beating, leaving = asyncio.create_task(_beat()), asyncio.Event()
        work = asyncio.create_task(
            examining.examine(parts, OrgId(wanted.organization), wanted.eval_id, leaving=leaving)
        )
        try:
            await _carry(work, leaving, settings.leave_seconds)
        except AgentOSError as error:
            if error.retry_after is not None:
                raise ApplicationError(error.what, type=error.code, next_retry_delay=error.retry_after) from error
            raise across(error) from error
        finally:
            beating.cancel()

    return [examine]


async def _carry(work: asyncio.Task[None], leaving: asyncio.Event, seconds: float) -> None:
    """Await the work; once the worker shuts down it is told to leave, and cut when it has not after so long."""
    told = asyncio.create_task(activity.wait_for_worker_shutdown())
    with suppress(asyncio.CancelledError):  # the engine's way to say the same, or that nobody waits for it any more
        await asyncio.wait({work, told}, return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    leaving.set()
    until = elapsed() + seconds
    while not work.done() and (left := until - elapsed()) > 0:
        with suppress(asyncio.CancelledError):
            await asyncio.wait({work}, timeout=left)
    work.cancel()
    await work


async def _beat() -> None:
    """Tell the engine that this worker lives, four times within the timeout; a blocked loop stays silent."""
    while True:
        activity.heartbeat()
        await asyncio.sleep(HEARTBEAT_TIMEOUT.total_seconds() / 4)
