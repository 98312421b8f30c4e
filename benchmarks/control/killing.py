"""A process of ours that orders kills: ``python -m benchmarks.control.killing``. Worker processes execute the runs.

One kill: so many runs are at work, a deployment is killed, all come to rest, and the proof is asked for. Then the runs
are cancelled and the stop is lifted. What the receiver kept is compared with the proof: a call that it got after the
order's answer must have been on the wire.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from pathlib import Path
from typing import Any

import uvloop
from sqlalchemy import text

from agentos.apps.bootstrap import ORGANIZATION
from agentos.apps.parts import Catalogue, Process, process
from agentos.control.agents import manifest
from agentos.control.deployments import applying
from agentos.control.stops import service as stops
from agentos.control.stops.model import StopKind, StopScope, Wanted
from agentos.evidence.effects import service as effects
from agentos.kernel import ids
from agentos.kernel.clock import now
from agentos.kernel.ids import RunId
from agentos.kernel.unit_of_work import UnitOfWork
from agentos.runtime.runs import admission, service
from benchmarks.control import killed
from benchmarks.peers.answering import answer, versions

REST_SECONDS = 90.0  # longer than the platform's own last moment

_AT_WORK = text(
    "SELECT count(*) AS runs FROM runs r WHERE id = ANY(CAST(:ids AS text[])) "
    "AND EXISTS (SELECT FROM journal j WHERE j.org = r.org AND j.run_id = r.id AND j.phase = 'intent')"
)
_AT_REST = text(
    "SELECT count(*) AS runs FROM runs WHERE id = ANY(CAST(:ids AS text[])) "
    "AND (waiting->>'reason' = 'stopped' OR status IN ('completed', 'failed', 'cancelled', 'blocked'))"
)
_OVER = text(
    "SELECT count(*) AS runs FROM runs WHERE id = ANY(CAST(:ids AS text[])) "
    "AND status IN ('completed', 'failed', 'cancelled', 'blocked')"
)


async def kill(held: Process, deployment: str, at_once: int, dice: random.Random) -> dict[str, Any]:
    """One kill of so many runs at work: what came after it, what was on the wire, and how long it took."""
    doors, run_ids = held.parts.doors, [RunId(ids.new("run")) for _ in range(at_once)]
    for run_id in run_ids:
        asked = admission.Request("bench_killed", "production", {"task_description": "act"}, "author", run_id)
        async with doors.open(ORGANIZATION) as work:
            await admission.admit(work, held.parts, asked, run_id)
    await _until(held, _AT_WORK, run_ids)
    await asyncio.sleep(dice.uniform(0.0, 0.5))
    called = time.time()
    async with doors.open(ORGANIZATION) as work:
        stop = await stops.order(work, Wanted(StopKind.KILL, StopScope.DEPLOYMENT, deployment), by="author")
    answered = time.time()
    await _until(held, _AT_REST, run_ids)
    async with doors.open(ORGANIZATION) as work:
        proof = await effects.proof(work, stop.id)
    wire = {f"{one.run_id}.{one.step}" for one in proof.on_the_wire}
    strays = [key for key, at in _received(run_ids) if at > answered and key not in wire]
    for run_id in run_ids:
        async with doors.open(ORGANIZATION) as work:
            await _cancel(work, run_id)
    await _until(held, _OVER, run_ids)
    async with doors.open(ORGANIZATION) as work:
        await stops.lift(work, stop.id, by="author")
    assert proof.last_at_rest is not None
    return {
        "after": len(proof.after) + len(strays),
        "wire": len(wire),
        "rest_seconds": (proof.last_at_rest - proof.ordered_at).total_seconds(),
        "order_seconds": answered - called,
        "brought_to_rest": proof.brought_to_rest,
    }


async def _cancel(work: UnitOfWork, run_id: RunId) -> None:
    await service.order(work, run_id, "cancel", by="author")


def _received(run_ids: list[RunId]) -> list[tuple[str, float]]:
    """What the receiver kept of these runs."""
    lines = Path(os.environ["BENCH_RECEIVER"]).read_text().splitlines()
    found = [(key, float(at)) for key, at in (line.split() for line in lines)]
    mine = set(run_ids)
    return [(key, at) for key, at in found if key.partition(".")[0] in mine]


async def _until(held: Process, statement: Any, run_ids: list[RunId]) -> None:
    async with asyncio.timeout(REST_SECONDS):
        while True:
            async with held.parts.doors.open(ORGANIZATION) as work:
                row = await work.first(statement, {"ids": list(run_ids)})
            if row is not None and row.runs == len(run_ids):
                return
            await asyncio.sleep(0.02)


async def main() -> None:
    """Answer the questions of the benchmark."""
    async with process(eager=False) as held:
        async with held.parts.doors.open(ORGANIZATION) as work:
            (done,) = await applying.apply(
                work,
                manifest.read_documents([killed.document()]),
                Catalogue(held.parts.registry),
                held.models,
                by="author",
                at=now(),
            )
        deployment = done.ensured.deployment.id
        dice = random.Random(1)

        async def run(_steps: int) -> None:
            await kill(held, deployment, 1, dice)

        async def kills(at_once: int) -> dict[str, Any]:
            return await kill(held, deployment, at_once, dice)

        await answer({"settings": versions("agentos", "temporalio", "asyncpg")}, run, kill=kills)


if __name__ == "__main__":
    uvloop.run(main())
