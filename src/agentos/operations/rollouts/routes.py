"""The HTTP door to what serves next, and the only one. Its routes stand beside those of deployments.

Every change takes ``If-Match`` and ``dry_run``; a dry run does all that the order would, answers with it, and takes it
back. Every answer says what the change leaves open.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from agentos.control.deployments import service as deployments
from agentos.control.deployments.model import Status
from agentos.control.deployments.routes import NO_NUL, Deployer, SkillsDep, answered
from agentos.control.deployments.service import MOST_SHARE
from agentos.evidence.replay import what_if
from agentos.intake.identity.model import Caller, NotAllowed, Permission
from agentos.intake.identity.routes import Reader
from agentos.kernel.clock import now
from agentos.kernel.http import Cursor, DoorsDep, IfMatch, Limit, number_in, page, position_of
from agentos.kernel.telemetry.catalogue import PROMOTIONS, ROLLBACKS
from agentos.kernel.unit_of_work import Doors, UnitOfWork
from agentos.operations.rollouts import breaches, service
from agentos.operations.rollouts.impact import Change, impact
from agentos.operations.rollouts.model import (
    Allowance,
    CanaryRecord,
    Criterion,
    Frozen,
    GateFailed,
    Rollback,
    Shadow,
    Shown,
    Tried,
)
from agentos.operations.rollouts.service import Done, Judged, Order
from agentos.runtime.runs.ports import Parts
from agentos.runtime.runs.routes import PartsDep

router = APIRouter(prefix="/api/v1/agents/deployments/{deployment_id}", tags=["rollouts"])

UNKNOWN = "unknown"
COMPARED = ("success_rate", "run_seconds_p95")  # of a canary and the version beside it

VersionName = Annotated[str, Field(max_length=80, description="Number, hash or its beginning.")]
Reason = Annotated[str, Field(max_length=2000, pattern=NO_NUL)]
Percent = Annotated[float, Field(ge=0, le=100)]
DryRun = Annotated[bool, Query(description="Say what would be done and what it would leave open, and do nothing.")]
Number = Annotated[int, Path(ge=1, le=2**31 - 1)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Wanted(_Body):
    """A version that is to serve."""

    version: VersionName
    reason: Reason = ""
    accept_breaking: bool = Field(False, description="Let it serve although contracts of its skills break.")
    force: bool = Field(False, description="Although gates refuse it; takes a reason, and a permission of its own.")


class Promotion(Wanted):
    """A version that is to serve all runs."""

    what_if: int = Field(0, ge=0, le=what_if.MOST_RUNS, description="Try it first on the last so many runs.")
    what_if_changed: Percent = Field(0.0, description="Of them may end otherwise, in percent.")
    what_if_diverged: Percent | None = Field(None, description="May do anything else than they did, in percent.")
    what_if_cost: float | None = Field(None, ge=0, le=10_000, description="May cost more together, in percent.")
    what_if_live: bool = Field(
        False, description="Let live models be asked for it, at the organization's cost. Takes leave to start runs."
    )


class Canary(Wanted):
    """A version that is to serve a share of the runs."""

    percent: int = Field(ge=-(2**31), le=2**31, description="1 to 99.")


class Back(_Body):
    """A version that is to serve again."""

    version: str | None = Field(None, max_length=80, description="One that served before; else the last known good.")
    criterion: Criterion | None = Field(None, description="For which of the runbook's reasons.")
    reason: Reason = ""
    force: bool = Field(
        False, description="Although gates refuse a version that was itself rolled back; as in a promotion."
    )


class NewShadow(_Body):
    """A version that is shown runs."""

    version: VersionName
    percent: int = Field(ge=1, le=100, description="Of the runs that end.")
    live: bool = Field(
        False, description="Let live models be asked, at the organization's cost. Takes leave to start runs."
    )


class _Undone(Exception):
    """A dry run ends here: its transaction is taken back."""


@router.post("/promote")
async def promote(
    deployment_id: str,
    body: Promotion,
    caller: Deployer,
    parts: PartsDep,
    skills: SkillsDep,
    response: Response,
    match: IfMatch,
    dry_run: DryRun = False,
) -> dict[str, Any]:
    """Let a version serve from the next run on, unless a gate or a freeze refuses; runs under way stay on theirs."""
    tried = await _tried(parts, caller, deployment_id, body)
    order = Order(body.version, body.reason, body.accept_breaking, body.force, tried=tried)
    return await _ordered(parts, caller, deployment_id, order, skills, response, match, dry_run=dry_run)


@router.post("/canary")
async def canary(
    deployment_id: str,
    body: Canary,
    caller: Deployer,
    parts: PartsDep,
    skills: SkillsDep,
    response: Response,
    match: IfMatch,
    dry_run: DryRun = False,
) -> dict[str, Any]:
    """Let a version serve a share of the runs that are admitted from now on, or change the canary's share."""
    order = Order(body.version, body.reason, body.accept_breaking, body.force, body.percent)
    return await _ordered(parts, caller, deployment_id, order, skills, response, match, dry_run=dry_run)


@router.get("/canary")
async def show_canaries(deployment_id: str, caller: Reader, doors: DoorsDep, limit: Limit = 50) -> dict[str, Any]:
    """The canaries of a deployment, newest first, each beside the version that it is compared with."""
    async with doors.open(caller.organization) as work:
        found = await service.canaries(work, deployment_id, most=limit)
        return {"items": [await _canary(work, one) for one in found]}


@router.delete("/canary")
async def end_canary(
    deployment_id: str,
    caller: Deployer,
    doors: DoorsDep,
    skills: SkillsDep,
    response: Response,
    match: IfMatch,
    reason: Annotated[str, Query(max_length=2000, pattern=NO_NUL)] = "",
    dry_run: DryRun = False,
) -> dict[str, Any]:
    """Let the canary serve nothing more; its runs under way stay on it."""
    how: dict[str, Any] = {"by": caller.handle, "at": now(), "reason": reason, "if_match": match}

    async def order(work: UnitOfWork) -> Done:
        return await service.end_canary(work, deployment_id, Status.SUPERSEDED, skills, **how)

    return (await _carried_out(doors, caller, order, response, dry_run=dry_run))[1]


@router.post("/rollback")
async def rollback(
    deployment_id: str,
    caller: Deployer,
    parts: PartsDep,
    skills: SkillsDep,
    response: Response,
    match: IfMatch,
    body: Back | None = None,
    dry_run: DryRun = False,
) -> dict[str, Any]:
    """Let a version that served before serve again, from the next run on, and check whether that helps.

    A version that was itself rolled back passes gates and freezes, as in a promotion.
    """
    wanted = body or Back()
    _check_force(caller, force=wanted.force)
    how: dict[str, Any] = {"by": caller.handle, "at": now(), "if_match": match}
    how |= {"reason": wanted.reason, "criterion": wanted.criterion, "force": wanted.force}

    async def order(work: UnitOfWork) -> Done:
        return await service.rollback(work, deployment_id, wanted.version, skills, **how)

    try:
        done, answer = await _carried_out(parts.doors, caller, order, response, dry_run=dry_run)
    except (GateFailed, Frozen) as error:
        if not dry_run and wanted.version:
            await _refused(parts, caller, deployment_id, wanted.version, error)
        raise
    if not dry_run:
        found = done.deployment
        names = {"agent_id": found.agent_id, "deployment": found.id, "cause": "ordered"}
        parts.meter.count(ROLLBACKS, 1, org=caller.organization, **names)
    return answer


@router.get("/rollbacks")
async def list_rollbacks(
    deployment_id: str, caller: Reader, doors: DoorsDep, limit: Limit = 50, cursor: Cursor = ""
) -> dict[str, Any]:
    """The rollbacks of a deployment, newest first."""
    async with doors.open(caller.organization) as work:
        found = await service.rollbacks(work, deployment_id, below=number_in(cursor), most=limit + 1)
    return page([_rollback(one) for one in found], limit, by="number")


@router.get("/rollbacks/{number}")
async def show_rollback(deployment_id: str, number: Number, caller: Reader, doors: DoorsDep) -> dict[str, Any]:
    """One rollback with its checks, as they stood when a worker looked last: within seconds."""
    async with doors.open(caller.organization) as work:
        return _rollback(await service.get_rollback(work, deployment_id, number))


@router.post("/pause")
async def pause(
    deployment_id: str,
    caller: Deployer,
    doors: DoorsDep,
    skills: SkillsDep,
    response: Response,
    match: IfMatch,
    dry_run: DryRun = False,
) -> dict[str, Any]:
    """Admit no runs, and let runs under way act no more, until resumed."""

    async def order(work: UnitOfWork) -> Done:
        return await service.pause(work, deployment_id, skills, by=caller.handle, at=now(), if_match=match)

    return (await _carried_out(doors, caller, order, response, dry_run=dry_run))[1]


@router.post("/resume")
async def resume(
    deployment_id: str,
    caller: Deployer,
    doors: DoorsDep,
    skills: SkillsDep,
    response: Response,
    match: IfMatch,
    dry_run: DryRun = False,
) -> dict[str, Any]:
    """Admit runs again; those that the pause stopped go on."""

    async def order(work: UnitOfWork) -> Done:
        return await service.resume(work, deployment_id, skills, by=caller.handle, at=now(), if_match=match)

    return (await _carried_out(doors, caller, order, response, dry_run=dry_run))[1]


@router.get("/impact")
async def show_impact(
    deployment_id: str,
    caller: Reader,
    doors: DoorsDep,
    skills: SkillsDep,
    change: Literal["promote", "rollback", "canary", "pause", "resume"] = "promote",
    version: Annotated[str, Query(max_length=80, description="With it, what the gates say of that version.")] = "",
    percent: Annotated[int, Query(ge=1, le=MOST_SHARE, description="Of a canary.")] = 10,
) -> dict[str, Any]:
    """What a change would leave open now: which runs stay on which version, and which of them cannot go on."""
    async with doors.open(caller.organization) as work:
        if not version or change not in ("promote", "canary"):
            return (await impact(work, skills, deployment_id, Change(change))).document()
        order = Order(version, percent=None if change == "promote" else percent)
        found = await service.judged(work, deployment_id, order, skills, at=now())
    return found.impact.document() | _gates(found) | {"blocking": [*found.frozen, *found.blocking]}


@router.post("/shadow")
async def start_shadow(deployment_id: str, body: NewShadow, caller: Deployer, doors: DoorsDep) -> dict[str, Any]:
    """Show a version a share of the inputs of runs that end from now on, without effects."""
    if body.live:
        _check_live(caller)
    async with doors.open(caller.organization) as work:
        how: dict[str, Any] = {"live": body.live, "by": caller.handle, "at": now()}
        await service.start_shadow(work, deployment_id, body.version, body.percent, **how)
        return _shadow(*await service.shadow(work, deployment_id))


@router.get("/shadow")
async def show_shadow(deployment_id: str, caller: Reader, doors: DoorsDep) -> dict[str, Any]:
    """The shadow, and what the runs that it was shown would have come to, counted."""
    async with doors.open(caller.organization) as work:
        return _shadow(*await service.shadow(work, deployment_id))


@router.get("/shadow/runs")
async def list_shadow_runs(
    deployment_id: str, caller: Reader, doors: DoorsDep, limit: Limit = 50, cursor: Cursor = ""
) -> dict[str, Any]:
    """What each run would have come to under the shadow, newest first."""
    async with doors.open(caller.organization) as work:
        rows = await service.shadow_runs(work, deployment_id, before=position_of(cursor), most=limit + 1)
    return page([_shadow_run(one) for one in rows], limit, by="run_id")


@router.delete("/shadow")
async def end_shadow(deployment_id: str, caller: Deployer, doors: DoorsDep) -> dict[str, Any]:
    """Show the shadow nothing more; what came of it stays."""
    async with doors.open(caller.organization) as work:
        await service.end_shadow(work, deployment_id, by=caller.handle, at=now())
        return _shadow(*await service.shadow(work, deployment_id))


async def _ordered(
    parts: Parts,
    caller: Caller,
    deployment_id: str,
    order: Order,
    skills: SkillsDep,
    response: Response,
    match: deployments.Etags,
    *,
    dry_run: bool,
) -> dict[str, Any]:
    """Carry out an order; one that gates refuse leaves a fact and is counted."""
    _check_force(caller, force=order.force)
    doors, organization = parts.doors, caller.organization

    async def promoting(work: UnitOfWork) -> Done:
        how: dict[str, Any] = {"by": caller.handle, "at": now(), "if_match": match}
        return await service.promote(work, deployment_id, order, skills, **how)

    try:
        done, answer = await _carried_out(doors, caller, promoting, response, dry_run=dry_run)
    except (GateFailed, Frozen) as error:
        if not dry_run:
            await _refused(parts, caller, deployment_id, order.version, error)
        raise
    if not dry_run:
        outcome = "forced" if done.overridden else "promoted" if order.percent is None else "canary"
        _count(parts, organization, done.deployment.agent_id, done.deployment.id, outcome)
    return answer


async def _tried(parts: Parts, caller: Caller, deployment_id: str, body: Promotion) -> Tried | None:
    """What the last runs would have come to, where that is asked. No transaction is open while they are executed."""
    if not body.what_if:
        return None
    if Permission.REPLAY_RUNS not in caller.permissions:
        raise NotAllowed("trying recorded runs takes the permission to replay them", then="Promote without 'what_if'.")
    if body.what_if_live:
        _check_live(caller)
    allowed = Allowance(body.what_if, body.what_if_changed, body.what_if_diverged, body.what_if_cost, body.what_if_live)
    async with parts.doors.open(caller.organization) as work:
        prepared = await service.prepare(work, parts, deployment_id, body.version, allowed, at=now())
    return service.tried(allowed, await what_if.compare(prepared))


async def _refused(parts: Parts, caller: Caller, deployment_id: str, version: str, error: GateFailed | Frozen) -> None:
    """Leave a fact of what gates refused, and count it."""
    async with parts.doors.open(caller.organization) as work:
        await service.refused(work, deployment_id, version, error, by=caller.handle)
        found = await deployments.get(work, deployment_id)
    outcome = "frozen" if isinstance(error, Frozen) else "refused"
    _count(parts, caller.organization, found.agent_id, found.id, outcome)


def _check_force(caller: Caller, *, force: bool) -> None:
    if force and Permission.OVERRIDE_GATES not in caller.permissions:
        raise NotAllowed(
            f"overriding gates takes the permission {Permission.OVERRIDE_GATES}",
            then="Ask an admin or the incident commander, or do it without 'force'.",
        )


def _check_live(caller: Caller) -> None:
    if Permission.START_RUNS not in caller.permissions:
        raise NotAllowed("asking live models takes the permission to start runs", then="Do it without 'live'.")


def _count(parts: Parts, organization: str, agent_id: str, deployment_id: str, outcome: str) -> None:
    parts.meter.count(PROMOTIONS, org=organization, agent_id=agent_id, deployment=deployment_id, outcome=outcome)


async def _carried_out(
    doors: Doors,
    caller: Caller,
    order: Callable[[UnitOfWork], Awaitable[Done]],
    response: Response,
    *,
    dry_run: bool,
) -> tuple[Done, dict[str, Any]]:
    """Carry out an order, and take it back where it was only to be tried."""
    try:
        async with doors.open(caller.organization) as work:
            done = await order(work)
            answer = await _answer(work, done, response) | {"dry_run": dry_run}
            if dry_run:
                raise _Undone
    except _Undone:
        del response.headers["ETag"]  # of a state that there never was
    return done, answer


async def _answer(work: UnitOfWork, done: Done, response: Response) -> dict[str, Any]:
    more = {} if done.judged is None else _gates(done.judged) | {"overridden": list(done.overridden)}
    return await answered(work, done.deployment, response) | {"impact": done.impact.document()} | more


def _gates(found: Judged) -> dict[str, Any]:
    return {
        "gates": [one.document() for one in found.judgement.verdicts],
        "warnings": list(found.judgement.warnings),
        "what_if": None if found.tried is None else found.tried.document(),
    }


async def _canary(work: UnitOfWork, one: CanaryRecord) -> dict[str, Any]:
    figures = {}
    for metric in COMPARED:
        ours, theirs = await breaches.compared(work, one, metric, at=now())
        figures[metric] = {"canary": _figure(ours), "beside": _figure(theirs)}
    return asdict(one) | {"overridden": list(one.overridden), "breaches": list(one.breaches), "figures": figures}


def _figure(one: Any) -> dict[str, Any]:
    return {name: UNKNOWN if value is None else value for name, value in asdict(one).items()}


def _rollback(one: Rollback) -> dict[str, Any]:
    return asdict(one) | {"outcome": one.outcome.value, "checks": list(one.checks)}


def _shadow(one: Shadow, shown: Shown) -> dict[str, Any]:
    more = UNKNOWN if shown.micros_more is None else shown.micros_more
    return asdict(one) | {"came_to": asdict(shown) | {"unknown": shown.runs - shown.known, "micros_more": more}}


def _shadow_run(one: dict[str, Any]) -> dict[str, Any]:
    changed, more = one.pop("changed"), one.pop("micros_more")
    outcome = {None: UNKNOWN, True: "changed", False: "same"}[changed]
    return one | {"outcome": outcome, "micros_more": UNKNOWN if more is None else more}
