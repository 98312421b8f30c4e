"""Events from NATS JetStream: a durable pull consumer, whose messages are acknowledged once they are taken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from faststream import AckPolicy
from faststream.nats import JStream, NatsBroker, NatsMessage, PullSub
from nats.aio.client import Client
from nats.js import JetStreamContext

from agentos.adapters.events import LEAVE_SECONDS, Bus, Take
from agentos.adapters.events.settings import BusSettings

BATCH: Final = 20  # messages fetched at once; each is a commit of a few milliseconds
CONNECT_SECONDS: Final = 3.0  # the client, which is to connect again for ever later on, would also try at first
AGAIN_SECONDS: Final = 2.0  # before a message that could not be taken comes again


@asynccontextmanager
async def connected(settings: BusSettings, take: Take) -> AsyncIterator[Bus]:
    """Take messages while the block runs. Raises the client's errors when NATS or the stream is not there."""
    broker = NatsBroker(
        settings.url, logger=None, connect_timeout=2, max_reconnect_attempts=-1, graceful_timeout=LEAVE_SECONDS
    )

    @broker.subscriber(
        settings.topic,
        stream=JStream(settings.stream, declare=False),
        durable=settings.group,
        pull_sub=PullSub(batch_size=BATCH, timeout=1.0),
        ack_policy=AckPolicy.MANUAL,
    )
    async def message(_body: bytes, message: NatsMessage) -> None:
        try:
            await take({name: str(value) for name, value in message.headers.items()}, message.body)
        except Exception:  # "not now", whatever it is: the bus keeps the message
            await message.nack(delay=AGAIN_SECONDS)
        else:
            await message.ack()

    client = Client()
    clients = [client]
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            await client.connect(settings.url, connect_timeout=2, max_reconnect_attempts=-1)
            clients.append(await broker.connect())
        async with broker:
            await broker.start()
            yield _Nats(client.jetstream(), settings.stream, settings.group)
    finally:  # the broker says goodbye to its server first: while that is away it would call it for ever
        for one in clients:
            with suppress(Exception):  # that one fails to say goodbye must not leave the other behind
                await one.close()


@dataclass(slots=True)
class _Nats:
    stream: JetStreamContext
    name: str
    group: str

    async def lag(self) -> int:
        found = await self.stream.consumer_info(self.name, self.group)
        return (found.num_pending or 0) + (found.num_ack_pending or 0)
