"""Owe messages to the people that a question concerns, put them together when they are sent, and settle each try."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import Final

from agentos.control.approvals import links
from agentos.control.approvals import service as approvals
from agentos.control.approvals.model import Approval, ApprovalStatus, Hides
from agentos.control.approvals.routing import ROLE
from agentos.intake.identity import service as identity
from agentos.intake.identity.model import Permission, Person, SecretRead
from agentos.intake.inbox import addresses
from agentos.intake.inbox import service as inbox
from agentos.intake.inbox.model import Channel, MessageKind, Thread, WorkspaceUnknown
from agentos.kernel import ids
from agentos.kernel.signing import Signer
from agentos.kernel.unit_of_work import UnitOfWork
from agentos.operations.notifications import store
from agentos.operations.notifications.model import (
    BACKOFF,
    Answer,
    BadNotificationState,
    Claimed,
    Letter,
    Medium,
    Notification,
    NotificationGivenUp,
    NotificationKind,
    NotificationNotDead,
    NotificationRetried,
    NotificationState,
    NotificationUnknown,
    Outcome,
)

MOST_PEOPLE: Final = 200  # told of one question; a larger organization names who is asked
MOST_SHOWN: Final = 2500  # characters of arguments: one text of Slack's holds 3,000
# Tells by an organization's rules what may not be shown in a channel.
Hiding = Callable[[UnitOfWork], Awaitable[Hides]]

_SAYS: Final = {
    NotificationKind.ASKED: "waits for your answer",
    NotificationKind.REMINDED: "still waits for your answer",
    NotificationKind.ESCALATED: "was not answered in time and waits for you",
    NotificationKind.DECIDED: "waits no more",
    NotificationKind.ANSWERED: "has your answer",
    NotificationKind.WARNED: "comes near a limit",
    NotificationKind.ALERTED: "needs you to look at it",
}


async def ask(
    work: UnitOfWork,
    approval_id: str,
    *,
    kind: NotificationKind,
    whom: Sequence[str],
    cause: str,
    media: Collection[Medium],
) -> int:
    """Open the thread that asks, and owe a message to each of those who are asked, but never to who started it.

    ``whom``: handles and roles as ``role:NAME``; empty: all who may answer. ``media``: what this process can send by.
    How many messages are new.
    """
    asked = await approvals.get(work, approval_id)
    thread = await inbox.open_about(work, approval_id, title=f"{asked.requested_by} asks to call {asked.skill}")
    if asked.status is not ApprovalStatus.PENDING:
        return 0
    if kind is NotificationKind.ASKED:
        await inbox.note(work, thread, MessageKind.NOTICE, _notice(asked, thread), dedup=f"asked {cause}")
    may = await identity.who_may(work, Permission.ANSWER_APPROVALS, most=MOST_PEOPLE)
    people = [one for one in may if one.handle not in asked.starters and _is_asked(one, whom)]
    if not people:
        said = f"None of those who are asked may answer ({', '.join(whom) or 'nobody has the right'})."
        await inbox.note(work, thread, MessageKind.ALERT, said, dedup=f"nobody {cause}")
        return 0
    return await tell(work, people, kind, approval_id, thread, cause=cause, media=media)


async def tell(
    work: UnitOfWork,
    people: Sequence[Person],
    kind: NotificationKind,
    about: str,
    thread: Thread,
    *,
    cause: str,
    media: Collection[Medium],
    message_id: str = "",
) -> int:
    """Owe each of these people a message by each of their channels, once for each cause. How many are new.

    Who has no address that anything can be sent to is told on the console.
    """
    usable = [one for one in (Medium.EMAIL, Medium.SLACK) if one in media]
    if Medium.SLACK in usable and not (await _workspace(work))[0]:
        usable.remove(Medium.SLACK)
    known = await addresses.of_all(work, [one.id for one in people])
    new = 0
    for person in people:
        reached = [medium for medium in usable if Channel(medium.value) in known.get(person.id, {})]
        for medium in reached or [Medium.CONSOLE]:
            new += await _owe(work, kind, about, thread, person.id, medium, cause, message_id)
    return new


async def decided(work: UnitOfWork, approval_id: str, said: str, *, cause: str) -> int:
    """Write into the thread how it ended, close it, and tell everybody who was asked. How many messages are new."""
    asked = await approvals.get(work, approval_id)
    thread = await inbox.open_about(work, approval_id, title=f"{asked.requested_by} asks to call {asked.skill}")
    await inbox.note(work, thread, MessageKind.OUTCOME, said, dedup=f"decided {approval_id}")
    await inbox.close(work, thread)
    new = 0
    for person_id, medium in await store.asked(work, approval_id):
        new += await _owe(work, NotificationKind.DECIDED, approval_id, thread, person_id, medium, cause)
    return new


async def alert(work: UnitOfWork, approval_id: str, said: str, *, cause: str) -> None:
    """Raise an alert in the thread that asks, once for each cause."""
    thread = await inbox.open_about(work, approval_id, title="An approval waits")
    await inbox.note(work, thread, MessageKind.ALERT, said, dedup=f"alert {cause}")


async def answered(
    work: UnitOfWork, about: str, thread_id: str, message_id: str, person_id: str, *, cause: str
) -> None:
    """Owe a person who answered in Slack what became of it."""
    thread = await inbox.get(work, thread_id)
    await _owe(work, NotificationKind.ANSWERED, about, thread, person_id, Medium.SLACK, cause, message_id)


async def letter(
    work: UnitOfWork, one: Claimed, signer: Signer | None, *, address: str, hiding: Hiding
) -> Letter | None:
    """The message as it is to be sent now, or None when there is nothing left to say or nobody to say it to.

    ``address``: where people reach the platform. Where a person cannot answer in the channel itself they are given a
    signed link, which works once; the log, which is read by others, has none.
    """
    person = await identity.acting(work, one.person_id)
    to = "" if person is None else await _address(work, person, one.channel)
    if person is None or not to:
        return None
    if one.kind.alerts:
        return await _alerting(work, one, to, address)
    asked = await approvals.get(work, one.about)
    if one.kind.asks and asked.status is not ApprovalStatus.PENDING:
        return None
    thread = await inbox.about(work, one.about)
    token, shown = "", ""
    if one.channel is Medium.SLACK:
        token, shows = await _given(work, one.id)
        shown = await _shown(work, asked, hiding) if shows and one.kind.asks else ""
    path = f"/api/v1/approvals/{one.about}"
    if one.kind.asks and one.channel is not Medium.CONSOLE and not shown and signer is not None:
        path = links.PATH + await links.create(work, signer, one.about, handle=person.handle, at=one.claimed_at)
    return Letter(
        one.id,
        one.organization,
        one.kind,
        to,
        f"[{one.organization}] {thread.number}: {asked.skill} {_SAYS[one.kind]}",
        tuple(await _lines(work, one, asked, thread)),
        address.rstrip("/") + path,
        one.about,
        thread.number,
        shown,
        token,
        await store.receipts(work, one) if one.kind is NotificationKind.DECIDED else (),
    )


async def settle(work: UnitOfWork, one: Claimed, answer: Answer | None, *, at: datetime, luck: float) -> Outcome:
    """Write down what a try came to, and when the next one is; None: there was nothing left to say.

    ``luck`` in 0…1 is the share of the jitter.
    """
    if answer is None:
        kept = await store.ended(work, one, NotificationState.MOOT, Answer(False, held=True), due=at, at=at)
        return Outcome.MOOT if kept else Outcome.LATE
    if answer.sent:
        kept = await store.ended(work, one, NotificationState.SENT, answer, due=at, at=at)
        return Outcome.SENT if kept else Outcome.LATE
    if answer.final:
        due = None
    elif answer.held:
        due = BACKOFF.held_until(first=one.first_try_at, at=at)
    else:
        due = BACKOFF.next_try(one.tries + 1, first=one.first_try_at, at=at, luck=luck, asked=answer.retry_after)
    state = NotificationState.DEAD if due is None else NotificationState.PENDING
    if not await store.ended(work, one, state, answer, due=due or at, at=at):
        return Outcome.LATE
    if due is not None:
        return Outcome.HELD if answer.held else Outcome.RETRIED
    tries = one.tries + (not answer.held)
    await work.publish(NotificationGivenUp(one.id, one.about, one.channel.value, tries, answer.reason))
    person = await identity.acting(work, one.person_id)
    thread = await inbox.get(work, one.thread_id)
    said = f"{person.handle if person else 'Somebody'} could not be told by {one.channel}: {answer.reason}."
    await inbox.note(work, thread, MessageKind.ALERT, said, dedup=f"dead {one.id} {at.isoformat()}")
    return Outcome.GIVEN_UP


async def listed(work: UnitOfWork, *, state: str, about: str, after: str, most: int) -> list[Notification]:
    """Messages, oldest first, in one state or, if that is empty, in any. Raises BadNotificationState (Invalid)."""
    if state and state not in list(NotificationState):
        raise BadNotificationState(
            f"no message is '{state[:20]}'", where="state", then=f"Use {', '.join(NotificationState)} or all."
        )
    return await store.listed(work, state, about, after, most)


async def retry(work: UnitOfWork, notification_id: str, *, by: str) -> Notification:
    """Owe a dead letter anew, for another day, with the same key.

    Raises NotificationUnknown (NotFound), NotificationNotDead (Conflict).
    """
    found = await store.get(work, notification_id)
    if found is None:
        raise NotificationUnknown(
            f"no message '{notification_id[:64]}'", then="See 'agentos notifications list --state dead'."
        )
    if found.state is not NotificationState.DEAD:
        raise NotificationNotDead(
            f"the message is {found.state}", where=found.id, then="What is pending is tried by itself."
        )
    await store.revive(work, notification_id)
    await work.publish(NotificationRetried(found.id, by))
    again = await store.get(work, notification_id)
    assert again is not None
    return again


def _is_asked(person: Person, whom: Sequence[str]) -> bool:
    return not whom or person.handle in whom or ROLE + person.role.value in whom


async def _owe(
    work: UnitOfWork,
    kind: NotificationKind,
    about: str,
    thread: Thread,
    person_id: str,
    medium: Medium,
    cause: str,
    message_id: str = "",
) -> bool:
    values = {"id": ids.new("ntf"), "cause": cause, "kind": kind.value, "about": about, "thread_id": thread.id}
    values |= {"person_id": person_id, "channel": medium.value, "message_id": message_id}
    return await store.queue(work, values)


async def _address(work: UnitOfWork, person: Person, medium: Medium) -> str:
    if medium is Medium.CONSOLE:
        return person.handle
    known = await addresses.of_all(work, [person.id])
    return known.get(person.id, {}).get(Channel(medium.value), "")


async def _given(work: UnitOfWork, about: str) -> tuple[str, bool]:
    """As ``_workspace`` tells, to be used for a message: that is a fact."""
    token, shows = await _workspace(work)
    if token:
        await work.publish(SecretRead(token, about))
    return token, shows


async def _workspace(work: UnitOfWork) -> tuple[str, bool]:
    """The token of the organization's Slack workspace and whether it shows arguments; none: empty."""
    try:
        found = await addresses.workspace(work)
    except WorkspaceUnknown:
        return "", False
    return found.token, found.shows


async def _alerting(work: UnitOfWork, one: Claimed, to: str, address: str) -> Letter:
    """What the platform said in a thread, as it says it by now."""
    thread = await inbox.get(work, one.thread_id)
    return Letter(
        one.id,
        one.organization,
        one.kind,
        to,
        f"[{one.organization}] {thread.number}: {thread.title} {_SAYS[one.kind]}",
        (await inbox.text_of(work, one.message_id),),
        f"{address.rstrip('/')}/api/v1/inbox/threads/{thread.id}/messages",
        one.about,
        thread.number,
        token=(await _given(work, one.id))[0] if one.channel is Medium.SLACK else "",
    )


async def _shown(work: UnitOfWork, asked: Approval, hiding: Hiding) -> str:
    """All of the arguments, or nothing: nobody approves what they see a part of. What looks like nothing is escaped."""
    written = json.dumps(json.loads(asked.arguments), indent=2, ensure_ascii=True)
    if len(written) > MOST_SHOWN:
        return ""
    hides = await hiding(work)
    return "" if hides(asked) else written


def _notice(asked: Approval, thread: Thread) -> str:
    return (
        f"{asked.requested_by} asks to call {asked.skill}@{asked.skill_version} ({asked.effect.name}) "
        f"in {asked.run_id}; it takes {_people(asked.needed)} until {_moment(asked.expires_at)}. "
        f"The arguments: agentos approvals show {asked.id}. Answer here: approve {thread.number} because …"
    )


async def _lines(work: UnitOfWork, one: Claimed, asked: Approval, thread: Thread) -> list[str]:
    if one.kind is NotificationKind.ANSWERED:
        said = await inbox.outcome_of(work, one.message_id)
        return [f"Your answer to {thread.number}: {said}"]
    about = [
        f"Who asks: {asked.requested_by}, in {asked.run_id}",
        f"What: {asked.skill}@{asked.skill_version}, effect class {asked.effect.name}",
        f"Arguments: {asked.arguments_digest}; see agentos approvals show {asked.id}",
    ]
    if not one.kind.asks:
        return [f"It is {asked.status.value}.", *about]
    return [
        *about,
        f"Needs: {_people(asked.needed)} until {_moment(asked.expires_at)}",
        f"In the inbox: approve {thread.number} because …, or deny {thread.number} because …",
    ]


def _people(needed: int) -> str:
    return "one person" if needed == 1 else f"{needed} different people"


def _moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
