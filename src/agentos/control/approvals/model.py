"""Approvals and what happens to them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from agentos.control.policy.model import EffectClass
from agentos.kernel.errors import Conflict, Forbidden, NotFound
from agentos.kernel.facts import Fact
from agentos.kernel.ids import ApprovalId, DeploymentId, RunId


class ApprovalUnknown(NotFound):
    """No such approval in this organization."""

    code = "approval_unknown"


class ApprovalDecidedAlready(Conflict):
    """The approval has been decided, has expired, or this person has answered it."""

    code = "approval_decided"


class ApprovalNotYours(Forbidden):
    """Whoever asked for a run may not approve its effects."""

    code = "approval_not_yours"


class ApprovalNotUsable(Conflict):
    """An approval was used already, or is not for these arguments."""

    code = "approval_not_usable"


class ApprovalStatus(StrEnum):
    """Where an approval stands."""

    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Approval:
    """A question to people: may this skill be called with just these arguments?"""

    id: ApprovalId
    run_id: RunId
    step: str
    deployment_id: DeploymentId
    requested_by: str
    skill: str
    skill_version: str
    effect: EffectClass
    arguments: bytes  # canonical JSON: the very bytes that execute
    arguments_digest: str
    needed: int
    level: int
    status: ApprovalStatus
    asked_at: datetime
    expires_at: datetime
    decided_at: datetime | None
    consumed_at: datetime | None


@dataclass(frozen=True, slots=True)
class ApprovalRequested(Fact):
    """A call waits for a person."""

    key_field: ClassVar[str] = "run_id"
    run_id: str
    approval_id: str
    skill: str
    arguments_digest: str


@dataclass(frozen=True, slots=True)
class ApprovalDecided(Fact):
    """A person said yes or no, and no more answers are needed."""

    key_field: ClassVar[str] = "run_id"
    run_id: str
    approval_id: str
    status: str
    decided_by: str


@dataclass(frozen=True, slots=True)
class ApprovalExpired(Fact):
    """Nobody answered in time; the call is denied."""

    key_field: ClassVar[str] = "run_id"
    run_id: str
    approval_id: str
