"""Threads and messages in the database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from agentos.intake.inbox.model import Channel, Message, MessageKind, Thread, Workspace
from agentos.kernel.ids import MessageId, OrgId, PersonId, ThreadId
from agentos.kernel.unit_of_work import UnitOfWork

_THREAD: Final = "SELECT id, number, about, title, opened_by, opened_at, closed_at, alerted_at FROM inbox_threads"
_MESSAGE: Final = (
    "SELECT id, thread_id, kind, channel, author, person_id, body, about, approved, at, settled_at FROM inbox_messages"
)
# Numbers follow each other without a gap, and are short enough to be typed.
_ALONE: Final = text("SELECT pg_advisory_xact_lock(hashtextextended('inbox ' || :org, 0))")
_OPEN: Final = text(
    "INSERT INTO inbox_threads (org, id, number, about, title, opened_by) "
    "SELECT :org, :id, coalesce(max(number), 0) + 1, :about, :title, :by FROM inbox_threads"
)
_GET: Final = text(f"{_THREAD} WHERE id = :id")
_NUMBERED: Final = text(f"{_THREAD} WHERE number = :number")
_ABOUT: Final = text(f"{_THREAD} WHERE about = :about")
_LIST: Final = text(
    f"{_THREAD} WHERE number < :before AND (:state = '' OR (closed_at IS NULL) = (:state = 'open')) "
    "AND (:about = '' OR about = :about) ORDER BY number DESC LIMIT :most"
)
_CLOSE: Final = text("UPDATE inbox_threads SET closed_at = clock_timestamp() WHERE id = :id AND closed_at IS NULL")
_ALERT: Final = text("UPDATE inbox_threads SET alerted_at = clock_timestamp() WHERE id = :id")
_ADD: Final = text(
    "INSERT INTO inbox_messages (org, id, thread_id, kind, channel, author, person_id, body, about, approved, dedup) "
    "VALUES (:org, :id, :thread_id, :kind, :channel, :author, :person_id, :body, :about, :approved, :dedup) "
    "ON CONFLICT (org, dedup) DO NOTHING"
)
_MESSAGES: Final = text(f"{_MESSAGE} WHERE thread_id = :thread_id AND id > :after ORDER BY id LIMIT :most")
_ONE: Final = text(f"{_MESSAGE} WHERE id = :id")
_TEXTS: Final = text("SELECT id, body FROM inbox_messages WHERE id = ANY(:ids)")
_UNSETTLED: Final = text(f"{_MESSAGE} WHERE id = :id AND kind = 'answer' AND settled_at IS NULL FOR UPDATE")
_TAKEN: Final = text(f"{_MESSAGE} WHERE dedup = :dedup")
_ADDRESSES: Final = text("SELECT person_id, channel, address FROM people_addresses WHERE person_id = ANY(:people)")
_PERSON_AT: Final = text("SELECT person_id FROM people_addresses WHERE channel = :channel AND address = :address")
_REMOVE_ADDRESS: Final = text("DELETE FROM people_addresses WHERE person_id = :person_id AND channel = :channel")
_ADD_ADDRESS: Final = text(
    "INSERT INTO people_addresses (org, person_id, channel, address) VALUES (:org, :person_id, :channel, :address) "
    "ON CONFLICT DO NOTHING"
)
_WORKSPACE: Final = text("SELECT * FROM slack_workspaces")
_DISCONNECT: Final = text("DELETE FROM slack_workspaces")
_CONNECT: Final = text(
    "INSERT INTO slack_workspaces (org, team_id, signing_secret, token, shows, connected_by) "
    "VALUES (:org, :team_id, :signing_secret, :token, :shows, :by) ON CONFLICT DO NOTHING"
)
_WORKSPACE_OF: Final = text("SELECT * FROM slack_workspace(:team_id)")
_RESTATE: Final = text("UPDATE inbox_messages SET body = :body WHERE dedup = :dedup AND channel = 'platform'")
_SETTLE: Final = text("UPDATE inbox_messages SET settled_at = clock_timestamp() WHERE id = :id")


async def alone(work: UnitOfWork) -> None:
    """Nobody else opens a thread in the organization until the unit of work ends."""
    await work.first(_ALONE, {"org": work.organization})


async def open_thread(work: UnitOfWork, thread_id: str, about: str, title: str, by: str) -> None:
    """Open a thread under the organization's next number; call it alone."""
    await work.run(_OPEN, {"org": work.organization, "id": thread_id, "about": about, "title": title, "by": by})


async def thread(work: UnitOfWork, thread_id: str) -> Thread | None:
    """The thread of that id."""
    return _thread(await work.first(_GET, {"id": thread_id}))


async def numbered(work: UnitOfWork, number: int) -> Thread | None:
    """The thread of that number."""
    return _thread(await work.first(_NUMBERED, {"number": number}))


async def about(work: UnitOfWork, subject: str) -> Thread | None:
    """The thread about that subject."""
    return _thread(await work.first(_ABOUT, {"about": subject}))


async def threads(work: UnitOfWork, state: str, subject: str, before: int, most: int) -> list[Thread]:
    """Threads, newest first."""
    rows = await work.all(_LIST, {"state": state, "about": subject, "before": before, "most": most})
    return [found for row in rows if (found := _thread(row))]


async def close(work: UnitOfWork, thread_id: str) -> None:
    """Close a thread, unless it is."""
    await work.run(_CLOSE, {"id": thread_id})


async def alert(work: UnitOfWork, thread_id: str) -> None:
    """Write down that an alert was raised in a thread just now."""
    await work.run(_ALERT, {"id": thread_id})


async def add(work: UnitOfWork, values: dict[str, Any]) -> bool:
    """Add a message; False when there is one of the same ``dedup``."""
    return bool(await work.run(_ADD, {"org": work.organization, **values}))


async def messages(work: UnitOfWork, thread_id: str, after: str, most: int) -> list[Message]:
    """A thread's messages, oldest first."""
    return [_message(row) for row in await work.all(_MESSAGES, {"thread_id": thread_id, "after": after, "most": most})]


async def message(work: UnitOfWork, message_id: str) -> Message | None:
    """One message."""
    row = await work.first(_ONE, {"id": message_id})
    return _message(row) if row else None


async def texts(work: UnitOfWork, message_ids: Sequence[str]) -> dict[str, str]:
    """What these messages say, by id."""
    return {row.id: row.body for row in await work.all(_TEXTS, {"ids": list(message_ids)})}


async def taken(work: UnitOfWork, dedup: str) -> Message | None:
    """The message that was added under this ``dedup``."""
    row = await work.first(_TAKEN, {"dedup": dedup})
    return _message(row) if row else None


async def restate(work: UnitOfWork, dedup: str, body: str) -> bool:
    """Put another text in the place of what the platform said under this ``dedup``; False when there is nothing."""
    return bool(await work.run(_RESTATE, {"dedup": dedup, "body": body}))


async def unsettled(work: UnitOfWork, message_id: str) -> Message | None:
    """An answer without an outcome, locked until the unit of work ends."""
    row = await work.first(_UNSETTLED, {"id": message_id})
    return _message(row) if row else None


async def settle(work: UnitOfWork, message_id: str) -> None:
    """Write down that an answer has its outcome."""
    await work.run(_SETTLE, {"id": message_id})


async def addresses(work: UnitOfWork, people: Sequence[PersonId]) -> dict[PersonId, dict[Channel, str]]:
    """The addresses of these people by channel."""
    found: dict[PersonId, dict[Channel, str]] = {}
    for row in await work.all(_ADDRESSES, {"people": list(people)}):
        found.setdefault(PersonId(row.person_id), {})[Channel(row.channel)] = row.address
    return found


async def person_at(work: UnitOfWork, channel: Channel, address: str) -> PersonId | None:
    """Whose address this is."""
    row = await work.first(_PERSON_AT, {"channel": channel.value, "address": address})
    return PersonId(row.person_id) if row else None


async def set_address(work: UnitOfWork, person_id: PersonId, channel: Channel, address: str) -> bool:
    """Set or, when it is empty, remove an address; False when it is another person's."""
    values = {"person_id": person_id, "channel": channel.value}
    await work.run(_REMOVE_ADDRESS, values)
    return not address or bool(await work.run(_ADD_ADDRESS, {"org": work.organization, "address": address, **values}))


async def workspace(work: UnitOfWork) -> Workspace | None:
    """The organization's workspace."""
    return _workspace(await work.first(_WORKSPACE))


async def connect(work: UnitOfWork, values: dict[str, Any]) -> bool:
    """Connect a workspace in place of the organization's own; False when it is another organization's."""
    await work.run(_DISCONNECT)
    return bool(await work.run(_CONNECT, {"org": work.organization, **values}))


async def disconnect(work: UnitOfWork) -> None:
    """Disconnect the organization's workspace."""
    await work.run(_DISCONNECT)


async def workspace_of(connection: AsyncConnection, team_id: str) -> Workspace | None:
    """The connected workspace of that id; as the system role."""
    return _workspace((await connection.execute(_WORKSPACE_OF, {"team_id": team_id})).first())


def _workspace(row: Row[Any] | None) -> Workspace | None:
    if row is None:
        return None
    values = dict(row._mapping)
    return Workspace(**values | {"organization": OrgId(values.pop("org"))})


def _thread(row: Row[Any] | None) -> Thread | None:
    return None if row is None else Thread(**{**row._mapping, "id": ThreadId(row.id)})


def _message(row: Row[Any]) -> Message:
    values = {**row._mapping, "text": row.body, "id": MessageId(row.id), "thread_id": ThreadId(row.thread_id)}
    del values["body"]
    return Message(**{**values, "kind": MessageKind(row.kind), "channel": Channel(row.channel)})
