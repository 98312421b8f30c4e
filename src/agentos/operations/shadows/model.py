"""A shadow, what came of the runs that it was shown, and its facts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from agentos.kernel.errors import NotFound
from agentos.kernel.facts import Fact


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
    micros_more: int | None


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
