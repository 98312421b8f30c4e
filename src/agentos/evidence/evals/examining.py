"""A whole eval in the hands of one attempt: the tasks that have no outcome yet, many at once, and the end.

    claim → read cases, versions and what earlier attempts committed → each task: execute, commit its outcome
          → all done: the report, and EvalEnded
          → too many attempts lost their workers: the eval has failed, and nothing more is asked
          → a model, a skill or the database is away: tried again for a while, then the eval has failed
          → the worker shuts down: nothing more is asked, what was asked is recorded, another worker goes on
          → a stop holds the agent, or a cap has no room: the eval has failed, to be resumed

What is under way when one task cannot go on is carried to its end: an answer that was asked for is paid.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import structlog

from agentos.control.agents import service as agents
from agentos.evidence.evals import cases, datasets, judges, report, store
from agentos.evidence.evals.model import (
    PATIENCE,
    Case,
    Eval,
    EvalEnded,
    EvalLosesWorkers,
    EvalStatus,
    EvalWaits,
    Task,
)
from agentos.evidence.evals.world import Examination, Over
from agentos.kernel.clock import elapsed, now
from agentos.kernel.errors import AgentOSError, Bug, Unavailable, problem
from agentos.kernel.ids import OrgId
from agentos.kernel.telemetry.catalogue import EVAL_CASES, EVAL_SECONDS, EVALS
from agentos.kernel.unit_of_work import UnitOfWork
from agentos.runtime.runs.ports import Parts
from agentos.runtime.skills.model import SkillChanged, SkillUnknown, SkillWithheld

log = structlog.get_logger(__name__)


async def examine(parts: Parts, organization: OrgId, eval_id: str, *, leaving: asyncio.Event | None = None) -> None:
    """Carry an eval as far as it goes. Raises an Unavailable when it is to be tried again; every other end is recorded.

    Safe to repeat, and at the same time in two processes: the later attempt fences out the earlier. Once ``leaving`` is
    set nothing more is asked; what is under way is carried to the end of its call, and recorded. Who is cancelled cuts
    it, and is counted as lost like one that was killed.
    """
    async with parts.doors.open(organization) as work:
        claimed = await store.claim(work, eval_id)
        if claimed is None:  # it is over: who had it then was lost, or this would not be tried again
            await store.close_lost(work, eval_id)
            return
        if claimed.is_deadly:
            await ended(work, parts, claimed, EvalStatus.FAILED, error=_deadly(claimed))
            return
    try:
        async with parts.doors.open(organization) as work:
            held, known, left = await _read(work, parts, claimed, leaving or asyncio.Event())
        await _carry_out(held, known, left, claimed)
        async with parts.doors.open(organization) as work:
            every = await store.outcomes(work, eval_id)
            said = await asyncio.to_thread(report.of, every) | {"judges": judges.shown(known)}
            await ended(work, parts, claimed, EvalStatus.COMPLETED, said=said)
    except Over:
        log.info("eval_left", eval_id=eval_id)
        async with parts.doors.open(organization) as work:
            await store.let_go(work, eval_id, claimed.attempt)
    except asyncio.CancelledError:
        raise EvalWaits("this worker shuts down", where=eval_id) from None
    except Unavailable as away:
        async with parts.doors.open(organization) as work:
            is_late = await store.idle_seconds(work, eval_id) >= PATIENCE.total_seconds()
            if is_late and not (leaving and leaving.is_set()):
                await ended(work, parts, claimed, EvalStatus.FAILED, error=away)
                return
            await store.let_go(work, eval_id, claimed.attempt)
        raise
    except AgentOSError as error:
        async with parts.doors.open(organization) as work:
            await ended(work, parts, claimed, EvalStatus.FAILED, error=error)
    except Exception as error:  # a fault of ours ends this eval and no other
        log.exception("eval_failed", eval_id=eval_id, error=type(error).__name__)
        bug = Bug(f"the eval raised {type(error).__name__}", then="See the worker's log; this is a fault of ours.")
        async with parts.doors.open(organization) as work:
            await ended(work, parts, claimed, EvalStatus.FAILED, error=bug)


async def ended(
    work: UnitOfWork,
    parts: Parts,
    held: Eval,
    status: EvalStatus,
    *,
    said: dict[str, object] | None = None,
    error: AgentOSError | None = None,
    attempt: int | None = None,
) -> bool:
    """Record the end of an eval with its fact; False when it is over or another attempt has it."""
    at, told = now(), None if error is None else problem(error)
    this = held.attempt if attempt is None else attempt
    if not await store.end(work, held.id, status, attempt=this, problem=told, report=said, at=at):
        return False
    done, tokens, micros = await store.sums(work, held.id)
    await work.publish(
        EvalEnded(
            eval_id=held.id,
            dataset=held.dataset,
            dataset_hash=held.dataset_hash,
            agent_id=held.agent_id,
            version=held.version,
            against=held.against,
            status=status.value,
            code="" if error is None else error.code,
            cases=done,
            scores=report.means(said or {}),
            tokens=tokens,
            micros=micros,
        )
    )
    labels = {"org": work.organization, "agent_id": held.agent_id}
    parts.meter.count(EVALS, 1, **labels, status=status.value)
    parts.meter.observe(EVAL_SECONDS, (at - held.started_at).total_seconds(), **labels, status=status.value)
    return True


def _deadly(held: Eval) -> EvalLosesWorkers:
    return EvalLosesWorkers(
        f"{held.lost} attempts lost their worker, and each may have paid for {held.concurrency} calls",
        where=held.id,
        then="See why the workers ended, and the cases without an outcome; then resume it.",
    )


async def _read(
    work: UnitOfWork, parts: Parts, claimed: Eval, leaving: asyncio.Event
) -> tuple[Examination, list[Case], list[Task]]:
    """What the attempt stands on, every case, and the tasks that have no outcome yet."""
    content = await store.content(work, claimed.dataset, claimed.dataset_hash)
    known, _ = await asyncio.to_thread(datasets.read, content)
    definitions = {
        side: (await agents.get_version(work, claimed.agent_id, version)).definition
        for side, version in claimed.sides.items()
    }
    for definition in definitions.values():
        for ref in definition.skills:
            try:
                parts.registry.pinned(ref.name, ref.version, ref.digest)
            except (SkillChanged, SkillUnknown, SkillWithheld) as lacking:
                raise EvalWaits(lacking.what, where=ref.name, then="Start a worker that has the very skill.") from None
    held = Examination(
        parts,
        work.organization,
        claimed.id,
        claimed.attempt,
        definitions,
        await store.answers(work, claimed.id),
        leaving,
    )
    done = await store.done(work, claimed.id)
    every = (
        Task(side, case.number, repeat) for repeat in range(claimed.repeats) for case in known for side in claimed.sides
    )
    return held, known, [one for one in every if one not in done]


async def _carry_out(held: Examination, known: list[Case], left: list[Task], claimed: Eval) -> None:
    """Execute every task; raises what the first of them raised that could not go on, once the others are at rest."""
    tasks, failed = iter(left), list[BaseException]()
    workers = [
        asyncio.create_task(_work(held, known, tasks, failed)) for _ in range(min(claimed.concurrency, len(left)))
    ]
    try:
        await asyncio.gather(*workers)
    finally:
        for one in workers:
            one.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    if failed:
        raise failed[0]


async def _work(held: Examination, known: list[Case], tasks: Iterator[Task], failed: list[BaseException]) -> None:
    meter = held.parts.meter
    labels = {"org": held.organization, "agent_id": next(iter(held.definitions.values())).agent_id}
    for task in tasks:
        if failed:
            return
        case, began = known[task.number], elapsed()
        try:
            held.check_leaving()
            outcome, bills = await cases.execute(held, case, task)
            is_held = await store.finish(
                held.parts.database, held.organization, held.eval_id, held.attempt, case.id, outcome, bills
            )
            if not is_held:
                raise Over(held.eval_id)
        except Exception as error:  # told to all: what is under way comes to rest
            failed.append(error)
            return
        said = "left" if not outcome.scored else "passed" if outcome.passed else "missed"
        meter.count(EVAL_CASES, 1, **labels, outcome=said)
        log.debug("eval_case", eval_id=held.eval_id, task=task.key, outcome=said, seconds=elapsed() - began)
        await asyncio.sleep(0)  # a heartbeat goes out between free cases
