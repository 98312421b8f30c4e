"""Temporal from the wheel: its development server on loopback, kept in one SQLite file.

It is the engine of one machine; its makers call it "not for production", where a cluster is given by TEMPORAL_ADDRESS.
With synchronous=NORMAL a power loss can take its last commits, and the file itself may be lost: the journal is the
truth, and the platform's sweeper starts again what Temporal forgot.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from agentos.apps.embedded import ports, probe, process
from agentos.apps.embedded.service import Service

DYNAMIC: Final[Mapping[str, str]] = {
    # Three activities fall from 193 to 77 ms with these two; the defaults of 20 polls a second suit a cluster.
    "history.transferProcessorMaxPollRPS": "1000",
    "history.timerProcessorMaxPollRPS": "1000",
    "frontend.enableServerVersionCheck": "false",  # it would ask its makers for news
}
PRAGMAS: Final[Mapping[str, str]] = {"journal_mode": "WAL", "synchronous": "NORMAL"}  # the default mode is 10x slower


def binary() -> str:
    """The program ``temporal``: the one installed beside this Python. Raises ProgramMissing (Unavailable)."""
    beside = Path(sys.executable).parent / "temporal"
    return str(beside) if beside.exists() else process.program("temporal")


@dataclass(frozen=True)
class Server:
    """A Temporal server: where its file lies and on which ports it listens."""

    folder: Path
    port: int
    http_port: int
    metrics_port: int
    log: Path
    stack: str = ""
    search_attributes: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def temporary(cls, folder: Path, *, search_attributes: Mapping[str, str] | None = None) -> Self:
        """A server for tests and benchmarks in an existing private folder, on free ports."""
        chosen = ports.Ports({})
        return cls(
            folder=folder,
            port=chosen.take("temporal"),
            http_port=chosen.take("temporal_http"),
            metrics_port=chosen.take("temporal_metrics"),
            log=folder / "temporal.log",
            search_attributes=search_attributes or {},
        )

    @property
    def address(self) -> str:
        """Where clients connect."""
        return f"127.0.0.1:{self.port}"

    @property
    def file(self) -> Path:
        """The SQLite file."""
        return self.folder / "temporal.db"

    def command(self, *, die_with_parent: bool = False) -> tuple[str, ...]:
        """The server's command."""
        words = [
            *(process.dies_with_parent() if die_with_parent else ()),
            binary(),
            "server",
            "start-dev",
            "--ip",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--headless",
        ]
        words += ["--db-filename", str(self.file), "--metrics-port", str(self.metrics_port)]
        words += ["--http-port", str(self.http_port), "--log-level", "warn", "--log-format", "json"]
        for flag, values in (
            ("--sqlite-pragma", PRAGMAS),
            ("--dynamic-config-value", DYNAMIC),
            ("--search-attribute", self.search_attributes),
        ):
            for name, value in values.items():
                words += [flag, f"{name}={value}"]
        return tuple(words)

    @property
    def env(self) -> dict[str, str]:
        """A small environment: no configuration of the caller, no question for news."""
        return {
            "PATH": os.defpath,
            "HOME": str(self.folder),
            "TEMPORAL_VERSION_CHECK_DISABLED": "1",
            process.STACK: self.stack,
            process.SERVICE: "temporal",
        }

    def service(self, *, die_with_parent: bool = False) -> Service:
        """The server as a service, for the supervisor or for ``standalone``."""
        return Service(
            name="temporal",
            command=self.command(die_with_parent=die_with_parent),
            ready=self.ready,
            rank=1,
            env=self.env,
            inherits=False,
            ports={"temporal": self.port, "temporal_http": self.http_port, "temporal_metrics": self.metrics_port},
            before=self.prepare,
        )

    def prepare(self) -> None:
        """Clear what a lost file left beside it: a log of writes belongs to its file and to no new one."""
        if not self.file.exists():
            for rest in ("-wal", "-shm"):
                self.file.with_name(self.file.name + rest).unlink(missing_ok=True)

    async def ready(self) -> bool:
        """Whether the front end answers for the default namespace."""
        return await probe.http(self.http_port, "/api/v1/namespaces/default")
