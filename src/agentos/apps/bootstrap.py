"""Found the first organization, give its first people their keys, and make the keys that sign and seal.

``python -m agentos.apps.bootstrap``, as a job of 'agentos up'.

The keys are written to AGENTOS_HOME/credentials (0600), from where the command line reads them. Doing it again changes
nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Final

from agentos.apps.home import credentials_file
from agentos.apps.settings import AppSettings
from agentos.evidence.ledger import service as ledger
from agentos.intake.identity import service
from agentos.intake.identity.model import PersonUnknown, Role
from agentos.kernel import seals
from agentos.kernel.clock import now
from agentos.kernel.database import Database
from agentos.kernel.ids import OrgId
from agentos.kernel.settings import DatabaseSettings, SigningSettings
from agentos.kernel.signing import make_key
from agentos.kernel.unit_of_work import Doors, UnitOfWork

ORGANIZATION: Final = OrgId("main")
# The first acts by default; the others show that it takes two.
PEOPLE: Final = {"admin": Role.ADMIN, "author": Role.OPERATOR, "approver": Role.APPROVER}


async def bootstrap(home: Path, database: Database) -> bool:
    """Make sure that the organization, its people and their keys exist. True when it made them."""
    file = credentials_file(home)
    await service.found_organization(database, ORGANIZATION, name="Main organization", by="bootstrap")
    keys: dict[str, str] = json.loads(file.read_text())["keys"] if file.exists() else {}
    missing = [handle for handle in PEOPLE if handle not in keys]
    if missing:
        async with Doors(database).open(ORGANIZATION) as work:
            for handle in missing:
                keys[handle] = await give_key(work, handle, PEOPLE[handle])
        descriptor = os.open(file.with_suffix(".new"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as opened:
            json.dump({"organization": ORGANIZATION, "keys": keys}, opened, indent=2)
        file.with_suffix(".new").replace(file)
    return bool(missing)


async def give_key(work: UnitOfWork, handle: str, role: Role) -> str:
    """Make sure that the person exists and give them a new key, which is returned here once and kept as a hash."""
    try:
        await service.person(work, handle)
    except PersonUnknown:
        await service.add_person(work, handle, role, by="bootstrap")
    _, secret = await service.create_key(
        work, handle=handle, machine=None, scopes=None, lasts=None, by="bootstrap", at=now()
    )
    return secret


async def make_ledger_key(settings: DatabaseSettings) -> None:
    """Make sure that there is a key of the ledger; never another one than its chains were made with.

    Raises LedgerKeyLost (Conflict), DatabaseUnavailable.
    """
    file = Path(settings.ledger_key)
    if not await asyncio.to_thread(file.exists):
        database = Database(settings.model_copy(update={"ledger_key": ""}))
        try:
            chains = len((await ledger.standing(database, None))["chains"])
        finally:
            await database.close()
        if chains:
            raise seals.LedgerKeyLost(
                f"the key of the ledger's {chains} chains is not there",
                where=str(file),
                then="Put its copy there. To go on without it, begin a new ledger: see docs/audit.md, 'A lost key'.",
            )
    seals.make_key(file)


async def main() -> None:
    """Bootstrap with the settings of the environment."""
    AppSettings.read()
    if key := SigningSettings.read().key:
        make_key(Path(key))
    settings = DatabaseSettings.read()
    if settings.ledger_key:
        await make_ledger_key(settings)
    database = Database(settings)
    try:
        await bootstrap(Path(os.environ.get("AGENTOS_HOME", ".agentos")), database)
    finally:
        await database.close()


if __name__ == "__main__":
    asyncio.run(main())
