"""What people answered in channels is taken as if they had answered here, once for each message, and told back."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from agentos.control.approvals import service
from agentos.control.approvals.model import Approval, ApprovalStatus, Channel, Hides
from agentos.control.approvals.ports import Schemas
from agentos.control.privacy.service import Privacy, hides, rules_of
from agentos.control.privacy.values import Schema
from agentos.intake.inbox import model
from agentos.intake.inbox import service as inbox
from agentos.intake.inbox.model import AnswerGiven, Message
from agentos.kernel.clock import now
from agentos.kernel.errors import AgentOSError, Unavailable
from agentos.kernel.facts import Fact
from agentos.kernel.ids import OrgId
from agentos.kernel.outbox import Consumer, Delivery
from agentos.kernel.telemetry import Meter
from agentos.kernel.telemetry.catalogue import APPROVAL_SECONDS
from agentos.kernel.unit_of_work import Doors, UnitOfWork

NAME: Final = "approval_answers"


def measure(meter: Meter, organization: str, answered: Approval) -> None:
    """Measure how long people took, once they have decided."""
    if answered.decided_at is not None and answered.status is not ApprovalStatus.PENDING:
        seconds = max(0.0, (answered.decided_at - answered.asked_at).total_seconds())
        meter.observe(APPROVAL_SECONDS, seconds, org=organization, status=answered.status.value)


def by_schema(schemas: Schemas, hides: Callable[[Any, Schema | None], bool]) -> Hides:
    """Tells of an approval whether its arguments hold what ``hides`` finds, which is given the skill's schema."""
    return lambda asked: hides(json.loads(asked.arguments), schemas.input_schema(asked.skill, asked.skill_version))


async def hiding(work: UnitOfWork, privacy: Privacy, schemas: Schemas) -> Hides:
    """Tells of an approval whether its arguments hold what is kept from people without the right to see it."""
    rules = await rules_of(work, privacy)
    return by_schema(schemas, partial(hides, privacy, rules))


class Answers:
    """Settles answers that were given in channels. All of it is safe to repeat."""

    def __init__(self, doors: Doors, meter: Meter, privacy: Privacy, schemas: Schemas) -> None:
        self._doors = doors
        self._meter = meter
        self._privacy = privacy
        self._schemas = schemas

    def consumer(self) -> Consumer:
        """The reliable path: every answer, in order, until it is settled."""
        return Consumer(NAME, (AnswerGiven,), self._deliver)

    async def hint(self, organization: OrgId, facts: Sequence[Fact]) -> None:
        """The quick path, tried once right after the commit."""
        for fact in facts:
            if isinstance(fact, AnswerGiven):
                await self._settle(organization, fact)

    async def _deliver(self, deliveries: Sequence[Delivery]) -> None:
        for one in deliveries:
            assert isinstance(one.fact, AnswerGiven)
            await self._settle(one.organization, one.fact)

    async def _settle(self, organization: OrgId, fact: AnswerGiven) -> None:
        """The answer and its outcome in one unit of work; what was refused has its outcome in another."""
        try:
            async with self._doors.open(organization) as work:
                given = await inbox.unsettled(work, fact.message_id)
                if given is None:
                    return
                answered = await self._answer(work, given, sees=fact.sees)
                await inbox.settle(work, given, outcome=inbox.COUNTED, text=_outcome(answered))
        except Unavailable:
            raise
        except AgentOSError as error:
            async with self._doors.open(organization) as work:
                given = await inbox.unsettled(work, fact.message_id)
                if given is not None:
                    await inbox.settle(work, given, outcome=error.code, text=f"This did not count: {error}")
            return
        measure(self._meter, organization, answered)

    async def _answer(self, work: UnitOfWork, given: Message, *, sees: bool) -> Approval:
        said = model.read_answer(given.text)
        return await service.answer_as(
            work,
            given.about,
            handle=given.author,
            approved=bool(given.approved),
            note=said.note if said else "",
            at=now(),
            channel=Channel.SLACK if given.channel is model.Channel.SLACK else Channel.INBOX,
            hides=await hiding(work, self._privacy, self._schemas),
            sees=sees,
        )


def _outcome(answered: Approval) -> str:
    if answered.status is ApprovalStatus.PENDING:
        return "This counted; more people have to approve."
    return f"This counted: it is {answered.status.value}."
