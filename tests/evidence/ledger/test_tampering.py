"""Whatever is done to a chain straight in the database is found, and named for what it is."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from benchmarks.evidence.tamperer import LENGTH, tamper
from pydantic import SecretStr

from agentos.apps.cli import audit
from agentos.apps.cli.audit import LedgerBroken
from agentos.apps.ledger import verified_of_nobody
from agentos.evidence.ledger import service
from agentos.evidence.ledger.anchors import Anchors, History
from agentos.evidence.ledger.model import Broken, Seen, Tampering, Verified
from agentos.intake.identity.refusals import NOBODYS
from agentos.kernel.database import Database
from agentos.kernel.ids import OrgId
from agentos.kernel.settings import DatabaseSettings
from agentos.kernel.unit_of_work import Doors
from tests.conftest import new_database
from tests.evidence.ledger.conftest import Books


async def chain(books: Books, organization: OrgId, count: int = 12) -> Any:
    await books.toss(organization, count)
    await books.chain()
    return await books.superuser()


async def found(books: Books, organization: OrgId, *statements: str) -> Broken | None:
    """What verifying finds after these statements of a superuser's, which are taken back."""
    driver = await chain(books, organization)
    try:
        transaction = driver.transaction()
        await transaction.start()
        for statement in statements:
            await driver.execute(statement.replace(":org", f"'{organization}'"))
        return (await books.look(organization, driver)).broken
    finally:
        await driver.close()


UP = "UPDATE ledger SET number = number + 1000 WHERE org = :org AND number {}"
DOWN = "UPDATE ledger SET number = number - {} WHERE org = :org AND number > 1000"
SWAP = "UPDATE ledger SET number = {} WHERE org = :org AND number = {}"
FORGED = (
    "INSERT INTO ledger SELECT org, {}, hash, {}, at, name, key, person, run_id, deployment_id "
    "FROM ledger WHERE org = :org AND number = 3"
)
HEAD = (
    "UPDATE ledger_heads h SET number = l.number, hash = l.hash FROM ledger l "
    "WHERE h.org = :org AND l.org = :org AND l.number = (SELECT max(number) FROM ledger WHERE org = :org)"
)


@pytest.mark.parametrize(
    ("kind", "number", "statements"),
    [
        (Tampering.EDIT, 4, ["UPDATE ledger SET entry = entry || '\\x20' WHERE org = :org AND number = 4"]),
        (Tampering.EDIT, 4, ["UPDATE ledger SET hash = sha256(hash) WHERE org = :org AND number = 4"]),
        (Tampering.EDIT, 7, ["UPDATE ledger SET person = 'eve' WHERE org = :org AND number = 7"]),
        (Tampering.EDIT, 7, ["UPDATE ledger SET at = at - interval '1 day' WHERE org = :org AND number = 7"]),
        (Tampering.EDIT, 12, ["UPDATE ledger_heads SET hash = sha256(hash) WHERE org = :org"]),
        (Tampering.DELETION, 5, ["DELETE FROM ledger WHERE org = :org AND number BETWEEN 5 AND 6"]),
        (
            Tampering.DELETION,
            5,
            ["DELETE FROM ledger WHERE org = :org AND number = 5", UP.format("> 5"), DOWN.format(1001), HEAD],
        ),
        (Tampering.INSERTION, 5, [UP.format(">= 5"), DOWN.format(999), FORGED.format(5, "entry || '\\x20'"), HEAD]),
        (Tampering.INSERTION, 5, [UP.format(">= 5"), DOWN.format(999), FORGED.format(5, "entry"), HEAD]),
        (Tampering.INSERTION, 13, [FORGED.format(13, "entry || '\\x20'")]),
        (
            Tampering.REORDERING,
            5,
            [SWAP.format("-5", "5"), SWAP.format("5", "8"), SWAP.format("8", "-5")],
        ),
        (Tampering.TRUNCATION, 9, ["DELETE FROM ledger WHERE org = :org AND number > 8"]),
        (Tampering.TRUNCATION, 9, ["DELETE FROM ledger WHERE org = :org AND number > 8", HEAD]),
        (Tampering.TRUNCATION, 1, ["DELETE FROM ledger WHERE org = :org", "DELETE FROM ledger_heads WHERE org = :org"]),
    ],
)
async def test_it_is_named_with_the_first_link_that_is_wrong(
    books: Books, organization: OrgId, kind: Tampering, number: int, statements: list[str]
) -> None:
    broken = await found(books, organization, *statements)
    assert broken is not None
    assert (broken.kind, broken.number) == (kind, number), broken.what


async def test_a_thousand_random_ones_are_all_found(books: Books, organization: OrgId) -> None:
    driver, chance = await chain(books, organization, LENGTH), random.Random(6)
    assert (await books.look(organization, driver)).broken is None
    missed = []
    for number in range(1000):
        transaction = driver.transaction()
        await transaction.start()
        did = await tamper(driver, organization, chance)
        if (await books.look(organization, driver)).broken is None:
            missed.append((number, did))
        await transaction.rollback()
    assert missed == []
    assert (await books.look(organization, driver)).broken is None
    await driver.close()


async def test_a_cut_behind_the_last_anchor_is_told_as_the_window_that_it_is(books: Books, organization: OrgId) -> None:
    driver = await chain(books, organization)
    await books.toss(organization, 5)
    await books.turn(books.chainer())  # anchors are due at once for a new one
    covered = await books.look(organization, driver)
    assert covered.window == 0
    await books.toss(organization, 3)
    late = books.chainer()
    late._anchored_at = float("inf")  # not due
    await books.turn(late)
    before = await books.look(organization, driver)
    assert (before.broken, before.entries, before.window) == (None, 20, 3)
    await driver.execute("DELETE FROM ledger WHERE org = $1 AND number > 18", organization)
    await driver.execute(HEAD.replace(":org", f"'{organization}'"))
    after = await books.look(organization, driver)
    assert (after.broken, after.entries, after.window) == (None, 18, 1)
    await driver.execute("DELETE FROM ledger WHERE org = $1 AND number > 16", organization)
    await driver.execute(HEAD.replace(":org", f"'{organization}'"))
    cut = (await books.look(organization, driver)).broken
    assert cut is not None
    assert (cut.kind, cut.number) == (Tampering.TRUNCATION, 17)
    await driver.close()


async def test_a_chain_that_was_cut_and_went_on_does_not_fit_its_anchors(books: Books, organization: OrgId) -> None:
    driver = await chain(books, organization)
    await driver.execute("DELETE FROM ledger WHERE org = $1 AND number > 8", organization)
    await driver.execute(HEAD.replace(":org", f"'{organization}'"))
    await driver.execute("DELETE FROM outbox WHERE org = $1", organization)  # else they are chained again as they were
    await books.toss(organization, 10)
    await books.chain()
    broken = (await books.look(organization, driver)).broken
    assert broken is not None
    assert broken.kind is Tampering.TRUNCATION
    await driver.close()


@pytest.mark.parametrize(
    "done",
    [
        "UPDATE outbox SET body = body || '{\"number\": 99}' WHERE org = :org AND body->>'number' = '3'",
        "UPDATE outbox SET at = at - interval '1 hour' WHERE org = :org AND body->>'number' = '3'",
        "UPDATE outbox SET seal = NULL WHERE org = :org AND body->>'number' = '3'",
        "INSERT INTO outbox (org, name, key, body) VALUES (:org, 'CoinTossed', 'x', '{}')",
    ],
)
async def test_a_fact_that_was_changed_or_made_up_before_it_was_chained_is_found(
    books: Books, organization: OrgId, done: str
) -> None:
    await books.toss(organization, 5)
    driver = await books.superuser()
    await driver.execute(done.replace(":org", f"'{organization}'"))
    await driver.close()
    await books.chain()
    broken = (await books.look(organization)).broken
    assert broken is not None
    assert broken.kind is Tampering.FACT
    assert broken.number == (6 if done.startswith("INSERT") else 4)


async def test_facts_that_are_chained_again_are_told_and_so_is_a_cursor_that_was_set(
    books: Books, organization: OrgId
) -> None:
    driver = await chain(books, organization)

    async def is_astray(statement: str) -> bool:
        await driver.execute(statement)
        return bool((await service.standing(books.database, books.anchors))["is_astray"])

    forward = "UPDATE outbox_cursors SET txid = (txid::text::bigint + 1000000000)::text::xid8 WHERE consumer = 'ledger'"
    back = forward.replace("+", "-")
    assert not await is_astray("SELECT 1")
    assert await is_astray(forward)
    await books.toss(organization, 1)
    assert await books.chain() == 1  # it is put back behind the last entry's fact
    assert not await is_astray("SELECT 1")
    assert (await books.look(organization)).broken is None
    assert await is_astray(back)
    assert await is_astray("UPDATE outbox_cursors SET txid = '0', seq = 0 WHERE consumer = 'ledger'")
    assert await books.chain() >= 14
    broken = (await books.look(organization)).broken
    assert broken is not None
    assert (broken.kind, broken.number) == (Tampering.REPETITION, 14), broken.what
    page = await books.look_from(organization, 13)
    assert page.broken == broken
    assert not await is_astray("SELECT 1")
    await driver.close()


AHEAD = "UPDATE {} SET txid = (txid::text::bigint + 50)::text::xid8 WHERE {}"


async def test_facts_that_a_cursor_was_set_past_are_chained_all_the_same(books: Books, organization: OrgId) -> None:
    driver = await chain(books, organization)
    await driver.execute(AHEAD.format("outbox_cursors", "consumer = 'ledger'"))
    await driver.execute(AHEAD.format("ledger_heads", f"org = '{organization}'"))
    await books.toss(organization, 60)
    await books.chain()
    found = await books.look(organization)
    assert (found.broken, found.entries) == (None, 72)
    await driver.close()


async def test_facts_that_no_entry_is_of_are_found_while_the_outbox_holds_them(
    books: Books, organization: OrgId
) -> None:
    driver = await chain(books, organization)
    await books.toss(organization, 2)
    await driver.execute(
        "UPDATE outbox_cursors SET (txid, seq) = (SELECT txid, seq FROM outbox ORDER BY txid DESC, seq DESC LIMIT 1) "
        "WHERE consumer = 'ledger'"
    )
    broken = (await books.look(organization)).broken
    assert broken is not None
    assert (broken.kind, broken.number) == (Tampering.GAP, 13)
    assert broken.what.startswith("2 facts of the last days are in no entry")
    await driver.close()


async def test_facts_that_were_set_aside_stay_told_when_what_was_changed_is_put_right(
    books: Books, organization: OrgId
) -> None:
    driver = await chain(books, organization)
    await driver.execute(FORGED.format(99, "entry").replace(":org", "$1"), organization)
    await books.toss(organization, 2)
    await books.turn(books.chainer())
    await driver.execute("DELETE FROM ledger WHERE org = $1 AND number = 99", organization)
    await driver.execute("DELETE FROM outbox_failures WHERE consumer = 'ledger'")
    await driver.execute("DELETE FROM outbox WHERE org = $1 AND body->>'number' < '2'", organization)
    await books.toss(organization, 3)
    await books.chain()
    broken = (await books.look(organization)).broken
    assert broken is not None
    assert (broken.kind, broken.number) == (Tampering.GAP, 13), broken.what
    await driver.close()


async def test_facts_that_were_set_aside_once_hide_nothing_that_is_done_later(
    books: Books, organization: OrgId, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = await chain(books, organization)
    await driver.execute("UPDATE ledger_heads SET number = 11 WHERE org = $1", organization)
    await books.toss(organization, 1)
    await books.turn(books.chainer())
    await driver.execute("UPDATE ledger_heads SET number = 12 WHERE org = $1", organization)
    await books.toss(organization, 5)
    await books.chain()
    broken = (await books.look(organization)).broken
    assert broken is not None
    assert (broken.kind, broken.number) == (Tampering.GAP, 12), broken.what
    lines = books.anchors.file(organization).read_bytes().splitlines(keepends=True)
    books.anchors.file(organization).write_bytes(b"".join(lines[:-1]))
    monkeypatch.setattr(service, "UNANCHORED", timedelta())
    broken = (await books.look(organization)).broken
    assert broken is not None
    assert (broken.kind, broken.number) == (Tampering.ANCHOR, 13), broken.what
    books.anchors.file(organization).write_bytes(b"".join(lines))
    await driver.execute("DELETE FROM ledger WHERE org = $1 AND number > 14", organization)
    await driver.execute(HEAD.replace(":org", "$1"), organization)
    broken = (await books.look(organization)).broken
    assert broken is not None
    assert (broken.kind, broken.number) == (Tampering.TRUNCATION, 15), broken.what
    await driver.close()


async def test_what_is_chained_and_anchored_while_a_chain_is_looked_at_is_no_truncation(
    books: Books, organization: OrgId
) -> None:
    await (await chain(books, organization)).close()
    loop = asyncio.get_running_loop()

    class Later(Anchors):
        """Anchors that are read when the chain has gone on since its end was."""

        def of(self, organization: str) -> History:
            for one in (books.toss(OrgId(organization), 2), books.chain()):
                asyncio.run_coroutine_threadsafe(one, loop).result(20)
            return super().of(organization)

    later = Later(books.anchors.folder, books.keys)
    async with books.doors.open(organization) as work:
        found = await service.look(await work.driver(), organization, books.keys, later)
    assert (found.broken, found.window) == (None, 0)


async def test_facts_that_were_set_aside_last_are_taken_up_by_the_next_chainer(
    books: Books, organization: OrgId
) -> None:
    driver = await chain(books, organization)
    await driver.execute(FORGED.format(99, "entry").replace(":org", "$1"), organization)
    await books.toss(organization, 2)
    chainer = books.chainer()
    assert (await books.turn(chainer), await books.turn(chainer)) == (2, 0)
    assert (await service.standing(books.database, books.anchors))["set_aside"] == 2
    await driver.execute("DELETE FROM ledger WHERE org = $1 AND number = 99", organization)
    await books.chain()
    standing = await service.standing(books.database, books.anchors)
    assert (standing["set_aside"], standing["is_astray"]) == (0, False)
    broken = (await books.look(organization)).broken
    assert broken is not None
    assert (broken.kind, broken.number) == (Tampering.GAP, 13), broken.what
    assert await driver.fetchval("SELECT count(*) FROM ledger WHERE org = $1", organization) == 14
    await driver.close()


async def test_what_was_done_behind_a_fact_that_is_amiss_is_found_all_the_same(
    books: Books, organization: OrgId
) -> None:
    await books.toss(organization, 6)
    driver = await books.superuser()
    await driver.execute(
        "UPDATE outbox SET body = body || '{\"x\": 1}' WHERE org = $1 AND body->>'number' = '1'", organization
    )
    await books.chain()

    async def look(after: Seen) -> tuple[Verified, Seen | None]:
        return await service.verify(
            books.doors, organization, books.keys, books.anchors, after=after, most=1000, by="ada"
        )

    found, seen = await look(Seen(0, 0, 0))
    assert found.broken is not None
    assert (found.broken.kind, found.broken.number, seen) == (Tampering.FACT, 2, Seen(2, 2, 0))
    found, end = await look(Seen(2, 2, 0))
    assert (found.broken, found.is_whole, end) == (None, True, None)
    kept = "SELECT verified_broken FROM ledger_heads WHERE org = $1"
    assert await driver.fetchval(kept, organization) == "fact:2"
    await driver.execute("UPDATE ledger SET person = 'eve' WHERE org = $1 AND number = 4", organization)
    found, end = await look(Seen(2, 2, 0))
    assert found.broken is not None
    assert (found.broken.kind, found.broken.number, end) == (Tampering.EDIT, 4, None)
    assert await driver.fetchval(kept, organization) == "edit:4"
    await driver.close()


async def test_the_chain_that_is_no_organizations_is_verified_at_the_machine(
    books: Books, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    await books.toss(NOBODYS, 3)
    await books.chain()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", books.url)
    monkeypatch.setenv("AGENTOS_LEDGER_KEY", str(books.key))
    monkeypatch.setenv("AGENTOS_LEDGER_ANCHORS", str(books.anchors.folder))

    found = await asyncio.to_thread(verified_of_nobody, "")
    assert (found["holds"], found["is_whole"], found["next_cursor"]) == (True, True, None)
    driver = await books.superuser()
    await driver.execute("UPDATE ledger SET person = 'eve' WHERE org = '-' AND number = 2")
    await driver.close()
    with pytest.raises(LedgerBroken, match="edit at entry 2"):
        await asyncio.to_thread(audit.verify, nobodys=True)


def test_a_token_is_good_for_one_organization_one_entry_and_an_hour(books: Books) -> None:
    at = datetime(2026, 11, 21, 3, tzinfo=UTC)
    told = service.token(books.keys, "acme", Seen(7, 0, 0), at=at)
    assert service.seen_by(books.keys, "acme", told, at=at + timedelta(hours=1)) == Seen(7, 0, 0)
    later = told.replace(f".{int(at.timestamp())}.", f".{int(at.timestamp()) + 9}.")
    for forged in (told.replace("7.", "8.", 1), later, "7.0.0.1", "7.0.0.1.", "x", told + "0", ""):
        assert service.seen_by(books.keys, "acme", forged, at=at) is None
    assert service.seen_by(books.keys, "other", told, at=at) is None
    assert service.seen_by(books.keys, "acme", told, at=at + timedelta(hours=1, seconds=1)) is None


EARLY = "INSERT INTO outbox (org, name, key, body) VALUES ($1, 'CoinTossed', 'x', '{}')"


@pytest.fixture
async def unchained(books: Books) -> AsyncIterator[Books]:
    """A sealed database in which nothing was ever chained."""
    url = await new_database(f"began_{uuid.uuid4().hex[:8]}")
    settings = DatabaseSettings(url=SecretStr(url), pool_size=5, ledger_key=str(books.key))
    database = Database(settings)
    yield replace(books, database=database, doors=Doors(database), url=url)
    await database.close()


async def first_wrong(books: Books, organization: OrgId) -> tuple[Tampering, int] | None:
    await books.chain()
    broken = (await books.look(organization)).broken
    return None if broken is None else (broken.kind, broken.number)


async def test_facts_from_before_the_ledger_begin_a_chain_and_never_follow(unchained: Books) -> None:
    organization = OrgId("acme")
    driver = await unchained.superuser()
    await driver.execute(EARLY, organization)
    await driver.execute(EARLY, organization)
    await unchained.toss(organization, 2)
    assert await first_wrong(unchained, organization) is None
    assert (await unchained.look(organization)).earlier == 2
    await driver.execute(EARLY, organization)
    assert await first_wrong(unchained, organization) == (Tampering.FACT, 5)
    await driver.close()


@pytest.mark.parametrize(
    "moved",
    [
        "SELECT 1",
        "UPDATE ledger_beginning SET txid = '1000000000000'",
        "UPDATE ledger_beginning SET txid = '1000000000000', mac = sha256(mac)",
        "DELETE FROM ledger_beginning",
        "UPDATE ledger_heads SET is_sealed = false",
    ],
)
async def test_a_fact_that_is_put_before_the_first_of_a_chain_does_not_pass_for_one_from_before_the_ledger(
    unchained: Books, moved: str
) -> None:
    await unchained.toss(OrgId("acme"), 1)
    await unchained.chain()
    driver = await unchained.superuser()
    await driver.execute(moved)
    await driver.execute(EARLY, "new")
    await unchained.toss(OrgId("new"), 2)
    assert await first_wrong(unchained, OrgId("new")) == (Tampering.FACT, 1)
    await driver.close()
