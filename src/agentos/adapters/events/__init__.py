"""Events in from a bus (NATS JetStream or Kafka, by the scheme of its address), and out by signed webhooks.

All of them deliver at least once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

import structlog

from agentos.adapters.events.settings import BusSettings
from agentos.kernel.looking import pause
from agentos.kernel.telemetry import Meter
from agentos.kernel.telemetry.catalogue import EVENTS_LAG

log = structlog.get_logger(__name__)

LAG_SECONDS: Final = 5.0  # between looks at how far behind we are
AGAIN_SECONDS: Final = 1.0  # before a bus that is away is asked again
LEAVE_SECONDS: Final = 3.0  # for messages that are being taken when it is told to stop; cut off, they come again

# Takes a message's headers and body. What it raises means "not now": the message comes again.
Take = Callable[[Mapping[str, str], bytes], Awaitable[None]]


class Bus(Protocol):
    """A connection to a bus from which messages are being taken."""

    async def lag(self) -> int:
        """Messages of the topic that our group has yet to finish."""
        ...


async def listen_for_ever(settings: BusSettings, take: Take, meter: Meter, stop: asyncio.Event) -> None:
    """Take the bus's messages until ``stop``, and measure the lag. A bus that is away is waited for."""
    while not stop.is_set():
        try:
            async with _connected(settings, take) as bus:
                log.info("bus_connected", topic=settings.topic)
                while not stop.is_set():
                    meter.set(EVENTS_LAG, await bus.lag(), topic=settings.topic)
                    await pause(stop, LAG_SECONDS)
        except Exception as error:  # the listener outlives every outage of the bus
            log.warning("bus_waits", error=type(error).__name__, topic=settings.topic)
            await pause(stop, AGAIN_SECONDS)


def _connected(settings: BusSettings, take: Take) -> AbstractAsyncContextManager[Bus]:
    # Imported where they are used: a platform without a bus does not pay for them.
    if settings.url.startswith("nats:"):
        from agentos.adapters.events.nats import connected as nats

        return nats(settings, take)
    from agentos.adapters.events.kafka import connected as kafka

    return kafka(settings, take)
