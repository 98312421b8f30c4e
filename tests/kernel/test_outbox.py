"""Facts are read in an order that no late commit can break, and each is handled once per consumer."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
from sqlalchemy import text

from agentos.intake.identity import service as identity
from agentos.kernel import outbox
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


@dataclass(frozen=True, slots=True)
class LetterSeen(Fact):
    """A letter was seen; for these tests."""

    key_field: ClassVar[str] = "series"
    series: str
    letter: str


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
            while_open = [d.fact for d in (await read(connection, one))[0] if d.fact.key == series]
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


@pytest.mark.parametrize("body", ['{"series": "x"}', "7", "[]", '"number"'])
async def test_a_fact_that_cannot_be_read_is_set_aside_and_the_rest_goes_on(
    doors: Doors, database: Database, organization: OrgId, body: str
) -> None:
    written = text("INSERT INTO outbox (org, name, key, body) VALUES (:org, 'NumberSeen', 'x', CAST(:body AS jsonb))")
    series, handled = uuid.uuid4().hex, list[int]()
    async with doors.open(organization) as work:
        await work.publish(NumberSeen(series, 0))
        await work.run(written, {"org": organization, "body": body})
        await work.publish(NumberSeen(series, 2))
        await work.run(written, {"org": organization, "body": body})
    one = consumer(series, handled)
    async with database.connection("agentos_system") as connection:
        there = len((await read(connection, one))[1])  # those of the tests before, too
    await consumed(database, one, handled, 2)
    assert handled == [0, 2]
    async with database.connection("agentos_system") as connection:
        assert await read(connection, one) == ([], [])
        lag = (await connection.execute(text("SELECT * FROM outbox_lag()"))).mappings().all()
    assert there >= 2
    assert [row["failures"] for row in lag if row["consumer"] == one.name] == [there]


async def test_facts_of_a_moment_are_handled_together_and_a_broken_one_alone(
    doors: Doors, database: Database, organization: OrgId
) -> None:
    series, handled, together = uuid.uuid4().hex, [], list[int]()
    async with doors.open(organization) as work:
        for number in range(6):
            await work.publish(NumberSeen(series, number))
    inner = consumer(series, handled, fail={2: [ValueError("no") for _ in range(10)]}, together=4)

    async def handle(deliveries: Sequence[Delivery]) -> None:
        together.append(len([one for one in deliveries if one.fact.key == series]))
        await inner.handle(deliveries)

    await consumed(database, replace(inner, handle=handle), handled, 5)
    assert handled == [0, 1, 3, 4, 5]
    assert max(together) > 1


async def test_facts_of_two_organizations_are_never_handled_together(
    doors: Doors, database: Database, organization: OrgId
) -> None:
    series, seen = uuid.uuid4().hex, list[tuple[OrgId, int]]()
    other = OrgId(f"o{uuid.uuid4().hex[:12]}")
    await identity.found_organization(database, other, name="Another organization")
    for number, whose in enumerate((organization, organization, other, organization)):
        async with doors.open(whose) as work:
            await work.publish(NumberSeen(series, number))

    async def handle(deliveries: Sequence[Delivery]) -> None:
        (whose,) = {one.organization for one in deliveries}
        facts = [one.fact for one in deliveries]
        seen.extend((whose, one.number) for one in facts if isinstance(one, NumberSeen) and one.series == series)

    one = Consumer(f"test-{series}", (NumberSeen,), handle, together=10, pause=0.05)
    stop = asyncio.Event()
    task = asyncio.create_task(consume(database, [one], stop))
    async with asyncio.timeout(20):
        while len(seen) < 4:
            await asyncio.sleep(0.02)
    stop.set()
    await task
    assert seen == [(organization, 0), (organization, 1), (other, 2), (organization, 3)]


async def test_one_look_serves_every_consumer_of_a_process(
    doors: Doors, database: Database, organization: OrgId
) -> None:
    """Who reads rare facts is woken by them, however many others come before."""
    series, numbers, letters = uuid.uuid4().hex, list[int](), list[str]()

    async def spelled(deliveries: Sequence[Delivery]) -> None:
        letters.extend(
            one.fact.letter for one in deliveries if isinstance(one.fact, LetterSeen) and one.fact.series == series
        )

    readers = [consumer(series, numbers), Consumer(f"test-letters-{series}", (LetterSeen,), spelled, pause=0.05)]
    stop = asyncio.Event()
    task = asyncio.create_task(consume(database, readers, stop))
    async with asyncio.timeout(20):
        for number in range(5):
            async with doors.open(organization) as work:
                await work.publish(NumberSeen(series, number))
            while len(numbers) <= number:
                await asyncio.sleep(0.02)
        async with doors.open(organization) as work:
            await work.publish(LetterSeen(series, "a"))
        while not letters:
            await asyncio.sleep(0.02)
    stop.set()
    await task
    assert (numbers, letters) == ([0, 1, 2, 3, 4], ["a"])


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


async def test_when_the_process_that_reads_dies_another_goes_on(
    doors: Doors, database: Database, organization: OrgId
) -> None:
    series, handled, stuck = uuid.uuid4().hex, list[int](), asyncio.Event()
    after = consumer(series, handled)

    async def hang(deliveries: Sequence[Delivery]) -> None:
        if any(isinstance(one.fact, NumberSeen) and one.fact.number == 1 for one in deliveries):
            stuck.set()
            await asyncio.Event().wait()

    for number in range(3):
        async with doors.open(organization) as work:
            await work.publish(NumberSeen(series, number))
    stop = asyncio.Event()
    dies = asyncio.create_task(consume(database, [replace(after, handle=hang)], stop))
    async with asyncio.timeout(20):
        await stuck.wait()
        stands_by = asyncio.create_task(consume(database, [after], stop))
        await asyncio.sleep(0.5)
        assert handled == []
        dies.cancel()
        await asyncio.gather(dies, return_exceptions=True)
        while 2 not in handled:
            await asyncio.sleep(0.02)
    stop.set()
    await stands_by
    assert handled[-2:] == [1, 2]


async def test_a_handler_that_does_not_end_keeps_no_process_from_its_end(
    doors: Doors, database: Database, organization: OrgId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "LEAVE_SECONDS", 0.1)
    series, stuck, stop = uuid.uuid4().hex, asyncio.Event(), asyncio.Event()

    async def hang(_deliveries: Sequence[Delivery]) -> None:
        stuck.set()
        await asyncio.Event().wait()

    async with doors.open(organization) as work:
        await work.publish(NumberSeen(series, 1))
    task = asyncio.create_task(consume(database, [replace(consumer(series, []), handle=hang)], stop))
    async with asyncio.timeout(20):
        await stuck.wait()
        stop.set()
        await task


async def test_a_database_that_does_not_answer_keeps_no_process_from_its_end(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "LEAVE_SECONDS", 0.1)
    stuck, stop = asyncio.Event(), asyncio.Event()

    async def hang(*_: object) -> None:
        stuck.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(outbox, "skip", hang)
    task = asyncio.create_task(consume(database, [consumer(uuid.uuid4().hex, [])], stop))
    async with asyncio.timeout(20):
        await stuck.wait()
        stop.set()
        await task


def test_a_fact_of_another_release_is_passed_over() -> None:
    assert Fact.read("NobodyKnowsThis", {}) is None
    assert Fact.read("NumberSeen", {"series": "a", "number": 1, "new_field": True}) == NumberSeen("a", 1)
