"""PostgreSQL with three roles, reached so that no statement ever runs as the login role.

``agentos_app`` runs every use case under forced row-level security; ``agentos_system`` may only call named functions;
``agentos_owner`` migrates. The login role inherits nothing and each connection says ``SET ROLE`` as it is made.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any, Final, Literal

import asyncpg
from sqlalchemy import MetaData, event, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, PendingRollbackError, ResourceClosedError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from agentos.kernel.errors import AgentOSError, Invalid, Unavailable
from agentos.kernel.group_commit import LANES, GroupCommit
from agentos.kernel.seals import LedgerKeys
from agentos.kernel.settings import DatabaseSettings

Role = Literal["agentos_app", "agentos_system", "agentos_owner"]

SCHEMA: Final = "agentos"
metadata: Final = MetaData(schema=SCHEMA)  # every feature's tables.py adds to it

# Each consumer of facts, the chainer and the sweeper hold a connection with their lock while they work with another:
# eleven readers, the look that wakes them, the chainer, the sweeper and the two senders must never wait in a circle.
SYSTEM_POOL: Final = 27

CLOSE_SECONDS: Final = 2.0  # for connections in use to come back before they are cut

# What a client is told to wait: an embedded PostgreSQL is back within a second after a crash, a failover takes longer,
# and asking a little too early costs one refused request.
RETRY_AFTER: Final = timedelta(seconds=2)

# SQLSTATE classes that mean "not now": connection, resources (disk full, too many connections), operator intervention,
# system error; and read-only after a failover.
_AWAY: Final = ("08", "53", "57", "58", "25006", "40", "XX000")


class DatabaseUnavailable(Unavailable):
    """PostgreSQL does not answer, or cannot take writes just now. Nothing was lost; the call may be tried again."""

    code = "database_unavailable"


class DiskFull(Unavailable):
    """PostgreSQL has no room left. What was committed is safe; new work waits until there is room."""

    code = "database_disk_full"


class TextNotStorable(Invalid):
    """A text holds a character that the database has no room for, such as NUL."""

    code = "text_not_storable"


class Database:
    """The connections of one process: a pool for use cases, a pool for system functions, and the driver's own pools.

    Connections are made when first needed, so a process starts, and says so, while the database is away. With a key of
    the ledger's, every fact that they write is sealed. Raises LedgerKeyMissing (Unavailable).
    """

    def __init__(self, settings: DatabaseSettings) -> None:
        self._settings = settings
        self._url = make_url(settings.url.get_secret_value()).set(drivername="postgresql+asyncpg")
        self.ledger_keys = LedgerKeys.load(settings.ledger_key) if settings.ledger_key else None
        self._server_settings = {"search_path": SCHEMA}
        if self.ledger_keys is not None:  # in the greeting of a connection, which no statement log shows
            self._server_settings["agentos.seal"] = self.ledger_keys.now.pads()
        self._app = self._engine("agentos_app", settings.pool_size)
        self._system = self._engine("agentos_system", SYSTEM_POOL)
        self._drivers: dict[Role, asyncpg.Pool[asyncpg.Record]] = {}
        self._making = asyncio.Lock()
        self.group = GroupCommit(self.driver, translated)  # of use cases
        self.lookups = GroupCommit(partial(self.driver, "agentos_system"), translated)  # of who comes with a key

    def _engine(self, role: Role, size: int) -> AsyncEngine:
        engine = create_async_engine(
            self._url,
            pool_size=size,
            max_overflow=0,
            pool_timeout=self._settings.acquire_seconds,
            connect_args={"timeout": self._settings.acquire_seconds, "server_settings": self._server_settings},
        )

        @event.listens_for(engine.sync_engine, "connect")
        def set_role(connection: Any, _record: Any) -> None:
            cursor = connection.cursor()
            cursor.execute(f"SET ROLE {role}")
            cursor.close()
            connection.commit()

        return engine

    @asynccontextmanager
    async def connection(self, role: Literal["agentos_app", "agentos_system"]) -> AsyncIterator[AsyncConnection]:
        """A transaction as this role: committed when the block ends, rolled back when it raises.

        Raises DatabaseUnavailable or DiskFull (Unavailable).
        """
        engine = self._app if role == "agentos_app" else self._system
        with translated():
            async with engine.begin() as connection:
                yield connection

    async def driver(
        self, role: Literal["agentos_app", "agentos_system"] = "agentos_app"
    ) -> asyncpg.Pool[asyncpg.Record]:
        """The driver's own pool as this role, for the hot paths. Raises DatabaseUnavailable."""
        async with self._making:
            if role not in self._drivers:
                with translated():
                    self._drivers[role] = await self._pool(role)
            return self._drivers[role]

    async def _pool(self, role: Role) -> asyncpg.Pool[asyncpg.Record]:
        async def set_role(connection: Any) -> None:
            await connection.execute(f"SET ROLE {role}")

        async def keep(_connection: Any) -> None:
            """Nothing to reset: the hot paths' settings are local to their statements."""

        return await asyncpg.create_pool(
            self._url.set(drivername="postgresql").render_as_string(hide_password=False),
            min_size=1,
            max_size=self._settings.pool_size if role == "agentos_app" else LANES,
            timeout=self._settings.acquire_seconds,
            command_timeout=30,
            init=set_role,
            reset=keep,
            server_settings=self._server_settings,
        )

    async def close(self) -> None:
        """Give back every connection."""
        await self._app.dispose()
        await self._system.dispose()
        for pool in self._drivers.values():
            try:
                await asyncio.wait_for(pool.close(), CLOSE_SECONDS)
            except TimeoutError:  # a connection is still in somebody's hands, or the server is gone
                pool.terminate()
        self._drivers.clear()


class translated:  # noqa: N801  # reads as a statement: with translated():
    """Turn the driver's errors that mean "not now" into Unavailable; leave every other error as it is."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is None or isinstance(error, AgentOSError):
            return
        if _unwrapped(error, _NO_TEXT):
            raise TextNotStorable("a text holds NUL or half a character", then="Leave it out.") from error
        away = unavailable(error)
        if away is not None:
            raise away from error


_NO_TEXT: Final = (asyncpg.CharacterNotInRepertoireError, asyncpg.UntranslatableCharacterError, UnicodeEncodeError)


def _unwrapped(error: BaseException, kinds: tuple[type[BaseException], ...]) -> bool:
    """Whether the error, or one that it was made of, is of these kinds."""
    one: BaseException | None = error
    while one is not None:
        if isinstance(one, kinds):
            return True
        one = getattr(one, "orig", None) or one.__cause__
    return False


def unavailable(error: BaseException) -> Unavailable | None:
    """The Unavailable that a database error stands for, or None when the error is a fault in the question."""
    cause: BaseException | None = error
    if isinstance(error, DBAPIError):
        cause = error.orig.__cause__ if error.orig is not None and error.orig.__cause__ else error.orig
        if error.connection_invalidated:
            return _away()
    if isinstance(cause, asyncpg.PostgresError):
        state = getattr(cause, "sqlstate", "") or ""
        if state == "53100":
            return DiskFull(
                "the database's disk is full", then="Free room on its volume.", retry_after=timedelta(seconds=30)
            )
        return _away() if state.startswith(_AWAY) else None
    if isinstance(
        cause, (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError, PoolTimeout, TimeoutError, ssl.SSLError)
    ):
        return _away()
    # The last two: the connection broke under the transaction, and the driver's own error came first.
    if isinstance(error, (OperationalError, InterfaceError, PendingRollbackError, ResourceClosedError)):
        return _away()
    return None


def _away() -> DatabaseUnavailable:
    return DatabaseUnavailable(
        "the database does not answer", then="Try again; see 'agentos status'.", retry_after=RETRY_AFTER
    )
