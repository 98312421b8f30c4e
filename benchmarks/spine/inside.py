"""A process of ours whose callers stand within it: ``python -m benchmarks.spine.inside [embedded | plain]``.

``embedded`` is put together like the API: eager start, and a worker of its own for the low-latency path. ``plain`` has
no worker: whatever it admits is executed by worker processes.

A caller opens a unit of work, admits a run, and waits for its end. The end is learned from the RunEnded fact, which a
process hands on right after the commit that made the run terminal; of a run that went on in another process after a
second, by asking PostgreSQL every 10 ms.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import uvloop
from sqlalchemy import text

from agentos.apps.bootstrap import ORGANIZATION
from agentos.apps.parts import Catalogue, Process, process, worker
from agentos.control.agents import manifest
from agentos.control.approvals import service as approvals
from agentos.control.deployments import applying
from agentos.intake.identity import service as identity
from agentos.intake.identity.model import Caller
from agentos.kernel import ids
from agentos.kernel.clock import now
from agentos.kernel.ids import OrgId, RunId
from agentos.kernel.outbox import Fact
from agentos.runtime.runs import admission, service
from agentos.runtime.runs.model import RunEnded
from benchmarks.peers.answering import answer, drive, versions
from benchmarks.spine import steps

ELSEWHERE_SECONDS = 1.0  # a run that takes longer may have gone on in a worker process
LOOK_SECONDS = 0.01

_STANDING = text("SELECT id, status, waiting->>'detail' AS detail FROM runs WHERE id = ANY(CAST(:ids AS text[]))")
_MADE = text(
    "SELECT count(*) FILTER (WHERE phase = 'result' AND status = 'ok') AS steps, count(*) AS rows, "
    "count(DISTINCT xmin::text) AS commits FROM journal WHERE run_id = :id"
)
_OPEN = ("accepted", "running", "waiting_approval", "paused")


@dataclass
class Callers:
    """Callers within a process: they admit runs and wait for them."""

    held: Process
    waiting: dict[str, tuple[float, asyncio.Event]] = field(default_factory=dict)

    async def hint(self, organization: OrgId, facts: Sequence[Fact]) -> None:
        """Tell the callers of runs that have ended, then do what the process does with facts."""
        for fact in facts:
            if isinstance(fact, RunEnded) and fact.run_id in self.waiting:
                self.waiting[fact.run_id][1].set()
        await self.held.run_engine.hint(organization, facts)

    async def look(self) -> None:
        """Tell the callers of runs that have ended in another process."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            late = [one for one, (since, _) in self.waiting.items() if time.perf_counter() - since > ELSEWHERE_SECONDS]
            if late:
                for one, (status, _) in (await self.standing(late)).items():
                    if status not in _OPEN and one in self.waiting:
                        self.waiting[one][1].set()

    async def admit(self, run_id: RunId, agent: str, wanted: int) -> None:
        """Admit a run, as the API's route does."""
        asked = admission.Request(agent, "production", {"steps": wanted}, "author", run_id)
        async with self.held.parts.doors.open(ORGANIZATION) as work:
            await admission.admit(work, self.held.parts, asked, run_id)

    async def run(self, wanted: int, agent: str = "bench_writer") -> RunId:
        """Admit a run and return when it is over. It has as many steps as wanted, or this raises."""
        run_id, ended = RunId(ids.new("run")), asyncio.Event()
        self.waiting[run_id] = (time.perf_counter(), ended)
        await self.admit(run_id, agent, wanted)
        await ended.wait()
        del self.waiting[run_id]
        return run_id

    async def standing(self, run_ids: Sequence[str]) -> dict[str, tuple[str, str]]:
        """The status of runs, and the approval that each waits for."""
        async with self.held.parts.doors.open(ORGANIZATION) as work:
            return {row.id: (row.status, row.detail) for row in await work.all(_STANDING, {"ids": list(run_ids)})}

    async def park(self, count: int) -> dict[str, str]:
        """Runs that wait for an approval, and which."""
        free = asyncio.Semaphore(20)

        async def one(run_id: RunId) -> None:
            async with free:
                await self.admit(run_id, "bench_asker", 2)

        run_ids = [RunId(ids.new("run")) for _ in range(count)]
        await asyncio.gather(*(one(run_id) for run_id in run_ids))
        while True:
            found = await self.standing(run_ids)
            if all(status == "waiting_approval" for status, _ in found.values()):
                return {run_id: detail for run_id, (_, detail) in found.items()}
            await asyncio.sleep(0.1)

    async def approve(self, caller: Caller, run_id: str, approval_id: str) -> float:
        """Approve, wait for the run's end, and tell the seconds from the answer's call to the approved call."""
        called = time.time()
        async with self.held.parts.doors.open(ORGANIZATION) as work:
            await approvals.answer(
                work,
                approval_id,
                person_id=str(caller.person_id),
                handle=caller.handle,
                approved=True,
                note="",
                at=now(),
            )
        while (await self.standing([run_id]))[run_id][0] in _OPEN:
            await asyncio.sleep(0.02)
        async with self.held.parts.doors.open(ORGANIZATION) as work:
            journal = await service.steps(work, run_id)
        return (
            next(row["content"]["at"] for row in journal if row["kind"] == "skill" and row["phase"] == "result")
            - called
        )


async def main() -> None:
    """Answer the questions of the benchmark."""
    embedded = sys.argv[1:] != ["plain"]
    async with process(eager=embedded) as held:
        callers = Callers(held)
        held.parts.doors.hint = callers.hint
        async with held.parts.doors.open(ORGANIZATION) as work:
            await applying.apply(
                work,
                manifest.read_documents(steps.documents()),
                Catalogue(held.parts.registry),
                held.models,
                by="author",
                at=now(),
            )
        approver = (await identity.shown_by(held.parts.database, os.environ["BENCH_APPROVER_KEY"])).caller
        assert approver is not None

        async def run(wanted: int) -> None:
            await callers.run(wanted)

        async def reads(**asked: Any) -> Any:
            async def read(wanted: int) -> None:
                await callers.run(wanted, "bench_reader")

            return await drive(read, **asked)

        async def check(wanted: int) -> dict[str, int]:
            """How many steps a run has, in how many rows, by how many transactions."""
            run_id = await callers.run(wanted)
            async with held.parts.doors.open(ORGANIZATION) as work:
                row = await work.first(_MADE, {"id": run_id})
            assert row is not None
            return dict(row._mapping)

        async def history(wanted: int) -> int:
            run_id = await callers.run(wanted)
            handle = (await held.link.client()).get_workflow_handle(run_id)
            await handle.result()
            found = (await handle.describe()).raw_description.workflow_execution_info
            return int(found.history_size_bytes)

        async def park(count: int) -> int:
            return len(await callers.park(count))

        async def approve(count: int) -> list[float]:
            parked = await callers.park(count)
            return [await callers.approve(approver, run_id, approval) for run_id, approval in parked.items()]

        looking = asyncio.create_task(callers.look())
        hello = {"settings": versions("agentos", "temporalio", "asyncpg", "sqlalchemy")}
        questions = {"reads": reads, "check": check, "history": history, "park": park, "approve": approve}
        if embedded:
            async with await worker(held, inline_only=True):
                await answer(hello, run, **questions)
        else:
            await answer(hello, run, **questions)
        looking.cancel()


if __name__ == "__main__":
    uvloop.run(main())
