"""Found the first organization and give its first people their keys: ``python -m agentos.apps.bootstrap``.

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
from agentos.intake.identity import service
from agentos.kernel.database import Database
from agentos.kernel.ids import OrgId
from agentos.kernel.settings import DatabaseSettings
from agentos.kernel.unit_of_work import Doors

ORGANIZATION: Final = OrgId("main")
PEOPLE: Final = ("admin", "author", "approver")  # the first acts by default; the others show that two are needed


async def bootstrap(home: Path, database: Database) -> bool:
    """Make sure that the organization, its people and their keys exist. True when it made them."""
    file = credentials_file(home)
    await service.found_organization(database, ORGANIZATION, name="Main organization")
    keys: dict[str, str] = json.loads(file.read_text())["keys"] if file.exists() else {}
    missing = [handle for handle in PEOPLE if handle not in keys]
    if missing:
        async with Doors(database).open(ORGANIZATION) as work:
            for handle in missing:
                keys[handle] = await service.give_key(work, handle)
        descriptor = os.open(file.with_suffix(".new"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as opened:
            json.dump({"organization": ORGANIZATION, "keys": keys}, opened, indent=2)
        file.with_suffix(".new").replace(file)
    return bool(missing)


async def main() -> None:
    """Bootstrap with the settings of the environment."""
    AppSettings.read()
    database = Database(DatabaseSettings.read())
    try:
        await bootstrap(Path(os.environ.get("AGENTOS_HOME", ".agentos")), database)
    finally:
        await database.close()


if __name__ == "__main__":
    asyncio.run(main())
