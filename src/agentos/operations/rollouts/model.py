"""Refusals, facts and figures of rollouts, and the rules that compare a version with the one that serves.

What is not known is neither good nor bad here: a promotion waits for it, a canary goes on without it, a rollback's
check says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, ClassVar, Final

from agentos.evidence.quality.model import Figure
from agentos.kernel.errors import Conflict, Invalid, NotFound
from agentos.kernel.facts import Fact

SUCCESS: Final = 0.9  # of runs, as runbook 1 asks of every agent (R1.1)
RECOVERY: Final = timedelta(minutes=15)  # in which success is to recover after a rollback (R1.19)
MOST_UNKNOWN: Final = 50  # percent of the runs that a canary may serve of which gates know nothing yet
MOST_WORDS: Final = 2000  # characters that a history keeps of one reason


class GateFailed(Conflict):
    """A gate that blocks is not passed, or nothing is known of what it measures."""

    code = "gate_failed"


class Frozen(Conflict):
    """A freeze is in force: nothing new may serve until it is lifted, whatever the figures say."""

    code = "promotion_frozen"


class ReasonMissing(Invalid):
    """Gates are overridden only by somebody who says why."""

    code = "reason_missing"


class RollbackUnknown(NotFound):
    """The deployment was not rolled back to such a revision."""

    code = "rollback_unknown"


class Criterion(StrEnum):
    """When to roll back, as runbook 2 has it (R2.16)."""

    NEW_ISSUES = "new_issues"  # the version causes new ones
    NOT_RESOLVED = "not_resolved"  # it does not resolve what it was for
    WIDER_IMPACT = "wider_impact"  # it does more harm than what it was for
    TOO_SLOW = "too_slow"  # mending it takes longer than anybody can wait


class Outcome(StrEnum):
    """What a check says by now."""

    WAITING = "waiting"
    PASSED = "passed"
    FAILED = "failed"
    UNKNOWN = "unknown"


def shown(one: Figure) -> dict[str, Any]:
    """A figure as it is shown, with its 95 % interval and samples."""
    return {name: "unknown" if value is None else value for name, value in asdict(one).items()}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that is to hold, what is said of it by now, and the figures behind that."""

    name: str
    outcome: Outcome
    said: str
    figures: dict[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """The check as it is kept and shown."""
        return {"check": self.name, "outcome": self.outcome.value, "said": self.said, "figures": self.figures}


def overall(outcomes: Sequence[Outcome]) -> Outcome:
    """What several checks say together: the worst of them, unless one of them waits."""
    for one in (Outcome.WAITING, Outcome.FAILED, Outcome.UNKNOWN):
        if one in outcomes:
            return one
    return Outcome.PASSED


@dataclass(frozen=True, slots=True)
class Allowance:
    """How far recorded runs may come out otherwise under a version that is to be promoted."""

    runs: int  # the last ones of the deployment
    changed_percent: float = 0.0  # may end in another status or with another problem
    diverged_percent: float | None = None  # may do anything else than they did; None: any
    cost_percent: float | None = None  # may all of them cost more together; None: any


@dataclass(frozen=True, slots=True)
class Tried:
    """What the last runs would have come to under a version, beside what was allowed."""

    allowed: Allowance
    runs: int
    known: int  # whose outcome the recording could tell
    changed: int
    diverged: int
    told: int  # of which it is known whether they do something else
    micros: int  # that the known ones cost
    micros_more: int | None
    figures: Mapping[str, Figure]  # the same as rates and means, with their intervals

    @property
    def faults(self) -> tuple[str, ...]:
        """Why it does not pass. Where less than half of the runs can be told, that is why."""
        if not self.known or self.known * 2 < self.runs:
            return (
                f"what-if: the outcome of {self.known} of {self.runs} runs is known, at least half of them must be",
            )
        found = [
            f"what-if: {count} of {of} runs {what} ({100 * count / of:.1f} %), at most {most:g} % may"
            for count, of, what, most in (
                (self.changed, self.known, "end otherwise", self.allowed.changed_percent),
                (self.diverged, self.told, "do something else", self.allowed.diverged_percent),
            )
            if most is not None and 100 * count > most * of
        ]
        most, more = self.allowed.cost_percent, self.micros_more or 0
        if most is not None and 100 * more > most * self.micros:
            found.append(
                f"what-if: the runs cost {more} millionths of a dollar more than {self.micros}, at most {most:g} % may"
            )
        return tuple(found)

    def document(self) -> dict[str, Any]:
        """The figures as they are shown."""
        return {
            "runs": self.runs,
            "known": self.known,
            "unknown": self.runs - self.known,
            "outcomes_changed": self.changed,
            "diverged": self.diverged,
            "micros": self.micros,
            "micros_more": "unknown" if self.micros_more is None else self.micros_more,
            "allowed_changed_percent": self.allowed.changed_percent,
            "allowed_diverged_percent": self.allowed.diverged_percent,
            "allowed_cost_percent": self.allowed.cost_percent,
            "figures": {name.partition(":")[2]: shown(one) for name, one in self.figures.items()},
            "passed": not self.faults,
            "because": list(self.faults),
        }


@dataclass(frozen=True, slots=True)
class Trials:
    """What recorded runs came to under a version that is to serve."""

    etag: int | None = None  # of the deployment when they were chosen; None: nothing was tried
    tried: Tried | None = None  # as the order asks for it
    gates: Mapping[str, Mapping[str, Figure]] = field(default_factory=dict)  # the figures that gates name, by gate


UNTRIED: Final = Trials()


@dataclass(frozen=True, slots=True)
class CanaryRecord:
    """What a canary was begun with, and how it ended."""

    deployment_id: str
    revision: int
    version: str
    beside: str  # the version that served when it began
    reason: str
    overridden: tuple[str, ...]
    started_by: str
    started_at: datetime
    outcome: str  # open, or the status of its revision
    ended_at: datetime | None
    breaches: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """The canary as it is shown."""
        return asdict(self) | {"overridden": list(self.overridden), "breaches": list(self.breaches)}


@dataclass(frozen=True, slots=True)
class Rollback:
    """One rollback with its checks."""

    deployment_id: str
    number: int  # of the revision that serves since
    kind: str  # deployment; what else can be rolled back has its own service
    version: str
    rolled_back: str
    criterion: str  # empty: none was named
    reason: str
    ordered_by: str
    at: datetime
    closes_at: datetime
    outcome: Outcome
    checks: tuple[dict[str, Any], ...]
    validated_at: datetime | None

    def document(self) -> dict[str, Any]:
        """The rollback as it is shown."""
        return asdict(self) | {"outcome": self.outcome.value, "checks": list(self.checks)}


@dataclass(frozen=True, slots=True)
class PromotionRefused(Fact):
    """A version was not let serve. ``because``: what gates say with their figures, or the ids of freezes."""

    key_field: ClassVar[str] = "deployment_id"
    deployment_id: str
    version: str
    code: str
    because: list[str]
    asked_by: str


@dataclass(frozen=True, slots=True)
class GatesOverridden(Fact):
    """Somebody let a version serve, or be a canary, although gates refused it."""

    key_field: ClassVar[str] = "deployment_id"
    deployment_id: str
    version: str
    revision: int
    because: list[str]
    overridden_by: str


@dataclass(frozen=True, slots=True)
class CanaryBreached(Fact):
    """A canary was rolled back by itself, for these reasons with their figures."""

    key_field: ClassVar[str] = "deployment_id"
    deployment_id: str
    agent_id: str
    revision: int
    version: str
    because: list[str]


@dataclass(frozen=True, slots=True)
class RollbackValidated(Fact):
    """What the checks of a rollback came to: passed, failed or unknown. ``checks``: each by its name."""

    key_field: ClassVar[str] = "deployment_id"
    deployment_id: str
    number: int
    version: str
    outcome: str
    checks: dict[str, str]
