"""Events from Kafka: a consumer group that commits a message's offset once it is taken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from faststream import AckPolicy
from faststream.kafka import KafkaBroker, KafkaMessage

from agentos.adapters.events import LEAVE_SECONDS, Bus, Take
from agentos.adapters.events.settings import BusSettings

AGAIN_SECONDS: Final = 1.0  # before a message that could not be taken is tried again; those behind it wait


@asynccontextmanager
async def connected(settings: BusSettings, take: Take) -> AsyncIterator[Bus]:
    """Take messages while the block runs. Raises the client's errors when Kafka is not there."""
    servers = settings.url.removeprefix("kafka://")
    broker = KafkaBroker(servers, logger=None, graceful_timeout=LEAVE_SECONDS)

    @broker.subscriber(
        settings.topic, group_id=settings.group, auto_offset_reset="earliest", ack_policy=AckPolicy.MANUAL
    )
    async def message(_body: bytes, message: KafkaMessage) -> None:
        # Kafka's binding of CloudEvents names attributes ce_type where HTTP's names them ce-type.
        headers = {name.replace("ce_", "ce-", 1): str(value) for name, value in message.headers.items()}
        while True:  # in place, since committing a later offset would skip this one
            try:
                await take(headers, message.body)
            except Exception:  # "not now", whatever it is
                await asyncio.sleep(AGAIN_SECONDS)
            else:
                await message.ack()
                return

    offsets = AIOKafkaConsumer(bootstrap_servers=servers, group_id=settings.group, enable_auto_commit=False)
    try:
        await offsets.start()  # subscribes to nothing, so it is no member of the group: it only looks
        async with broker:
            await broker.start()
            yield _Kafka(offsets, settings.topic)
    finally:
        await offsets.stop()


@dataclass(slots=True)
class _Kafka:
    offsets: AIOKafkaConsumer
    topic: str

    async def lag(self) -> int:
        await self.offsets.topics()  # asks for the partitions of today
        partitions = [TopicPartition(self.topic, one) for one in self.offsets.partitions_for_topic(self.topic) or ()]
        ends = await self.offsets.end_offsets(partitions)
        return sum([ends[one] - (await self.offsets.committed(one) or 0) for one in partitions])
