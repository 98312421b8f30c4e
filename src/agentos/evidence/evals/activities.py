"""The workers' door to evals: one eval under heartbeats."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from temporalio import activity
from temporalio.exceptions import ApplicationError

from agentos.evidence.evals import examining
from agentos.evidence.evals.workflow import EXAMINE, EvalWork
from agentos.kernel.durable import HEARTBEAT_TIMEOUT, across
from agentos.kernel.errors import AgentOSError
from agentos.kernel.ids import OrgId
from agentos.runtime.runs.ports import Parts


def activities(parts: Parts) -> list[Callable[[EvalWork], Awaitable[None]]]:
    """The activities of evals, over the parts of this process."""

    @activity.defn(name=EXAMINE)
    async def examine(wanted: EvalWork) -> None:
        beating = asyncio.create_task(_beat())
        try:
            await examining.examine(parts, OrgId(wanted.organization), wanted.eval_id)
        except AgentOSError as error:
            if error.retry_after is not None:
                raise ApplicationError(error.what, type=error.code, next_retry_delay=error.retry_after) from error
            raise across(error) from error
        finally:
            beating.cancel()

    return [examine]


async def _beat() -> None:
    """Tell the engine that this worker lives, four times within the timeout; a blocked loop stays silent."""
    while True:
        activity.heartbeat()
        await asyncio.sleep(HEARTBEAT_TIMEOUT.total_seconds() / 4)
