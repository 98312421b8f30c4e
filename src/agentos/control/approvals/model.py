"""Approvals, who may answer them, and what happens to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import ClassVar, Final

from agentos.control.approvals.routing import ROLE, OnTimeout, Plan, Requirement
from agentos.control.policy.model import EffectClass
from agentos.intake.identity.model import Role
from agentos.kernel.errors import Conflict, Forbidden, Invalid, NotFound
from agentos.kernel.facts import Fact
from agentos.kernel.ids import ApprovalId, DeploymentId, RunId

MOST_NOTE: Final = 2000  # characters of why


class ApprovalUnknown(NotFound):
    """No such approval in this organization."""

    code = "approval_unknown"


class ApprovalDecidedAlready(Conflict):
    """The approval has been decided, has expired, or this person has answered it."""

    code = "approval_decided"


class ApprovalNotYours(Forbidden):
    """Whoever asked for a run, made what started it, or submitted a draft may not approve its effects."""

    code = "approval_not_yours"


class ApprovalNotForYou(Forbidden):
    """The approval is for other people: those that its stage names, or those it was handed to."""

    code = "approval_not_for_you"


class ApprovalMasked(Forbidden):
    """The arguments hold what is masked for this person, and nobody decides on what they cannot see."""

    code = "approval_masked"


class ApprovalNotUsable(Conflict):
    """An approval was used already, or is no yes."""

    code = "approval_not_usable"


class ApprovalDigestDiffers(Conflict):
    """A yes was given to other arguments, another skill or another version than those about to act."""

    code = "approval_digest_differs"


class RerouteToOneself(Forbidden):
    """Nobody hands approvals to themselves."""

    code = "reroute_to_oneself"


class NobodyToRerouteTo(Conflict):
    """There are no backups to hand approvals to."""

    code = "nobody_to_reroute_to"


class LinkForged(Forbidden):
    """A link to an approval that was not made here, or was changed."""

    code = "approval_link_forged"


class LinkExpired(Conflict):
    """A link to an approval whose time is over."""

    code = "approval_link_expired"


class LinkUsed(Conflict):
    """A link to an approval that has been answered with; each works once."""

    code = "approval_link_used"


class ReceiptRefused(Invalid):
    """A document that is no receipt, or says what cannot be: too few people, or a digest that is not of its parts."""

    code = "receipt_refused"


class NotDecided(Conflict):
    """There is no receipt of an approval that waits."""

    code = "approval_not_decided"


class ApprovalStatus(StrEnum):
    """Where an approval stands."""

    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    EXPIRED = "expired"


class Channel(StrEnum):
    """Where a person answered."""

    API = "api"
    LINK = "link"
    SLACK = "slack"
    INBOX = "inbox"


@dataclass(frozen=True, slots=True)
class Question:
    """A call that needs people, as the runtime puts it."""

    run_id: str
    step: str
    deployment_id: str
    agent_id: str
    category: str
    version: str  # of the agent
    requested_by: str
    starters: tuple[str, ...]  # everybody who started this in some way, and so may not approve it
    skill: str
    skill_version: str
    skill_digest: str
    reversibility: str
    effect: EffectClass
    arguments: bytes  # canonical
    rule: str  # the code of the rule that asks
    needed: int  # how many different people policy wants
    policy_hash: str


@dataclass(frozen=True, slots=True)
class Handover:
    """Somebody handed the approval to others, who may answer besides."""

    to: tuple[str, ...]
    by: str
    at: str


@dataclass(frozen=True, slots=True)
class Approval:
    """A question to people: may this skill be called with just these arguments?"""

    id: ApprovalId
    run_id: RunId
    step: str
    round: int  # the how manieth question about this step: a stricter requirement asks again
    deployment_id: DeploymentId
    agent_id: str
    version: str
    requested_by: str
    starters: tuple[str, ...]  # who may not approve: whoever asked, made the trigger, submitted the draft
    skill: str
    skill_version: str
    skill_digest: str
    reversibility: str
    effect: EffectClass
    arguments: bytes  # canonical JSON: the very bytes that execute
    arguments_digest: str
    rule: str
    policy_hash: str  # of the policy that asked
    bound: str | None  # the digest that a yes is bound to; None: asked by an earlier release
    plan: Plan
    needed: int
    stage: int
    level: int
    reminded: bool
    handovers: tuple[Handover, ...]
    status: ApprovalStatus
    reason: str  # why it ended: a note, or "timeout", "superseded", "policy", "run_ended"
    decided_by: str
    asked_at: datetime
    expires_at: datetime
    next_at: datetime  # when the clock has to do something with it
    decided_at: datetime | None
    consumed_at: datetime | None

    @property
    def requirement(self) -> Requirement:
        """What a yes to it satisfies."""
        return Requirement(self.rule, self.effect, self.plan.stages)

    @property
    def ends_in(self) -> OnTimeout:
        """What it comes to when nobody answers."""
        return OnTimeout.DRAFT if self.plan.on_timeout is OnTimeout.DRAFT else OnTimeout.DENY

    def asks(self, *, of: str = "") -> tuple[str, ...]:
        """Who is asked now, by handle or role; empty: everybody who may answer approvals.

        ``of``: as it concerns this person. Who handed it over is not one of those it was handed to.
        """
        named = self.plan.stages[self.stage].approvers
        if not named:
            return ()
        rungs = (one for rung in self.plan.ladder[: self.level] for one in rung)
        others = (one for handover in self.handovers if handover.by != of for one in handover.to)
        return tuple(dict.fromkeys((*named, *rungs, *others)))

    def is_for(self, handle: str, role: Role | None) -> bool:
        """Whether this person is asked now."""
        asked = self.asks(of=handle)
        return not asked or handle in asked or (role is not None and ROLE + role.value in asked)


# Whether the arguments of an approval hold what is kept from the person who answers.
Hides = Callable[[Approval], bool]


@dataclass(frozen=True, slots=True)
class Answer:
    """What one person said."""

    handle: str
    approved: bool
    stage: int
    channel: str
    note: str
    at: datetime


@dataclass(frozen=True, slots=True)
class ApprovalRequested(Fact):
    """A call waits for a person. ``approvers``: who is asked, by handle or role; empty: all who may answer."""

    key_field: ClassVar[str] = "run_id"
    run_id: str
    approval_id: str
    skill: str
    arguments_digest: str
    deployment_id: str = ""
    effect: str = ""
    approvers: list[str] = field(default_factory=list)
    expires_at: str = ""


@dataclass(frozen=True, slots=True)
class ApprovalPassed(Fact):
    """A stage of a chain said yes; the next one is asked."""

    key_field: ClassVar[str] = "run_id"
    run_id: str
    approval_id: str
    stage: int
    approvers: list[str]


@dataclass(frozen=True, slots=True)
class ApprovalReminded(Fact):
    """Half the time of those who are asked is over."""

    key_field: ClassVar[str] = "run_id"
    run_id: str
    approval_id: str
    level: int
    approvers: list[str]


@dataclass(frozen=True, slots=True)
class ApprovalSlaMissed(Fact):
    """Those who were asked first have let their time pass."""

    key_field: ClassVar[str] = "run_id"
    run_id: str
    approval_id: str
    deployment_id: str
    skill: str
    effect: str


@dataclass(frozen=True, slots=True)
class ApprovalEscalated(Fact):
    """The approval went up a rung of the ladder; ``approvers``: who may answer besides from now on."""

    key_field: ClassVar[str] = "run_id"
    run_id: str
    approval_id: str
    level: int
    approvers: list[str]


@dataclass(frozen=True, slots=True)
class ApprovalRerouted(Fact):
    """Somebody handed the approval to others, who may answer besides from now on."""

    key_field: ClassVar[str] = "run_id"
    run_id: str
    approval_id: str
    approvers: list[str]
    by: str


@dataclass(frozen=True, slots=True)
class ApprovalDecided(Fact):
    """A person said yes or no, and no more answers are needed."""

    key_field: ClassVar[str] = "run_id"
    run_id: str
    approval_id: str
    status: str
    decided_by: str
    channel: str = Channel.API.value


@dataclass(frozen=True, slots=True)
class ApprovalExpired(Fact):
    """Nobody answered in time, or the question fell away. ``ends_in``: deny or draft."""

    key_field: ClassVar[str] = "run_id"
    run_id: str
    approval_id: str
    reason: str = "timeout"
    ends_in: str = "deny"


@dataclass(frozen=True, slots=True)
class RoutingChanged(Fact):
    """Somebody changed who is asked about effects, or by when."""

    key_field: ClassVar[str] = "digest"
    digest: str
    by: str
