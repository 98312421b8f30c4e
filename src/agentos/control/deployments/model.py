"""A deployment, its revisions, and the rules of what may serve next.

Revisions are only added, and the number of the one that serves only rises: the order of revisions that served is the
order in which they did, whatever a clock said. Statuses move one way:

    draft → active → superseded | rolled_back | retired
    draft → superseded | retired          (passed over, or never needed)
    canary → active | superseded | rolled_back | retired

A canary serves a share of the runs beside the revision that serves. Which runs is decided by a hash of their key, so
the same key stays on the same side, and whoever is on the canary's side stays there when its share is raised.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import ClassVar, Final

from agentos.control.agents.model import Version
from agentos.control.policy.model import Tier
from agentos.kernel.errors import Conflict, Invalid, NotFound
from agentos.kernel.facts import Fact
from agentos.kernel.ids import AgentId, DeploymentId

PRODUCTION: Final = "production"  # where applying deploys unless told otherwise


class DeploymentUnknown(NotFound):
    """No such deployment in this organization."""

    code = "deployment_unknown"


class DeploymentExists(Conflict):
    """The agent has a deployment in that environment."""

    code = "deployment_exists"


class DeploymentIsPaused(Conflict):
    """The deployment is paused: it admits no runs."""

    code = "deployment_paused"


class DeploymentIsRetired(Conflict):
    """The deployment is retired, for good."""

    code = "deployment_retired"


class NothingServes(Conflict):
    """The deployment has no version that serves: none was promoted yet."""

    code = "nothing_serves"


class ServesAlready(Conflict):
    """The version is the one that serves."""

    code = "serves_already"


class NeverServed(Conflict):
    """A roll-back to a version that never served here: nothing was known good about it."""

    code = "never_served"


class NoLastKnownGood(Conflict):
    """No earlier version is known to have been good."""

    code = "no_last_known_good"


class TierAboveVersion(Conflict):
    """The tier is above the highest that the version allows itself."""

    code = "tier_above_version"


class NotPromotable(Conflict):
    """The version's skills cannot be called as they were pinned, so it may not serve."""

    code = "not_promotable"


class SkillContractBroken(Conflict):
    """The version pins a skill that breaks who relied on the one that the serving version pins."""

    code = "skill_contract_broken"


class BadShare(Invalid):
    """A canary's share that is none: all of the runs, or nothing, or more than there is."""

    code = "bad_share"


class CanaryRuns(Conflict):
    """Another version is the canary already: there is one at a time."""

    code = "canary_runs"


class NoCanary(Conflict):
    """The deployment has no canary."""

    code = "no_canary"


class ServedBefore(Conflict):
    """The agent served in that environment before, so what serves there next is promoted."""

    code = "served_before"


class PreconditionFailed(Conflict):
    """``If-Match`` names a state of the deployment that is no longer the present one."""

    code = "precondition_failed"
    status = 412


class State(StrEnum):
    """Whether a deployment admits runs."""

    ACTIVE = "active"
    PAUSED = "paused"
    RETIRED = "retired"


class Status(StrEnum):
    """Where a revision stands."""

    DRAFT = "draft"
    CANARY = "canary"
    ACTIVE = "active"
    SUPERSEDED = "superseded"
    ROLLED_BACK = "rolled_back"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class Canary:
    """A version that serves a share of the runs beside the one that serves."""

    revision: int
    version: str  # hash
    percent: int  # 1 to 99

    def takes(self, deployment_id: str, key: str) -> bool:
        """Whether it serves the runs of this key. A larger share takes all that a smaller one took."""
        return place(f"{deployment_id} {self.revision}", key) < self.percent


@dataclass(frozen=True, slots=True)
class Deployment:
    """One agent in one environment. ``revision`` is the one that serves, 0 before the first promotion."""

    id: DeploymentId
    agent_id: AgentId
    environment: str
    tier: Tier  # in force; at most the serving version's highest
    state: State
    revision: int
    etag: int  # rises with every change
    created_at: datetime
    version: str | None  # hash of the one that serves
    canary: Canary | None = None


@dataclass(frozen=True, slots=True)
class Revision:
    """One entry of a deployment's history."""

    number: int
    version: str  # hash
    version_number: int
    status: Status
    reason: str
    created_by: str
    created_at: datetime
    served_from: datetime | None
    served_until: datetime | None


@dataclass(frozen=True, slots=True)
class Serving:
    """What a run that is admitted now is pinned to."""

    deployment: Deployment
    revision: int
    version: Version


@dataclass(frozen=True, slots=True)
class Ensured:
    """What became of a version that was applied: the revision that names it, and whether that is new."""

    deployment: Deployment
    revision: Revision | None  # None: the environment's deployment is retired and stays so
    created: bool


def place(of: str, key: str) -> int:
    """Where a key stands among a hundred places, always the same; ``of`` says among which hundred."""
    return int.from_bytes(hashlib.sha256(f"{of}\0{key}".encode()).digest()[:8]) % 100


def last_known_good(history: Sequence[Revision], serving: int) -> Revision | None:
    """The latest earlier revision that served and whose version was not rolled back since; None when there is none.

    The serving version itself is no way back. ``history`` may be in any order.
    """
    now = next((one for one in history if one.number == serving), None)
    bad = {now.version} if now else set()
    for one in sorted(history, key=lambda each: -each.number):
        if one.status is Status.ROLLED_BACK:  # also a canary, which is newer than what serves
            bad.add(one.version)
        elif one.number < serving and one.served_from is not None and one.version not in bad:
            return one
    return None


def served(history: Sequence[Revision], version: str) -> Revision | None:
    """The latest revision by which a version served."""
    return max(
        (one for one in history if one.version == version and one.served_from is not None),
        key=lambda one: one.number,
        default=None,
    )


def was_rolled_back(history: Sequence[Revision], version: str) -> bool:
    """Whether a version was rolled back, also as a canary, since it served last."""
    last = served(history, version)
    return last is not None and any(
        one.version == version and one.status is Status.ROLLED_BACK and one.number >= last.number for one in history
    )


@dataclass(frozen=True, slots=True)
class DeploymentCreated(Fact):
    """An agent got a place in an environment."""

    key_field: ClassVar[str] = "deployment_id"
    deployment_id: str
    agent_id: str
    environment: str
    created_by: str
    tier: int | None = None  # None: an earlier release did not tell


@dataclass(frozen=True, slots=True)
class RevisionDrafted(Fact):
    """A version was put forward to serve next."""

    key_field: ClassVar[str] = "deployment_id"
    deployment_id: str
    revision: int
    version: str
    drafted_by: str


@dataclass(frozen=True, slots=True)
class VersionPromoted(Fact):
    """A version began to serve. ``superseded`` is the version that served before, empty for none."""

    key_field: ClassVar[str] = "deployment_id"
    deployment_id: str
    revision: int
    version: str
    superseded: str
    promoted_by: str


@dataclass(frozen=True, slots=True)
class VersionRolledBack(Fact):
    """A version was taken out of service, and one that had served before serves again under a new revision."""

    key_field: ClassVar[str] = "deployment_id"
    deployment_id: str
    revision: int
    version: str
    rolled_back: str
    rolled_back_by: str


@dataclass(frozen=True, slots=True)
class CanaryStarted(Fact):
    """A version began to serve so many percent of the runs, beside the one that serves."""

    key_field: ClassVar[str] = "deployment_id"
    deployment_id: str
    revision: int
    version: str
    percent: int
    started_by: str


@dataclass(frozen=True, slots=True)
class CanaryResized(Fact):
    """The canary serves another share now."""

    key_field: ClassVar[str] = "deployment_id"
    deployment_id: str
    revision: int
    version: str
    percent: int
    was: int
    resized_by: str


@dataclass(frozen=True, slots=True)
class CanaryEnded(Fact):
    """A version is no canary any more: active (it serves all now), superseded, rolled_back or retired."""

    key_field: ClassVar[str] = "deployment_id"
    deployment_id: str
    revision: int
    version: str
    outcome: str
    ended_by: str


@dataclass(frozen=True, slots=True)
class DeploymentPaused(Fact):
    """Nothing is admitted, and nothing acts on a decision made before."""

    key_field: ClassVar[str] = "deployment_id"
    deployment_id: str
    paused_by: str


@dataclass(frozen=True, slots=True)
class DeploymentResumed(Fact):
    """Runs are admitted again."""

    key_field: ClassVar[str] = "deployment_id"
    deployment_id: str
    resumed_by: str


@dataclass(frozen=True, slots=True)
class DeploymentRetired(Fact):
    """The deployment is over, for good."""

    key_field: ClassVar[str] = "deployment_id"
    deployment_id: str
    retired_by: str


@dataclass(frozen=True, slots=True)
class TierChanged(Fact):
    """The tier in force is another one now, by order or because the version that serves allows itself less."""

    key_field: ClassVar[str] = "deployment_id"
    deployment_id: str
    tier: int
    was: int
    changed_by: str
