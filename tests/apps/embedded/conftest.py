"""Homes with real engines and small stand-ins for the platform's programs; nothing outlives its test."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from agentos.apps.embedded import process, verbs
from agentos.apps.embedded.home import Home, ServiceState, State

HERE = Path(__file__).parent


class Stack:
    """A home and what people do with it, as a test says it."""

    def __init__(self, path: Path) -> None:
        self.home = Home(path)
        self.said: list[str] = []

    def up(self, workers: int | None = None) -> State:
        return verbs.up(self.home, workers=workers, say=self.said.append)

    def down(self) -> list[str]:
        return verbs.down(self.home, say=self.said.append)

    def entry(self, name: str) -> ServiceState:
        return next(entry for entry in self.home.state().services if entry.name == name)

    def pids(self) -> dict[str, int | None]:
        return {row["service"]: row["pid"] for row in verbs.ps(self.home)}

    def kill(self, name: str) -> float:
        """SIGKILL a service and wait until the next one serves: how long that took."""
        before = self.entry(name)
        assert before.identity and process.send(before.identity, signal.SIGKILL)
        began = time.monotonic()

        def back() -> bool:
            now = self.entry(name)  # one read: state and process of the same moment
            return now.state == "running" and now.identity not in (None, before.identity)

        self.until(back)
        return time.monotonic() - began

    def kill_supervisor(self) -> None:
        who = self.home.state().supervisor
        assert process.send(who, signal.SIGKILL) and process.wait(who, 10)

    def until(self, holds: Callable[[], bool], seconds: float = 30) -> None:
        limit = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < limit, f"not in time; the supervisor said: {self.said}"
            time.sleep(0.01)

    def processes(self) -> list[str]:
        memory = self.home.memory()
        return sorted(name for _, name in process.belonging(memory.id)) if memory else []


def quiet_environment(patch: pytest.MonkeyPatch) -> None:
    for name in (
        "DATABASE_URL",
        "TEMPORAL_ADDRESS",
        "AGENTOS_API_PORT",
        "AGENTOS_POSTGRES_ISOLATION",
        "AGENTOS_WORKERS",
    ):
        patch.delenv(name, raising=False)
    patch.setattr(verbs, "DAEMON", (sys.executable, str(HERE / "small_daemon.py")))


def made() -> Iterator[Stack]:
    """A stack in a checkout whose parent is closed to everybody else."""
    parent = Path(
        tempfile.mkdtemp(prefix="agentos-stack-")
    )  # 0700; not tmp_path, whose root's folders no other may enter
    stack = Stack(parent / "checkout" / ".agentos")
    yield stack
    if stack.home.path.exists():
        stack.down()
        assert stack.processes() == []
    shutil.rmtree(parent)


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """A home of this test, not started."""
    quiet_environment(monkeypatch)
    yield from made()


@pytest.fixture(scope="module")
def served() -> Iterator[Stack]:
    """A running stack that the tests of a module share."""
    with pytest.MonkeyPatch.context() as patch:
        quiet_environment(patch)
        for stack in made():
            stack.up()
            yield stack


class CommandLine:
    """The command line as a process of its own, for a home, behind a prefix such as unshare."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def start(self, *words: str, prefix: Sequence[str] = (), **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*prefix, sys.executable, "-B", str(HERE / "small_cli.py"), *words],
            env={**os.environ, "AGENTOS_HOME": str(self.home), **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *words: str, prefix: Sequence[str] = (), **env: str) -> tuple[int, str, str]:
        running = self.start(*words, prefix=prefix, **env)
        out, err = running.communicate(timeout=90)
        return running.returncode, out, err


@pytest.fixture
def agentos(stack: Stack) -> CommandLine:
    """The command line for the home of this test."""
    return CommandLine(stack.home.path)


@pytest.fixture
def untouched(stack: Stack) -> Iterator[None]:
    """Mode and owner of every folder above the home are the same before and after."""

    def found() -> dict[Path, tuple[int, int, int]]:
        above = [path for path in stack.home.path.parents if path.exists()]
        return {path: (path.stat().st_mode, path.stat().st_uid, path.stat().st_gid) for path in above}

    before = found()
    yield
    assert before.items() <= found().items()
