"""Epochs: a counter per scope, bumped by whatever withholds action, checked by whatever is about to act.

An effect's intent is journaled in a transaction that holds the epochs of every scope of its run with a share lock and
compares them with those its decision was made under. A bump therefore waits for intents that are being written, and no
intent is written under an old decision after the bump's commit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import text

from agentos.kernel.unit_of_work import UnitOfWork

GLOBAL: Final = "global"  # of every organization; written by the system role only
ORGANIZATION: Final = "organization"

_ENSURE: Final = text(
    "INSERT INTO epochs (org, scope) SELECT :org, unnest(CAST(:scopes AS text[])) ON CONFLICT DO NOTHING"
)
_BUMP: Final = text(
    "INSERT INTO epochs (org, scope, value) VALUES (:org, :scope, 1) "
    "ON CONFLICT (org, scope) DO UPDATE SET value = epochs.value + 1 RETURNING value"
)
_READ: Final = text("SELECT scope, value FROM epochs WHERE scope = ANY(CAST(:scopes AS text[]))")
_HOLD: Final = text("SELECT scope, value FROM epochs WHERE scope = ANY(CAST(:scopes AS text[])) FOR SHARE")


def deployment_scope(deployment_id: str) -> str:
    """The scope of one deployment."""
    return f"deployment:{deployment_id}"


def category_scope(category: str) -> str:
    """The scope of all agents of a category."""
    return f"category:{category}"


async def ensure(work: UnitOfWork, scopes: Sequence[str]) -> None:
    """Make sure that the organization's scopes have a row to lock. Doing it again changes nothing."""
    own = [scope for scope in scopes if scope != GLOBAL]
    await work.run(_ENSURE, {"org": work.organization, "scopes": own})


async def bump(work: UnitOfWork, scope: str) -> int:
    """Raise a scope's epoch: once this unit of work commits, nothing acts on a decision made before it."""
    row = await work.first(_BUMP, {"org": work.organization, "scope": scope})
    assert row is not None
    return int(row.value)


async def read(work: UnitOfWork, scopes: Sequence[str]) -> Mapping[str, int]:
    """The present epochs of these scopes."""
    return {row.scope: row.value for row in await work.all(_READ, {"scopes": list(scopes)})}


async def unmoved(work: UnitOfWork, seen: Mapping[str, int]) -> bool:
    """Whether these epochs are what was seen; if so, a bump of any waits until this unit of work has ended."""
    held = {row.scope: row.value for row in await work.all(_HOLD, {"scopes": list(seen)})}
    return held == dict(seen)
