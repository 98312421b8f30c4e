"""Stops in the database."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Row, text

from agentos.control.stops.model import Stop, StopKind, StopScope
from agentos.kernel.unit_of_work import UnitOfWork

_COLUMNS: Final = "org, id, kind, scope, target, reason, ordered_by, ordered_at, lifted_by, lifted_at"
_IN_FORCE: Final = text(f"SELECT {_COLUMNS} FROM stops WHERE lifted_at IS NULL ORDER BY id")  # noqa: S608  # constants


async def in_force(work: UnitOfWork) -> list[Stop]:
    """Every stop of the organization, and of every organization, that is not lifted."""
    return [_read(row) for row in await work.all(_IN_FORCE, {})]


def _read(row: Row[Any]) -> Stop:
    values = dict(row._mapping)
    values["organization"] = values.pop("org")
    return Stop(**values | {"kind": StopKind(row.kind), "scope": StopScope(row.scope)})
