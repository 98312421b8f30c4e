"""What was refused is told, also when refusals come while others are being told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from agentos.intake.identity.model import AccessRefused
from agentos.intake.identity.refusals import Refusals
from agentos.kernel.facts import Fact
from agentos.kernel.ids import OrgId
from agentos.kernel.telemetry import Meter
from agentos.kernel.unit_of_work import Doors


async def test_a_refusal_that_comes_while_past_ones_are_told_ends_no_counting(
    doors: Doors, organization: OrgId
) -> None:
    held = Doors(doors.database)
    kept = Refusals(held, Meter())
    first, second = (AccessRefused("unknown_key", one, "", "", "/", 1) for one in ("10.0.0.1", "10.0.0.2"))
    for one in (first, first, second, second):
        await kept.note(organization, one)
    for window in kept._windows.values():
        window.until = 0.0
    told: list[str] = []
    comes, counted = asyncio.Event(), asyncio.Event()
    coming: list[asyncio.Task[None]] = []

    async def hint(_organization: OrgId, facts: Sequence[Fact]) -> None:
        (fact,) = facts
        told.append(fact.key)
        if fact.key == first.address:
            coming.append(asyncio.create_task(kept.note(organization, second)))
            await comes.wait()
        else:
            comes.set()
            await counted.wait()

    held.hint = hint
    stop = asyncio.Event()
    stop.set()
    await kept.count_for_ever(stop)
    counted.set()
    await asyncio.gather(*coming)
    assert told == [first.address, second.address, second.address]
