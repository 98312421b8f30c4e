"""Give runs orders, settle what is uncertain, and tell how they stand and why they wait."""

from __future__ import annotations

import json
from typing import Any, Final

from sqlalchemy import Row

from agentos.control.agents import service as agents
from agentos.control.agents.model import Version
from agentos.intake.triggers import service as triggers
from agentos.kernel.unit_of_work import UnitOfWork
from agentos.runtime.runs import store
from agentos.runtime.runs.model import (
    DraftDiscarded,
    DraftSettled,
    DraftUnknown,
    EffectSettled,
    Reason,
    RequestUnknown,
    Run,
    RunEndedAlready,
    RunNotPaused,
    RunOrdered,
    RunStatus,
    RunUnknown,
    StepNotUncertain,
    TooManyMessages,
    Used,
)
from agentos.runtime.runs.ports import Parts

MOST_MESSAGES: Final = 50  # to one run, of 4,000 characters each: some 50,000 tokens, a quarter of a usual context


async def version_of(parts: Parts, run: Run) -> Version:
    """The version that a run is pinned to."""
    known = parts.versions.get((run.organization, run.agent_id, run.version))
    if known is not None:
        return known
    async with parts.doors.open(run.organization) as work:
        return await pinned(work, parts, run.agent_id, run.version)


async def pinned(work: UnitOfWork, parts: Parts, agent_id: str, named: str) -> Version:
    """A version by its hash. Raises VersionUnknown (NotFound)."""
    name = (str(work.organization), agent_id, named)
    if name not in parts.versions:
        parts.versions[name] = await agents.get_version(work, agent_id, named)
    return parts.versions[name]


def input_schema(parts: Parts, skill: str, version: str) -> dict[str, Any] | None:
    """The schema of a skill's arguments; another version's where that one is not loaded, None where none is."""
    return parts.registry.input_schema(skill, version)


def output_schema(parts: Parts, skill: str, version: str) -> dict[str, Any] | None:
    """The schema of what a skill returns; another version's where that one is not loaded, None where none is."""
    found = parts.registry.nearest(skill, version)
    return None if found is None else found.output_schema


async def order(work: UnitOfWork, run_id: str, wanted: str, *, by: str) -> Run:
    """Order a run to ``pause``, ``cancel`` or ``resume``. No effect's intent is journaled once this commits.

    Raises RunUnknown (NotFound), RunEndedAlready or RunNotPaused (Conflict).
    """
    run = await _locked(work, run_id)
    if run.status.terminal:
        raise RunEndedAlready(f"the run is {run.status} already", where=run_id)
    wake = str((run.waiting or {}).get("wake", ""))
    if wanted == "resume":
        if run.status is not RunStatus.PAUSED and run.ordered != "pause":
            raise RunNotPaused(f"the run is {run.status}, not paused", where=run_id)
        await store.order(work, run_id, "")
    elif run.ordered == "cancel" or (wanted == "pause" and run.status is RunStatus.PAUSED):
        return run
    else:
        await store.order(work, run_id, wanted)
    await work.publish(RunOrdered(run_id, wanted, by, wake))
    return await get(work, run_id)


async def settle(work: UnitOfWork, run_id: str, step: str, *, happened: bool, value: Any, by: str) -> Run:
    """Record a person's word on whether an uncertain effect happened; the run goes on from it.

    ``step`` is the send that the run waits for, as ``why`` names it. Raises RunUnknown, StepNotUncertain (Conflict).
    """
    run = await _locked(work, run_id)
    waiting = run.waiting or {}
    if run.status.terminal or waiting.get("reason") != Reason.UNCERTAIN_EFFECT or waiting.get("step") != step:
        raise StepNotUncertain(
            f"the run does not wait for anybody to settle '{step[:80]}'",
            where=run_id,
            then=f"See 'agentos runs why {run_id}'.",
        )
    await store.fence(work, run_id)
    await store.settle(
        work,
        run_id,
        key=f"{step}!settled",
        name="settled",
        status="happened" if happened else "not_happened",
        meta={"by": by},
        content=json.dumps(value).encode(),
    )
    await store.moves(work, run_id)
    await work.publish(EffectSettled(run_id, step, happened, by, str(waiting.get("wake"))))
    return await get(work, run_id)


async def submitted_call(work: UnitOfWork, draft_id: str) -> tuple[str, Any]:
    """The skill and the arguments of a draft. Raises DraftUnknown (NotFound)."""
    draft = await store.draft(work, draft_id)
    if draft is None:
        raise DraftUnknown(f"no draft '{draft_id}'", then="See 'agentos drafts list'.")
    return draft.skill, json.loads(draft.arguments)


async def discard_draft(work: UnitOfWork, draft_id: str, *, by: str) -> None:
    """Close a draft for good. Raises DraftUnknown (NotFound), DraftSettled (Conflict)."""
    draft = await store.draft(work, draft_id)
    if draft is None:
        raise DraftUnknown(f"no draft '{draft_id}'", then="See 'agentos drafts list'.")
    if draft.status != "open":
        raise DraftSettled(f"the draft is {draft.status} already", where=draft_id)
    await store.mark_draft(work, draft_id, "discarded", None)
    await work.publish(DraftDiscarded(draft.run_id, draft_id, by))


async def take_message(work: UnitOfWork, run_id: str, message_id: str, *, author: str) -> None:
    """Hand a run what somebody wrote to it: it is read before the model is asked next. The same message is handed once.

    Raises RunUnknown (NotFound), RunEndedAlready (Conflict), TooManyMessages (Exhausted).
    """
    run = await _locked(work, run_id)
    if not await store.is_handed(work, message_id):
        check_reads(run)
        await store.hand(work, run_id, message_id, author)


def check_reads(run: Run) -> None:
    """Return when a run would read another message. Raises RunEndedAlready (Conflict), TooManyMessages (Exhausted)."""
    if run.status.terminal:
        raise RunEndedAlready(f"the run is {run.status} already: it reads no messages", where=run.id)
    if run.messages >= MOST_MESSAGES:
        raise TooManyMessages(
            f"the run was sent {MOST_MESSAGES} messages, which is all that it reads",
            where=run.id,
            then="Cancel it, and start another that is told what it needs.",
        )


async def unread(work: UnitOfWork, run_id: str, many: int) -> list[str]:
    """The ids of the last messages, so ``many``, that a run was handed."""
    handed = await store.handed(work, run_id, 0)
    return [row.message_id for row in handed[-many:]]


async def starters(work: UnitOfWork, run: Run) -> tuple[str, ...]:
    """Everybody who started a run in some way, or steers it: asked for it, made its trigger, submitted its draft or led
    to that, or wrote to it."""
    found: dict[str, None] = {}
    while True:
        found[run.requested_by] = None
        if run.firing_id is not None and (maker := await triggers.maker(work, run.firing_id)):
            found[maker] = None
        found |= {row.author: None for row in await store.handed(work, run.id, 0)}
        draft = None if run.draft_id is None else await store.draft(work, run.draft_id)
        if draft is None:
            return tuple(found)
        run = await get(work, draft.run_id)


async def get(work: UnitOfWork, run_id: str) -> Run:
    """One run. Raises RunUnknown (NotFound)."""
    run = await store.get(work, run_id)
    if run is None:
        raise RunUnknown(f"no run '{run_id}'", then="See 'agentos runs list'.")
    return run


async def why(work: UnitOfWork, run_id: str) -> dict[str, Any]:
    """Why a run does not move, and what would make it. Raises RunUnknown (NotFound)."""
    run = await get(work, run_id)
    waiting = run.waiting or {}
    said: dict[str, Any] = {"run_id": run.id, "status": run.status.value}
    if run.status.terminal:
        return said | {"why": "it is over", "problem": run.problem}
    if run.ordered:
        return said | {"why": f"it was ordered to {run.ordered} and is about to"}
    reason = waiting.get("reason")
    if run.status is RunStatus.ACCEPTED and run.token.segment == 0:
        return said | {"why": "no worker has begun it", "next": "See 'agentos ps' and 'agentos health'."}
    if reason is None:
        return said | {"why": "it is not waiting: a worker has it in its hands"}
    return said | {"reason": reason, "why": _WHY[Reason(reason)], **_known(waiting), "next": _next(run, waiting)}


async def listed(
    work: UnitOfWork, *, status: str, agent: str, deployment: str, before: str, most: int
) -> list[dict[str, Any]]:
    """Runs, newest first."""
    rows = await store.listed(work, status=status, agent=agent, deployment=deployment, before=before, most=most)
    return [dict(row._mapping) for row in rows]


async def steps(work: UnitOfWork, run_id: str, *, after: int = 0, most: int = 1000) -> list[dict[str, Any]]:
    """The journal of a run from a position on, payloads decoded."""
    return [_step(row) for row in await store.steps(work, run_id, after, most)]


async def used(work: UnitOfWork, run_id: str) -> Used:
    """What the models of a run used."""
    return await store.used(work, run_id)


async def traced(work: UnitOfWork, request_id: str) -> list[tuple[Run, list[dict[str, Any]]]]:
    """The runs that a request led to, each with its journal. Raises RequestUnknown (NotFound)."""
    found = [
        (await get(work, run_id), await steps(work, run_id)) for run_id in await store.of_request(work, request_id)
    ]
    if not found:
        raise RequestUnknown(
            f"no run came of a request '{request_id[:64]}'", then="Ids are in the answers' X-Request-ID."
        )
    return found


async def drafts(work: UnitOfWork, *, status: str, after: str, most: int) -> list[dict[str, Any]]:
    """Drafts, oldest first."""
    rows = await store.drafts(work, status, after, most)
    return [
        {key: value for key, value in row._mapping.items() if key not in ("org", "arguments")}
        | {"arguments": json.loads(row.arguments)}
        for row in rows
    ]


_WHY = {
    Reason.APPROVAL: "a person must approve one of its calls",
    Reason.UNCERTAIN_EFFECT: "a worker was lost while an effect was on the wire, and only a person can tell its end",
    Reason.SETTLING: "a call may still be on the wire; its end is known after a bounded time",
    Reason.MODEL: "its model does not answer; it is asked again",
    Reason.PAUSED: "somebody paused it",
    Reason.DEPLOYMENT_PAUSED: "its deployment is paused: effects wait, reads go on",
    Reason.SKILL: "no worker has the very skill that its version pinned",
    Reason.STOPPED: "a stop holds it",
}


def _next(run: Run, waiting: dict[str, Any]) -> str:
    match Reason(waiting["reason"]):
        case Reason.APPROVAL:
            return f"agentos approvals approve {waiting.get('detail')}"
        case Reason.UNCERTAIN_EFFECT:
            return f"Ask the receiver, then: agentos runs settle {run.id} {waiting.get('step')} --happened yes|no"
        case Reason.PAUSED:
            return f"agentos runs resume {run.id}"
        case Reason.DEPLOYMENT_PAUSED:
            return f"agentos deployments resume {run.deployment_id}"
        case Reason.STOPPED:
            return f"See 'agentos stops show {waiting.get('detail')}'; lifting it lets the run go on."
        case Reason.SKILL:
            return "Start a worker whose AGENTOS_SKILLS names the module of that skill."
        case _:
            return "Nothing: it goes on by itself."


def _known(waiting: dict[str, Any]) -> dict[str, Any]:
    return {key: waiting[key] for key in ("detail", "step", "tries", "seconds") if waiting.get(key)}


def _step(row: Row[Any]) -> dict[str, Any]:
    shown = {key: value for key, value in row._mapping.items() if key != "content" and value is not None}
    shown["content"] = None if row.content is None else json.loads(row.content)
    return shown


async def _locked(work: UnitOfWork, run_id: str) -> Run:
    run = await store.get(work, run_id, lock=True)
    if run is None:
        raise RunUnknown(f"no run '{run_id}'", then="See 'agentos runs list'.")
    return run
