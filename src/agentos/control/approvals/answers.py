"""What people answered in channels is taken as if they had answered here, once for each message, and told back.

The person's right to answer is looked at again: an answer may have waited while it was withdrawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from agentos.control.approvals import service
from agentos.control.approvals.model import ApprovalStatus
from agentos.intake.identity import service as identity
from agentos.intake.identity.model import NotAllowed, Permission
from agentos.intake.inbox import service as inbox
from agentos.intake.inbox.model import AnswerGiven, Message, read_answer
from agentos.kernel.clock import now
from agentos.kernel.errors import AgentOSError, Unavailable
from agentos.kernel.facts import Fact
from agentos.kernel.ids import OrgId
from agentos.kernel.outbox import Consumer, Delivery
from agentos.kernel.unit_of_work import Doors, UnitOfWork

NAME: Final = "approval_answers"


class Answers:
    """Settles answers that were given in channels. All of it is safe to repeat."""

    def __init__(self, doors: Doors) -> None:
        self._doors = doors

    def consumer(self) -> Consumer:
        """The reliable path: every answer, in order, until it is settled."""
        return Consumer(NAME, (AnswerGiven,), self._deliver)

    async def hint(self, organization: OrgId, facts: Sequence[Fact]) -> None:
        """The quick path, tried once right after the commit."""
        for fact in facts:
            if isinstance(fact, AnswerGiven):
                await self._settle(organization, fact.message_id)

    async def _deliver(self, delivery: Delivery) -> None:
        assert isinstance(delivery.fact, AnswerGiven)
        await self._settle(delivery.organization, delivery.fact.message_id)

    async def _settle(self, organization: OrgId, message_id: str) -> None:
        """The answer and its outcome in one unit of work; what was refused has its outcome in another."""
        try:
            async with self._doors.open(organization) as work:
                given = await inbox.unsettled(work, message_id)
                if given is not None:
                    said = await _answer(work, given)
                    await inbox.settle(work, given, outcome=inbox.COUNTED, text=said)
        except Unavailable:
            raise
        except AgentOSError as error:
            async with self._doors.open(organization) as work:
                given = await inbox.unsettled(work, message_id)
                if given is not None:
                    await inbox.settle(work, given, outcome=error.code, text=f"This did not count: {error}")


async def _answer(work: UnitOfWork, given: Message) -> str:
    person = await identity.acting(work, given.person_id or "")
    if person is None or Permission.ANSWER_APPROVALS not in person.role.permissions:
        raise NotAllowed(f"{given.author} may not answer approvals any more")
    said = read_answer(given.text)
    found = await service.answer(
        work,
        given.about,
        person_id=person.id,
        handle=person.handle,
        approved=bool(given.approved),
        note=said.note if said else "",
        at=now(),
    )
    if found.status is ApprovalStatus.PENDING:
        return "This counted; more people have to approve."
    return f"This counted: it is {found.status.value}."
