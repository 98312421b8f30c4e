"""Messages to people in the database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import DateTime, Row, bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection

from agentos.kernel.ids import NotificationId, OrgId, PersonId
from agentos.kernel.unit_of_work import UnitOfWork
from agentos.operations.notifications.model import (
    Answer,
    Claimed,
    Medium,
    Notification,
    NotificationKind,
    NotificationState,
)

_SHOWN: Final = (
    "SELECT n.id, n.kind, n.about, n.thread_id, p.handle AS person, n.channel, n.state, n.due_at, n.tries, "
    "n.last_try_at, n.reason, n.said, n.made_at, n.ended_at FROM notifications n JOIN people p ON p.id = n.person_id"
)
_QUEUE: Final = text(
    "INSERT INTO notifications (org, id, cause, kind, about, thread_id, message_id, person_id, channel) "
    "VALUES (:org, :id, :cause, :kind, :about, :thread_id, :message_id, :person_id, :channel) ON CONFLICT DO NOTHING"
)
_ASKED: Final = text(
    "SELECT DISTINCT person_id, channel FROM notifications WHERE about = :about AND kind <> 'answered' "
    "AND state <> 'moot'"
)
_RECEIPTS: Final = text(
    "SELECT receipt FROM notifications WHERE about = :about AND person_id = :person_id AND channel = :channel "
    "AND kind <> 'answered' AND receipt <> '' ORDER BY id"
)
_CLAIM: Final = text("SELECT * FROM notifications_claim(:claim, :most, :each, :seconds, :at)").bindparams(
    bindparam("at", type_=DateTime(timezone=True))
)
_LIST: Final = text(
    f"{_SHOWN} WHERE n.id > :after AND (:state = '' OR n.state = :state) AND (:about = '' OR n.about = :about) "
    "ORDER BY n.id LIMIT :most"
)
_LOCK: Final = text(f"{_SHOWN} WHERE n.id = :id FOR UPDATE OF n")
# What the channel took was sent, also when the lease had run out.
_END: Final = text(
    "UPDATE notifications SET state = :state, claim = NULL, due_at = :due_at, tries = tries + :counted, "
    "reason = :reason, said = :said, receipt = :receipt, ended_at = :ended_at "
    "WHERE id = :id AND state = 'pending' AND (claim = :claim OR :state = 'sent')"
)
_REVIVE: Final = text(
    "UPDATE notifications SET state = 'pending', claim = NULL, due_at = clock_timestamp(), tries = 0, "
    "first_try_at = NULL, ended_at = NULL WHERE id = :id"
)


async def queue(work: UnitOfWork, values: dict[str, Any]) -> bool:
    """Owe a message; False when it is owed already."""
    return bool(await work.run(_QUEUE, {"org": work.organization, "message_id": "", **values}))


async def asked(work: UnitOfWork, about: str) -> list[tuple[PersonId, Medium]]:
    """Who was asked about it, and by which channel."""
    return [(PersonId(row.person_id), Medium(row.channel)) for row in await work.all(_ASKED, {"about": about})]


async def receipts(work: UnitOfWork, one: Claimed) -> tuple[str, ...]:
    """What the channel calls the messages that have asked this person about it."""
    values = {"about": one.about, "person_id": one.person_id, "channel": one.channel.value}
    return tuple(row.receipt for row in await work.all(_RECEIPTS, values))


async def claim(
    connection: AsyncConnection, name: str, *, most: int, each: int, seconds: float, at: datetime | None
) -> Sequence[Claimed]:
    """Claim messages that are due; as the system role."""
    values = {"claim": name, "most": most, "each": each, "seconds": seconds, "at": at}
    return [
        Claimed(
            OrgId(row.org),
            NotificationId(row.id),
            NotificationKind(row.kind),
            row.about,
            row.thread_id,
            row.message_id,
            PersonId(row.person_id),
            Medium(row.channel),
            row.tries,
            row.first_try_at,
            row.claimed_at,
            name,
        )
        for row in (await connection.execute(_CLAIM, values)).all()
    ]


async def listed(work: UnitOfWork, state: str, about: str, after: str, most: int) -> list[Notification]:
    """Messages, oldest first."""
    values = {"state": state, "about": about, "after": after, "most": most}
    return [_shown(row) for row in await work.all(_LIST, values)]


async def get(work: UnitOfWork, notification_id: str) -> Notification | None:
    """One message, locked."""
    row = await work.first(_LOCK, {"id": notification_id})
    return _shown(row) if row else None


async def ended(
    work: UnitOfWork, one: Claimed, state: NotificationState, answer: Answer, *, due: datetime, at: datetime
) -> bool:
    """Write down what one try came to; False when the message is another worker's, or over."""
    values: dict[str, Any] = {"id": one.id, "claim": one.claim, "state": state.value, "due_at": due}
    values |= {
        "reason": answer.reason,
        "said": answer.said,
        "receipt": answer.receipt,
        "counted": 0 if answer.held else 1,
    }
    return bool(await work.run(_END, {**values, "ended_at": None if state is NotificationState.PENDING else at}))


async def revive(work: UnitOfWork, notification_id: str) -> None:
    """Owe a message anew."""
    await work.run(_REVIVE, {"id": notification_id})


def _shown(row: Row[Any]) -> Notification:
    kinds = {"id": NotificationId(row.id), "kind": NotificationKind(row.kind), "channel": Medium(row.channel)}
    return Notification(**{**row._mapping, **kinds, "state": NotificationState(row.state)})
