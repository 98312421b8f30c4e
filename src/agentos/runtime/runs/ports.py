"""What runs need from outside: models by policy, and secrets by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentos.control.agents.model import Version
from agentos.control.budgets.spending import Books
from agentos.control.policy.service import Rulebooks
from agentos.control.privacy.service import Privacy
from agentos.kernel.database import Database
from agentos.kernel.telemetry import Meter
from agentos.kernel.unit_of_work import Doors
from agentos.runtime.inference import Model
from agentos.runtime.inference.ports import Limiter, Models
from agentos.runtime.inference.router import Router
from agentos.runtime.inference.settings import RouterSettings
from agentos.runtime.inference.standings import Board
from agentos.runtime.runs.halts import Halts
from agentos.runtime.runs.settings import RunSettings
from agentos.runtime.skills import Registry


@dataclass(slots=True)
class Parts:
    """What a process that executes runs is made of; put together once, in ``apps``."""

    doors: Doors
    registry: Registry
    models: Models
    settings: RunSettings
    meter: Meter
    secret: Callable[[str], str]
    roots: tuple[Path, ...]  # folders that skills may touch
    hosts: tuple[str, ...]  # hosts that skills may reach although their addresses are not public
    log_parameters: bool  # LOG_SKILL_PARAMS: parameters of skill calls may be logged
    versions: dict[tuple[str, str, str], Version]  # immutable, so a process keeps those that it has read
    rulebooks: Rulebooks = field(default_factory=Rulebooks)
    books: Books = field(default_factory=Books)  # caps and prices, as this process has read them
    privacy: Privacy = field(default_factory=Privacy)
    routing: RouterSettings = field(default_factory=RouterSettings.read)
    limiter: Limiter | None = None  # what all processes together may ask of providers
    board: Board | None = None  # how models do, as every process saw them last
    halts: Halts = field(init=False)  # what withholds action from the live segments of this process
    router: Router = field(init=False)

    def __post_init__(self) -> None:
        self.halts = Halts(self.rulebooks)
        self.router = Router(self, self.routing, self.meter, self.limiter, self.board)

    def for_policy(self, policy: dict[str, Any]) -> Model:
        """The model that a policy names. Raises ModelNotConfigured (Unavailable)."""
        return self.models.for_policy(policy)

    @property
    def database(self) -> Database:
        """The connections of this process."""
        return self.doors.database
