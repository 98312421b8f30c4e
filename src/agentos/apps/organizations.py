"""Organizations as the operator at the machine makes them: with the database's login, past the API and its keys."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from agentos.apps.bootstrap import give_key
from agentos.apps.client import NotRunning
from agentos.apps.embedded.home import LEDGER_KEY, Home
from agentos.apps.embedded.plan import database_url
from agentos.apps.embedded.settings import EmbeddedSettings
from agentos.intake.identity import service
from agentos.intake.identity.model import Role
from agentos.kernel.database import Database
from agentos.kernel.errors import Conflict
from agentos.kernel.ids import OrgId
from agentos.kernel.settings import DatabaseSettings
from agentos.kernel.unit_of_work import Doors

T = TypeVar("T")


class OrganizationKnown(Conflict):
    """There is an organization of that id already."""

    code = "organization_known"


def every_organization() -> list[dict[str, Any]]:
    """Every organization. Raises NotRunning or DatabaseUnavailable (Unavailable)."""
    return with_database(service.organizations)


def add_organization(organization: str, *, name: str, admin: str) -> dict[str, Any]:
    """Create an organization and its first admin; their key is returned here once.

    Raises MalformedId (Invalid), OrganizationKnown (Conflict), NotRunning or DatabaseUnavailable (Unavailable).
    """

    async def add(database: Database) -> dict[str, Any]:
        if not await service.found_organization(database, OrgId(organization), name=name):
            raise OrganizationKnown(f"there is an organization '{organization}' already", then="Choose another id.")
        async with Doors(database).open(OrgId(organization)) as work:
            secret = await give_key(work, admin, Role.ADMIN)
        return {"organization": organization, "name": name, "admin": admin, "secret": secret}

    return with_database(add)


def with_database(use: Callable[[Database], Awaitable[T]]) -> T:
    """What ``use`` gives back with the platform's database. Raises NotRunning or DatabaseUnavailable (Unavailable)."""
    settings = DatabaseSettings.read()
    if not settings.url.get_secret_value():
        embedded = EmbeddedSettings.read()
        url = database_url(Home(embedded.home), embedded)
        if not url:
            raise NotRunning(f"no platform was started out of {embedded.home}", then="Start it with 'agentos up'.")
        key = settings.ledger_key or str(Home(embedded.home).path / LEDGER_KEY)
        settings = DatabaseSettings.read(url=url, ledger_key=key)

    async def work() -> T:
        database = Database(settings)
        try:
            return await use(database)
        finally:
            await database.close()

    return asyncio.run(work())
