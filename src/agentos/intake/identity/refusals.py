"""Every refused attempt becomes a fact, a flood of them a few: the first at once, those like it as a count a minute."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Final

import structlog

from agentos.intake.identity.model import AccessRefused
from agentos.kernel.clock import elapsed
from agentos.kernel.ids import OrgId
from agentos.kernel.telemetry import Meter
from agentos.kernel.telemetry.catalogue import ACCESS_REFUSED
from agentos.kernel.unit_of_work import Doors

log = structlog.get_logger(__name__)

NOBODYS: Final = OrgId("-")  # no organization can have this name: attempts with a key that nobody knows
WINDOW_SECONDS: Final = 60.0
MOST_WINDOWS: Final = 10_000  # counted apart at a time; whoever forges more addresses is counted as one
_OTHERS: Final = "others"


@dataclass(slots=True)
class _Window:
    fact: AccessRefused
    until: float
    more: int = 0


class Refusals:
    """What this process refused. Nothing here keeps a request from being refused."""

    def __init__(self, doors: Doors, meter: Meter) -> None:
        self._doors = doors
        self._meter = meter
        self._windows: dict[tuple[str, ...], _Window] = {}

    async def note(self, organization: OrgId | None, refused: AccessRefused) -> None:
        """Keep that somebody was refused. Never raises."""
        org = organization or NOBODYS
        self._meter.count(ACCESS_REFUSED, reason=refused.reason)
        if len(self._windows) >= MOST_WINDOWS:
            refused = replace(refused, address=_OTHERS, key_id="", holder="", route="")
        about = (org, refused.reason, refused.address, refused.key_id)
        window = self._windows.get(about)
        if window is not None and elapsed() < window.until:
            window.more += 1
            return
        if window is not None:
            await self._close(about)
        self._windows[about] = _Window(refused, elapsed() + WINDOW_SECONDS)
        await self._publish(OrgId(org), refused)

    async def count_for_ever(self, stop: asyncio.Event) -> None:
        """Publish what was counted as each minute ends, and all of it at ``stop``."""
        while not stop.is_set():
            try:
                await asyncio.wait_for(stop.wait(), WINDOW_SECONDS / 6)
            except TimeoutError:
                await self._close_past(elapsed())
        await self._close_past(float("inf"))

    async def _close_past(self, moment: float) -> None:
        for about in [about for about, window in self._windows.items() if window.until <= moment]:
            await self._close(about)

    async def _close(self, about: tuple[str, ...]) -> None:
        window = self._windows.pop(about, None)  # None: the next refusal has closed it meanwhile
        if window is not None and window.more:
            await self._publish(OrgId(about[0]), replace(window.fact, count=window.more))

    async def _publish(self, organization: OrgId, fact: AccessRefused) -> None:
        try:
            async with self._doors.open(organization) as work:
                await work.publish(fact)
        except Exception as error:  # who was refused stays refused, whether or not it can be written down
            log.warning("refusal_not_kept", error=type(error).__name__, reason=fact.reason)
