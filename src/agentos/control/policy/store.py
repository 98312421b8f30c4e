"""Policies in the database: every one that was ever saved, the highest number of a scope being in force."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, text

from agentos.control.policy.model import Saved
from agentos.kernel.unit_of_work import UnitOfWork

_COLUMNS: Final = "scope, number, hash, document, reason, saved_by, saved_at"
_ALONE: Final = text("SELECT pg_advisory_xact_lock(hashtextextended('policies ' || :org || ' ' || :scope, 0))")
# ruff: noqa: S608 -- the statements are put together from the constants above and nothing else
_PRESENT: Final = text(
    f"SELECT DISTINCT ON (scope) {_COLUMNS} FROM policies WHERE scope = ANY(CAST(:scopes AS text[])) "
    "ORDER BY scope, number DESC"
)
_HISTORY: Final = text(
    f"SELECT {_COLUMNS} FROM policies WHERE scope = :scope "
    "AND (CAST(:before AS integer) IS NULL OR number < :before) ORDER BY number DESC LIMIT :most"
)
_ADD: Final = text(
    "INSERT INTO policies (org, scope, number, hash, document, reason, saved_by, saved_at) "
    "VALUES (:org, :scope, :number, :hash, CAST(:document AS jsonb), :reason, :by, :at)"
)


async def alone(work: UnitOfWork, scope: str) -> None:
    """Nobody else saves a policy of this scope until the unit of work ends."""
    await work.first(_ALONE, {"org": work.organization, "scope": scope})


async def present(work: UnitOfWork, scopes: Sequence[str]) -> dict[str, Saved]:
    """The policies that are in force, by scope; a scope that never had one is left out."""
    return {row.scope: _read(row) for row in await work.all(_PRESENT, {"scopes": list(scopes)})}


async def history(work: UnitOfWork, scope: str, before: int | None, most: int) -> list[Saved]:
    """What was in force in a scope, newest first."""
    return [_read(row) for row in await work.all(_HISTORY, {"scope": scope, "before": before, "most": most})]


async def add(
    work: UnitOfWork, scope: str, number: int, name: str, document: dict[str, Any], reason: str, by: str, at: datetime
) -> None:
    """Put a policy in force in a scope that this unit of work has for itself."""
    values = {"scope": scope, "number": number, "hash": name, "document": json.dumps(document), "reason": reason}
    await work.run(_ADD, {"org": work.organization, **values, "by": by, "at": at})


def _read(row: Row[Any]) -> Saved:
    return Saved(**row._mapping)
