"""Figures, gates and what they say of a version; freezes; and what happens to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, ClassVar, Final

from agentos.kernel.errors import Conflict, Invalid, NotFound
from agentos.kernel.facts import Fact
from agentos.kernel.ids import FeedbackId, FreezeId, GateId

MOST_GATES: Final = 200  # of an organization: each costs a query at every judgement
MOST_RUNS: Final = 10_000  # of a figure, the newest: 50 ms to read, and more would narrow no interval that matters
LONGEST_LOOKBACK: Final = timedelta(days=90)


class MetricUnknown(Invalid):
    """No figure has this name; the problem lists those that exist."""

    code = "quality_metric_unknown"


class GateInvalid(Invalid):
    """A gate that could never say anything; ``where`` names the field."""

    code = "gate_invalid"


class GateUnknown(NotFound):
    """No such gate in this organization."""

    code = "gate_unknown"


class GateKnown(Conflict):
    """There is a gate on this metric with this comparator for the same target already."""

    code = "gate_known"


class GatesFull(Conflict):
    """The organization has as many gates as it can have."""

    code = "gates_full"


class ScopeInvalid(Invalid):
    """A scope without its target, or a target that its scope has not."""

    code = "quality_scope_invalid"


class RunStillOpen(Conflict):
    """Nobody can say how good a run was before it is over."""

    code = "run_still_open"


class RunNotScored(NotFound):
    """The run is not over, or its end is yet to be scored."""

    code = "run_not_scored"


class FrozenAlready(Conflict):
    """The target is frozen already."""

    code = "frozen_already"


class FreezeUnknown(NotFound):
    """No such freeze in force in this organization."""

    code = "freeze_unknown"


class Scope(StrEnum):
    """What a gate, a figure or a recommendation is about. A role is the category of agents."""

    ORGANIZATION = "organization"
    ROLE = "role"
    DEPLOYMENT = "deployment"


class Feedback(StrEnum):
    """What a person says of a run or a draft."""

    ACCEPTED = "accepted"
    EDITED = "edited"  # used after a change
    NEEDS_REVIEW = "needs_review"
    REJECTED = "rejected"


class Comparator(StrEnum):
    """How a figure is held against a gate's threshold."""

    AT_LEAST = ">="
    ABOVE = ">"
    AT_MOST = "<="
    BELOW = "<"
    NO_WORSE = "no_worse"  # shown to be worse than the serving version's by no more than the threshold

    def holds(self, value: float, threshold: float) -> bool:
        """Whether a value passes; never asked of NO_WORSE, which compares two figures."""
        return {
            Comparator.AT_LEAST: value >= threshold,
            Comparator.ABOVE: value > threshold,
            Comparator.AT_MOST: value <= threshold,
            Comparator.BELOW: value < threshold,
        }[self]


class Severity(StrEnum):
    """What a gate that does not pass does to a promotion."""

    WARN = "warn"
    BLOCKER = "blocker"


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value with its 95 % interval and the samples it stands on; None where that is unknown."""

    value: float | None
    low: float | None
    high: float | None
    samples: int


@dataclass(frozen=True, slots=True)
class Gate:
    """A condition on the figures of a version that is to be promoted."""

    id: GateId
    scope: Scope
    target: str  # a category or a deployment's id; empty for the organization
    metric: str
    comparator: Comparator
    threshold: float  # in the metric's unit; of no_worse the loss that is tolerated
    lookback: timedelta
    samples: int  # at least; below, the figure is unknown. Of no_worse: of each version
    severity: Severity
    added_by: str
    added_at: datetime
    dataset_hash: str = ""  # of an eval: the content of its data set when it was added, and no other

    @property
    def said(self) -> str:
        """The condition in words."""
        of = "the organization" if self.scope is Scope.ORGANIZATION else f"{self.scope} '{self.target}'"
        if self.comparator is Comparator.NO_WORSE:
            return f"{self.metric} no worse than the serving version's by more than {self.threshold:g} ({of})"
        return f"{self.metric} {self.comparator} {self.threshold:g} ({of})"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one gate says of a version. ``passed`` is None where too little is known to say."""

    gate: Gate
    value: float | None
    low: float | None
    high: float | None
    samples: int
    passed: bool | None
    serving: Figure | None = None  # of no_worse: what the serving version's figure is
    loss: Figure | None = None  # of no_worse: by how much the version is worse, with its 90 % interval
    enough: int | None = None  # of no_worse: runs of each version with which an equal one passes, 19 times of 20

    @property
    def reason(self) -> str:
        """What was asked and what was found, with its figures."""
        if self.passed is None:
            return f"{self.gate.said}: unknown, {self._missing()}{self._enough()}"
        found = f"{_shown(self.value)} ({_interval(self.low, self.high)}, {self.samples} samples)"
        if self.loss is not None and self.serving is not None:
            found += (
                f" against {_shown(self.serving.value)} ({self.serving.samples} samples), "
                f"worse by {_shown(self.loss.value)} ({_interval(self.loss.low, self.loss.high)})"
            )
        return f"{self.gate.said}: {'passed' if self.passed else 'failed'} with {found}{self._enough()}"

    def document(self) -> dict[str, Any]:
        """What the gate says, with its figures, as everybody is shown it."""
        gate = self.gate
        return {
            "gate": gate.id,
            "scope": gate.scope.value,
            "target": gate.target,
            "metric": gate.metric,
            "comparator": gate.comparator.value,
            "threshold": gate.threshold,
            "severity": gate.severity.value,
            "samples_needed": gate.samples,
            "samples_enough": "unknown" if self.enough is None else self.enough,
            "result": {True: "passed", False: "failed", None: "unknown"}[self.passed],
            "value": _known(self.value),
            "interval": [_known(self.low), _known(self.high)],
            "samples": self.samples,
            "serving": "unknown" if self.serving is None else _known(self.serving.value),
            "loss": "unknown" if self.loss is None else _known(self.loss.value),
            "reason": self.reason,
        }

    def _enough(self) -> str:
        """What to wait for, where a version that did not pass has fewer runs than would show that it is as good."""
        have = min(self.samples, 0 if self.serving is None else self.serving.samples)
        if self.passed or self.enough is None or have >= self.enough:
            return ""
        return f"; with {self.enough} runs of each, a version that is as good passes 19 times of 20"

    def _missing(self) -> str:
        needed = self.gate.samples
        if self.gate.comparator is not Comparator.NO_WORSE:
            if self.samples >= needed:
                return f"{self.samples} samples give no figure"
            of = "recorded runs tried" if self.gate.metric.startswith("what_if:") else "samples"
            return f"{self.samples} of {needed} {of} in the last {self.gate.lookback}"
        if self.serving is None:
            return f"nothing serves to compare with; {self.samples} of {needed} samples of the version"
        return f"{self.samples} of {needed} samples of the version and {self.serving.samples} of the serving one"


@dataclass(frozen=True, slots=True)
class Said:
    """What a person said of a run, or of a draft that it made."""

    id: FeedbackId
    run_id: str
    draft_id: str
    verdict: Feedback
    note: str
    said_by: str
    said_at: datetime


@dataclass(frozen=True, slots=True)
class Freeze:
    """Nothing in its scope is promoted, whatever the data say, until somebody lifts it."""

    id: FreezeId
    scope: FreezeScope
    target: str  # an agent or a category; empty for the organization
    reason: str
    frozen_by: str
    frozen_at: datetime
    lifted_by: str = ""
    lifted_at: datetime | None = None
    lift_reason: str = ""

    @property
    def said(self) -> str:
        """The freeze in words."""
        of = "the organization" if self.scope is FreezeScope.ORGANIZATION else f"{self.scope} '{self.target}'"
        return f"{of} is frozen since {self.frozen_at:%Y-%m-%dT%H:%MZ} by {self.frozen_by}: {self.reason}"


class FreezeScope(StrEnum):
    """What is frozen."""

    ORGANIZATION = "organization"
    ROLE = "role"
    AGENT = "agent"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What every gate that applies to a version says of it, and the freezes that hold it."""

    verdicts: tuple[Verdict, ...] = field(default=())
    frozen: tuple[Freeze, ...] = field(default=())

    @property
    def blocking(self) -> tuple[str, ...]:
        """Why the version may not be promoted, with figures; empty when nothing stands against it.

        A freeze blocks always; a blocker does when it failed, and when its figure is unknown.
        """
        return tuple(one.said for one in self.frozen) + tuple(
            one.reason for one in self.verdicts if one.gate.severity is Severity.BLOCKER and one.passed is not True
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """What gates that only warn have to say."""
        return tuple(
            one.reason for one in self.verdicts if one.gate.severity is Severity.WARN and one.passed is not True
        )


@dataclass(frozen=True, slots=True)
class FeedbackGiven(Fact):
    """Somebody said how good a run, or a draft of it, was."""

    key_field: ClassVar[str] = "run_id"
    run_id: str
    draft_id: str
    verdict: str
    by: str


@dataclass(frozen=True, slots=True)
class GateAdded(Fact):
    """Promotions in a scope depend on one more condition."""

    key_field: ClassVar[str] = "gate_id"
    gate_id: str
    scope: str
    target: str
    metric: str
    comparator: str
    threshold: float
    lookback_seconds: int
    samples: int
    severity: str
    by: str
    dataset_hash: str = ""


@dataclass(frozen=True, slots=True)
class GateRemoved(Fact):
    """A condition on promotions is gone."""

    key_field: ClassVar[str] = "gate_id"
    gate_id: str
    scope: str
    target: str
    metric: str
    by: str


@dataclass(frozen=True, slots=True)
class PromotionFrozen(Fact):
    """Nothing in a scope is promoted from now on."""

    key_field: ClassVar[str] = "freeze_id"
    freeze_id: str
    scope: str
    target: str
    by: str


@dataclass(frozen=True, slots=True)
class PromotionUnfrozen(Fact):
    """A freeze was lifted."""

    key_field: ClassVar[str] = "freeze_id"
    freeze_id: str
    scope: str
    target: str
    by: str


def _known(value: float | None) -> float | str:
    return "unknown" if value is None else value


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"


def _interval(low: float | None, high: float | None) -> str:
    return f"{_shown(low)} to {_shown(high)}"
