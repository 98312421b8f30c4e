"""Temporal as it is commonly used: one activity for each step. Argument: the server's address."""

from __future__ import annotations

import asyncio
import sys
import uuid
from datetime import timedelta

from answering import answer, versions
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import Worker

QUEUE = "classic"


@activity.defn
async def note(n: int) -> dict[str, int]:
    return {"n": n}


@workflow.defn
class Work:
    @workflow.run
    async def run(self, steps: int) -> int:
        for n in range(steps):
            await workflow.execute_activity(note, n, start_to_close_timeout=timedelta(seconds=30))
        return steps


async def main() -> None:
    client = await Client.connect(sys.argv[1])

    async def run(steps: int) -> None:
        assert await client.execute_workflow(Work.run, steps, id=uuid.uuid4().hex, task_queue=QUEUE) == steps

    async def history(wanted: int) -> int:
        handle = await client.start_workflow(Work.run, wanted, id=uuid.uuid4().hex, task_queue=QUEUE)
        await handle.result()
        return (await handle.describe()).raw_description.workflow_execution_info.history_size_bytes

    async with Worker(client, task_queue=QUEUE, workflows=[Work], activities=[note]):
        await answer(
            {"settings": f"{versions('temporalio')}; an activity a step, eager activities"}, run, history=history
        )


if __name__ == "__main__":
    asyncio.run(main())
