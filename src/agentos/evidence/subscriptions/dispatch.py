"""Each fact becomes a delivery for whoever wants it, and deliveries are sent as they are due.

At least once: a worker that dies between sending and writing it down leaves a lease that runs out, and another worker
sends the same webhook-id again. No transaction is open while a receiver is asked.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import structlog

from agentos.evidence.subscriptions import service, store
from agentos.evidence.subscriptions.model import Answer, Claimed, Outcome, Subscription
from agentos.evidence.subscriptions.ports import Receivers
from agentos.kernel import clock, outbox
from agentos.kernel.facts import Fact
from agentos.kernel.ids import OrgId
from agentos.kernel.outbox import Consumer
from agentos.kernel.retention import Retention
from agentos.kernel.sender import Sender
from agentos.kernel.telemetry import Meter
from agentos.kernel.telemetry.catalogue import EVENT_DELIVERIES, EVENT_SECONDS
from agentos.kernel.unit_of_work import Doors

log = structlog.get_logger(__name__)

NAME: Final = "subscriptions"  # of the consumer; the migration has set its cursor
EACH: Final = 4  # under way for one subscription, in all workers together
MOST: Final = 256  # under way in one worker: 64 receivers may hang for 15 s each before they delay another's
LEASE_SECONDS: Final = 60.0  # a try takes 15 s at most, then it is written down
KEPT: Final = Retention("deliveries_forget", timedelta(days=30))  # looked up or sent again, after it ended
TOGETHER: Final = 100  # facts that are looked at together, and owed in one transaction
MOST_KNOWN: Final = 10_000  # organizations whose subscriptions are kept in memory between facts


class Dispatch:
    """The consumer of every fact, and the sender of what is owed."""

    def __init__(self, doors: Doors, receivers: Receivers, meter: Meter, facts: Sequence[type[Fact]]) -> None:
        self._doors = doors
        self._receivers = receivers
        self._meter = meter
        self._facts = tuple(facts)
        self._known: dict[OrgId, tuple[int, list[Subscription]]] = {}
        self.sender = Sender("events", MOST, self._claim, self._send)

    def consumer(self) -> Consumer:
        """Owes each fact to every enabled subscription of its organization that wants it, once."""
        return Consumer(NAME, self._facts, self._owe, together=TOGETHER)

    async def deliver_for_ever(self, stop: asyncio.Event) -> None:
        """Send what is due until ``stop``, in as many workers as run it; an outage of the database is waited out."""
        await self.sender.send_for_ever(stop)

    async def turn(self, at: datetime | None = None) -> int:
        """Send everything that is due at that time, wait for the answers, and return how much there was."""
        return await self.sender.turn(at)

    async def _claim(self, most: int, at: datetime | None) -> list[Claimed]:
        async with self._doors.database.connection("agentos_system") as connection:
            return await store.claim(connection, uuid.uuid4().hex, most=most, each=EACH, seconds=LEASE_SECONDS, at=at)

    async def _owe(self, deliveries: Sequence[outbox.Delivery]) -> None:
        organization = deliveries[0].organization
        enabled = await self._subscriptions(organization, deliveries[-1].position.transaction)
        owed = [(one, wanting) for one in deliveries if (wanting := _wanting(enabled, one))]
        if not owed:
            return
        async with self._doors.open(organization) as work:
            for one, wanting in owed:
                event_id = f"{one.position.transaction}-{one.position.sequence}"
                await service.owe(work, one.fact, event_id, wanting, at=one.at)
        self.sender.wake()

    async def _subscriptions(self, organization: OrgId, position: int) -> list[Subscription]:
        """The organization's enabled subscriptions, read after this position had been committed.

        What was read after it serves it still: a subscription that came later does not take it.
        """
        known = self._known.get(organization)
        if known is None or known[0] <= position:
            async with self._doors.open(organization) as work:
                known = await store.enabled(work)
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[organization] = known
        return known[1]

    async def _send(self, one: Claimed) -> None:
        began = clock.elapsed()
        try:
            answer = await self._receivers.send(one.url, secret=one.secret, webhook_id=one.id, body=one.event)
        except Exception as error:  # a fault of ours: it is a failed try as any other, and a person can see it
            log.exception("delivery_failed", org=one.organization, error=type(error).__name__)
            answer = Answer(None, "bug")
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
        except Exception as error:  # the lease runs out, and it is sent again with the same id
            log.warning("delivery_not_settled", org=one.organization, error=type(error).__name__)
            return
        self._meter.count(EVENT_DELIVERIES, org=one.organization, outcome=outcome.value)
        if outcome in (Outcome.GONE, Outcome.GIVEN_UP):
            log.warning("delivery_given_up", org=one.organization, subscription=one.subscription_id, said=answer.reason)
        if outcome is not Outcome.HELD:
            self._meter.observe(EVENT_SECONDS, seconds, outcome=outcome.value)


def _wanting(enabled: Sequence[Subscription], one: outbox.Delivery) -> list[Subscription]:
    return [wants for wants in enabled if wants.takes(one.fact, one.position.transaction, one.at)]
