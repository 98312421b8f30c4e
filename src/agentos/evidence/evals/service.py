"""Use cases of evals."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Final

from agentos.control.agents import service as agents
from agentos.control.agents.ports import ModelCatalogue
from agentos.evidence.evals import datasets, examining, judges, report, store
from agentos.evidence.evals.model import (
    MOST_TASKS,
    MOST_UNFINISHED,
    BadEval,
    Dataset,
    DatasetAdded,
    DatasetUnknown,
    Eval,
    EvalCancelled,
    EvalEndedAlready,
    EvalStarted,
    EvalStatus,
    EvalTooLarge,
    EvalUnknown,
    Latest,
    Outcome,
    TooManyEvals,
)
from agentos.kernel import ids
from agentos.kernel.canonical import digest_bytes
from agentos.kernel.errors import Invalid
from agentos.kernel.ids import EvalId
from agentos.kernel.retention import Retention
from agentos.kernel.unit_of_work import UnitOfWork
from agentos.runtime.runs.ports import Parts

PREFIX = "sha256:"
KEPT: Final = Retention("evals_forget", timedelta(days=400))  # a year's questions, and a month to ask them in
BILLS_KEPT: Final = Retention("eval_bills_forget", timedelta(days=7))  # a late settlement comes within minutes


async def add_dataset(work: UnitOfWork, name: str, content: bytes, *, by: str, at: datetime) -> Dataset:
    """Keep a file of cases under a name. The same content is the same data set; another is its newest from now on.

    Raises MalformedId, DatasetBroken, DatasetTooLarge (Invalid).
    """
    ids.checked_name(name, what="data set")
    good, broken = await asyncio.to_thread(datasets.read, content)
    added = Dataset(name, digest_bytes(content), len(good), broken, len(content), by, at)
    if await store.add_dataset(work, added, content):
        await work.publish(DatasetAdded(name, added.hash, len(good), len(broken), by))
        return added
    return await get_dataset(work, name, added.hash)


async def get_dataset(work: UnitOfWork, name: str, hashed: str = "") -> Dataset:
    """A data set: its newest content, or that whose hash begins so. Raises DatasetUnknown (NotFound)."""
    wanted = hashed if not hashed or hashed.startswith(PREFIX) else PREFIX + hashed
    found = await store.dataset(work, name, wanted)
    if found is None:
        said = f"'{name[:63]}'" + (f" with the hash {hashed[:80]}" if hashed else "")
        raise DatasetUnknown(f"there is no data set {said}", then="See 'agentos eval datasets', or add its file.")
    return found


async def list_datasets(work: UnitOfWork, *, after: str = "", most: int = 50) -> list[Dataset]:
    """The newest content of each data set, by name."""
    return await store.datasets(work, after, most)


async def start(
    work: UnitOfWork,
    models: ModelCatalogue,
    eval_id: EvalId,
    *,
    dataset: str,
    hashed: str = "",
    agent_id: str,
    version: str,
    against: str = "",
    repeats: int,
    concurrency: int,
    by: str,
    request_id: str,
    at: datetime,
) -> Eval:
    """Start an eval of a version over a data set, beside another version where one is named.

    Raises DatasetUnknown, AgentUnknown, VersionUnknown (NotFound), BadEval, EvalTooLarge, VersionAmbiguous (Invalid),
    TooManyEvals (Conflict), and the errors of the models that judges name (Invalid).
    """
    data = await get_dataset(work, dataset, hashed)
    examined = (await agents.get_version(work, agent_id, version)).hash
    other = (await agents.get_version(work, agent_id, against)).hash if against else ""
    if examined == other:
        raise BadEval("a version is not compared with itself", where="against", then="Name another version.")
    total = data.cases * repeats * (2 if other else 1)
    if total > MOST_TASKS:
        raise EvalTooLarge(
            f"{data.cases} cases, {repeats} times, make {total} executions, at most {MOST_TASKS}", then="Repeat less."
        )
    await _check_room(work)
    good, _ = await asyncio.to_thread(datasets.read, await store.content(work, data.name, data.hash))
    for judge in judges.of(good):
        try:
            models.check(judge.options["model"])
        except Invalid as error:
            raise BadEval(f"the judge '{judge.name}': {error.what}", where=error.where, then=error.then) from None
    wanted = Eval(
        id=eval_id,
        dataset=data.name,
        dataset_hash=data.hash,
        agent_id=agent_id,
        version=examined,
        against=other,
        repeats=repeats,
        concurrency=concurrency,
        status=EvalStatus.RUNNING,
        total=total,
        done=0,
        attempt=0,
        lost=0,
        resumes=0,
        problem=None,
        report=None,
        requested_by=by,
        request_id=request_id,
        started_at=at,
        ended_at=None,
    )
    await store.add(work, wanted)
    await work.publish(_started(wanted, by))
    return wanted


async def get(work: UnitOfWork, eval_id: str) -> Eval:
    """An eval, with how far it is. Raises EvalUnknown (NotFound), MalformedId (Invalid)."""
    found = await store.get(work, ids.checked("eval", eval_id))
    if found is None:
        raise EvalUnknown(f"there is no eval {eval_id}", then="See 'agentos eval list'.")
    return found


async def listed(
    work: UnitOfWork, *, agent: str = "", dataset: str = "", status: str = "", before: str = "", most: int = 50
) -> list[Eval]:
    """Evals, newest first."""
    return await store.listed(work, agent, dataset, status, before, most)


async def outcomes(
    work: UnitOfWork, eval_id: str, *, after: tuple[int, int, str] = (-1, 0, ""), most: int = 50
) -> list[tuple[str, Outcome]]:
    """What came of each case, by case and repeat, with the case's id. Raises EvalUnknown (NotFound)."""
    await get(work, eval_id)
    return await store.page(work, eval_id, after, most)


async def cancel(work: UnitOfWork, parts: Parts, eval_id: str, *, by: str) -> Eval:
    """End an eval; what is under way is not waited for. Again it does nothing.

    Raises EvalUnknown (NotFound), EvalEndedAlready (Conflict) when it came to another end.
    """
    await store.lock(work, eval_id)
    found = await get(work, eval_id)
    if found.status is EvalStatus.CANCELLED:
        return found
    if found.status is not EvalStatus.RUNNING:
        raise EvalEndedAlready(f"the eval has {found.status}", where=eval_id)
    await work.publish(EvalCancelled(eval_id, by))
    await examining.ended(work, parts, found, EvalStatus.CANCELLED, attempt=0)
    return await get(work, eval_id)


async def resume(work: UnitOfWork, eval_id: str, *, by: str, at: datetime) -> Eval:
    """Let an eval that failed go on where it was, and make sure that one under way has a workflow.

    Raises EvalUnknown (NotFound), EvalEndedAlready when it was completed or cancelled, TooManyEvals (Conflict).
    """
    await store.lock(work, eval_id)
    found = await get(work, eval_id)
    if found.status not in (EvalStatus.FAILED, EvalStatus.RUNNING):
        raise EvalEndedAlready(f"the eval was {found.status}", where=eval_id, then="Start another.")
    if found.status is EvalStatus.FAILED:
        await _check_room(work)
        await store.resume(work, eval_id, at=at)
        found = await get(work, eval_id)
    await work.publish(_started(found, by))
    return found


async def latest(work: UnitOfWork, agent_id: str, version: str, dataset: str, *, hashed: str = "") -> Latest | None:
    """The last figure of a version over a data set; None is unknown, and no gate passes on it.

    Only a completed eval counts, over the content that is named, else the newest, and only when none of its lines is
    broken.
    """
    content = await store.dataset(work, dataset, hashed)
    if content is None or content.broken:
        return None
    found = await store.latest(work, agent_id, version, dataset, content.hash)
    if found is None or found.report is None or found.ended_at is None:
        return None
    return report.latest(found.report, found.id, found.ended_at)


async def _check_room(work: UnitOfWork) -> None:
    """Return where one more eval may be under way. Raises TooManyEvals (Conflict)."""
    if await store.unfinished(work) >= MOST_UNFINISHED:
        raise TooManyEvals(
            f"{MOST_UNFINISHED} evals are under way, and no more may be", then="Wait for one, or cancel one."
        )


def _started(found: Eval, by: str) -> EvalStarted:
    return EvalStarted(
        eval_id=found.id,
        dataset=found.dataset,
        dataset_hash=found.dataset_hash,
        agent_id=found.agent_id,
        version=found.version,
        against=found.against,
        tasks=found.total,
        resumes=found.resumes,
        by=by,
    )
