"""The engines of a benchmark: PostgreSQL and Temporal from their wheels in a folder of their own, as ``agentos up``
starts them, with nothing made faster at the price of durability.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Final

import asyncpg

from agentos.apps.embedded import postgres, process, standalone, temporal

ROOT: Final = Path(__file__).parent.parent
PEERS: Final = ROOT / ".venv-peers" / "bin" / "python"


@dataclass(slots=True)
class Stack:
    """Running engines, a migrated database and an organization, and how processes find them."""

    folder: Path
    database: postgres.Server
    engine: temporal.Server
    env: dict[str, str]
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, name: str, *words: str, **env: str) -> subprocess.Popen[bytes]:
        """Start a process of the platform, ``python -m WORDS``; it ends with this one, its log is in the folder."""
        command = (*process.dies_with_parent(), sys.executable, "-m", *words)
        started = process.spawn(command, self.env | env, self.folder / f"{name}.log", cwd=ROOT)
        self.running.append(started)
        return started

    def stop(self, started: subprocess.Popen[bytes]) -> None:
        """Stop a process that was started here."""
        started.terminate()
        try:
            started.wait(10)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()
        self.running.remove(started)

    def key(self, handle: str) -> str:
        """The key of one of the first people."""
        return str(json.loads((self.folder / "credentials").read_text())["keys"][handle])

    async def new_database(self, name: str) -> str:
        """Another database on the same server; its URL."""
        admin = await asyncpg.connect(self.database.superuser_url)
        try:
            await admin.execute(f'CREATE DATABASE "{name}" OWNER "{postgres.LOGIN}"')
        finally:
            await admin.close()
        return f"{self.database.url.rpartition('/')[0]}/{name}"

    async def settings(self) -> dict[str, str]:
        """What the figures depend on."""
        connection = await asyncpg.connect(self.database.url)
        try:
            names = ("server_version", "fsync", "synchronous_commit", "wal_sync_method", "full_page_writes")
            database = {name: await connection.fetchval(f"SHOW {name}") for name in names}
            await connection.execute("CREATE TEMP TABLE floor (n int); DROP TABLE floor; CREATE TABLE floor (n int)")
            took = []
            for n in range(200):
                began = time.perf_counter()
                await connection.execute("INSERT INTO floor VALUES ($1)", n)
                took.append(time.perf_counter() - began)
            await connection.execute("DROP TABLE floor")
        finally:
            await connection.close()
        said = await asyncio.to_thread(
            subprocess.run, [temporal.binary(), "--version"], env=self.engine.env, capture_output=True, text=True
        )
        return {
            "PostgreSQL": ", ".join(f"{name}={value}" for name, value in database.items()),
            "one row and its commit": f"{median(took) * 1000:.2f} ms (median of {len(took)}, asyncpg, loopback)",
            "Temporal": f"{said.stdout.strip()}; SQLite "
            + ", ".join(f"{name}={value}" for name, value in temporal.PRAGMAS.items())
            + "; "
            + ", ".join(f"{name}={value}" for name, value in temporal.DYNAMIC.items()),
            "machine": f"{len(os.sched_getaffinity(0))} CPUs, load {os.getloadavg()[0]:.2f} at the start, "
            f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
            "AgentOS": ", ".join(f"{name} {version(name)}" for name in ("agentos", "asyncpg", "temporalio")),
        }


@asynccontextmanager
async def engines(**env: str) -> AsyncIterator[Stack]:
    """Start the engines, migrate, and found the organization; everything ends and goes with the block."""
    with TemporaryDirectory(prefix="agentos-bench-") as name:
        folder = Path(name)
        database, engine = postgres.Server.temporary(folder), temporal.Server.temporary(folder)
        services = [(one.service(die_with_parent=True), one.log) for one in (database, engine)]
        started = []
        stack = Stack(folder, database, engine, {})
        stack.env = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("AGENTOS_", "ANTHROPIC_"))},
            "AGENTOS_HOME": str(folder),
            "DATABASE_URL": database.url,
            "TEMPORAL_ADDRESS": engine.address,
            "AGENTOS_LEDGER_KEY": str(folder / "ledger.key"),
            "AGENTOS_LEDGER_ANCHORS": str(folder / "ledger-anchors"),
            **env,
        }
        try:
            for service, log in services:
                started.append((service, await standalone.start(service, log)))
            for job in ("migrate", "bootstrap"):
                done = await asyncio.to_thread(_finish, stack.start(job, f"agentos.apps.{job}"))
                if done:
                    raise RuntimeError((folder / f"{job}.log").read_text()[-2000:])
            yield stack
        finally:
            for one in list(stack.running):
                stack.stop(one)
            for service, process_ in reversed(started):
                standalone.stop(service, process_)


def _finish(job: subprocess.Popen[bytes]) -> int:
    return job.wait(60)


class Answering:
    """A process that answers questions in JSON, one a line: see ``peers/answering.py``."""

    def __init__(self, name: str, child: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.hello: dict[str, Any] = {}
        self._child = child
        self._log = log

    @classmethod
    async def begin(cls, name: str, command: list[str], stack: Stack, **env: str) -> Answering:
        """Start it and take its hello. Raises NoAnswer."""
        log = stack.folder / f"{name}.log"
        with log.open("ab") as errors:
            child = await asyncio.create_subprocess_exec(
                *process.dies_with_parent(),
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env=stack.env | env,
                cwd=ROOT,
                limit=2**24,
            )
        made = cls(name, child, log)
        try:
            made.hello = await made._answer(30)
        except BaseException:
            await made.end()
            raise
        return made

    async def ask(self, do: str, *, within: float = 180, **values: Any) -> Any:
        """The answer to a question. Raises NoAnswer."""
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps({"do": do, **values}).encode() + b"\n")
        await self._child.stdin.drain()
        return await self._answer(within)

    async def end(self) -> None:
        """End the process."""
        if self._child.returncode is None:
            self._child.kill()
            await self._child.wait()

    async def _answer(self, seconds: float) -> Any:
        assert self._child.stdout is not None
        try:
            line = await asyncio.wait_for(self._child.stdout.readline(), seconds)
        except TimeoutError:
            raise NoAnswer(f"no answer within {seconds:g} s") from None
        if not line:
            said = self._log.read_text().strip().splitlines() or ["it ended without a word"]
            raise NoAnswer(said[-1][:300])
        answer = json.loads(line)
        if isinstance(answer, dict) and "error" in answer:
            raise NoAnswer(answer["error"][:300])
        return answer


class NoAnswer(Exception):
    """A contender could not start or could not carry out what it was asked."""
