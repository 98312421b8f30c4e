"""A real receiver on loopback, and an organization whose facts are dispatched without waiting for the clock."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from aiohttp import web
from sqlalchemy import text

from agentos.adapters.events.webhook import Webhooks
from agentos.adapters.secrets.environment import SecretMissing
from agentos.evidence.subscriptions import service
from agentos.evidence.subscriptions.dispatch import Dispatch
from agentos.evidence.subscriptions.model import Delivery, DeliveryGivenUp, Subscription
from agentos.kernel.clock import now
from agentos.kernel.database import Database
from agentos.kernel.facts import Fact
from agentos.kernel.ids import OrgId
from agentos.kernel.outbox import Consumer, consume
from agentos.kernel.telemetry import Meter
from agentos.kernel.unit_of_work import Doors

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@dataclass(frozen=True, slots=True)
class BellRung(Fact):
    """A bell was rung; for these tests."""

    key_field: ClassVar[str] = "bell"
    bell: str
    times: int


@dataclass
class Receiver:
    """Keeps what it is sent, and answers what it is told to once its gate is open."""

    url: str = ""
    received: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    answer: Callable[[], web.Response] = lambda: web.Response(text="taken")
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    at_once: int = 0
    most_at_once: int = 0

    async def take(self, request: web.Request) -> web.Response:
        self.received.append(({k.lower(): v for k, v in request.headers.items()}, await request.read()))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.gate.wait()
            return self.answer()
        finally:
            self.at_once -= 1

    @property
    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in self.received]

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.received]


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A receiver on a port of its own."""
    one = Receiver()
    one.gate.set()
    app = web.Application()
    app.router.add_post("/hook", one.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    one.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    yield one
    one.gate.set()
    await runner.cleanup()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as one:
        yield one


@pytest.fixture
async def other_receiver() -> AsyncIterator[Receiver]:
    async with receiving() as one:
        yield one


class Told:
    """One organization, its subscriptions, and workers that dispatch its facts."""

    def __init__(self, database: Database, organization: OrgId) -> None:
        self.database, self.organization = database, organization
        self.doors = Doors(database)
        self.meter = Meter()
        self.secrets = {"hook": SECRET}
        self.hosts: tuple[str, ...] = ("127.0.0.1",)
        self.dispatch = self.worker()

    def worker(self) -> Dispatch:
        """Another worker over the same database."""
        facts = (BellRung, DeliveryGivenUp)
        return Dispatch(self.doors, Webhooks(self._secret, self.hosts), self.meter, facts)

    def _secret(self, name: str) -> str:
        if name not in self.secrets:
            raise SecretMissing(f"there is no secret '{name}'")
        return self.secrets[name]

    async def subscribe(self, url: str, *wants: str, enabled: bool = True, secret: str = "hook") -> Subscription:
        """A subscription to these facts."""
        async with self.doors.open(self.organization) as work:
            return await service.add(
                work,
                name=f"n{uuid.uuid4().hex[:12]}",
                url=url,
                wants=wants or ("BellRung",),
                secret=f"secret://{secret}",
                enabled=enabled,
                by="tester",
            )

    async def ring(self, *times: int) -> None:
        """Facts, one transaction each."""
        for number in times or (1,):
            async with self.doors.open(self.organization) as work:
                await work.publish(BellRung("big", number))

    async def owe(self, worker: Dispatch | None = None) -> None:
        """Let the consumer pass every fact that there is."""
        consumer = (worker or self.dispatch).consumer()
        async with self.doors.open(self.organization) as work:
            row = await work.first(
                text("SELECT o.txid::text AS txid, o.seq FROM outbox o ORDER BY o.txid DESC, o.seq DESC")
            )
        seen, stop = asyncio.Event(), asyncio.Event()
        assert row is not None
        last = (int(row.txid), row.seq)

        async def handle(deliveries: Any) -> None:
            for delivery in deliveries:
                if delivery.organization == self.organization:
                    if isinstance(delivery.fact, consumer.facts):
                        await consumer.handle([delivery])
                    if (delivery.position.transaction, delivery.position.sequence) >= last:
                        seen.set()

        everything = tuple(Fact.kinds.values())
        task = asyncio.create_task(
            consume(self.database, [Consumer(f"test-{uuid.uuid4().hex}", everything, handle)], stop)
        )
        async with asyncio.timeout(60):
            await seen.wait()
        stop.set()
        await task

    async def turn(self, after: timedelta = timedelta(), *, worker: Dispatch | None = None) -> None:
        """Send what this organization is owed and is due so long from now."""
        await (worker or self.dispatch).turn(now() + after)

    async def deliveries(self, one: Subscription, state: str = "") -> list[Delivery]:
        async with self.doors.open(self.organization) as work:
            return await service.deliveries(work, one.id, state=state, after="", most=2000)

    async def the_delivery(self, one: Subscription) -> Delivery:
        (found,) = await self.deliveries(one)
        return found

    async def subscription(self, one: Subscription) -> Subscription:
        async with self.doors.open(self.organization) as work:
            return await service.get(work, one.id)

    async def facts(self, *names: str) -> list[dict[str, Any]]:
        """The bodies of the organization's facts of these names, in order."""
        statement = text("SELECT body FROM outbox WHERE name = ANY(:names) ORDER BY txid, seq")
        async with self.doors.open(self.organization) as work:
            return [row.body for row in await work.all(statement, {"names": list(names)})]


@pytest.fixture
async def told(database: Database, organization: OrgId) -> AsyncIterator[Told]:
    one = Told(database, organization)
    yield one
    async with one.doors.open(organization) as work:  # what is still owed would come due in other tests
        await work.run(text("DELETE FROM deliveries"))
