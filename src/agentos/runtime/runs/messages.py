"""What people write in a run's thread reaches the run: handed on once, read before the model is asked next.

MessageReceived → the run's row counts it → a turn sees the count → journaled, then told to the model
                → the run is over, or ends first → said so in the thread
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from agentos.intake.inbox import service as inbox
from agentos.intake.inbox.model import MessageKind, MessageReceived
from agentos.kernel.errors import AgentOSError, Unavailable
from agentos.kernel.facts import Fact
from agentos.kernel.ids import OrgId
from agentos.kernel.outbox import Consumer, Delivery
from agentos.kernel.unit_of_work import Doors, UnitOfWork
from agentos.runtime.inference import Message
from agentos.runtime.runs import service, store
from agentos.runtime.runs.journal import Entry, Journal
from agentos.runtime.runs.model import MessagesUnread
from agentos.runtime.runs.segment import Segment

NAME: Final = "run_messages"
KIND: Final = "message"


class Messages:
    """Hands messages to runs, and tells in the thread which were not read. All of it is safe to repeat."""

    def __init__(self, doors: Doors) -> None:
        self._doors = doors

    def consumer(self) -> Consumer:
        """The reliable path: every message, in order, until it is handed on or said to be unread."""
        return Consumer(NAME, (MessageReceived, MessagesUnread), self._deliver)

    async def check(self, work: UnitOfWork, run_id: str) -> None:
        """Return when a run would read a message now. Raises what ``take_message`` does."""
        service.check_reads(await service.get(work, run_id))

    async def hint(self, organization: OrgId, facts: Sequence[Fact]) -> None:
        """The quick path, tried once right after the commit."""
        for fact in facts:
            await self._act(organization, fact)

    async def _deliver(self, deliveries: Sequence[Delivery]) -> None:
        for one in deliveries:
            await self._act(one.organization, one.fact)

    async def _act(self, organization: OrgId, fact: Fact) -> None:
        match fact:
            case MessageReceived() if fact.about.startswith("run_"):
                await self._hand_on(organization, fact)
            case MessagesUnread():
                async with self._doors.open(organization) as work:
                    for message_id in await service.unread(work, fact.run_id, fact.unread):
                        await _say_unread(work, fact.run_id, message_id, "the run ended before it was answered to")
            case _:
                return

    async def _hand_on(self, organization: OrgId, fact: MessageReceived) -> None:
        async with self._doors.open(organization) as work:
            try:
                await service.take_message(work, fact.about, fact.message_id, author=fact.by)
            except Unavailable:
                raise
            except AgentOSError as error:  # said before anything was written
                await _say_unread(work, fact.about, fact.message_id, str(error))


async def _say_unread(work: UnitOfWork, run_id: str, message_id: str, because: str) -> None:
    thread = await inbox.about(work, run_id)
    said = f"{message_id} was not read: {because}"
    await inbox.note(work, thread, MessageKind.OUTCOME, said, dedup=f"unread {message_id}")


async def heard(segment: Segment, turn: int) -> list[Message]:
    """What people wrote to the run before this turn, for the model: as journaled, else what is new, journaled first."""
    journal, key = segment.journal, _key(turn)
    entry = journal.result(key)
    if entry is None:
        after = _taken(journal)
        if journal.messages <= after or journal.result(f"t{turn}") is not None:  # a turn of the past hears nothing new
            return []
        async with segment.parts.doors.open(segment.run.organization) as work:
            handed = await store.handed(work, segment.run.id, after)
            texts = await inbox.written(work, [row.message_id for row in handed])
        meta = {
            "messages": [row.message_id for row in handed],
            "by": [row.author for row in handed],
            "last": handed[-1].number,
        }
        entry = Entry(key, "result", KIND, "inbox", "ok", meta, [texts[row.message_id] for row in handed])
        await segment.record(entry)
    return [Message("user", text) for text in entry.content or ()]


def go_on(segment: Segment, turn: int) -> bool:
    """Whether the run goes on after an answer that could be its last, because there are messages and a turn left."""
    journal, following = segment.journal, turn + 1
    if following >= segment.definition.budgets.turns:
        return False
    return journal.result(_key(following)) is not None or journal.messages > _taken(journal)


def answered(journal: Journal) -> int:
    """The number of the last message that the model has answered to."""
    return max(
        (entry.meta["last"] for entry in _heard(journal) if journal.result(entry.key.removesuffix(_SAID))), default=0
    )


def _taken(journal: Journal) -> int:
    return max((entry.meta["last"] for entry in _heard(journal)), default=0)


def _heard(journal: Journal) -> list[Entry]:
    return [entry for entry in journal.recorded.values() if entry.kind == KIND] if journal.messages else []


_SAID: Final = ".said"


def _key(turn: int) -> str:
    return f"t{turn}{_SAID}"
