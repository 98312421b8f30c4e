"""Where and when a run happens: segments, and waits between them. What happened is the journal's business.

This code is tiny and stable on purpose: parked runs replay it. Histories of each release lie in tests/histories/.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception
from temporalio.workflow import ActivityCancellationType

with workflow.unsafe.imports_passed_through():
    from agentos.kernel.durable import ACTIVITY_RETRY, HEARTBEAT_TIMEOUT

SEGMENT: Final = "run_segment"
SEGMENT_INLINE: Final = "run_segment_inline"

LONGEST_SEGMENT: Final = timedelta(hours=1)  # a segment ends itself after minutes; this is for one that cannot
FAULT_PAUSE: Final = timedelta(seconds=5)  # long enough not to burn a core, short against a deploy that mends it
MOST_HISTORY: Final = 2000  # events before the workflow continues as new: 300 waits, ~200 kB


@dataclass
class RunStart:
    """Which run, and the last segment that was tried before this workflow existed."""

    organization: str
    run_id: str
    segment: int
    inline: bool


@dataclass
class SegmentStart:
    """Which segment of which run."""

    organization: str
    run_id: str
    segment: int


@dataclass
class SegmentEnd:
    """How a segment ended: ``done``, ``wait`` (for ``wake`` or ``seconds``), or ``continue``."""

    state: str
    segment: int
    wake: str = ""
    seconds: float | None = None


@workflow.defn(name="AgentRun")
class AgentRun:
    """One run. Its id is the run's id, so starting it twice is starting it once."""

    def __init__(self) -> None:
        self._woken: set[str] = set()
        self._segment: asyncio.Task[SegmentEnd] | None = None

    @workflow.run
    async def run(self, start: RunStart) -> None:
        """Execute segments until the run is over."""
        segment, inline = start.segment, start.inline
        while True:
            segment += 1
            this = SegmentStart(start.organization, start.run_id, segment)
            self._segment = asyncio.ensure_future(_segment(this, inline))
            try:
                end = await self._segment
            except (asyncio.CancelledError, ActivityError) as error:
                # Interrupted: the next segment reads the order and obeys. Anything else is a fault that no retry mends
                # by itself; the run is kept and tried again, slowly, so that a mended worker finishes it.
                interrupted = is_cancelled_exception(error)
                end = SegmentEnd("continue" if interrupted else "wait", segment, seconds=FAULT_PAUSE.total_seconds())
            self._segment = None
            segment, inline = max(segment, end.segment), False
            if end.state == "done":
                return
            if end.state == "wait":
                await self._wait(end)
            if workflow.info().get_current_history_length() > MOST_HISTORY:
                await workflow.wait_condition(workflow.all_handlers_finished)
                workflow.continue_as_new(RunStart(start.organization, start.run_id, segment, False))

    @workflow.signal
    def wake(self, name: str) -> None:
        """What the run waits for has come. Coming early or twice does no harm."""
        self._woken.add(name)

    @workflow.signal
    def interrupt(self) -> None:
        """The run was ordered to pause or cancel: end the segment that is under way."""
        if self._segment is not None:
            self._segment.cancel()

    async def _wait(self, end: SegmentEnd) -> None:
        timeout = None if end.seconds is None else timedelta(seconds=max(end.seconds, 0.001))
        try:
            await workflow.wait_condition(lambda: end.wake in self._woken, timeout=timeout)
        except TimeoutError:
            return


async def _segment(start: SegmentStart, inline: bool) -> SegmentEnd:
    if inline:
        local: SegmentEnd = await workflow.execute_local_activity(
            SEGMENT_INLINE,
            start,
            result_type=SegmentEnd,
            start_to_close_timeout=LONGEST_SEGMENT,
            retry_policy=ACTIVITY_RETRY,
            cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )
        return local
    end: SegmentEnd = await workflow.execute_activity(
        SEGMENT,
        start,
        result_type=SegmentEnd,
        start_to_close_timeout=LONGEST_SEGMENT,
        heartbeat_timeout=HEARTBEAT_TIMEOUT,
        retry_policy=ACTIVITY_RETRY,
        cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    )
    return end
