"""The HTTP door to scores, feedback, figures, drift, gates and freezes."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from agentos.evidence.quality import figures, scores, scoring, service
from agentos.evidence.quality.drift import DIMENSIONS, Drift
from agentos.evidence.quality.figures import shown
from agentos.evidence.quality.model import (
    LONGEST_LOOKBACK,
    MOST_RUNS,
    Comparator,
    Feedback,
    Freeze,
    FreezeScope,
    Gate,
    Judgement,
    Said,
    Scope,
    Severity,
)
from agentos.intake.identity.model import Caller, Permission
from agentos.intake.identity.routes import Reader, may
from agentos.kernel.clock import now
from agentos.kernel.http import Cursor, DoorsDep, Limit, page, position_of

router = APIRouter(prefix="/api/v1/agents/quality", tags=["quality"])

Judge = Annotated[Caller, may(Permission.GIVE_FEEDBACK)]
Freezer = Annotated[Caller, may(Permission.FREEZE_PROMOTION)]
Keeper = Annotated[Caller, may(Permission.CHANGE_GATES)]

MOST_SECONDS: Final = int(LONGEST_LOOKBACK.total_seconds())
DAY: Final = 86_400
WEEK: Final = 7 * DAY

OfScope = Annotated[Scope, Query(description="A role is a category of agents.")]
Target = Annotated[str, Query(max_length=63, description="The category or the deployment; of the organization none.")]
Seconds = Annotated[int, Query(ge=60, le=MOST_SECONDS)]
Why = Annotated[str, Field(min_length=1, max_length=2000)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewGate(_Body):
    """A condition on versions that are to be promoted."""

    scope: Scope = Scope.ORGANIZATION
    target: str = Field("", max_length=63, description="The category or the deployment; of the organization none.")
    metric: str = Field(max_length=200, description="See /api/v1/agents/quality/metrics.")
    comparator: Comparator
    threshold: float = Field(description="In the metric's unit; of no_worse the loss that is tolerated.")
    lookback_seconds: int = Field(WEEK, ge=1, le=MOST_SECONDS)
    samples: int = Field(30, ge=1, le=MOST_RUNS, description="Below, the figure is unknown.")
    severity: Severity = Severity.BLOCKER


class NewFreeze(_Body):
    """What is to be frozen, and why."""

    scope: FreezeScope = FreezeScope.ORGANIZATION
    target: str = Field("", max_length=63, description="The agent or the category; of the organization none.")
    reason: Why


class Lift(_Body):
    """Why a freeze is lifted."""

    reason: Why


class Word(_Body):
    """What somebody says of a run, or of a draft that it made."""

    run: str = Field("", max_length=64)
    draft: str = Field("", max_length=64)
    verdict: Feedback
    note: str = Field("", max_length=2000)


@router.get("/metrics")
async def list_metrics(caller: Reader) -> dict[str, Any]:  # noqa: ARG001  # whoever may read
    """Every figure that a gate can name, with its formula."""
    names, known = ("name", "unit", "better", "formula", "comparable"), figures.METRICS | figures.WHAT_IFS
    return {"items": [{name: getattr(one, name) for name in names} for one in known.values()]}


@router.get("/figures")
async def show_figures(
    caller: Reader,
    doors: DoorsDep,
    scope: OfScope = Scope.ORGANIZATION,
    target: Target = "",
    seconds: Seconds = WEEK,
) -> dict[str, Any]:
    """Every figure of a scope over the last time, each with its interval and samples; drift is a page of its own.

    ``unscored`` runs ended within that time and are in no figure: nothing is known of them.
    """
    at = now()
    since = at - timedelta(seconds=seconds)
    async with doors.open(caller.organization) as work:
        runs = await service.of_scope(work, scope, target, since=since, until=at)
        unscored = await service.unscored(work, scope, target, since=since, until=at)
    found = {one.name: shown(figures.figure(one, runs)) for one in figures.METRICS.values() if one.kind != "drift"}
    about = {"scope": scope, "target": target, "until": at, "seconds": seconds}
    return {**about, "figures": found, "unscored": unscored}


@router.get("/calibration")
async def show_calibration(
    caller: Reader,
    doors: DoorsDep,
    scope: OfScope = Scope.ORGANIZATION,
    target: Target = "",
    seconds: Seconds = 30 * DAY,
) -> dict[str, Any]:
    """How far confidence is from what people said of the runs, by bins; unknown without feedback."""
    at = now()
    async with doors.open(caller.organization) as work:
        runs = await service.of_scope(work, scope, target, since=at - timedelta(seconds=seconds), until=at)
    found = figures.calibration(runs)
    bins = [
        {"low": one.low, "high": one.high, "confidence": one.confidence, "accepted": shown(one.accepted)}
        for one in found.bins
    ]
    told = {"brier": shown(found.brier), "calibration_gap": shown(found.gap), "bins": bins}
    return {"scope": scope, "target": target, "until": at, "seconds": seconds, **told}


@router.get("/drift")
async def show_drift(
    caller: Reader,
    doors: DoorsDep,
    scope: OfScope = Scope.ORGANIZATION,
    target: Target = "",
    window_seconds: Seconds = DAY,
    baseline_seconds: Seconds = WEEK,
) -> dict[str, Any]:
    """How far the runs of the last time are from those before, by dimension, and which change explains it."""
    at, window, baseline = now(), timedelta(seconds=window_seconds), timedelta(seconds=baseline_seconds)
    async with doors.open(caller.organization) as work:
        found = await service.drift(work, scope, target, at=at, window=window, baseline=baseline)
    times = {"until": at, "window_seconds": window_seconds, "baseline_seconds": baseline_seconds}
    return {"scope": scope, "target": target, **times, **_drift(found)}


@router.get("/runs/{run_id}")
async def show_run(run_id: str, caller: Reader, doors: DoorsDep) -> dict[str, Any]:
    """A run's score and confidence with all parts: those that are known, and those that are not."""
    async with doors.open(caller.organization) as work:
        found = await scores.show(work, run_id)
    parts = [
        {"part": one.name, "value": found.parts.get(one.name), "weight": one.weight, "formula": one.formula}
        for one in scoring.PARTS
    ]
    names = ("run_id", "agent_id", "deployment_id", "version", "status", "ended_at", "counted")
    return {
        **{name: getattr(found, name) for name in names},
        "score": found.score,
        "confidence": found.confidence,
        "confidence_parts": [
            {"part": name, "value": (found.grounds or {}).get(name), "formula": formula}
            for name, formula in scoring.GROUNDS
        ],
        "feedback": found.feedback,
        "formula": found.formula,
        "parts": parts,
        "unknown": [one.name for one in scoring.PARTS if one.name not in found.parts],
        "features": found.features,
        "scored_at": found.scored_at,
    }


@router.get("/feedback")
async def list_feedback(
    caller: Reader,
    doors: DoorsDep,
    limit: Limit = 50,
    cursor: Cursor = "",
    run: Annotated[str, Query(max_length=64)] = "",
    verdict: Feedback | None = None,
) -> dict[str, Any]:
    """What people said of runs and drafts, newest first."""
    async with doors.open(caller.organization) as work:
        found = await scores.list_feedback(
            work, run_id=run, verdict=verdict, before=position_of(cursor), most=limit + 1
        )
    return page([_said(one) for one in found], limit)


@router.post("/feedback", status_code=201)
async def give_feedback(body: Word, caller: Judge, doors: DoorsDep) -> dict[str, Any]:
    """Say how good a run, or a draft of one, was. The last word on each counts."""
    async with doors.open(caller.organization) as work:
        said = await scores.say(
            work,
            run_id=body.run,
            draft_id=body.draft,
            verdict=body.verdict,
            note=body.note,
            by=caller.handle,
            at=now(),
        )
    return _said(said)


@router.get("/gates")
async def list_gates(caller: Reader, doors: DoorsDep, limit: Limit = 50, cursor: Cursor = "") -> dict[str, Any]:
    """Every gate, oldest first."""
    async with doors.open(caller.organization) as work:
        found = await service.list_gates(work, after=position_of(cursor), most=limit + 1)
    return page([_gate(one) for one in found], limit)


@router.post("/gates", status_code=201)
async def add_gate(body: NewGate, caller: Keeper, doors: DoorsDep) -> dict[str, Any]:
    """Let promotions in a scope depend on one more figure."""
    async with doors.open(caller.organization) as work:
        gate = await service.add_gate(
            work,
            scope=body.scope,
            target=body.target,
            metric=body.metric,
            comparator=body.comparator,
            threshold=body.threshold,
            lookback=timedelta(seconds=body.lookback_seconds),
            samples=body.samples,
            severity=body.severity,
            by=caller.handle,
            at=now(),
        )
    return _gate(gate)


@router.delete("/gates/{gate_id}", status_code=204)
async def remove_gate(gate_id: str, caller: Keeper, doors: DoorsDep) -> Response:
    """Remove a gate."""
    async with doors.open(caller.organization) as work:
        await service.remove_gate(work, gate_id, by=caller.handle)
    return Response(status_code=204)


@router.get("/deployments/{deployment_id}/judgement")
async def judge(
    deployment_id: str,
    caller: Reader,
    doors: DoorsDep,
    version: Annotated[
        str, Query(max_length=80, description="A number, a hash or its beginning; else the newest draft's.")
    ] = "",
) -> dict[str, Any]:
    """What every gate that applies says of a version, and what would keep it from being promoted."""
    async with doors.open(caller.organization) as work:
        found, judgement = await service.judge_named(work, deployment_id, version, at=now())
    return {"deployment_id": deployment_id, "version": found.hash, **_judgement(judgement)}


@router.get("/freezes")
async def list_freezes(caller: Reader, doors: DoorsDep, limit: Limit = 50, cursor: Cursor = "") -> dict[str, Any]:
    """Freezes in force, oldest first."""
    async with doors.open(caller.organization) as work:
        found = await service.list_freezes(work, after=position_of(cursor), most=limit + 1)
    return page([_freeze(one) for one in found], limit)


@router.post("/freezes", status_code=201)
async def freeze(body: NewFreeze, caller: Freezer, doors: DoorsDep) -> dict[str, Any]:
    """Let nothing in a scope be promoted, whatever the data say, until somebody lifts it."""
    async with doors.open(caller.organization) as work:
        one = await service.freeze(
            work, scope=body.scope, target=body.target, reason=body.reason, by=caller.handle, at=now()
        )
    return _freeze(one)


@router.post("/freezes/{freeze_id}/lift")
async def unfreeze(freeze_id: str, body: Lift, caller: Keeper, doors: DoorsDep) -> dict[str, Any]:
    """Lift a freeze."""
    async with doors.open(caller.organization) as work:
        one = await service.unfreeze(work, freeze_id, reason=body.reason, by=caller.handle, at=now())
    return _freeze(one)


def _said(one: Said) -> dict[str, Any]:
    return {
        "id": one.id,
        "run_id": one.run_id,
        "draft_id": one.draft_id or None,
        "verdict": one.verdict,
        "note": one.note,
        "said_by": one.said_by,
        "said_at": one.said_at,
    }


def _gate(one: Gate) -> dict[str, Any]:
    return {
        "id": one.id,
        "scope": one.scope,
        "target": one.target,
        "metric": one.metric,
        "dataset_hash": one.dataset_hash or None,
        "comparator": one.comparator,
        "threshold": one.threshold,
        "lookback_seconds": int(one.lookback.total_seconds()),
        "samples": one.samples,
        "severity": one.severity,
        "added_by": one.added_by,
        "added_at": one.added_at,
    }


def _freeze(one: Freeze) -> dict[str, Any]:
    return {
        "id": one.id,
        "scope": one.scope,
        "target": one.target,
        "reason": one.reason,
        "frozen_by": one.frozen_by,
        "frozen_at": one.frozen_at,
        "lifted_by": one.lifted_by or None,
        "lifted_at": one.lifted_at,
        "lift_reason": one.lift_reason,
    }


def _judgement(one: Judgement) -> dict[str, Any]:
    return {
        "may_be_promoted": not one.blocking,
        "blocking": list(one.blocking),
        "warnings": list(one.warnings),
        "verdicts": [verdict.document() for verdict in one.verdicts],
        "frozen": [_freeze(each) for each in one.frozen],
    }


def _drift(one: Drift) -> dict[str, Any]:
    whats = {each.name: each.what for each in DIMENSIONS}
    return {
        "drift": {"value": one.score, "low": one.low, "high": one.high, "samples": one.samples},
        "baseline_samples": one.baseline_samples,
        "unknown": one.unknown or None,
        "left_out": [
            {
                "window": each.window,
                "runs": each.runs,
                "sampled": each.sampled,
                "requester": each.requester or None,
                "sent": each.sent,
                "share_at_most": each.share,
            }
            for each in one.left_out
        ],
        "leading": one.leading or None,
        "dimensions": [
            {
                "dimension": each.dimension,
                "compares": whats[each.dimension],
                "value": each.value,
                "low": each.low,
                "high": each.high,
                "by_chance": each.chance,
                "counted": each.counted,
                "samples": each.samples,
                "baseline_samples": each.baseline_samples,
                "now": each.now,
                "before": each.before,
            }
            for each in one.dimensions
        ],
        "causes": [
            {"cause": each.factor, "moved": each.moved, "explained": each.explained, "note": each.note}
            for each in one.causes
        ],
    }
