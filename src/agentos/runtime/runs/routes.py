"""The HTTP door to runs and drafts."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, ConfigDict, Field

from agentos.control.privacy.model import told
from agentos.control.privacy.routes import PrivacyDep, Sight, SightDep, look
from agentos.intake.identity.model import Caller, Permission
from agentos.intake.identity.routes import Reader, may
from agentos.intake.requests.service import MOST_KEY_LENGTH, once
from agentos.kernel import ids
from agentos.kernel.canonical import digest
from agentos.kernel.http import Cursor, DoorsDep, FreeJson, Limit, page, position_of
from agentos.kernel.ids import RunId
from agentos.kernel.unit_of_work import Doors
from agentos.runtime.runs import admission, service, traces
from agentos.runtime.runs.model import Run
from agentos.runtime.runs.ports import Parts

router = APIRouter(tags=["runs"])

# How often a stream looks for news: at once while steps come, and less and less often while nothing happens.
FIRST_LOOK_SECONDS: Final = 0.02
LONGEST_LOOK_SECONDS: Final = 1.0

Starter = Annotated[Caller, may(Permission.START_RUNS)]
Commander = Annotated[Caller, may(Permission.ORDER_RUNS)]
Settler = Annotated[Caller, may(Permission.SETTLE_EFFECTS)]
Submitter = Annotated[Caller, may(Permission.SUBMIT_DRAFTS)]
_OUR_WORDS: Final = frozenset({"error", "denied", "drafted"})  # steps whose content no skill and no person said
_NUMBER: Final = re.compile(r"[0-9]{1,9}")  # a position in a journal

IdempotencyKey = Annotated[str | None, Header(min_length=1, max_length=MOST_KEY_LENGTH)]


async def parts(request: Request) -> Parts:
    """The parts that this process runs agents with."""
    found: Parts = request.app.state.parts
    return found


PartsDep = Annotated[Parts, Depends(parts)]


class NewRun(BaseModel):
    """A request for a run."""

    model_config = ConfigDict(extra="forbid")
    agent: str = Field(max_length=63)
    environment: str = Field("production", max_length=63)
    input: FreeJson
    assignment_key: str = Field(
        "",
        max_length=200,
        description="Runs of one key, such as a customer's number, are on the same side of a canary.",
    )

    def said(self) -> dict[str, Any]:
        """What the caller said: what an Idempotency-Key stands for."""
        return self.model_dump(mode="json", exclude=None if self.assignment_key else {"assignment_key"})


class Settled(BaseModel):
    """A person's word on an uncertain effect."""

    model_config = ConfigDict(extra="forbid")
    happened: bool
    value: FreeJson = None


@router.post("/api/v1/runs", status_code=202)
async def start_run(
    body: NewRun,
    request: Request,
    response: Response,
    caller: Starter,
    doors: DoorsDep,
    parts: PartsDep,
    sight: SightDep,
    idempotency_key: IdempotencyKey = None,
) -> dict[str, Any]:
    """Accept a run of the version that serves now. The same Idempotency-Key and body give the same run."""
    asked = admission.Request(
        body.agent,
        body.environment,
        body.input,
        caller.handle,
        request.state.request_id,
        assignment_key=body.assignment_key,
    )
    async with doors.open(caller.organization) as work:
        run_id, first = RunId(ids.new("run")), True
        if idempotency_key is not None:
            kept, first = await once(work, f"runs {idempotency_key}", digest(body.said()), {"id": run_id})
            run_id = RunId(kept["id"])
        if first:
            await admission.admit(work, parts, asked, run_id)
        run = await service.get(work, run_id)
    if first:
        traces.accepted(parts.traces, run)
    response.headers["Location"] = f"/api/v1/runs/{run_id}"
    return await _seen(run, parts, sight)


@router.get("/api/v1/runs")
async def list_runs(
    caller: Reader,
    doors: DoorsDep,
    limit: Limit = 50,
    cursor: Cursor = "",
    status: str = "",
    agent: str = "",
    deployment: str = "",
) -> dict[str, Any]:
    """Runs, newest first."""
    async with doors.open(caller.organization) as work:
        rows = await service.listed(
            work, status=status, agent=agent, deployment=deployment, before=position_of(cursor), most=limit + 1
        )
    return page(rows, limit)


@router.get("/api/v1/runs/{run_id}")
async def show_run(run_id: str, caller: Reader, doors: DoorsDep, parts: PartsDep, sight: SightDep) -> dict[str, Any]:
    """One run."""
    async with doors.open(caller.organization) as work:
        run = await service.get(work, run_id)
    return await _seen(run, parts, sight)


@router.get("/api/v1/runs/{run_id}/journal")
async def show_journal(
    run_id: str,
    caller: Reader,
    doors: DoorsDep,
    parts: PartsDep,
    sight: SightDep,
    limit: Limit = 100,
    cursor: Cursor = "",
) -> dict[str, Any]:
    """The journal of a run: every step with its intent and its result."""
    after = position_of(cursor)
    async with doors.open(caller.organization) as work:
        await service.get(work, run_id)
        rows = await service.steps(work, run_id, after=int(after) if _NUMBER.fullmatch(after) else 0, most=limit + 1)
    return page([await seen_step(row, parts, sight) for row in rows], limit, by="seq")


@router.get("/api/v1/runs/{run_id}/why")
async def why(run_id: str, caller: Reader, doors: DoorsDep) -> dict[str, Any]:
    """Why a run does not move, and what would make it."""
    async with doors.open(caller.organization) as work:
        return await service.why(work, run_id)


async def known_run(run_id: str, caller: Reader, doors: DoorsDep) -> Run:
    """The run that a stream is about, so that there is none of an unknown one. Raises RunUnknown (404)."""
    async with doors.open(caller.organization) as work:
        return await service.get(work, run_id)


@router.get("/api/v1/runs/{run_id}/events", response_class=EventSourceResponse)
async def follow(
    run: Annotated[Run, Depends(known_run)],
    caller: Reader,
    doors: DoorsDep,
    parts: PartsDep,
    privacy: PrivacyDep,
    after: Annotated[int, Query(ge=0, le=999_999_999)] = 0,
    last_event_id: Annotated[str, Header(max_length=20)] = "",
) -> AsyncIterator[ServerSentEvent]:
    """The steps of a run as they are journaled, and each change of its status, until it ends.

    A step's event id is its position: a client that comes back with Last-Event-ID goes on after it.
    """
    start = int(last_event_id) if _NUMBER.fullmatch(last_event_id) else after
    sight = await look(caller, doors, privacy)
    async for event in _events(doors, caller, run.id, start, parts, sight):
        yield event


@router.post("/api/v1/runs/{run_id}/cancel")
async def cancel(run_id: str, caller: Commander, doors: DoorsDep, parts: PartsDep, sight: SightDep) -> dict[str, Any]:
    """Cancel a run: no further effect is committed; a call that is on the wire is recorded first."""
    return await _order(run_id, "cancel", caller, doors, parts, sight)


@router.post("/api/v1/runs/{run_id}/pause")
async def pause(run_id: str, caller: Commander, doors: DoorsDep, parts: PartsDep, sight: SightDep) -> dict[str, Any]:
    """Pause a run before its next effect."""
    return await _order(run_id, "pause", caller, doors, parts, sight)


@router.post("/api/v1/runs/{run_id}/resume")
async def resume(run_id: str, caller: Commander, doors: DoorsDep, parts: PartsDep, sight: SightDep) -> dict[str, Any]:
    """Let a paused run go on."""
    return await _order(run_id, "resume", caller, doors, parts, sight)


@router.post("/api/v1/runs/{run_id}/effects/{step}/settle")
async def settle(
    run_id: str, step: str, body: Settled, caller: Settler, doors: DoorsDep, parts: PartsDep, sight: SightDep
) -> dict[str, Any]:
    """Say whether an uncertain effect happened, after asking whoever received it."""
    async with doors.open(caller.organization) as work:
        run = await service.settle(work, run_id, step, happened=body.happened, value=body.value, by=caller.handle)
    return await _seen(run, parts, sight)


@router.get("/api/v1/requests/{request_id}")
async def trace(request_id: str, caller: Reader, doors: DoorsDep, parts: PartsDep, sight: SightDep) -> dict[str, Any]:
    """What came of a request: the runs that it led to, each with its journal."""
    async with doors.open(caller.organization) as work:
        found = await service.traced(work, request_id)
    runs = []
    for run, journal in found:
        steps = [await seen_step(row, parts, sight) for row in journal]
        runs.append(await _seen(run, parts, sight) | {"journal": steps})
    return {"request_id": request_id, "runs": runs}


@router.get("/api/v1/drafts", tags=["drafts"])
async def list_drafts(
    caller: Reader,
    doors: DoorsDep,
    parts: PartsDep,
    sight: SightDep,
    limit: Limit = 50,
    cursor: Cursor = "",
    status: str = "open",
) -> dict[str, Any]:
    """Drafts, oldest first; the open ones unless ``status`` says otherwise (``all`` for every one)."""
    async with doors.open(caller.organization) as work:
        rows = await service.drafts(
            work, status="" if status == "all" else status, after=position_of(cursor), most=limit + 1
        )
    if sight.masks:
        for row in rows:
            schema = service.input_schema(parts, row["skill"], row["skill_version"])
            row["arguments"] = await sight.of_call(row["arguments"], schema)
    return page(rows, limit)


@router.post("/api/v1/drafts/{draft_id}/submit", status_code=202, tags=["drafts"])
async def submit_draft(
    draft_id: str,
    request: Request,
    response: Response,
    caller: Submitter,
    doors: DoorsDep,
    parts: PartsDep,
    sight: SightDep,
) -> dict[str, Any]:
    """Submit a draft: a run of its own makes the call, under approval, once."""
    async with doors.open(caller.organization) as work:
        accepted = await admission.submit_draft(
            work, parts, draft_id, by=caller.handle, request_id=request.state.request_id
        )
        run = await service.get(work, accepted.run_id)
    traces.accepted(parts.traces, run)
    response.headers["Location"] = f"/api/v1/runs/{run.id}"
    return await _seen(run, parts, sight)


@router.post("/api/v1/drafts/{draft_id}/discard", status_code=204, tags=["drafts"])
async def discard_draft(draft_id: str, caller: Submitter, doors: DoorsDep) -> None:
    """Close a draft for good."""
    async with doors.open(caller.organization) as work:
        await service.discard_draft(work, draft_id, by=caller.handle)


async def _order(run_id: str, wanted: str, caller: Caller, doors: Doors, parts: Parts, sight: Sight) -> dict[str, Any]:
    async with doors.open(caller.organization) as work:
        run = await service.order(work, run_id, wanted, by=caller.handle)
    return await _seen(run, parts, sight)


async def _events(
    doors: Doors, caller: Caller, run_id: str, after: int, parts: Parts, sight: Sight
) -> AsyncIterator[ServerSentEvent]:
    said, wait = "", FIRST_LOOK_SECONDS
    while True:
        async with doors.open(caller.organization) as work:
            run = await service.get(work, run_id)
            rows = await service.steps(work, run_id, after=after, most=200)
        for row in rows:
            after = row["seq"]
            yield ServerSentEvent(
                event="step", id=str(after), raw_data=json.dumps(await seen_step(row, parts, sight), default=str)
            )
        state = json.dumps({"status": run.status.value, "waiting": run.waiting})
        if state != said and not (run.status.terminal and rows):
            said = state
            yield ServerSentEvent(event="status", raw_data=json.dumps(await _seen(run, parts, sight), default=str))
        if run.status.terminal and not rows:
            return
        wait = FIRST_LOOK_SECONDS if rows else min(wait * 1.5, LONGEST_LOOK_SECONDS)
        await asyncio.sleep(wait)


async def _seen(run: Run, parts: Parts, sight: Sight) -> dict[str, Any]:
    """A run as this caller may see it; what its version's schemas annotate is masked with the rest."""
    document = shown(run)
    if sight.masks:
        definition = (await service.version_of(parts, run)).definition
        document["input"] = await sight.of(document["input"], definition.input_schema)
        document["output"] = await sight.of(document["output"], definition.output_schema)
        document |= {name: await sight.of(document[name]) for name in ("problem", "waiting")}
        document["redacted"] = told(sight.counts)
    return document


async def seen_step(row: dict[str, Any], parts: Parts, sight: Sight) -> dict[str, Any]:
    """A step as this caller may see it."""
    if not sight.masks:
        return row
    content = row["content"]
    if row["kind"] == "message":
        content = await sight.of(content)
    elif row["kind"] == "model" and isinstance(content, dict):
        calls = [
            {**one, "arguments": await sight.of_call(one["arguments"], service.input_schema(parts, one["skill"], ""))}
            for one in content.get("calls") or []
        ]
        content = await sight.of(content | {"calls": calls})
    else:
        version = row["meta"].get("version", "")
        read = service.input_schema if row["phase"] == "intent" else service.output_schema
        seen = sight.of if row["status"] in _OUR_WORDS else sight.of_call
        content = await seen(content, read(parts, row["name"], version))
    return row | {"content": content, "meta": await sight.of(row["meta"])}


def shown(run: Run) -> dict[str, Any]:
    """A run as the API shows it."""
    return {
        "id": run.id,
        "agent_id": run.agent_id,
        "deployment_id": run.deployment_id,
        "revision": run.revision,
        "version": run.version,
        "status": run.status.value,
        "ordered": run.ordered or None,
        "waiting": run.waiting,
        "requested_by": run.requested_by,
        "request_id": run.request_id,
        "input": json.loads(run.input),
        "output": None if run.output is None else json.loads(run.output),
        "problem": run.problem,
        "messages": run.messages,
        "segment": run.token.segment,
        "attempt": run.token.attempt,
        "accepted_at": run.accepted_at,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "deadline": run.deadline,
    }
