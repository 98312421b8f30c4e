"""Admit runs: of the version that serves, with an input that fits it, as many as may wait while a stop holds them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from agentos.control.agents.model import Definition
from agentos.control.deployments import serving as deployments
from agentos.control.stops import service as stops
from agentos.control.stops.model import Subject
from agentos.kernel import epochs, ids
from agentos.kernel.canonical import canonical
from agentos.kernel.ids import RunId
from agentos.kernel.schemas import misfit
from agentos.kernel.unit_of_work import UnitOfWork
from agentos.runtime.runs import service, store
from agentos.runtime.runs.model import (
    FORMAT,
    DraftSettled,
    DraftSubmitted,
    DraftUnknown,
    InputRefused,
    RunAccepted,
    SchedulesPaused,
    TooManyHeld,
    TriggerNotTaken,
)
from agentos.runtime.runs.ports import Parts

HELD_RETRY: Final = timedelta(minutes=1)  # people lift stops: asking more often finds nothing new


@dataclass(frozen=True, slots=True)
class Request:
    """A request for a run."""

    agent_id: str
    environment: str
    input: Any
    requested_by: str  # the handle of a person, or the name of a machine or a trigger
    request_id: str
    firing_id: str | None = None  # of the trigger that asks
    trigger: str = "manual"  # the kind of it
    assignment_key: str = ""  # runs of one key are on the same side of a canary; empty: each run by itself


async def admit(work: UnitOfWork, parts: Parts, asked: Request, run_id: RunId) -> RunAccepted:
    """Accept a run of the version that serves now, or of its canary; it is kept from this unit of work's commit on.

    Raises the deployment's errors (NotFound, Conflict), TriggerNotTaken (Forbidden), InputRefused (Invalid),
    SkillUnknown or SkillChanged.
    """
    serving = await deployments.of_agent(work, asked.agent_id, asked.environment, key=asked.assignment_key or run_id)
    version, definition = serving.version, serving.version.definition
    check_trigger(definition, asked.trigger)
    check_input(definition, asked.input)
    for ref in definition.skills:
        parts.registry.pinned(ref.name, ref.version, ref.digest)
    await _check_held(work, parts, serving.deployment.id, definition)
    return await _accept(
        work,
        definition,
        run_id,
        deployment_id=serving.deployment.id,
        revision=serving.revision,
        version=version.hash,
        data=canonical(asked.input),
        requested_by=asked.requested_by,
        request_id=asked.request_id,
        draft_id=None,
        firing_id=asked.firing_id,
    )


def check_trigger(definition: Definition, kind: str) -> None:
    """Raises TriggerNotTaken (Forbidden) where the version names the triggers it takes and this is none of them."""
    taken = [one["type"] for one in definition.triggers]
    if taken and kind not in taken:
        raise TriggerNotTaken(
            f"the agent's version takes runs by {' or '.join(taken)}, not by {kind}",
            where=definition.agent_id,
            then=f"Name '{kind}' in spec.triggers of its manifest, and promote that version.",
        )


async def check_schedules(work: UnitOfWork, asked: Request) -> None:
    """In degraded mode nothing starts by the clock. Raises SchedulesPaused, or what admission does."""
    serving = await deployments.of_agent(work, asked.agent_id, asked.environment)
    stop = (await stops.in_force(work, _subject(serving.deployment.id, serving.version.definition))).degraded
    if stop is not None:
        raise SchedulesPaused(
            "in degraded mode nothing starts by the clock", where=stop.id, then="Lift the stop: 'agentos resume'."
        )


def check_input(definition: Definition, given: Any) -> None:
    """Raises InputRefused (Invalid) naming the first field of the input that the version's schema refuses."""
    error = misfit(definition.input_schema, given)
    if error is not None:
        message = error.message
        if error.validator == "maxLength":  # the library repeats the whole text
            message = f"{len(str(error.instance))} characters, at most {error.validator_value} are allowed"
        raise InputRefused(
            f"the input does not fit the agent's schema: {message[:300]}",
            where=error.json_path,
            then=f"See the input schema: agentos agents show {definition.agent_id}.",
        )


async def submit_draft(work: UnitOfWork, parts: Parts, draft_id: str, *, by: str, request_id: str) -> RunAccepted:
    """Turn a draft into a run that makes its one call, under approval, once.

    Raises DraftUnknown (NotFound), DraftSettled (Conflict), TooManyHeld (Exhausted).
    """
    draft = await store.draft(work, draft_id)
    if draft is None:
        raise DraftUnknown(f"no draft '{draft_id}'", then="See 'agentos drafts list'.")
    if draft.status != "open":
        raise DraftSettled(f"the draft is {draft.status} already", where=draft_id)
    origin = await service.get(work, draft.run_id)
    version = await service.pinned(work, parts, origin.agent_id, origin.version)
    await _check_held(work, parts, origin.deployment_id, version.definition)
    accepted = await _accept(
        work,
        version.definition,
        RunId(ids.new("run")),
        deployment_id=origin.deployment_id,
        revision=origin.revision,
        version=origin.version,
        data=origin.input,
        requested_by=by,
        request_id=request_id,
        draft_id=draft_id,
        firing_id=None,
    )
    await store.mark_draft(work, draft_id, "submitted", accepted.run_id)
    await work.publish(DraftSubmitted(origin.id, draft_id, accepted.run_id, by))
    return accepted


async def _accept(
    work: UnitOfWork,
    definition: Definition,
    run_id: RunId,
    *,
    deployment_id: str,
    revision: int,
    version: str,
    data: bytes,
    requested_by: str,
    request_id: str,
    draft_id: str | None,
    firing_id: str | None,
) -> RunAccepted:
    inline = draft_id is None and definition.model.get("provider") == "stub"
    await epochs.ensure(
        work,
        [epochs.ORGANIZATION, epochs.category_scope(definition.category), epochs.deployment_scope(deployment_id)],
    )
    await store.add(
        work,
        {
            "id": run_id,
            "deployment_id": deployment_id,
            "agent_id": definition.agent_id,
            "category": definition.category,
            "revision": revision,
            "version": version,
            "format": FORMAT,
            "inline": inline,
            "draft_id": draft_id,
            "firing_id": firing_id,
            "requested_by": requested_by,
            "request_id": request_id,
            "input": data,
            "seconds": float(definition.budgets.seconds),
        },
    )
    fact = RunAccepted(run_id, deployment_id, version, inline, requested_by)
    await work.publish(fact)
    return fact


async def _check_held(work: UnitOfWork, parts: Parts, deployment_id: str, definition: Definition) -> None:
    """While a stop holds a deployment its runs wait for the end of it, as many as may. Raises TooManyHeld."""
    stop = (await stops.in_force(work, _subject(deployment_id, definition))).held
    if stop is None:
        return
    most = parts.settings.held_most
    if await store.held(work, deployment_id, stop.ordered_at, most) >= most:
        raise TooManyHeld(
            f"a {stop.kind} holds this deployment and {most} runs wait for its end",
            where=stop.id,
            then=f"Ask again when it is lifted; see 'agentos stops show {stop.id}'.",
            retry_after=HELD_RETRY,
        )


def _subject(deployment_id: str, definition: Definition) -> Subject:
    return Subject(deployment_id, definition.agent_id, definition.category)
