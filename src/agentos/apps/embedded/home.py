"""The home folder holds everything of a stack and nothing is changed outside it.

    stack.json       id, passwords, chosen ports (0600); written once, ports may change
    desired.json     what people asked for: the number of workers
    state.json       what the supervisor has running; anyone of the same user may read it
    signing-key.pem  what signs receipts and proofs (0600); made once
    ledger.key       what seals facts and chains the ledger (0600); made once
    ledger-anchors/  the ends of the ledger's chains, appended every few seconds
    postgres/ temporal/ logs/
    compiled/        Python's compiled modules, only where it may not write them beside the sources
    up.lock          held by an `up` that starts the stack
    supervisor.lock  held by the supervisor for its life

The folder is private (0700). Files are replaced in one step, so a reader never sees half of one.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec

from agentos.apps.embedded.process import Identity
from agentos.kernel.errors import Conflict, Exhausted, Forbidden

_T = TypeVar("_T")

# An empty PostgreSQL 18 cluster with its first WAL takes 55 MB, Temporal's file 10 MB; the rest is room to run.
NEEDED_BYTES = 200_000_000

LEDGER_KEY = "ledger.key"
LEDGER_ANCHORS = "ledger-anchors"


class HomeUnusable(Forbidden):
    """The home folder cannot be made, read or written by this user."""

    code = "home_unusable"


class DiskFull(Exhausted):
    """No room is left where the home folder lies."""

    code = "home_disk_full"


class HomeDamaged(Conflict):
    """The home folder lacks what its data need, for example its passwords."""

    code = "home_damaged"


class Memory(msgspec.Struct, kw_only=True):
    """What a home remembers for ever: its id, its passwords, its ports and where its database lies."""

    id: str
    superuser_password: str
    login_password: str
    ports: dict[str, int] = {}
    database_folder: str = ""

    @classmethod
    def new(cls) -> Self:
        """A new home's memory, with random id and passwords that need no quoting anywhere."""
        words = [secrets.token_hex(6), secrets.token_urlsafe(24), secrets.token_urlsafe(24)]
        return cls(id=words[0], superuser_password=words[1], login_password=words[2])


class Desired(msgspec.Struct, kw_only=True):
    """What people asked for."""

    workers: int


class ServiceState(msgspec.Struct, kw_only=True):
    """One service as the supervisor sees it."""

    name: str
    state: str = "stopped"  # starting | running | restarting | stopping | stopped
    pid: int | None = None
    born: str = ""
    ports: dict[str, int] = {}
    restarts: int = 0
    since: str = ""
    recipe: str = ""  # digest of command and environment: another recipe is not adopted
    rank: int = 0
    stop_signal: int = 15
    stop_seconds: float = 10

    @property
    def identity(self) -> Identity | None:
        """The process of the service, if it has one."""
        return Identity(self.pid, self.born) if self.pid else None


class State(msgspec.Struct, kw_only=True):
    """The stack as the supervisor last wrote it."""

    phase: str = "stopped"  # starting | running | stopping | stopped | failed
    pid: int = 0
    born: str = ""
    api: str = ""
    given: dict[str, str] = {}  # services that somebody else runs, and their addresses
    progress: list[str] = []
    problem: dict[str, Any] | None = None
    services: list[ServiceState] = []

    @property
    def supervisor(self) -> Identity:
        """The process that wrote this."""
        return Identity(self.pid, self.born)


class Home:
    """A home folder. Making the object touches nothing; ``prepare`` makes the folder."""

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow a link that may move
        self.logs = self.path / "logs"
        self.postgres = self.path / "postgres"
        self.temporal = self.path / "temporal"
        self.up_lock = self.path / "up.lock"
        self.supervisor_lock = self.path / "supervisor.lock"
        self._memory = self.path / "stack.json"

    def log(self, name: str) -> Path:
        """Where that service, or the supervisor, writes."""
        return self.logs / f"{name}.log"

    def prepare(self) -> None:
        """Make the folder, private and writable, with room to run. Raises HomeUnusable, DiskFull. Idempotent."""
        with self._told():
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = self.path.stat()
            if found.st_uid != os.geteuid() and os.geteuid() != 0:
                raise HomeUnusable(
                    f"The home belongs to user {found.st_uid}, not to {os.geteuid()}",
                    where=str(self.path),
                    then="Set AGENTOS_HOME to another folder, or run as its owner.",
                )
            if found.st_mode & 0o077:
                if any(self.path.iterdir()) and not self._memory.exists():
                    raise HomeUnusable(
                        "The folder is open to others and was not made by AgentOS",
                        where=str(self.path),
                        then="Set AGENTOS_HOME to a new folder, or run: chmod 700 on this one.",
                    )
                self.path.chmod(0o700)
            for folder in (self.logs, self.postgres, self.temporal):
                folder.mkdir(mode=0o700, exist_ok=True)
            if not self._memory.exists() and shutil.disk_usage(self.path).free < NEEDED_BYTES:
                raise DiskFull(
                    f"Less than {NEEDED_BYTES // 1_000_000} MB are free",
                    where=str(self.path),
                    then="Free some space, or set AGENTOS_HOME to another disk.",
                )
            probe = self.path / f".probe.{os.getpid()}"
            probe.write_bytes(b"x" * 4096)
            probe.unlink()

    def memory(self) -> Memory | None:
        """What the home remembers; None for a new one. Raises HomeDamaged (Conflict)."""
        with self._told():
            if not self._memory.exists():
                if (self.postgres / "data").exists():
                    raise HomeDamaged(
                        "The passwords of this home are gone but its database exists",
                        where=str(self._memory),
                        then="Restore stack.json from a backup, or move the home folder away to begin anew.",
                    )
                return None
            try:
                return msgspec.json.decode(self._memory.read_bytes(), type=Memory)
            except msgspec.DecodeError:
                raise HomeDamaged(
                    "The file cannot be read as JSON", where=str(self._memory), then="Restore it from a backup."
                ) from None

    def remember(self, memory: Memory) -> None:
        """Keep what the home remembers, through a power loss."""
        with self._told():
            self._replace(self._memory, memory, durable=True)

    def state(self) -> State:
        """The last written state; an empty one if there is none. Who wrote it may be gone: ask process.alive."""
        return self._read("state.json", State) or State()

    def write_state(self, state: State) -> None:
        """Publish the state."""
        self._replace(self.path / "state.json", state)

    def desired(self) -> Desired | None:
        """What people asked for, if anybody did."""
        return self._read("desired.json", Desired)

    def want(self, desired: Desired) -> None:
        """Ask for something; the supervisor reads it when SIGUSR1 arrives and at its start."""
        with self._told():
            self._replace(self.path / "desired.json", desired)

    def _read(self, name: str, kind: type[_T]) -> _T | None:
        try:
            return msgspec.json.decode((self.path / name).read_bytes(), type=kind)
        except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
            return None  # a power loss may tear it; live services are found by their environment

    def _replace(self, path: Path, value: msgspec.Struct, *, durable: bool = False) -> None:
        new = path.with_name(f"{path.name}.{os.getpid()}.new")
        with open(new, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(msgspec.json.format(msgspec.json.encode(value), indent=1))
            if durable:
                file.flush()
                os.fsync(file.fileno())
        new.replace(path)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFull("The disk is full", where=str(self.path), then="Free some space.") from None
            raise HomeUnusable(
                f"The home cannot be used: {error.strerror or error}",
                where=str(error.filename or self.path),
                then="Set AGENTOS_HOME to a folder that you may write.",
            ) from None
