"""The chain that is no organization's, verified by the operator at the machine: with the database's login."""

from __future__ import annotations

from typing import Any

from agentos.apps.embedded.home import LEDGER_ANCHORS, Home
from agentos.apps.embedded.settings import EmbeddedSettings
from agentos.apps.organizations import with_database
from agentos.apps.settings import LedgerSettings
from agentos.evidence.ledger.anchors import Anchors
from agentos.evidence.ledger.routes import Looking, verified
from agentos.intake.identity.refusals import NOBODYS
from agentos.intake.identity.service import OPERATOR
from agentos.kernel.database import Database
from agentos.kernel.seals import LedgerKeys
from agentos.kernel.settings import DatabaseSettings
from agentos.kernel.unit_of_work import Doors


def verified_of_nobody(cursor: str) -> dict[str, Any]:
    """One part of it verified, as the API tells of an organization's.

    Raises BadCursor (Invalid), LedgerKeyMissing, AnchorsUnusable, NotRunning or DatabaseUnavailable (Unavailable).
    """
    folder = LedgerSettings.read().anchors
    if not folder and not DatabaseSettings.read().url.get_secret_value():
        folder = str(Home(EmbeddedSettings.read().home).path / LEDGER_ANCHORS)

    async def part(database: Database) -> dict[str, Any]:
        keys = database.ledger_keys or LedgerKeys.load("")
        anchors = Anchors(folder, keys) if folder else None
        asked = Looking(cursor=cursor, most=200_000)
        return await verified(Doors(database), NOBODYS, keys, anchors, asked, by=OPERATOR)

    return with_database(part)
