"""A ledger keeps the key that its chains were made with, and a new one goes on where it ended."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from agentos.apps.bootstrap import make_ledger_key
from agentos.evidence.ledger import service
from agentos.evidence.ledger.anchors import Anchors
from agentos.evidence.ledger.chain import shown
from agentos.evidence.ledger.model import Search, Seen, Tampering, Unread
from agentos.kernel import seals
from agentos.kernel.clock import now
from agentos.kernel.database import Database
from agentos.kernel.ids import OrgId
from agentos.kernel.seals import (
    LedgerKey,
    LedgerKeyLost,
    LedgerKeyMissing,
    LedgerKeyNotAdded,
    LedgerKeys,
    make_key,
    promote_key,
    rotate_key,
)
from agentos.kernel.settings import DatabaseSettings
from agentos.kernel.telemetry import Meter
from agentos.kernel.unit_of_work import Doors
from tests.conftest import fresh_log, new_database
from tests.evidence.ledger.conftest import Books


async def test_no_new_key_is_made_for_chains_whose_key_is_lost(
    books: Books, organization: OrgId, tmp_path: Path
) -> None:
    await books.toss(organization, 1)
    await books.chain()
    file = tmp_path / "lost.key"
    settings = DatabaseSettings(url=SecretStr(books.url), pool_size=2, ledger_key=str(file))
    with pytest.raises(LedgerKeyLost, match="is not there"):
        await make_ledger_key(settings)
    assert not file.exists()


async def test_a_ledger_without_a_chain_gets_a_key_and_keeps_it(tmp_path: Path) -> None:
    file = tmp_path / "first.key"
    url = await new_database(f"keyless_{os.getpid()}")
    settings = DatabaseSettings(url=SecretStr(url), pool_size=2, ledger_key=str(file))
    await make_ledger_key(settings)
    key = LedgerKeys.load(file).now
    await make_ledger_key(settings)
    assert LedgerKeys.load(file).now.seals == key.seals


@dataclass
class Rotated:
    """A ledger whose key was changed: entries of the old one, then of the new one."""

    books: Books
    file: Path
    old: LedgerKey
    new: LedgerKey

    def with_keys(self, *keys: LedgerKey) -> Books:
        ring = LedgerKeys(*keys)
        return replace(self.books, keys=ring, anchors=Anchors(self.books.anchors.folder, ring))


@pytest.fixture
async def rotated(sealed_url: str, ledger_key: Path, organization: OrgId, tmp_path: Path) -> AsyncIterator[Rotated]:
    """Three entries of the one, three of the other; a process that seals with the old key writes on."""
    file = tmp_path / "ledger.key"
    shutil.copy(ledger_key, file)
    settings = DatabaseSettings(url=SecretStr(sealed_url), pool_size=5, ledger_key=str(file))
    database = Database(settings)
    keys = LedgerKeys.load(file)
    books = Books(database, Doors(database), keys, Anchors(tmp_path / "anchors", keys), sealed_url, Meter(), file)
    await books.toss(organization, 3)
    await books.chain()
    old = keys.now
    rotate_key(file)
    assert keys.look_again()  # known everywhere before it is used anywhere
    new = promote_key(file).now
    await books.toss(organization, 1)
    fresh = Database(settings)
    await replace(books, database=fresh, doors=Doors(fresh)).toss(organization, 2)
    await fresh.close()
    await books.chain()  # it has read the file again
    yield Rotated(books, file, old, new)
    await database.close()


async def test_a_new_key_goes_on_with_a_chain_and_the_old_one_still_verifies(
    rotated: Rotated, organization: OrgId
) -> None:
    found = await rotated.books.look(organization)
    assert (found.broken, found.unread, found.entries, found.held.anchors) == (None, (), 6, 2)
    async with rotated.books.doors.open(organization) as work:
        rows = await service.search(work, Search(), beyond=None, is_oldest_first=True, most=10)
    told = [shown(row) for row in rows]
    assert [one["key_id"] for one in told] == [rotated.old.id] * 3 + [rotated.new.id] * 3
    assert {one["seal"] for one in told} == {"whole"}
    assert rotated.file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("there", "first", "last"), [("new", 1, 3), ("old", 4, 6)])
async def test_entries_whose_key_is_absent_cannot_be_verified_and_are_never_fine(
    rotated: Rotated, organization: OrgId, there: str, first: int, last: int
) -> None:
    keys = {"old": rotated.old, "new": rotated.new}
    absent = keys["new" if there == "old" else "old"]
    books = rotated.with_keys(keys[there])
    found = await books.look(organization)
    assert found.broken is None
    assert found.unread == (Unread(absent.id, first, last, 3),)
    assert str(found.unread[0]).endswith(f"cannot be verified: key {absent.id} is absent")
    assert (found.held.anchors, list(found.held.absent)) == (1, [absent.id])
    look = partial(service.verify, books.doors, organization, books.keys, books.anchors, most=2, by="ada")
    after: Seen | None = Seen(0, 0, 0)
    while after is not None:
        _, after = await look(after=after)
    driver = await books.superuser()
    kept = await driver.fetchval("SELECT verified_broken FROM ledger_heads WHERE org = $1", organization)
    assert kept == f"unknown:{first}"
    await driver.close()


async def test_what_was_done_to_entries_of_another_key_is_found(rotated: Rotated, organization: OrgId) -> None:
    driver = await rotated.books.superuser()
    for number in (2, 5):
        for keys in ((rotated.new, rotated.old), (rotated.new,), (rotated.old,)):
            transaction = driver.transaction()
            await transaction.start()
            await driver.execute(
                "UPDATE ledger SET person = 'eve' WHERE org = $1 AND number = $2", organization, number
            )
            broken = (await rotated.with_keys(*keys).look(organization, driver)).broken
            assert broken is not None
            assert (broken.kind, broken.number) == (Tampering.EDIT, number)
            await transaction.rollback()
    await driver.close()


async def test_an_entry_that_names_a_key_that_never_was_is_an_edit(rotated: Rotated, organization: OrgId) -> None:
    driver = await rotated.books.superuser()
    await driver.execute(
        "UPDATE ledger SET entry = convert_to(replace(convert_from(entry, 'UTF8'), $2, $3), 'UTF8') "
        "WHERE org = $1 AND number = 2",
        organization,
        rotated.old.id,
        "0" * 16,
    )
    broken = (await rotated.books.look(organization)).broken
    assert broken is not None
    assert (broken.kind, broken.number) == (Tampering.EDIT, 2)
    await driver.close()


def test_a_key_is_known_before_it_is_used_and_nothing_else_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seals, "log", fresh_log())
    file = tmp_path / "ledger.key"
    make_key(file)
    keys = LedgerKeys.load(file)
    first = keys.now.id
    assert not keys.look_again()
    added = rotate_key(file)
    assert (added.now.id, len(added.every)) == (first, 2)
    assert [one.id for one in rotate_key(file).every] == [one.id for one in added.every]  # it waits already
    assert keys.look_again()
    assert [one.id for one in keys.every] == [one.id for one in added.every]
    told = service.token(keys, "acme", Seen(7, 0, 0), at=now())
    assert [one.id for one in promote_key(file).every] == [added.every[1].id, first]
    assert keys.look_again()
    assert keys.now.id == added.every[1].id
    assert service.seen_by(keys, "acme", told, at=now()) == Seen(7, 0, 0)  # it was given out before
    with pytest.raises(LedgerKeyNotAdded):
        promote_key(file)
    assert [entry.name for entry in tmp_path.iterdir()] == ["ledger.key"]
    file.write_text("nothing\n")
    with capture_logs() as logs:
        assert not keys.look_again()
        assert not keys.look_again()
    assert [one["event"] for one in logs] == ["ledger_key_unreadable"]
    assert len(keys.every) == 2
    with pytest.raises(LedgerKeyMissing):
        rotate_key(file)
    with pytest.raises(LedgerKeyMissing):
        rotate_key(tmp_path / "no" / "such.key")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_that_root_changes_stays_with_whom_it_belongs_to(tmp_path: Path) -> None:
    file = tmp_path / "ledger.key"
    make_key(file)
    os.chown(file, 1234, 1235)
    rotate_key(file)
    promote_key(file)
    assert (file.stat().st_uid, file.stat().st_gid, file.stat().st_mode & 0o777) == (1234, 1235, 0o600)


async def test_what_one_machine_seals_with_a_new_key_is_whole_to_another_that_still_uses_the_old_one(
    sealed_url: str, ledger_key: Path, organization: OrgId, tmp_path: Path
) -> None:
    here, there = tmp_path / "here.key", tmp_path / "there.key"
    shutil.copy(ledger_key, here)
    rotate_key(here)
    shutil.copy(here, there)
    promote_key(there)
    database = Database(DatabaseSettings(url=SecretStr(sealed_url), pool_size=5, ledger_key=str(there)))
    keys = LedgerKeys.load(here)
    books = Books(database, Doors(database), keys, Anchors(tmp_path / "anchors", keys), sealed_url, Meter(), here)
    await books.toss(organization, 2)
    await books.chain()
    promote_key(here)
    await books.toss(organization, 2)
    await books.chain()
    found = await books.look(organization)
    assert (found.broken, found.unread, found.entries) == (None, (), 4)
    await database.close()
