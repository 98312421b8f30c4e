"""Facts are read in an order that no late commit can break, and each is handled once per consumer."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import pytest

from agentos.kernel.database import Database
from agentos.kernel.errors import Unavailable
from agentos.kernel.facts import Fact
from agentos.kernel.ids import OrgId
from agentos.kernel.outbox import Consumer, Delivery, consume, read
from agentos.kernel.unit_of_work import Doors


@dataclass(frozen=True, slots=True)
class NumberSeen(Fact):
    """A number was seen; for these tests."""

    key_field: ClassVar[str] = "series"
    series: str
    number: int


def consumer(
    series: str, handled: list[int], *, fail: dict[int, list[Exception]] | None = None, together: int = 1
) -> Consumer:
    async def handle(deliveries: Sequence[Delivery]) -> None:
        facts = [one.fact for one in deliveries if isinstance(one.fact, NumberSeen) and one.fact.series == series]
        for fact in facts:
            failures = (fail or {}).get(fact.number, [])
            if failures:
                raise failures.pop(0)
        handled.extend(fact.number for fact in facts)

    return Consumer(f"test-{series}", (NumberSeen,), handle, together=together, pause=0.05)


async def consumed(database: Database, one: Consumer, handled: list[int], count: int) -> None:
    """Run the consumer until it has handled so many facts."""
    stop = asyncio.Event()
    task = asyncio.create_task(consume(database, [one], stop))
    async with asyncio.timeout(20):
        while len(handled) < count:
            await asyncio.sleep(0.02)
    stop.set()
    await task


async def test_a_transaction_that_commits_late_is_not_skipped(
    doors: Doors, database: Database, organization: OrgId
) -> None:
    series, handled = uuid.uuid4().hex, []
    one = consumer(series, handled)
    async with doors.open(organization) as early:
        await early.publish(NumberSeen(series, 1))  # has the lower transaction id and commits last
        async with doors.open(organization) as late:
            await late.publish(NumberSeen(series, 2))
        async with database.connection("agentos_system") as connection:
            while_open = [d.fact for d in await read(connection, one) if d.fact.key == series]
    assert while_open == []
    await consumed(database, one, handled, 2)
    assert handled == [1, 2]


async def test_a_rolled_back_fact_never_happened(doors: Doors, database: Database, organization: OrgId) -> None:
    series, handled = uuid.uuid4().hex, []
    with pytest.raises(RuntimeError):
        async with doors.open(organization) as work:
            await work.publish(NumberSeen(series, 1))
            raise RuntimeError
    async with doors.open(organization) as work:
        await work.publish(NumberSeen(series, 2))
    await consumed(database, consumer(series, handled), handled, 1)
    assert handled == [2]


async def test_a_consumer_resumes_after_the_last_fact_that_it_handled(
    doors: Doors, database: Database, organization: OrgId
) -> None:
    series, handled = uuid.uuid4().hex, []
    one = consumer(series, handled)
    for number in range(3):
        async with doors.open(organization) as work:
            await work.publish(NumberSeen(series, number))
    await consumed(database, one, handled, 3)
    async with doors.open(organization) as work:
        await work.publish(NumberSeen(series, 3))
    await consumed(database, one, handled, 4)
    assert handled == [0, 1, 2, 3]


async def test_facts_behind_an_unavailable_one_wait_for_it(
    doors: Doors, database: Database, organization: OrgId
) -> None:
    series, handled = uuid.uuid4().hex, []
    away = [Unavailable("away"), Unavailable("away")]
    for number in range(3):
        async with doors.open(organization) as work:
            await work.publish(NumberSeen(series, number))
    await consumed(database, consumer(series, handled, fail={1: away}), handled, 3)
    assert handled == [0, 1, 2]


async def test_a_fact_that_cannot_be_handled_is_set_aside_and_the_rest_goes_on(
    doors: Doors, database: Database, organization: OrgId
) -> None:
    series, handled = uuid.uuid4().hex, []
    for number in range(3):
        async with doors.open(organization) as work:
            await work.publish(NumberSeen(series, number))
    broken = [ValueError("no") for _ in range(10)]
    await consumed(database, consumer(series, handled, fail={1: broken}), handled, 2)
    assert handled == [0, 2]


async def test_two_processes_with_one_consumer_handle_each_fact_once(
    doors: Doors, database: Database, organization: OrgId
) -> None:
    series, handled = uuid.uuid4().hex, []
    for number in range(20):
        async with doors.open(organization) as work:
            await work.publish(NumberSeen(series, number))
    one, stop = consumer(series, handled), asyncio.Event()
    tasks = [asyncio.create_task(consume(database, [one], stop)) for _ in range(2)]
    async with asyncio.timeout(20):
        while len(handled) < 20:
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.3)
    stop.set()
    await asyncio.gather(*tasks)
    assert handled == list(range(20))


def test_a_fact_of_another_release_is_passed_over() -> None:
    assert Fact.read("NobodyKnowsThis", {}) is None
    assert Fact.read("NumberSeen", {"series": "a", "number": 1, "new_field": True}) == NumberSeen("a", 1)
