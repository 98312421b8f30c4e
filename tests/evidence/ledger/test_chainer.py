"""Every fact is chained once and in order, whoever writes, whoever chains and whoever is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from agentos.evidence.ledger import store
from agentos.evidence.ledger.anchors import Anchors
from agentos.evidence.ledger.chain import chained, shown
from agentos.evidence.ledger.chainer import Chainer
from agentos.evidence.ledger.model import Search
from agentos.evidence.ledger.service import search, standing, state
from agentos.intake.identity import service as identity
from agentos.kernel import outbox
from agentos.kernel.clock import now
from agentos.kernel.database import Database
from agentos.kernel.ids import OrgId
from agentos.kernel.outbox import Consumer, Delivery
from agentos.kernel.retention import forget
from agentos.kernel.settings import DatabaseSettings
from agentos.kernel.unit_of_work import Doors
from tests.conftest import new_database
from tests.evidence.ledger.conftest import Books, CoinTossed

WRITERS = 4
EACH = 60
PROCESS = [sys.executable, "-m", "tests.evidence.ledger.processes"]


def start(books: Books, *words: str) -> subprocess.Popen[bytes]:
    """A process that writes or chains, until it is done or killed."""
    env = {
        **os.environ,
        "DATABASE_URL": books.url,
        "AGENTOS_LEDGER_KEY": str(books.key),
        "AGENTOS_LEDGER_ANCHORS": str(books.anchors.folder),
    }
    return subprocess.Popen([*PROCESS, *words], env=env)


async def ids(books: Books, organization: OrgId) -> tuple[list[str], list[str]]:
    """The positions of an organization's facts, as they were committed and as they were chained."""
    driver = await books.superuser()
    written = await driver.fetch(
        "SELECT txid::text || '-' || seq AS id FROM outbox WHERE org = $1 ORDER BY txid, seq", organization
    )
    await driver.close()
    entries: list[dict[str, Any]] = []
    async with books.doors.open(organization) as work:
        while rows := await search(work, Search(), beyond=len(entries) or None, is_oldest_first=True, most=200):
            entries += [shown(row) for row in rows]
    return [row["id"] for row in written], [one["id"] for one in entries]


async def test_facts_are_entries_in_their_order_and_found_by_what_they_say(books: Books, organization: OrgId) -> None:
    await books.toss(organization, 3)
    await books.chain()
    written, entries = await ids(books, organization)
    assert entries == written
    async with books.doors.open(organization) as work:
        for words in ({"name": "CoinTossed"}, {"key": "euro"}, {"person": "ada"}, {"run_id": "run_x"}):
            found = await search(work, Search(**words), beyond=None, is_oldest_first=False, most=10)
            assert [row.number for row in found] == [3, 2, 1], words
        assert await search(work, Search(person="eve"), beyond=None, is_oldest_first=False, most=10) == []
        assert await search(work, Search(since=now()), beyond=None, is_oldest_first=False, most=10) == []


async def test_writers_and_chainers_in_many_processes_never_fork_a_chain(books: Books, organization: OrgId) -> None:
    started = [start(books, "write", organization, str(EACH)) for _ in range(WRITERS)]
    started += [start(books, "chain", "2") for _ in range(3)]
    assert [await asyncio.to_thread(one.wait, 60) for one in started] == [0] * len(started)
    await books.chain()
    written, entries = await ids(books, organization)
    assert len(written) == WRITERS * EACH
    assert entries == written
    assert (await books.look(organization)).broken is None


async def test_a_chainer_that_is_killed_at_any_moment_loses_and_doubles_nothing(
    books: Books, organization: OrgId
) -> None:
    writing = start(books, "write", organization, "400")
    for pause in (0.9, 1.0, 1.1, 1.3):
        chaining = start(books, "chain", "30")
        await asyncio.sleep(pause)
        chaining.send_signal(signal.SIGKILL)
        await asyncio.to_thread(chaining.wait)
    assert await asyncio.to_thread(writing.wait, 60) == 0
    await books.chain()
    written, entries = await ids(books, organization)
    assert len(written) == 400
    assert entries == written
    assert (await books.look(organization)).broken is None


async def test_a_chainer_ends_when_it_is_told_to_though_facts_keep_coming(books: Books, organization: OrgId) -> None:
    stop, ended = asyncio.Event(), asyncio.Event()

    async def write() -> None:
        while not ended.is_set():
            await books.toss(organization, 1)

    writing = [asyncio.create_task(write()) for _ in range(4)]
    chaining = asyncio.create_task(books.chainer().chain_for_ever(stop))
    try:
        async with asyncio.timeout(20):
            while not books.anchors.file(organization).exists():
                await asyncio.sleep(0.02)
            stop.set()
            await chaining
    finally:
        ended.set()
        await asyncio.gather(*writing)
    await books.chain()
    written, entries = await ids(books, organization)
    assert entries == written


async def test_a_batch_on_an_end_that_has_moved_is_refused_whole(books: Books, organization: OrgId) -> None:
    await books.toss(organization, 2)
    driver = await (await books.database.driver("agentos_system")).acquire()
    facts = await store.read(driver, 1000)
    batch = chained(books.keys, await store.ends(driver, [organization]), facts, began=0)
    assert await books.chain() >= 2
    with pytest.raises(asyncpg.PostgresError, match="has gone on"):
        await store.append(driver, batch, facts[0], facts[-1])
    await (await books.database.driver("agentos_system")).release(driver)
    assert (await books.look(organization)).entries == 2


async def test_a_body_that_is_no_facts_is_chained_as_broken_and_holds_back_nobody(
    books: Books, organization: OrgId
) -> None:
    await books.toss(organization, 1)
    driver = await books.superuser()
    for body in ("[]", "7", '{"by": 1e5000}'):
        await driver.execute(
            "INSERT INTO outbox (org, name, key, body) VALUES ($1, 'PolicyChanged', 'x', $2::text::jsonb)",
            organization,
            body,
        )
    await driver.close()
    await books.toss(organization, 1)
    await books.chain()
    async with books.doors.open(organization) as work:
        rows = await search(work, Search(), beyond=None, is_oldest_first=True, most=10)
        assert [shown(row)["seal"] for row in rows] == ["whole", "broken", "broken", "broken", "whole"]
        await state(work, books.keys, at=now(), now=now())
    broken = (await books.look(organization)).broken
    assert broken is not None
    assert broken.number == 2


@pytest.mark.parametrize(
    "done",
    [
        "DELETE FROM ledger_heads WHERE org = $1",
        "UPDATE ledger_heads SET number = 1 WHERE org = $1",
        "UPDATE ledger_heads SET number = 0, hash = sha256(hash) WHERE org = $1",
    ],
)
async def test_a_chain_whose_end_was_changed_holds_back_no_other(books: Books, organization: OrgId, done: str) -> None:
    other = OrgId(f"{organization}_b")
    await identity.found_organization(books.database, other, name="Other")
    await books.toss(organization, 3)
    await books.chain()
    before = (await standing(books.database, None))["set_aside"]
    driver = await books.superuser()
    await driver.execute(done, organization)
    await driver.close()
    await books.toss(organization, 2)
    await books.toss(other, 2)
    await books.chain()
    assert (await books.look(other)).entries >= 2
    assert (await books.look(organization)).broken is not None
    assert (await standing(books.database, None))["set_aside"] == before + 2


async def test_anchors_that_cannot_be_written_are_counted_and_chaining_goes_on(
    books: Books, organization: OrgId, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    books.anchors = Anchors(tmp_path / "file", books.keys)
    await books.toss(organization, 2)
    assert await books.chainer().turn() >= 2
    assert (await standing(books.database, None))["waiting"] == 0
    assert 'agentos_ledger_anchor_errors_total{code="anchors_unusable"' in books.meter.page().decode()


async def test_a_late_commit_is_chained_in_its_place(books: Books, organization: OrgId) -> None:
    async with books.doors.open(organization) as early:
        await early.publish(CoinTossed("euro", 1))
        await books.toss(organization, 1)
        await books.chain()
    await books.chain()
    written, entries = await ids(books, organization)
    assert entries == written
    assert len(entries) == 2


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger SET name = 'x'",
        "DELETE FROM ledger",
        "TRUNCATE ledger",
        "INSERT INTO ledger (org, number, hash, entry, at, name, key) VALUES ('o', 1, '', '', now(), 'x', 'x')",
        "UPDATE ledger_heads SET number = 0",
        "DELETE FROM ledger_heads",
        "SELECT ledger_verified('o', 1, '')",
    ],
)
async def test_the_application_can_only_read_it(
    database: Database, books: Books, organization: OrgId, statement: str
) -> None:
    await books.toss(organization, 1)
    await books.chain()
    with pytest.raises(DBAPIError, match="permission denied"):
        async with books.doors.open(organization) as work:
            await work.run(text(statement))
    assert (await books.look(organization)).broken is None


async def test_an_organization_sees_no_entry_of_another(books: Books, organization: OrgId) -> None:
    await books.toss(organization, 1)
    await books.chain()
    async with books.doors.open(OrgId("somebody_else")) as work:
        assert await work.all(text("SELECT 1 FROM ledger")) == []
        assert await work.all(text("SELECT 1 FROM ledger_heads")) == []


async def test_facts_are_forgotten_once_they_are_chained_and_every_consumer_has_passed_them(
    books: Books, organization: OrgId
) -> None:
    async def nothing(_deliveries: Sequence[Delivery]) -> None:
        return None

    late = Consumer("late", (CoinTossed,), nothing)
    driver = await books.superuser()
    await driver.execute("DELETE FROM outbox_cursors WHERE consumer <> 'ledger'")  # nobody else reads here
    await driver.execute("INSERT INTO outbox_cursors (consumer, txid, seq) VALUES ('late', '1', 0)")
    await books.toss(organization, 3)
    later = now() + outbox.KEPT.kept * 2

    async def left() -> int:
        return int(await driver.fetchval("SELECT count(*) FROM outbox WHERE org = $1", organization))

    await forget(books.database, outbox.KEPT, at=later)
    assert await left() == 3  # not chained, and not passed
    await books.chain()
    await forget(books.database, outbox.KEPT, at=later)
    assert await left() == 3  # not passed
    await outbox.skip(books.database, late)
    await forget(books.database, outbox.KEPT, at=later)
    assert await left() == 3  # a fact of its own lies before it
    await outbox.skip(books.database, Consumer("late", (), nothing))
    await forget(books.database, outbox.KEPT, at=now())
    assert await left() == 3  # not old enough
    await forget(books.database, outbox.KEPT, at=later)
    assert await left() == 0
    await books.toss(organization, 1)
    await books.chain()
    found = await books.look(organization)
    assert (found.entries, found.broken) == (4, None)
    await driver.execute("DELETE FROM outbox_cursors WHERE consumer = 'late'")
    await driver.close()


async def test_without_a_key_facts_are_forgotten_unchained_but_never_sealed_ones(
    books: Books, organization: OrgId
) -> None:
    driver = await books.superuser()
    await driver.execute("DELETE FROM outbox_cursors WHERE consumer <> 'ledger'")
    await books.chain()
    await books.toss(organization, 1)  # sealed, and not chained
    keyless = Database(DatabaseSettings(url=SecretStr(books.url), pool_size=2))
    try:
        async with Doors(keyless).open(organization) as work:
            await work.publish(CoinTossed("pound", 1))
        await driver.execute(
            "INSERT INTO outbox_cursors (consumer, txid, seq) SELECT 'late', max(txid), 1000000000 FROM outbox"
        )
        left = "SELECT array_agg(key ORDER BY key) FROM outbox WHERE org = $1"
        await forget(books.database, outbox.KEPT, at=now() + outbox.KEPT.kept * 2)
        assert await driver.fetchval(left, organization) == ["euro", "pound"]  # with a key nothing goes unchained
        await forget(keyless, outbox.KEPT, at=now() + outbox.KEPT.kept * 2)
        assert await driver.fetchval(left, organization) == ["euro"]
    finally:
        await keyless.close()
        await driver.execute("DELETE FROM outbox_cursors WHERE consumer = 'late'")
        await driver.close()


async def test_consumers_of_evidence_begin_with_everything() -> None:
    url = await new_database(f"seeded_{os.getpid()}")
    database = Database(DatabaseSettings(url=SecretStr(url), pool_size=2))
    try:
        async with database.connection("agentos_system") as connection:
            rows = (await connection.execute(text("SELECT consumer FROM outbox_lag()"))).all()
    finally:
        await database.close()
    assert {row.consumer for row in rows} >= {"ledger", "artifacts", "quality", "evals", "usage"}


async def test_anchors_are_written_when_they_are_due_and_only_for_ends_that_are_new(
    books: Books, organization: OrgId
) -> None:
    await books.toss(organization, 1)
    chainer: Chainer = books.chainer()
    await books.turn(chainer)
    assert books.anchors.last()[0][organization].number == 1
    assert await chainer.anchor() == 0
    await books.toss(organization, 1)
    await books.turn(chainer)  # five seconds are not over
    assert books.anchors.last()[0][organization].number == 1
    assert await chainer.anchor() == 1
    assert books.anchors.last()[0][organization].number == 2
    assert books.anchors.file(organization).stat().st_mode & 0o777 == 0o600
