"""The HTTP door to data sets and evals. An eval is carried out by workers; here it is started, looked at and ended."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from agentos.control.agents import service as agents
from agentos.control.agents.ports import ModelCatalogue
from agentos.evidence.evals import service
from agentos.evidence.evals.model import (
    CONCURRENCY,
    MOST_CONCURRENCY,
    MOST_FILE_BYTES,
    MOST_REPEATS,
    Dataset,
    Eval,
    Outcome,
    Side,
)
from agentos.intake.identity.model import Caller, Permission
from agentos.intake.identity.routes import Reader, may
from agentos.intake.requests.service import once
from agentos.kernel import ids
from agentos.kernel.canonical import digest
from agentos.kernel.clock import now
from agentos.kernel.http import BadCursor, Cursor, DoorsDep, Limit, Region, answer, page, position_of
from agentos.kernel.ids import EvalId
from agentos.runtime.runs.routes import IdempotencyKey, PartsDep

PREFIX: Final = "/api/v1/agents/quality"
router = APIRouter(prefix=PREFIX, tags=["evals"])

# A file of cases is larger than other bodies may be; JSON's escapes make it half as large again, seldom more.
REGION: Final = Region(f"{PREFIX}/datasets", 2 * MOST_FILE_BYTES, lambda error, _scope: answer(error))

Examiner = Annotated[Caller, may(Permission.RUN_EVALS)]
_PLACE: Final = re.compile(r"([0-9]{1,9})\.([0-9]{1,9})\.(candidate|against)")


async def models(request: Request) -> ModelCatalogue:
    """The models that judges may be."""
    found: ModelCatalogue = request.app.state.models
    return found


ModelsDep = Annotated[ModelCatalogue, Depends(models)]


NO_NUL: Final = r"^[^\x00]*$"  # PostgreSQL's text has no room for it


class NewDataset(BaseModel):
    """A file of cases."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(max_length=63)
    content: str = Field(max_length=MOST_FILE_BYTES, description="JSON Lines: a case a line.")


class NewEval(BaseModel):
    """A version to examine on a data set, beside another where one is named."""

    model_config = ConfigDict(extra="forbid")
    dataset: str = Field(max_length=63, pattern=NO_NUL)
    dataset_hash: str = Field(
        "", max_length=80, pattern=NO_NUL, description="Its hash, or the beginning of it; empty: its newest."
    )
    agent: str = Field(max_length=63, pattern=NO_NUL)
    version: str = Field(
        "", max_length=80, pattern=NO_NUL, description="A hash, the beginning of one, or a number; empty: the last."
    )
    against: str = Field("", max_length=80, pattern=NO_NUL, description="Another version, to compare with.")
    repeats: int = Field(1, ge=1, le=MOST_REPEATS, description="How often each case is executed.")
    concurrency: int = Field(CONCURRENCY, ge=1, le=MOST_CONCURRENCY, description="Cases under way at once.")


@router.post("/datasets")
async def add_dataset(body: NewDataset, caller: Examiner, doors: DoorsDep) -> dict[str, Any]:
    """Keep a file of cases. Lines that are no cases are named; the others can be executed, but no gate counts them."""
    content = body.content.encode("utf-8", "surrogatepass")
    async with doors.open(caller.organization) as work:
        return _dataset(await service.add_dataset(work, body.name, content, by=caller.handle, at=now()))


@router.get("/datasets")
async def list_datasets(caller: Reader, doors: DoorsDep, limit: Limit = 50, cursor: Cursor = "") -> dict[str, Any]:
    """The newest content of each data set, by name."""
    async with doors.open(caller.organization) as work:
        found = await service.list_datasets(work, after=position_of(cursor), most=limit + 1)
    return page([_dataset(one) for one in found], limit, by="name")


@router.get("/datasets/{dataset}")
async def show_dataset(
    dataset: str, caller: Reader, doors: DoorsDep, hash: Annotated[str, Query(max_length=80)] = ""
) -> dict[str, Any]:
    """A data set with its broken lines: its newest content, or that of a hash."""
    async with doors.open(caller.organization) as work:
        return _dataset(await service.get_dataset(work, dataset, hash))


@router.post("/offline-evals/run", status_code=202)
async def start_eval(
    body: NewEval,
    request: Request,
    response: Response,
    caller: Examiner,
    doors: DoorsDep,
    models: ModelsDep,
    idempotency_key: IdempotencyKey = None,
) -> dict[str, Any]:
    """Examine a version. Effects become drafts; models are asked at the organization's cost.

    The same Idempotency-Key and body give the same eval.
    """
    async with doors.open(caller.organization) as work:
        eval_id, first = EvalId(ids.new("eval")), True
        if idempotency_key is not None:
            given = digest(body.model_dump(mode="json"))
            kept, first = await once(work, f"evals {idempotency_key}", given, {"id": eval_id})
            eval_id = EvalId(kept["id"])
        if first:
            await service.start(
                work,
                models,
                eval_id,
                dataset=body.dataset,
                hashed=body.dataset_hash,
                agent_id=body.agent,
                version=body.version or (await agents.get_agent(work, body.agent)).latest,
                against=body.against,
                repeats=body.repeats,
                concurrency=body.concurrency,
                by=caller.handle,
                request_id=request.state.request_id,
                at=now(),
            )
        found = await service.get(work, eval_id)
    response.headers["Location"] = f"{PREFIX}/offline-evals/{eval_id}"
    return _eval(found)


@router.get("/offline-evals")
async def list_evals(
    caller: Reader,
    doors: DoorsDep,
    limit: Limit = 50,
    cursor: Cursor = "",
    agent: str = "",
    dataset: str = "",
    status: str = "",
) -> dict[str, Any]:
    """Evals, newest first, without their reports."""
    async with doors.open(caller.organization) as work:
        found = await service.listed(
            work,
            agent=agent,
            dataset=dataset,
            status="" if status == "all" else status,
            before=position_of(cursor),
            most=limit + 1,
        )
    return page([_eval(one) | {"report": None} for one in found], limit)


@router.get("/offline-evals/{eval_id}")
async def show_eval(eval_id: str, caller: Reader, doors: DoorsDep) -> dict[str, Any]:
    """An eval: how far it is, and once it is completed its report."""
    async with doors.open(caller.organization) as work:
        return _eval(await service.get(work, eval_id))


@router.get("/offline-evals/{eval_id}/cases")
async def list_outcomes(
    eval_id: str, caller: Reader, doors: DoorsDep, limit: Limit = 50, cursor: Cursor = ""
) -> dict[str, Any]:
    """What came of each case, as far as the eval is: one entry for each version and repeat."""
    after = _place(position_of(cursor))
    async with doors.open(caller.organization) as work:
        found = await service.outcomes(work, eval_id, after=after, most=limit + 1)
    return page([_outcome(case, one) for case, one in found], limit, by="place")


@router.post("/offline-evals/{eval_id}/cancel")
async def cancel_eval(eval_id: str, caller: Examiner, doors: DoorsDep, parts: PartsDep) -> dict[str, Any]:
    """End an eval; its outcomes are kept."""
    async with doors.open(caller.organization) as work:
        return _eval(await service.cancel(work, parts, eval_id, by=caller.handle))


@router.post("/offline-evals/{eval_id}/resume", status_code=202)
async def resume_eval(eval_id: str, caller: Examiner, doors: DoorsDep) -> dict[str, Any]:
    """Let an eval that failed go on where it was; what was answered is not asked again."""
    async with doors.open(caller.organization) as work:
        return _eval(await service.resume(work, eval_id, by=caller.handle, at=now()))


def _place(position: str) -> tuple[int, int, str]:
    if not position:
        return (-1, 0, "")
    found = _PLACE.fullmatch(position)
    if found is None:
        raise BadCursor("this cursor was not given out by this listing", then="Start again without a cursor.")
    return int(found[1]), int(found[2]), Side(found[3]).value


def _dataset(one: Dataset) -> dict[str, Any]:
    return {
        "name": one.name,
        "hash": one.hash,
        "cases": one.cases,
        "broken": [{"line": line.line, "reason": line.reason} for line in one.broken],
        "counts_for_gates": not one.broken,
        "bytes": one.size,
        "added_by": one.added_by,
        "added_at": one.added_at,
    }


def _eval(one: Eval) -> dict[str, Any]:
    return {
        "id": one.id,
        "dataset": one.dataset,
        "dataset_hash": one.dataset_hash,
        "agent_id": one.agent_id,
        "version": one.version,
        "against": one.against or None,
        "repeats": one.repeats,
        "concurrency": one.concurrency,
        "status": one.status.value,
        "done": one.done,
        "total": one.total,
        "lost_attempts": one.lost,
        "asked_again_at_most": one.asked_again,
        "problem": one.problem,
        "report": one.report,
        "requested_by": one.requested_by,
        "request_id": one.request_id,
        "started_at": one.started_at,
        "ended_at": one.ended_at,
    }


def _outcome(case: str, one: Outcome) -> dict[str, Any]:
    return {
        "place": f"{one.task.number}.{one.task.repeat}.{one.task.side}",
        "case": case,
        "side": one.task.side.value,
        "repeat": one.task.repeat,
        "status": one.status,
        "passed": one.passed if one.scored else None,
        "code": one.code,
        "why": one.why,
        "output": one.output,
        "calls": one.calls,
        "scores": {name: score.shown() for name, score in one.scores.items()},
        "tokens": one.tokens,
        "micros": one.micros,
        "asked": one.asked,
        "seconds": one.seconds,
    }
