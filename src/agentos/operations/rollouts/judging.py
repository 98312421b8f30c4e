"""Whether a version may serve: freezes, gates and recorded runs, and what somebody takes upon themselves.

A freeze blocks whatever is new and is lifted by nobody here; gates may be overridden by somebody who may and who says
why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from agentos.control.agents import service as agents
from agentos.control.agents.model import Version
from agentos.control.agents.ports import SkillCatalogue
from agentos.control.deployments import service as deployments
from agentos.control.deployments.model import Canary, Deployment
from agentos.control.deployments.service import Etags
from agentos.evidence.quality import service as quality
from agentos.evidence.quality.model import Judgement, Severity
from agentos.kernel.unit_of_work import UnitOfWork
from agentos.operations.rollouts.impact import Change, Impact, impact
from agentos.operations.rollouts.model import (
    MOST_UNKNOWN,
    MOST_WORDS,
    UNTRIED,
    Frozen,
    GateFailed,
    ReasonMissing,
    Trials,
    Tried,
)


@dataclass(frozen=True, slots=True)
class Order:
    """What somebody wants to serve, and what they take upon themselves."""

    version: str  # number, hash or its beginning
    reason: str = ""
    accept_breaking: bool = False
    force: bool = False  # although gates refuse it
    percent: int | None = None  # as a canary of that share; None: all runs
    trials: Trials = UNTRIED  # what recorded runs would have come to

    @property
    def change(self) -> Change:
        """What this does to the deployment."""
        return Change.PROMOTE if self.percent is None else Change.CANARY

    @property
    def finds_out(self) -> bool:
        """Whether it is a canary of so few runs that what is unknown of it does not stand against it."""
        return self.percent is not None and self.percent <= MOST_UNKNOWN


@dataclass(frozen=True, slots=True)
class Judged:
    """A version before the gates."""

    version: Version
    judgement: Judgement
    tried: Tried | None
    blocking: tuple[str, ...]  # freezes left out
    impact: Impact

    @property
    def frozen(self) -> tuple[str, ...]:
        """The freezes in force, in words."""
        return tuple(one.said for one in self.judgement.frozen)

    @property
    def said(self) -> str:
        """What a history says of the gates."""
        known = [one for one in self.judgement.verdicts if one.passed]
        passed = len(known) + (self.tried is not None and not self.tried.faults)
        of = len(self.judgement.verdicts) + (self.tried is not None)
        return f"{passed} of {of} gates passed" if of else "no gate applied"

    @property
    def figures(self) -> dict[str, Any]:
        """What gates and recorded runs say, with their figures, as everybody is shown it."""
        return {
            "gates": [one.document() for one in self.judgement.verdicts],
            "what_if": None if self.tried is None else self.tried.document(),
        }


async def judged(work: UnitOfWork, deployment_id: str, order: Order, skills: SkillCatalogue, *, at: datetime) -> Judged:
    """What freezes and gates say of a version, and what its order would leave open. Nothing is changed.

    A promotion is blocked by a gate that fails and by one whose figure is unknown; a canary of at most half of the runs
    only by one that fails: it is there to find out. Nothing is asked of one that is to serve no more than it does.
    Gates on recorded runs are unknown where these were not tried. Raises DeploymentUnknown, VersionUnknown (NotFound).
    """
    found = await deployments.get(work, deployment_id)
    version = await agents.get_version(work, found.agent_id, order.version)
    judgement = Judgement()
    if not asks_nothing(order, found.canary, version):
        judgement = await quality.judge(work, found.id, version.hash, at=at, tried=order.trials.gates)
    blocking = [
        one.reason
        for one in judgement.verdicts
        if one.gate.severity is Severity.BLOCKER
        and (one.passed is False or (one.passed is None and not order.finds_out))
    ]
    tried = order.trials.tried
    if tried is not None:
        blocking += tried.faults
    left = await impact(work, skills, found.id, order.change)
    return Judged(version, judgement, tried, tuple(blocking), left)


async def allowed(
    work: UnitOfWork, deployment_id: str, order: Order, skills: SkillCatalogue, at: datetime, if_match: Etags
) -> tuple[Deployment, Judged]:
    """The deployment, locked, in the very state in which gates were judged, and what they say; freezes as of now."""
    seen = await deployments.get(work, deployment_id)
    deployments.check_match(seen, if_match)
    if order.trials.etag is not None:  # recorded runs were tried meanwhile
        deployments.check_match(seen, {order.trials.etag})
    found = await judged(work, deployment_id, order, skills, at=at)
    _check(deployment_id, order, found)
    before = await deployments.lock(work, deployment_id)  # only now: runs are not admitted while it is held
    deployments.check_match(before, {seen.etag})
    if not asks_nothing(order, before.canary, found.version):
        frozen = await quality.frozen(work, before, found.version.hash)
        _check(deployment_id, order, replace(found, judgement=replace(found.judgement, frozen=frozen)))
    return before, found


def asks_nothing(order: Order, canary: Canary | None, version: Version) -> bool:
    """Whether an order lets a canary serve as many runs as it does, or fewer: then gates are not asked."""
    if canary is None or order.percent is None:
        return False
    return canary.version == version.hash and order.percent <= canary.percent


def told(order: Order, found: Judged) -> str:
    """What the history says of why a version may serve."""
    words = f"past gates: {'; '.join(found.blocking)}"[:MOST_WORDS] if found.blocking else found.said
    return f"{words}: {order.reason}" if order.reason else words


def _check(deployment_id: str, order: Order, found: Judged) -> None:
    figures = found.figures
    what = "promoted" if order.percent is None else "a canary"
    if found.frozen:
        raise Frozen(
            f"version {found.version.number} may not be {what}: {'; '.join(found.frozen)}"[:MOST_WORDS],
            where=deployment_id,
            then="Lift the freeze first; nothing overrides it.",
            blocking=list(found.frozen),
            freezes=[one.id for one in found.judgement.frozen],
            **figures,
        )
    if found.blocking and not order.force:
        raise GateFailed(
            f"version {found.version.number} may not be {what}: {'; '.join(found.blocking)}"[:MOST_WORDS],
            where=deployment_id,
            then="Mend the version, let a canary gather samples, or override with --force and a reason.",
            blocking=list(found.blocking),
            **figures,
        )
    if order.force and not order.reason.strip():
        raise ReasonMissing("gates are overridden only with a reason", where="reason", then="Say why.")


def said(reasons: Sequence[str]) -> list[str]:
    """Reasons as facts carry them, none longer than a history keeps."""
    return [one[:MOST_WORDS] for one in reasons]
