"""The workers' door to runs: a segment under heartbeats, and a segment on the low-latency path."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from temporalio import activity

from agentos.kernel.durable import HEARTBEAT_TIMEOUT, across
from agentos.kernel.errors import AgentOSError
from agentos.runtime.runs.loop import run_segment
from agentos.runtime.runs.ports import Parts
from agentos.runtime.runs.segment import Segment
from agentos.runtime.runs.workflow import SEGMENT, SEGMENT_INLINE, SegmentEnd, SegmentStart

Activity = Callable[[SegmentStart], Awaitable[SegmentEnd]]


def activities(parts: Parts) -> list[Activity]:
    """The activities of runs, over the parts of this process."""

    @activity.defn(name=SEGMENT)
    async def segment(start: SegmentStart) -> SegmentEnd:
        beating = asyncio.create_task(_beat())
        try:
            return await _segment(parts, start, inline=False)
        finally:
            beating.cancel()

    @activity.defn(name=SEGMENT_INLINE)
    async def segment_inline(start: SegmentStart) -> SegmentEnd:
        return await _segment(parts, start, inline=True)

    return [segment, segment_inline]


async def _segment(parts: Parts, start: SegmentStart, *, inline: bool) -> SegmentEnd:
    """Execute a segment; being cancelled interrupts it at the next safe place instead of cutting it off."""
    held: list[Segment] = []
    task = asyncio.create_task(
        run_segment(parts, start.organization, start.run_id, start.segment, inline=inline, watch=held.append)
    )
    try:
        while not task.done():
            try:
                await asyncio.shield(task)
            except asyncio.CancelledError:
                if task.cancelled():
                    raise
                if not held:
                    task.cancel()
                for one in held:
                    one.interrupt.set()
        return task.result()
    except AgentOSError as error:
        raise across(error) from error


async def _beat() -> None:
    """Tell the engine that this worker lives, four times within the timeout; a blocked loop stays silent."""
    while True:
        activity.heartbeat()
        await asyncio.sleep(HEARTBEAT_TIMEOUT.total_seconds() / 4)
