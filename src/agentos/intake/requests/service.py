"""Carry out a request once per key, however often and however concurrently it is sent."""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import text

from agentos.kernel.errors import Invalid
from agentos.kernel.retention import Retention
from agentos.kernel.unit_of_work import UnitOfWork

MOST_KEY_LENGTH: Final = 255
# A caller that has not tried again within a week has another answer by now; after it the key is as new.
KEPT: Final = Retention("requests_forget", timedelta(days=7))


class KeyReused(Invalid):
    """The same Idempotency-Key came with another body."""

    code = "idempotency_key_reused"


_TAKE: Final = text(
    "INSERT INTO requests (org, key, body_digest, answer) VALUES (:org, :key, :digest, CAST(:answer AS jsonb)) "
    "ON CONFLICT (org, key) DO NOTHING"
)
_GIVEN: Final = text("SELECT body_digest, answer FROM requests WHERE key = :key")


async def once(
    work: UnitOfWork, key: str, body_digest: str, answer: dict[str, Any], *, alike: Collection[str] = ()
) -> tuple[dict[str, Any], bool]:
    """Take the key for this body: ``(answer, True)`` the first time, the first answer and False ever after.

    A twin that runs at the same time waits for the first to commit. ``alike``: digests that the same body may have had
    before. Raises KeyReused (Invalid) for another body.
    """
    values = {"org": work.organization, "key": key, "digest": body_digest, "answer": json.dumps(answer)}
    if await work.run(_TAKE, values):
        return answer, True
    row = await work.first(_GIVEN, {"key": key})
    if row is None or row.body_digest not in {body_digest, *alike}:
        raise KeyReused("this Idempotency-Key was used with another body", then="Use a new key for a new request.")
    return dict(row.answer), False
