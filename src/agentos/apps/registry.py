"""The registry of skills put back by the operator at the machine: with the database's login, past the API."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from agentos.apps.organizations import with_database
from agentos.apps.settings import RegistrySettings
from agentos.intake.identity.service import OPERATOR
from agentos.kernel.database import Database
from agentos.runtime.skills import registered
from agentos.runtime.skills.model import Registered


def restore(rows: Sequence[Registered], *, dry_run: bool) -> list[dict[str, Any]]:
    """Put back what is missing or damaged, all or none, and say what became of each row.

    Raises RegistryDiffers or RegistryReadOnly (Conflict), NotRunning or DatabaseUnavailable (Unavailable).
    """
    read_only = RegistrySettings.read().read_only

    async def put_back(database: Database) -> list[dict[str, Any]]:
        done = await registered.restore(database, rows, read_only=read_only, dry_run=dry_run, by=OPERATOR)
        return [asdict(one) for one in done]

    return with_database(put_back)
