"""A unit of work: one transaction in one organization, with the facts that it published.

Doors (routes, activities, consumers) open it; services receive it and never commit.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import structlog
from sqlalchemy import Executable, Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from agentos.kernel.database import Database
from agentos.kernel.facts import Fact
from agentos.kernel.ids import OrgId
from agentos.kernel.outbox import write

log = structlog.get_logger(__name__)

Hint = Callable[[OrgId, Sequence[Fact]], Awaitable[None]]

_ORGANIZATION = text("SELECT set_config('agentos.organization', :org, true)")


class UnitOfWork:
    """One transaction in one organization. Row-level security shows it that organization's rows and no others."""

    def __init__(self, connection: AsyncConnection, organization: OrgId) -> None:
        self.organization = organization
        self.facts: list[Fact] = []
        self._connection = connection

    async def all(self, statement: Executable, values: Mapping[str, Any] | None = None) -> Sequence[Row[Any]]:
        """Every row of a statement."""
        return (await self._connection.execute(statement, values)).all()

    async def first(self, statement: Executable, values: Mapping[str, Any] | None = None) -> Row[Any] | None:
        """The first row of a statement, if there is one."""
        return (await self._connection.execute(statement, values)).first()

    async def run(self, statement: Executable, values: Mapping[str, Any] | None = None) -> int:
        """Execute a statement for its effect; the number of rows that it touched."""
        return (await self._connection.execute(statement, values)).rowcount

    async def driver(self) -> Any:
        """The driver's connection within this very transaction, for what only the driver does fast."""
        return (await self._connection.get_raw_connection()).driver_connection

    async def publish(self, fact: Fact) -> None:
        """Write a fact to the outbox in this very transaction. Lock the fact's aggregate first: that is its order."""
        await write(self._connection, self.organization, fact)
        self.facts.append(fact)


class Doors:
    """Opens units of work, and after each commit hands its facts to ``hint``, which may act on them at once.

    A hint that fails costs nothing but time: the consumers of the outbox do the same work again.
    """

    def __init__(self, database: Database, hint: Hint | None = None) -> None:
        self.database = database
        self.hint = hint

    @asynccontextmanager
    async def open(self, organization: OrgId) -> AsyncIterator[UnitOfWork]:
        """A unit of work in this organization: committed when the block ends, rolled back when it raises.

        Raises DatabaseUnavailable or DiskFull (Unavailable).
        """
        async with self.database.connection("agentos_app") as connection:
            await connection.execute(_ORGANIZATION, {"org": organization})
            work = UnitOfWork(connection, organization)
            yield work
        await self.tell(organization, work.facts)

    async def tell(self, organization: OrgId, facts: Sequence[Fact]) -> None:
        """Hand facts that were just committed to ``hint``. Never raises."""
        if self.hint is None or not facts:
            return
        try:
            await self.hint(organization, facts)
        except Exception as error:  # the outbox's consumers make good what the hint could not do
            log.warning("hint_failed", error=type(error).__name__, facts=[fact.name for fact in facts])
