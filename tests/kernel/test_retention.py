"""What is over is forgotten in batches, and forgetting keeps no process from its end."""

from __future__ import annotations

import asyncio

import pytest

from agentos.kernel import outbox, retention
from agentos.kernel.database import Database
from agentos.kernel.retention import forget_for_ever


async def test_however_much_there_is_to_forget_it_ends_when_it_is_told_to(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 0)  # so that each batch is a full one
    stop = asyncio.Event()
    forgetting = asyncio.create_task(forget_for_ever(database, [outbox.KEPT] * 3, stop))
    await asyncio.sleep(0.1)
    assert not forgetting.done()
    stop.set()
    async with asyncio.timeout(20):
        await forgetting
