"""The HTTP door to what policy would say. Nothing that is asked here changes anything."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from agentos.control.budgets.model import Period
from agentos.control.policy.model import Decision, Tier, Verdict
from agentos.control.policy.routes import DeploymentRules, OrganizationRules
from agentos.evidence.replay import again, service, what_if
from agentos.evidence.replay.again import Replay
from agentos.evidence.replay.answers import Answers, Refused
from agentos.evidence.replay.model import MOST_STOPPED, Cap, Denylist, Limits, Proposal, Report
from agentos.evidence.replay.service import Change, Cost
from agentos.evidence.replay.what_if import MOST_RUNS, Comparison, Instead, Result
from agentos.intake.identity.model import Caller, NotAllowed, Permission
from agentos.intake.identity.routes import Reader, may
from agentos.kernel.clock import now
from agentos.kernel.http import DoorsDep, FreeJson
from agentos.kernel.units import CURRENCY, dollars, micros
from agentos.runtime.runs.routes import PartsDep

router = APIRouter(prefix="/api/v1/agents/policies", tags=["policies"])
replays = APIRouter(prefix="/api/v1", tags=["replays"])

Replayer = Annotated[Caller, may(Permission.REPLAY_RUNS)]
Seer = Annotated[Caller, may(Permission.SEE_PERSONAL_DATA)]

Targets = Annotated[list[Annotated[str, Field(min_length=1, max_length=253)]], Field(max_length=200)]
Count = Annotated[int, Field(ge=0, le=10**12)]
Money = Annotated[str, Field(max_length=40, description="US dollars, as 12.50.")]
UNKNOWN = "unknown"


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ProposedDenylist(_Body):
    """Entries for the emergency denylist."""

    skills: Targets = Field(default_factory=list, description="Ids or globs.")
    domains: Targets = Field(default_factory=list, description="Each with everything below it.")
    agents: Targets = Field(default_factory=list)
    providers: Targets = Field(default_factory=list)


class ProposedCap(_Body):
    """What a day or a month of UTC may use up."""

    period: Literal["day", "month"]
    agent: str = Field("", max_length=63, description="An agent's id; empty: the organization as a whole.")
    money: Money | None = None
    tokens: Count | None = None


class ProposedBudgets(_Body):
    """What one run may use up, and what days and months may."""

    turns: Count | None = None
    steps: Count | None = None
    tokens: Count | None = None
    seconds: Count | None = None
    money: Money | None = None
    caps: list[ProposedCap] = Field(default_factory=list, max_length=200)


class Proposed(_Body):
    """A policy, tier, denylist or budget to try. What is left out stays as it is in force."""

    organization: OrganizationRules | None = None
    deployment: DeploymentRules | None = Field(None, description="Of every deployment that is looked at.")
    tier: Literal["L0", "L1", "L2", "L3", "L4"] | None = None
    denylist: ProposedDenylist = Field(default_factory=ProposedDenylist)
    budgets: ProposedBudgets = Field(default_factory=ProposedBudgets)

    def read(self) -> Proposal:
        """The proposal that this stands for."""
        lists, budgets = self.denylist, self.budgets
        money = None if budgets.money is None else micros(budgets.money, where="proposed.budgets.money")
        limits = Limits(**budgets.model_dump(exclude={"money", "caps"}), money=money)
        return Proposal(
            organization=self.organization.read() if self.organization else None,
            deployment=self.deployment.read() if self.deployment else None,
            tier=Tier[self.tier] if self.tier else None,
            denylist=Denylist(tuple(lists.skills), tuple(lists.domains), tuple(lists.agents), tuple(lists.providers)),
            budgets=limits,
            caps=tuple(_cap(number, one) for number, one in enumerate(budgets.caps)),
        )


class SomeCall(_Body):
    """A call to look at."""

    deployment_id: str = Field(max_length=64)
    skill: str = Field(min_length=1, max_length=200)
    arguments: dict[str, FreeJson] = Field(default_factory=dict, max_length=1000)
    submitted: bool = Field(False, description="As if a person had submitted it out of a draft.")


class Simulation(_Body):
    """A proposal to look at for one deployment."""

    deployment_id: str = Field(max_length=64)
    proposed: Proposed


class Backtest(_Body):
    """A proposal to put recorded actions before."""

    proposed: Proposed
    since: str = Field("24h", max_length=40, description="A duration before now, or a moment with its zone.")
    until: str = Field("", max_length=40, description="Likewise; else now.")
    deployment_id: str = Field("", max_length=64, description="Only of this deployment.")


@router.post("/decide")
async def decide(body: SomeCall, caller: Reader, doors: DoorsDep, parts: PartsDep) -> dict[str, Any]:
    """What policy would say of one call now, and what each of its rules says. Nothing is done."""
    async with doors.open(caller.organization) as work:
        found = await service.ruling(
            work, parts.registry, body.deployment_id, body.skill, body.arguments, submitted=body.submitted
        )
    call = found.proposed
    return said(found.decision) | {
        "skill": call.skill,
        "effect": found.effect.name if found.effect is not None else UNKNOWN,
        "tier": call.tier.name,
        "hosts": list(call.hosts),
        "rules": [
            {
                "code": rule.code,
                "rule": rule.words,
                "verdict": answer.verdict.value if answer else "pass",
                "reasons": list(answer.reasons) if answer else [],
            }
            for rule, answer in found.table
        ],
    }


@router.post("/simulate")
async def simulate(body: Simulation, caller: Reader, doors: DoorsDep, parts: PartsDep) -> dict[str, Any]:
    """What a proposal would change for each skill of the version that serves. Nothing is done."""
    async with doors.open(caller.organization) as work:
        found = await service.simulate(work, parts.registry, body.deployment_id, body.proposed.read(), at=now())
    return {
        "deployment_id": body.deployment_id,
        "skills": [_change(one) for one in found],
        "changed": sum(1 for one in found if one.now and one.proposed and one.now.verdict is not one.proposed.verdict),
    }


@router.post("/backtest")
async def backtest(body: Backtest, caller: Reader, doors: DoorsDep) -> dict[str, Any]:
    """What a proposal would have made of what runs did in a window. Nothing is done."""
    since, until = service.window(body.since, body.until, at=now())
    async with doors.open(caller.organization) as work:
        report, answers, cost = await service.backtest(
            work, body.proposed.read(), since, until, deployment_id=body.deployment_id
        )
    return _report(report, cost) | _answers(answers)


def _cap(number: int, one: ProposedCap) -> Cap:
    money = None if one.money is None else micros(one.money, where=f"proposed.budgets.caps[{number}].money")
    return Cap(Period(one.period), one.agent, money, one.tokens)


class WhatIf(_Body):
    """Something to try on recorded runs: one of version, model and policy."""

    version: str = Field("", max_length=80, description="Of the same agent: a hash, the beginning of one, or a number.")
    model: str = Field("", max_length=200, description="PROVIDER/NAME; of the stub NAME is a behaviour.")
    policy: Proposed | None = Field(None, description="As for a simulation; of budgets: turns, steps and tokens.")
    runs: list[Annotated[str, Field(max_length=64)]] = Field(
        default_factory=list, max_length=MOST_RUNS, description="Runs that are over."
    )
    deployment_id: str = Field("", max_length=64, description="Else the last runs of this deployment.")
    last: int = Field(20, ge=1, le=MOST_RUNS, description="How many of them.")
    live: bool = Field(
        False, description="Let live models be asked, at the organization's cost. Takes the permission to start runs."
    )


@replays.post("/runs/{run_id}/replay")
async def replay_run(run_id: str, caller: Replayer, doors: DoorsDep, parts: PartsDep) -> dict[str, Any]:
    """Execute a run that is over again, against its journal, and compare. Nothing live is called or changed."""
    async with doors.open(caller.organization) as work:
        found = await again.replay(work, parts, run_id, by=caller.handle, at=now())
    return _replayed(found)


@replays.get("/runs/{run_id}/recording")
async def show_recording(run_id: str, caller: Seer, doors: DoorsDep, parts: PartsDep) -> dict[str, Any]:
    """All that it takes to execute a run again, whole: what a golden file is made of."""
    async with doors.open(caller.organization) as work:
        return (await again.record(work, parts, run_id)).document()


@replays.post("/replays/what-if")
async def try_what_if(body: WhatIf, caller: Replayer, doors: DoorsDep, parts: PartsDep) -> dict[str, Any]:
    """What recorded runs would have come to under another version, model or policy, their effects as recorded."""
    if body.live and Permission.START_RUNS not in caller.permissions:
        raise NotAllowed("asking live models takes the permission to start runs", then="Try it without 'live'.")
    instead = Instead(body.version, body.model, body.policy.read() if body.policy else None)
    async with doors.open(caller.organization) as work:
        run_ids = await what_if.chosen(work, body.runs, body.deployment_id, body.last)
        prepared = await what_if.prepare(work, parts, run_ids, instead, live=body.live, at=now())
    return _compared(await what_if.compare(prepared))


def said(one: Decision) -> dict[str, Any]:
    """A decision as the API shows it."""
    return {
        "verdict": one.verdict.value,
        "code": one.code,
        "rule": one.rule,
        "reasons": list(one.reasons),
        "approvers": one.approvers,
        "policy_hash": one.policy_hash,
    }


def _change(one: Change) -> dict[str, Any]:
    return {
        "skill": one.skill.name,
        "version": one.skill.version,
        "effect": one.effect.name if one.effect is not None else UNKNOWN,
        "now": said(one.now) if one.now else UNKNOWN,
        "proposed": said(one.proposed) if one.proposed else UNKNOWN,
    }


def _report(one: Report, cost: Cost) -> dict[str, Any]:
    return {
        "since": one.since,
        "until": one.until,
        "complete": one.complete,
        "runs": len(one.runs),
        "actions": one.actions,
        "unknown": one.unknown,
        "recorded": dict(one.recorded),
        "proposed": dict(one.proposed),
        "blocked": one.became(Verdict.DENY),
        "drafted": one.became(Verdict.DRAFT),
        "asked": one.became(Verdict.ASK) + one.became(Verdict.ASK_TWO),
        "freed": one.freed,
        "approvals_more": one.approvers,
        "human_minutes": UNKNOWN if cost.minutes is None else round(cost.minutes, 1),
        "approval_minutes": UNKNOWN if cost.median_minutes is None else round(cost.median_minutes, 2),
        "approvals_measured": cost.measured,
        "by_rule": [
            {"verdict": verdict, "code": code, "actions": count}
            for (verdict, code), count in sorted(one.rules.items(), key=lambda pair: (-pair[1], pair[0]))
        ],
        "stopped": one.stopped,
        "stopped_more": one.stopped_more,
    }


def _answers(found: Answers | None) -> dict[str, Any]:
    """What models would not have been asked; all of it unknown where the proposal says nothing of that."""
    figures = ("answers", "answers_unpriced", "answers_refused", "money_refused", "runs_refused")
    if found is None:
        return {**dict.fromkeys(figures, UNKNOWN), "currency": CURRENCY, "refused": []}
    refused = sorted(found.refused.values(), key=lambda one: (one.first.at, one.first.run_id))
    values = (
        found.looked,
        found.unpriced,
        sum(one.answers for one in refused),
        dollars(sum(one.money for one in refused)),
        len(refused),
    )
    return {
        **dict(zip(figures, values, strict=True)),
        "currency": CURRENCY,
        "refused": [_refused(one) for one in refused[:MOST_STOPPED]],
    }


def _refused(one: Refused) -> dict[str, Any]:
    first = one.first
    return {
        "run_id": first.run_id,
        "step": first.step,
        "agent_id": first.agent_id,
        "deployment_id": first.deployment_id,
        "at": first.at,
        "provider": first.provider,
        "model": first.model,
        "code": one.code,
        "reasons": [one.reason],
        "answers": one.answers,
        "money": dollars(one.money),
    }


def _replayed(one: Replay) -> dict[str, Any]:
    return {
        "run_id": one.run_id,
        "agent_id": one.agent_id,
        "recorded_hash": one.recorded_hash,
        "replayed_hash": one.replayed_hash,
        "is_equal": one.divergence is None,
        "divergence": None if one.divergence is None else one.divergence.document(),
        "steps": len(one.outcome.content.steps),
        "decisions_made_again": one.outcome.judged,
        "decisions_taken_over": one.outcome.taken,
    }


def _compared(one: Comparison) -> dict[str, Any]:
    return {
        "tried": one.tried,
        "runs": len(one.results),
        "same": one.same,
        "diverged": one.diverged,
        "unknown": one.unknown,
        "outcomes_changed": one.outcomes_changed,
        "micros_more": UNKNOWN if one.micros_more is None else one.micros_more,
        "results": [_result(result) for result in one.results],
    }


def _result(one: Result) -> dict[str, Any]:
    changed = one.outcome_changed
    return {
        "run_id": one.run_id,
        "divergence": None if one.divergence is None else one.divergence.document(),
        "outcome": UNKNOWN if changed is None else "changed" if changed else "same",
        "left_because": one.why,
        "micros_more": UNKNOWN if one.micros_more is None else one.micros_more,
        "answers_asked_anew": one.asked,
        "recorded": asdict(one.recorded),
        "found": asdict(one.found),
    }
