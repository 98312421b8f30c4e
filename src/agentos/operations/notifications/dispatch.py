"""Questions, and what became of them, are told to the people that they concern.

At least once, one row for each message: a worker that dies between sending and writing it down leaves a lease that runs
out, and another worker sends the message again under the same key. No transaction is open while anything is sent.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

import structlog

from agentos.control.approvals.model import (
    ApprovalDecided,
    ApprovalEscalated,
    ApprovalExpired,
    ApprovalPassed,
    ApprovalReminded,
    ApprovalRequested,
    ApprovalRerouted,
    ApprovalSlaMissed,
)
from agentos.control.approvals.routing import OnTimeout
from agentos.control.approvals.service import TIMEOUT
from agentos.control.budgets.model import BudgetOvershot, BudgetReached
from agentos.intake.inbox.model import AnswerSettled, Channel
from agentos.intake.inbox.service import COUNTED
from agentos.kernel import clock, outbox
from agentos.kernel.facts import Fact
from agentos.kernel.outbox import Consumer
from agentos.kernel.retention import Retention
from agentos.kernel.sender import Sender
from agentos.kernel.signing import Signer
from agentos.kernel.telemetry import Meter
from agentos.kernel.telemetry.catalogue import NOTIFICATION_SECONDS, NOTIFICATIONS
from agentos.kernel.unit_of_work import Doors, UnitOfWork
from agentos.operations.notifications import alerts, service, store
from agentos.operations.notifications.model import Answer, Claimed, Medium, NotificationKind, Outcome
from agentos.operations.notifications.ports import Way
from agentos.operations.notifications.service import Hiding
from agentos.operations.rollouts.model import CanaryBreached, RollbackValidated

log = structlog.get_logger(__name__)

NAME: Final = "notifications"  # of the consumer; the migration has set its cursor
EACH: Final = 8  # under way for one organization; a mail server takes a second or less
MOST: Final = 64  # under way in one worker: eight organizations whose servers hang do not delay the ninth
LEASE_SECONDS: Final = 60.0  # a try takes 20 s at most, then it is written down
SEND_SECONDS: Final = 20.0  # for the whole of one try, by whichever way
KEPT: Final = Retention("notifications_forget", timedelta(days=30))  # looked up or sent again, after it ended
# What asks people for an answer, and how it is put.
ASKING: Final[Mapping[type[Fact], NotificationKind]] = {
    ApprovalRequested: NotificationKind.ASKED,
    ApprovalPassed: NotificationKind.ASKED,
    ApprovalRerouted: NotificationKind.ASKED,
    ApprovalReminded: NotificationKind.REMINDED,
    ApprovalEscalated: NotificationKind.ESCALATED,
}


ALERTING: Final = (BudgetReached, BudgetOvershot, CanaryBreached, RollbackValidated)


class Notifications:
    """The consumer of what people are told of, and the sender of what is owed to them."""

    def __init__(
        self,
        doors: Doors,
        ways: Mapping[Medium, Way],
        meter: Meter,
        signer: Signer | None,
        *,
        address: str,
        hiding: Hiding,
    ) -> None:
        self._doors = doors
        self._ways = ways
        self._meter = meter
        self._signer = signer
        self._address = address
        self._hiding = hiding
        self.sender = Sender("notifications", MOST, self._claim, self._send)

    def consumer(self) -> Consumer:
        """Owes a message to each person that a fact concerns, once."""
        ending = (ApprovalSlaMissed, ApprovalDecided, ApprovalExpired, AnswerSettled)
        return Consumer(NAME, (*ASKING, *ending, *ALERTING), self._tell)

    async def send_for_ever(self, stop: asyncio.Event) -> None:
        """Send what is due until ``stop``, in as many workers as run it; an outage of the database is waited out."""
        await self.sender.send_for_ever(stop)

    async def turn(self, at: datetime | None = None) -> int:
        """Send everything that is due at that time, wait for the answers, and return how much there was."""
        return await self.sender.turn(at)

    async def _tell(self, deliveries: Sequence[outbox.Delivery]) -> None:
        for one in deliveries:
            cause = f"{one.position.transaction}-{one.position.sequence}"
            async with self._doors.open(one.organization) as work:
                await self._owe(work, one.fact, cause)
        self.sender.wake()

    async def _owe(self, work: UnitOfWork, fact: object, cause: str) -> None:
        match fact:
            case ApprovalRequested() | ApprovalPassed() | ApprovalReminded() | ApprovalEscalated() | ApprovalRerouted():
                kind, whom = ASKING[type(fact)], fact.approvers
                await service.ask(work, fact.approval_id, kind=kind, whom=whom, cause=cause, media=self._ways)
            case ApprovalSlaMissed():
                said = f"{fact.skill} ({fact.effect}) was not answered in time by those who were asked first."
                await service.alert(work, fact.approval_id, said, cause=cause)
            case ApprovalDecided():
                said = f"{fact.status.capitalize()} by {fact.decided_by}."
                await service.decided(work, fact.approval_id, said, cause=cause)
            case ApprovalExpired():
                if fact.reason == TIMEOUT:
                    await service.alert(work, fact.approval_id, "Nobody answered in time.", cause=cause)
                ends = "it is a draft now" if fact.ends_in == OnTimeout.DRAFT else "it is denied"
                said = f"Expired ({fact.reason}): {ends}."
                await service.decided(work, fact.approval_id, said, cause=cause)
            case AnswerSettled() if fact.channel == Channel.SLACK and fact.outcome != COUNTED:
                await service.answered(work, fact.about, fact.thread_id, fact.message_id, fact.person_id, cause=cause)
            case BudgetReached():
                await alerts.reached(work, fact, media=self._ways)
            case BudgetOvershot():
                await alerts.overshot(work, fact, media=self._ways)
            case CanaryBreached():
                await alerts.canary_breached(work, fact, media=self._ways)
            case RollbackValidated():
                await alerts.rollback_validated(work, fact, media=self._ways)
            case _:
                return

    async def _claim(self, most: int, at: datetime | None) -> Sequence[Claimed]:
        async with self._doors.database.connection("agentos_system") as connection:
            return await store.claim(connection, uuid.uuid4().hex, most=most, each=EACH, seconds=LEASE_SECONDS, at=at)

    async def _send(self, one: Claimed) -> None:
        began = clock.elapsed()
        answer: Answer | None
        try:
            answer = await self._tried(one)
        except Exception as error:  # a fault of ours: it is a failed try as any other, and a person can see it
            log.exception("notification_failed", org=one.organization, error=type(error).__name__)
            answer = Answer(False, "bug")
        seconds = clock.elapsed() - began
        try:
            async with self._doors.open(one.organization) as work:
                outcome = await service.settle(
                    work,
                    one,
                    answer,
                    at=one.claimed_at + timedelta(seconds=seconds),
                    luck=random.random(),  # noqa: S311  # spreads tries; nobody gains by guessing it
                )
        except Exception as error:  # the lease runs out, and it is sent again under the same key
            log.warning("notification_not_settled", org=one.organization, error=type(error).__name__)
            return
        self._meter.count(NOTIFICATIONS, org=one.organization, channel=one.channel.value, outcome=outcome.value)
        if outcome is Outcome.GIVEN_UP:
            log.warning(
                "notification_given_up", org=one.organization, channel=one.channel, reason=answer and answer.reason
            )
        if outcome not in (Outcome.HELD, Outcome.MOOT):
            self._meter.observe(NOTIFICATION_SECONDS, seconds, channel=one.channel.value, outcome=outcome.value)

    async def _tried(self, one: Claimed) -> Answer | None:
        """Put the message together, give the transaction back, and send it."""
        async with self._doors.open(one.organization) as work:
            letter = await service.letter(work, one, self._signer, address=self._address, hiding=self._hiding)
        if letter is None:
            return None
        way = self._ways.get(one.channel)
        if way is None:
            return Answer(False, "channel_not_set_up", "this worker cannot send by it", held=True)
        try:
            async with asyncio.timeout(SEND_SECONDS):
                return await way.send(letter)
        except TimeoutError:
            return Answer(False, "timeout", f"no answer within {SEND_SECONDS:g} s")
