"""A shadow, what came of the runs that it was shown, and its facts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from math import sqrt
from typing import ClassVar

from agentos.evidence.quality.figures import AGREED, rate
from agentos.evidence.quality.model import Figure
from agentos.kernel.errors import NotFound
from agentos.kernel.facts import Fact
from agentos.kernel.statistics import student_quantile
from agentos.kernel.units import MICROS


class ShadowUnknown(NotFound):
    """The deployment has no shadow."""

    code = "shadow_unknown"


@dataclass(frozen=True, slots=True)
class Shadow:
    """A version that is shown a share of the inputs of runs that are over."""

    deployment_id: str
    version: str
    percent: int
    live: bool
    started_by: str
    started_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Shown:
    """What the runs that a shadow was shown would have come to, counted."""

    runs: int
    known: int
    changed: int
    completed: int
    recorded_completed: int
    priced: int  # of which it is known what they would have cost more
    micros_more: int | None  # all of these together
    spread: float | None  # the standard deviation of what each would have cost more, in millionths of a dollar

    @property
    def figures(self) -> dict[str, Figure]:
        """The same as rates and a mean, each with its 95 % interval and samples."""
        return {
            "changed": rate(self.changed, self.known),
            "completed": rate(self.completed, self.known),
            "recorded_completed": rate(self.recorded_completed, self.known),
            "dollars_more": self._dollars_more(),
        }

    def _dollars_more(self) -> Figure:
        if self.micros_more is None:
            return Figure(None, None, None, 0)
        mean = self.micros_more / self.priced / MICROS
        if self.spread is None or (self.spread == 0 and self.priced < AGREED):
            return Figure(mean, None, None, self.priced)  # too few to show how they vary
        half = student_quantile(0.975, self.priced - 1) * self.spread / sqrt(self.priced) / MICROS
        return Figure(mean, mean - half, mean + half, self.priced)


@dataclass(frozen=True, slots=True)
class ShadowStarted(Fact):
    """A version is shown a share of a deployment's inputs, without effects."""

    key_field: ClassVar[str] = "deployment_id"
    deployment_id: str
    version: str
    percent: int
    live: bool
    started_by: str


@dataclass(frozen=True, slots=True)
class ShadowEnded(Fact):
    """A version is shown nothing any more."""

    key_field: ClassVar[str] = "deployment_id"
    deployment_id: str
    version: str
    ended_by: str
