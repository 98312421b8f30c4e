"""Organizations' rules in the database."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Final

from sqlalchemy import text

from agentos.kernel.unit_of_work import UnitOfWork

_GET: Final = text("SELECT rules, changed_by, changed_at FROM privacy_rules WHERE org = :org")
_PUT: Final = text(
    "INSERT INTO privacy_rules (org, rules, changed_by, changed_at) VALUES (:org, CAST(:rules AS jsonb), :by, :at) "
    "ON CONFLICT (org) DO UPDATE SET rules = excluded.rules, changed_by = excluded.changed_by, "
    "changed_at = excluded.changed_at"
)


async def get(work: UnitOfWork) -> tuple[dict[str, Any], str, datetime] | None:
    """The organization's rules, who set them and when; None where it has none of its own."""
    row = await work.first(_GET, {"org": work.organization})
    return None if row is None else (row.rules, row.changed_by, row.changed_at)


async def put(work: UnitOfWork, rules: dict[str, Any], *, by: str, at: datetime) -> None:
    """Set the organization's rules."""
    await work.run(_PUT, {"org": work.organization, "rules": json.dumps(rules), "by": by, "at": at})
