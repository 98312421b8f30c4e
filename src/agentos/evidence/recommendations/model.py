"""Recommendations, where they stand, and what happens to them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

from agentos.evidence.quality.model import Scope
from agentos.kernel.errors import Conflict, NotFound
from agentos.kernel.facts import Fact
from agentos.kernel.ids import RecommendationId


class RecommendationUnknown(NotFound):
    """No such recommendation in this organization."""

    code = "recommendation_unknown"


class RecommendationOver(Conflict):
    """The recommendation was settled already, or has no such step from where it stands."""

    code = "recommendation_settled"


class Kind(StrEnum):
    """What a recommendation is about."""

    PROMPT = "prompt"
    EVIDENCE_POLICY = "evidence_policy"
    TOOLING = "tooling"
    EVAL_DRIFT = "eval_drift"


class Standing(StrEnum):
    """Where a recommendation stands. Open ones are accepted or dismissed, both kinds resolved."""

    OPEN = "open"
    ACCEPTED = "accepted"  # somebody is at it
    DISMISSED = "dismissed"
    RESOLVED = "resolved"

    def may_become(self, to: Standing) -> bool:
        """Whether somebody may say so."""
        return (self is Standing.OPEN and to is not Standing.OPEN) or (
            self is Standing.ACCEPTED and to in (Standing.DISMISSED, Standing.RESOLVED)
        )


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What the figures of a scope advise. Of each kind and scope at most one is open or accepted."""

    id: RecommendationId
    kind: Kind
    scope: Scope
    target: str
    text: str
    evidence: dict[str, Any]  # the figures that it was made of, as of then
    standing: Standing
    opened_at: datetime
    changed_by: str = ""  # nobody yet
    changed_at: datetime | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RecommendationOpened(Fact):
    """The figures of a scope advise to look at something."""

    key_field: ClassVar[str] = "recommendation_id"
    recommendation_id: str
    kind: str
    scope: str
    target: str


@dataclass(frozen=True, slots=True)
class RecommendationSettled(Fact):
    """Somebody accepted, dismissed or resolved a recommendation."""

    key_field: ClassVar[str] = "recommendation_id"
    recommendation_id: str
    kind: str
    scope: str
    target: str
    standing: str
    by: str
