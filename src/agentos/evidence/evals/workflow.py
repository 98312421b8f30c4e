"""Where and when an eval happens: one activity, tried until it says that it is done. What happened is in the database.

This code is tiny and stable on purpose: evals under way replay it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from agentos.kernel.durable import ACTIVITY_RETRY, HEARTBEAT_TIMEOUT

EXAMINE: Final = "examine"
LONGEST: Final = timedelta(days=7)  # 100,000 tasks of a minute, 16 at once, take four days


@dataclass
class EvalWork:
    """Which eval."""

    organization: str
    eval_id: str


@workflow.defn(name="Eval")
class EvalFlow:
    """One eval, until it is over or has failed. Its id is made of the eval's: starting it twice is starting it once."""

    @workflow.run
    async def run(self, wanted: EvalWork) -> None:
        """Let a worker carry the eval to its end, another one where that one is lost."""
        await workflow.execute_activity(
            EXAMINE,
            wanted,
            start_to_close_timeout=LONGEST,
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            retry_policy=ACTIVITY_RETRY,
        )
