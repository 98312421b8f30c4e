"""Open threads, keep what is said in them, and hand answers on, each settled once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from agentos.intake.identity.model import Caller, NotAllowed, Permission
from agentos.intake.inbox import store
from agentos.intake.inbox.model import (
    PLATFORM,
    AnswerGiven,
    AnswerSettled,
    Channel,
    InboxAlerted,
    Message,
    MessageKind,
    MessageReceived,
    Thread,
    ThreadAsksNothing,
    ThreadOpened,
    ThreadUnknown,
    read_answer,
)
from agentos.intake.inbox.ports import Readers
from agentos.kernel import ids
from agentos.kernel.ids import MessageId, PersonId, ThreadId
from agentos.kernel.unit_of_work import UnitOfWork

COUNTED: Final = "counted"  # the outcome of an answer that was taken
HIGHEST: Final = 2**31 - 1  # what a thread's number can be


async def open_about(work: UnitOfWork, about: str, *, title: str) -> Thread:
    """The platform's thread about one thing. Opening it again returns the first one."""
    await store.alone(work)
    return await store.about(work, about) or await _open(work, about, title, PLATFORM)


async def open_thread(work: UnitOfWork, *, title: str, about: str, by: str, readers: Readers) -> Thread:
    """Open a thread of somebody's own; ``about`` is a run's id, or empty.

    Raises MalformedId (Invalid), and what ``readers`` raise for a run that reads no messages.
    """
    if about:
        ids.checked("run", about)
        await readers.check(work, about)
    await store.alone(work)
    return (await store.about(work, about) if about else None) or await _open(work, about, title, by)


async def get(work: UnitOfWork, reference: str) -> Thread:
    """One thread, by its id or its number. Raises ThreadUnknown (NotFound)."""
    number = reference.removeprefix("#")
    if number.isascii() and number.isdigit():
        found = await store.numbered(work, int(number)) if int(number[:20]) <= HIGHEST else None
    else:
        found = await store.thread(work, reference)
    if found is None:
        raise ThreadUnknown(f"no thread '{reference[:64]}'", then="See 'agentos inbox list'.")
    return found


async def about(work: UnitOfWork, subject: str) -> Thread:
    """The thread about that subject. Raises ThreadUnknown (NotFound)."""
    found = await store.about(work, subject)
    if found is None:
        raise ThreadUnknown(f"no thread is about '{subject[:64]}'", then="See 'agentos inbox list'.")
    return found


async def listed(work: UnitOfWork, *, state: str, about: str, before: str, most: int) -> list[Thread]:
    """Threads, newest first: open, closed, or any where ``state`` is empty; from before the number ``before``."""
    last = int(before) if before.isascii() and before.isdigit() and len(before) < 10 else HIGHEST
    return await store.threads(work, state, about, last, most)


async def messages(work: UnitOfWork, thread_id: str, *, after: str, most: int) -> list[Message]:
    """A thread's messages, oldest first."""
    return await store.messages(work, thread_id, after, most)


async def written(work: UnitOfWork, message_ids: Sequence[str]) -> dict[str, str]:
    """The texts of these messages, by id."""
    return await store.texts(work, message_ids)


async def write(work: UnitOfWork, reference: str, text: str, *, caller: Caller, readers: Readers) -> Message:
    """Keep what somebody writes in a thread; an answer, which names the thread that asks by its number, goes on as one.

    Raises ThreadUnknown (NotFound), BadAnswer (Invalid), ThreadAsksNothing (Conflict), NotAllowed (Forbidden) for an
    answer of somebody who may answer nothing and for a message to a run of somebody who may not order runs, and what
    ``readers`` raise for a run that reads no messages.
    """
    thread, said = await get(work, reference), read_answer(text)
    if said is not None:
        asking = await get(work, str(said.number))
        return await answer(work, asking, said.approved, text, caller=caller, channel=Channel.API, within=thread)
    if thread.steers:
        _need(caller, Permission.ORDER_RUNS)
        await readers.check(work, thread.about)
    values = {"kind": MessageKind.MESSAGE.value, "author": caller.handle, "person_id": caller.person_id, "body": text}
    kept = await _add(work, thread, {**values, "channel": Channel.API.value})
    assert kept is not None
    await work.publish(MessageReceived(thread.id, kept.id, thread.about, Channel.API.value, caller.handle))
    return kept


async def answer(
    work: UnitOfWork,
    asking: Thread,
    approved: bool,
    text: str,
    *,
    caller: Caller,
    channel: Channel,
    within: Thread | None = None,
    dedup: str | None = None,
) -> Message:
    """Keep a person's answer to what a thread asks, and hand it on; an answer of the same ``dedup`` is kept once.

    Raises ThreadAsksNothing (Conflict), NotAllowed (Forbidden).
    """
    _need(caller, Permission.ANSWER_APPROVALS, of_a_person=True)
    if not asking.asks:
        raise ThreadAsksNothing(f"thread {asking.number} asks nothing", then="See 'agentos inbox list'.")
    values = {
        "kind": MessageKind.ANSWER.value,
        "channel": channel.value,
        "author": caller.handle,
        "person_id": caller.person_id,
        "body": text,
        "about": asking.about,
        "approved": approved,
        "dedup": dedup,
    }
    thread = within or asking
    kept = await _add(work, thread, values)
    if kept is None:
        assert dedup is not None
        first = await store.taken(work, dedup)
        assert first is not None
        return first
    sees = Permission.SEE_PERSONAL_DATA in caller.permissions
    await work.publish(AnswerGiven(thread.id, kept.id, asking.about, approved, channel.value, caller.handle, sees))
    return kept


async def unsettled(work: UnitOfWork, message_id: str) -> Message | None:
    """An answer that has no outcome yet, locked for whoever settles it; None when there is nothing left to do."""
    return await store.unsettled(work, message_id)


async def settle(work: UnitOfWork, given: Message, *, outcome: str, text: str) -> None:
    """Write what became of an answer that is locked into its thread."""
    await store.settle(work, given.id)
    thread = await get(work, given.thread_id)
    await _add(work, thread, {"kind": MessageKind.OUTCOME.value, "body": text, "dedup": _settled(given.id)})
    person = given.person_id or ""
    await work.publish(AnswerSettled(thread.id, given.id, given.about, given.channel.value, person, outcome))


async def outcome_of(work: UnitOfWork, message_id: str) -> str:
    """What became of an answer, in words; empty while nothing has."""
    found = await store.taken(work, _settled(message_id))
    return found.text if found else ""


async def text_of(work: UnitOfWork, message_id: str) -> str:
    """What a message says by now; empty when there is none of this id."""
    found = await store.message(work, message_id)
    return found.text if found else ""


async def note(work: UnitOfWork, thread: Thread, kind: MessageKind, text: str, *, dedup: str) -> Message | None:
    """Say something as the platform, once for each ``dedup``: None when it was said. An alert marks its thread."""
    kept = await _add(work, thread, {"kind": kind.value, "body": text, "dedup": dedup})
    if kept is not None and kind is MessageKind.ALERT:
        await store.alert(work, thread.id)
        await work.publish(InboxAlerted(thread.id, kept.id, thread.about))
    return kept


async def restate(work: UnitOfWork, dedup: str, text: str) -> bool:
    """Let what the platform said under this ``dedup`` say something newer; False when it said nothing yet."""
    return await store.restate(work, dedup, text)


async def close(work: UnitOfWork, thread: Thread) -> None:
    """Close a thread: nothing is open in it any more, but it can be written in."""
    await store.close(work, thread.id)


def _need(caller: Caller, permission: Permission, *, of_a_person: bool = False) -> None:
    """Raises NotAllowed (Forbidden), which names the permission."""
    if permission not in caller.permissions or (of_a_person and caller.person_id is None):
        raise NotAllowed(
            f"this takes the permission '{permission}': to {permission.means}",
            then="Ask an admin for another role, or use a key with this scope.",
            permission=permission.value,
        )


def _settled(message_id: str) -> str:
    return f"settled {message_id}"


async def _open(work: UnitOfWork, subject: str, title: str, by: str) -> Thread:
    thread_id = ThreadId(ids.new("thr"))
    await store.open_thread(work, thread_id, subject, title, by)
    made = await get(work, thread_id)
    await work.publish(ThreadOpened(thread_id, made.number, subject, by))
    return made


async def _add(work: UnitOfWork, thread: Thread, given: Mapping[str, object]) -> Message | None:
    message_id = MessageId(ids.new("msg"))
    values: dict[str, object] = {
        "id": message_id,
        "thread_id": thread.id,
        "channel": Channel.PLATFORM.value,
        "author": PLATFORM,
        "person_id": PersonId(""),
        "about": "",
        "approved": None,
        "dedup": None,
    }
    values |= given
    values["person_id"] = values["person_id"] or None
    return await store.message(work, message_id) if await store.add(work, values) else None
