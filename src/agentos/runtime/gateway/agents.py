"""An agent asked as if it were a model: its run is admitted as any other, and its output is the answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from agentos.control.agents.model import Definition
from agentos.control.deployments import serving as deployments
from agentos.intake.requests.service import once
from agentos.kernel import ids
from agentos.kernel.canonical import NotCanonical, digest
from agentos.kernel.clock import elapsed
from agentos.kernel.ids import OrgId, RunId
from agentos.kernel.nesting import shallow
from agentos.runtime.gateway import wire
from agentos.runtime.gateway.model import (
    AGENT,
    STUB,
    Asker,
    RequestNotUnderstood,
    RunNotCompleted,
    RunUnfinished,
    RunWaits,
    Said,
    Wanted,
)
from agentos.runtime.inference import Usage
from agentos.runtime.runs import admission
from agentos.runtime.runs import service as runs
from agentos.runtime.runs.model import InputRefused, Run, RunStatus
from agentos.runtime.runs.ports import Parts

# How often the run is looked at: at once while it may be short, and less and less often.
FIRST_LOOK_SECONDS: Final = 0.02
LONGEST_LOOK_SECONDS: Final = 1.0
FOR_PEOPLE: Final = (RunStatus.WAITING_APPROVAL, RunStatus.PAUSED)

PROVIDER: Final = "agentos"  # of an agent's answer, unless a stub was asked for it

See = Callable[[Any, Any], Awaitable[Any]]  # a value and its schema → what the caller may see of it


@dataclass(frozen=True, slots=True)
class Started:
    """A run that a client waits for."""

    run_id: RunId
    name: str  # as the client named it


async def start(parts: Parts, asker: Asker, wanted: Wanted, idempotency_key: str | None) -> Started:
    """Accept a run of the agent's version that serves now. The same key and task give the same run, as for the runs'
    own route, whose keys these are.

    Raises RequestNotUnderstood or NotOffered (Invalid), and what the admission of a run raises.
    """
    agent_id, run_id, first = wanted.model.removeprefix(AGENT), RunId(ids.new("run")), True
    _check(wanted)
    async with parts.doors.open(OrgId(asker.organization)) as work:
        serving = await deployments.of_agent(work, agent_id, wanted.environment, key=run_id)
        given = _input(serving.version.definition, wanted.task)
        if idempotency_key is not None:
            body, alike = {"agent": agent_id, "environment": wanted.environment}, set[str]()
            for one in _forms(wanted.task):  # the version that took the task then may have been given it otherwise
                with suppress(NotCanonical):
                    alike.add(digest(body | {"input": one}))
            said = digest(body | {"input": given})
            kept, first = await once(work, f"runs {idempotency_key}", said, {"id": run_id}, alike=alike)
            run_id = RunId(kept["id"])
        if first:
            asked = admission.Request(agent_id, wanted.environment, given, asker.handle, asker.request_id)
            await admission.admit(work, parts, asked, run_id)
    return Started(run_id, wanted.model)


def _check(wanted: Wanted) -> None:
    if wanted.tools:
        raise wire.not_offered(
            "tools", "a client's tools with an agent", "The agent has its own skills: leave them out."
        )
    if wanted.fallback:
        raise wire.not_offered("fallback", "a fallback of an agent", "Its version says which models may answer.")
    if not wanted.task:
        raise RequestNotUnderstood("there is no task: no user says anything", where="messages")


def _input(definition: Definition, task: str) -> Any:
    """What the agent is given: the text where it is JSON that fits the agent's schema, else as its task."""
    as_task, *as_json = _forms(task)
    for given in as_json:
        with suppress(InputRefused, ValueError, RecursionError):
            admission.check_input(definition, given)
            return given
    return as_task


def _forms(task: str) -> list[Any]:
    """What an agent can be given of a text, by what its version takes: it as its task, and the JSON that it is."""
    as_task = {"task_description": task}
    try:
        given = shallow(json.loads(task))
    except (ValueError, RecursionError):
        return [as_task]
    return [as_task, given] if isinstance(given, (dict, list)) else [as_task]


async def output(parts: Parts, asker: Asker, started: Started, *, within: float, patient: bool, see: See) -> Said:
    """What the run says once it has ended. ``patient``: also wait for people, as long as there is time.

    Raises RunWaits or RunNotCompleted (Conflict), RunUnfinished (Unavailable). Whether or not anybody waits here, the
    run goes on.
    """
    ends, wait = elapsed() + within, FIRST_LOOK_SECONDS
    while True:
        async with parts.doors.open(OrgId(asker.organization)) as work:
            run = await runs.get(work, started.run_id)
            if run.status.terminal:
                used = await runs.used(work, run.id)
                break
            if run.status in FOR_PEOPLE and not patient:
                raise _waits(run, await runs.why(work, run.id))
        if elapsed() >= ends:
            raise RunUnfinished(
                f"run {run.id} is {run.status} and did not end within {within:g} s; it goes on",
                where=run.id,
                then=f"See 'agentos runs show {run.id}'.",
                run_id=run.id,
            )
        await asyncio.sleep(min(wait, max(0.0, ends - elapsed())))
        wait = min(wait * 1.5, LONGEST_LOOK_SECONDS)
    schema = (await runs.version_of(parts, run)).definition.output_schema
    if run.status is not RunStatus.COMPLETED:
        raise await _not_completed(run, see)
    shown = await see(None if run.output is None else json.loads(run.output), schema)
    text = shown if isinstance(shown, str) else json.dumps(shown, ensure_ascii=False)
    provider = STUB if used.stubbed else PROVIDER
    return Said(run.id, started.name, provider, text, usage=Usage(used.input, used.output), run_id=run.id)


def _waits(run: Run, why: dict[str, Any]) -> RunWaits:
    return RunWaits(
        f"run {run.id} waits: {why['why']}",
        where=run.id,
        then=f"{why.get('next', '')} Then ask again with the same Idempotency-Key, or: agentos runs show {run.id}",
        run_id=run.id,
        run_status=run.status.value,
    )


async def _not_completed(run: Run, see: See) -> RunNotCompleted:
    found = await see(run.problem or {}, None)
    why = f": {found['detail']}" if found.get("detail") else ""
    return RunNotCompleted(
        f"run {run.id} is {run.status}{why}",
        where=run.id,
        then=f"See 'agentos runs journal {run.id}'.",
        run_id=run.id,
        run_status=run.status.value,
        run_problem=found,
    )
