"""The HTTP door to what serves next, and the only one. Its routes stand beside those of deployments.

Every change takes ``If-Match`` and ``dry_run``; a dry run does all that the order would, answers with it, and takes it
back. Every answer says what the change leaves open.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from agentos.control.agents.ports import SkillCatalogue
from agentos.control.deployments import service as deployments
from agentos.control.deployments.model import Deployment, Status
from agentos.control.deployments.routes import NO_NUL, Deployer, SkillsDep, answered
from agentos.control.deployments.service import MOST_SHARE
from agentos.control.policy.model import Tier
from agentos.evidence.replay import what_if
from agentos.intake.identity.model import Caller, NotAllowed, Permission
from agentos.intake.identity.routes import Reader
from agentos.kernel.clock import now
from agentos.kernel.http import Cursor, DoorsDep, IfMatch, Limit, number_in, page
from agentos.kernel.telemetry.catalogue import PROMOTIONS, ROLLBACKS
from agentos.kernel.unit_of_work import UnitOfWork
from agentos.operations.rollouts import breaches, service, trials
from agentos.operations.rollouts.impact import Change, impact
from agentos.operations.rollouts.judging import Judged, Order, judged
from agentos.operations.rollouts.model import (
    UNTRIED,
    Allowance,
    CanaryRecord,
    Criterion,
    Frozen,
    GateFailed,
    Trials,
    shown,
)
from agentos.operations.rollouts.service import Done
from agentos.runtime.runs.ports import Parts
from agentos.runtime.runs.routes import PartsDep

router = APIRouter(prefix="/api/v1/agents/deployments/{deployment_id}", tags=["rollouts"])

COMPARED = ("success_rate", "run_seconds_p95")  # of a canary and the version beside it

VersionName = Annotated[str, Field(max_length=80, description="Number, hash or its beginning.")]
Reason = Annotated[str, Field(max_length=2000, pattern=NO_NUL)]
Percent = Annotated[float, Field(ge=0, le=100)]
Number = Annotated[int, Path(ge=1, le=2**31 - 1)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Wanted(_Body):
    """A version that is to serve."""

    version: VersionName
    reason: Reason = ""
    accept_breaking: bool = Field(False, description="Let it serve although contracts of its skills break.")
    force: bool = Field(False, description="Although gates refuse it; takes a reason, and a permission of its own.")
    what_if_live: bool = Field(
        False,
        description="Let live models be asked where it is tried on recorded runs, for this order or for a gate, at the "
        "organization's cost. Takes leave to start runs.",
    )


class Promotion(Wanted):
    """A version that is to serve all runs."""

    what_if: int = Field(0, ge=0, le=what_if.MOST_RUNS, description="Try it first on the last so many runs.")
    what_if_changed: Percent = Field(0.0, description="Of them may end otherwise, in percent.")
    what_if_diverged: Percent | None = Field(None, description="May do anything else than they did, in percent.")
    what_if_cost: float | None = Field(None, ge=0, le=10_000, description="May cost more together, in percent.")

    @property
    def allowance(self) -> Allowance | None:
        """How far recorded runs may come out otherwise; None where none are asked for."""
        limits = (self.what_if_changed, self.what_if_diverged, self.what_if_cost)
        return Allowance(self.what_if, *limits) if self.what_if else None


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


class TierOrder(_Body):
    """A tier that is to be in force."""

    tier: Literal["L0", "L1", "L2", "L3", "L4"]


class _Undone(Exception):
    """A dry run ends here: its transaction is taken back."""


@dataclass(frozen=True, slots=True)
class Asking:
    """What every change is asked with, besides who asks and for what."""

    deployment_id: str
    parts: Parts
    skills: SkillCatalogue
    response: Response
    match: deployments.Etags
    dry_run: bool


async def asking(
    deployment_id: str,
    parts: PartsDep,
    skills: SkillsDep,
    response: Response,
    match: IfMatch,
    dry_run: Annotated[
        bool, Query(description="Say what would be done and what it would leave open, and do nothing.")
    ] = False,
) -> Asking:
    """The same as every change takes it."""
    return Asking(deployment_id, parts, skills, response, match, dry_run)


Asked = Annotated[Asking, Depends(asking)]


@router.post("/promote")
async def promote(body: Promotion, caller: Deployer, asked: Asked) -> dict[str, Any]:
    """Let a version serve from the next run on, unless a gate or a freeze refuses; runs under way stay on theirs."""
    order = Order(body.version, body.reason, body.accept_breaking, body.force)
    return await _ordered(asked, caller, order, body.allowance, live=body.what_if_live)


@router.post("/canary")
async def canary(body: Canary, caller: Deployer, asked: Asked) -> dict[str, Any]:
    """Let a version serve a share of the runs that are admitted from now on, or change the canary's share."""
    order = Order(body.version, body.reason, body.accept_breaking, body.force, body.percent)
    return await _ordered(asked, caller, order, None, live=body.what_if_live)


@router.get("/canary")
async def show_canaries(deployment_id: str, caller: Reader, doors: DoorsDep, limit: Limit = 50) -> dict[str, Any]:
    """The canaries of a deployment, newest first, each beside the version that it is compared with."""
    async with doors.open(caller.organization) as work:
        found = await service.canaries(work, deployment_id, most=limit)
        return {"items": [await _canary(work, one) for one in found]}


@router.delete("/canary")
async def end_canary(
    caller: Deployer, asked: Asked, reason: Annotated[str, Query(max_length=2000, pattern=NO_NUL)] = ""
) -> dict[str, Any]:
    """Let the canary serve nothing more; its runs under way stay on it."""

    async def order(work: UnitOfWork) -> Done:
        how = _how(asked, caller) | {"reason": reason}
        return await service.end_canary(work, asked.deployment_id, Status.SUPERSEDED, asked.skills, **how)

    return (await _carried_out(asked, caller, order))[1]


@router.post("/rollback")
async def rollback(caller: Deployer, asked: Asked, body: Back | None = None) -> dict[str, Any]:
    """Let a version that served before serve again, from the next run on, and check whether that helps.

    A version that was itself rolled back passes gates and freezes, as in a promotion.
    """
    wanted = body or Back()
    _check_force(caller, force=wanted.force)
    trials = UNTRIED
    if wanted.version is not None:
        async with asked.parts.doors.open(caller.organization) as work:
            passes = await service.passes_gates(work, asked.deployment_id, wanted.version)
        if passes:
            trials = await _tried(asked, caller, Order(wanted.version), None, live=False)

    async def order(work: UnitOfWork) -> Done:
        how = _how(asked, caller) | {"reason": wanted.reason, "criterion": wanted.criterion, "force": wanted.force}
        return await service.rollback(work, asked.deployment_id, wanted.version, asked.skills, trials=trials, **how)

    try:
        done, answer = await _carried_out(asked, caller, order)
    except (GateFailed, Frozen) as error:
        if not asked.dry_run and wanted.version:
            await _refused(asked, caller, wanted.version, error)
        raise
    if not asked.dry_run:
        found = done.deployment
        names = {"agent_id": found.agent_id, "deployment": found.id, "cause": "ordered"}
        asked.parts.meter.count(ROLLBACKS, 1, org=caller.organization, **names)
    return answer


@router.get("/rollbacks")
async def list_rollbacks(
    deployment_id: str, caller: Reader, doors: DoorsDep, limit: Limit = 50, cursor: Cursor = ""
) -> dict[str, Any]:
    """The rollbacks of a deployment, newest first."""
    async with doors.open(caller.organization) as work:
        found = await service.rollbacks(work, deployment_id, below=number_in(cursor), most=limit + 1)
    return page([one.document() for one in found], limit, by="number")


@router.get("/rollbacks/{number}")
async def show_rollback(deployment_id: str, number: Number, caller: Reader, doors: DoorsDep) -> dict[str, Any]:
    """One rollback with its checks, as they stood when a worker looked last: within seconds."""
    async with doors.open(caller.organization) as work:
        return (await service.get_rollback(work, deployment_id, number)).document()


@router.post("/pause")
async def pause(caller: Deployer, asked: Asked) -> dict[str, Any]:
    """Admit no runs, and let runs under way act no more, until resumed."""
    return await _turned(asked, caller, Change.PAUSE)


@router.post("/resume")
async def resume(caller: Deployer, asked: Asked) -> dict[str, Any]:
    """Admit runs again; those that the pause stopped go on."""
    return await _turned(asked, caller, Change.RESUME)


@router.post("/retire")
async def retire(caller: Deployer, asked: Asked) -> dict[str, Any]:
    """End the deployment for good. Runs under way stop before their next effect."""
    return await _turned(asked, caller, Change.RETIRE)


@router.patch("")
async def set_tier(body: TierOrder, caller: Deployer, asked: Asked) -> dict[str, Any]:
    """Put a tier in force, at most the version's highest, from the next effect of runs under way on."""

    async def order(work: UnitOfWork) -> Done:
        how = _how(asked, caller)
        return await service.set_tier(work, asked.deployment_id, Tier[body.tier], asked.skills, **how)

    return (await _carried_out(asked, caller, order))[1]


@router.get("/impact")
async def show_impact(
    deployment_id: str,
    caller: Reader,
    doors: DoorsDep,
    skills: SkillsDep,
    change: Literal["promote", "rollback", "canary", "pause", "resume", "retire", "tier"] = "promote",
    version: Annotated[str, Query(max_length=80, description="With it, what the gates say of that version.")] = "",
    percent: Annotated[int, Query(ge=1, le=MOST_SHARE, description="Of a canary.")] = 10,
) -> dict[str, Any]:
    """What a change would leave open now: which runs stay on which version, and which of them cannot go on."""
    async with doors.open(caller.organization) as work:
        if not version or change not in ("promote", "canary"):
            return (await impact(work, skills, deployment_id, Change(change))).document()
        order = Order(version, percent=None if change == "promote" else percent)
        found = await judged(work, deployment_id, order, skills, at=now())
    return found.impact.document() | _gates(found) | {"blocking": [*found.frozen, *found.blocking]}


async def _ordered(
    asked: Asking, caller: Caller, order: Order, allowance: Allowance | None, *, live: bool
) -> dict[str, Any]:
    """Carry out an order; one that gates refuse leaves a fact and is counted."""
    _check_force(caller, force=order.force)
    if order.percent is not None:
        deployments.check_share(order.percent)
    wanted = replace(order, trials=await _tried(asked, caller, order, allowance, live=live))

    async def promoting(work: UnitOfWork) -> Done:
        return await service.promote(work, asked.deployment_id, wanted, asked.skills, **_how(asked, caller))

    try:
        done, answer = await _carried_out(asked, caller, promoting)
    except (GateFailed, Frozen) as error:
        if not asked.dry_run:
            await _refused(asked, caller, order.version, error)
        raise
    if not asked.dry_run:
        outcome = "forced" if done.overridden else "promoted" if order.percent is None else "canary"
        _count(asked.parts, caller.organization, done.deployment, outcome)
    return answer


async def _turned(asked: Asking, caller: Caller, change: Change) -> dict[str, Any]:
    async def order(work: UnitOfWork) -> Done:
        return await service.turn(work, asked.deployment_id, change, asked.skills, **_how(asked, caller))

    return (await _carried_out(asked, caller, order))[1]


async def _tried(asked: Asking, caller: Caller, order: Order, allowance: Allowance | None, *, live: bool) -> Trials:
    """What recorded runs would have come to, as the order and gates ask. No transaction is open while they execute."""
    if allowance is not None and Permission.REPLAY_RUNS not in caller.permissions:
        raise NotAllowed("trying recorded runs takes the permission to replay them", then="Promote without 'what_if'.")
    if live and Permission.START_RUNS not in caller.permissions:
        raise NotAllowed("asking live models takes the permission to start runs", then="Do it without 'live'.")
    async with asked.parts.doors.open(caller.organization) as work:
        trial = await trials.prepare(work, asked.parts, asked.deployment_id, order, allowance, live=live, at=now())
    return UNTRIED if trial is None else await trials.execute(trial)


async def _refused(asked: Asking, caller: Caller, version: str, error: GateFailed | Frozen) -> None:
    """Leave a fact of what gates refused, and count it."""
    async with asked.parts.doors.open(caller.organization) as work:
        await service.refused(work, asked.deployment_id, version, error, by=caller.handle)
        found = await deployments.get(work, asked.deployment_id)
    _count(asked.parts, caller.organization, found, "frozen" if isinstance(error, Frozen) else "refused")


def _check_force(caller: Caller, *, force: bool) -> None:
    if force and Permission.OVERRIDE_GATES not in caller.permissions:
        raise NotAllowed(
            f"overriding gates takes the permission {Permission.OVERRIDE_GATES}",
            then="Ask an admin or the incident commander, or do it without 'force'.",
        )


def _count(parts: Parts, organization: str, found: Deployment, outcome: str) -> None:
    parts.meter.count(PROMOTIONS, org=organization, agent_id=found.agent_id, deployment=found.id, outcome=outcome)


def _how(asked: Asking, caller: Caller) -> dict[str, Any]:
    return {"by": caller.handle, "at": now(), "if_match": asked.match}


async def _carried_out(
    asked: Asking, caller: Caller, order: Callable[[UnitOfWork], Awaitable[Done]]
) -> tuple[Done, dict[str, Any]]:
    """Carry out an order, and take it back where it was only to be tried."""
    try:
        async with asked.parts.doors.open(caller.organization) as work:
            done = await order(work)
            answer = await _answer(work, done, asked.response) | {"dry_run": asked.dry_run}
            if asked.dry_run:
                raise _Undone
    except _Undone:
        del asked.response.headers["ETag"]  # of a state that there never was
    return done, answer


async def _answer(work: UnitOfWork, done: Done, response: Response) -> dict[str, Any]:
    more = {} if done.judged is None else _gates(done.judged) | {"overridden": list(done.overridden)}
    return await answered(work, done.deployment, response) | {"impact": done.impact.document()} | more


def _gates(found: Judged) -> dict[str, Any]:
    return found.figures | {"warnings": list(found.judgement.warnings)}


async def _canary(work: UnitOfWork, one: CanaryRecord) -> dict[str, Any]:
    figures = {}
    for metric in COMPARED:
        ours, theirs = await breaches.compared(work, one, metric, at=now())
        figures[metric] = {"canary": shown(ours), "beside": shown(theirs)}
    return one.document() | {"figures": figures}
