"""What the supervisor is told about a service: data and a few functions, the same for an engine, an API or a fake."""

from __future__ import annotations

import hashlib
import json
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


async def _nothing() -> None: ...


@dataclass(frozen=True)
class Service:
    """One process to keep alive. Services of a lower rank start first and stop last."""

    name: str
    command: tuple[str, ...]
    ready: Callable[[], Awaitable[bool]]
    rank: int = 0
    env: Mapping[str, str] = field(default_factory=dict)
    inherits: bool = (
        True  # the supervisor's environment; engines get none of it, as PG* and TEMPORAL_* would change them
    )
    cwd: Path | None = None
    ports: Mapping[str, int] = field(default_factory=dict)  # the first is the one that people connect to
    before: Callable[[], None] = lambda: None  # in a thread before every start: make data, clear what a crash left
    provision: Callable[[], Awaitable[None]] = _nothing  # once per supervisor, as soon as it is ready
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 10

    @property
    def recipe(self) -> str:
        """Digest of command and environment: a running service of another recipe is replaced, not adopted."""
        made_of = json.dumps([self.command, sorted(self.env.items()), str(self.cwd)])
        return hashlib.sha256(made_of.encode()).hexdigest()


@dataclass(frozen=True)
class Job:
    """A command that must succeed before the services of the platform start."""

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    says: str = ""


@dataclass(frozen=True)
class Given:
    """A service that somebody else runs: only asked whether it is there."""

    name: str
    address: str
    ready: Callable[[], Awaitable[bool]]
    variable: str


@dataclass(frozen=True)
class Plan:
    """Everything that shall run, and in which order: engines, jobs, platform."""

    engines: tuple[Service, ...] = ()
    given: tuple[Given, ...] = ()
    jobs: tuple[Job, ...] = ()
    platform: tuple[Service, ...] = ()
    api: str = ""  # address for people

    @property
    def services(self) -> tuple[Service, ...]:
        """All services in the order of their start."""
        return (*self.engines, *self.platform)
