"""Ends of chains outside the database: what is done to their files is found, and they do not grow for ever."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from agentos.evidence.ledger import anchors as module
from agentos.evidence.ledger import service
from agentos.evidence.ledger.anchors import Anchors, AnchorsUnusable, History
from agentos.evidence.ledger.model import SET_ASIDE, Anchor, Tampering
from agentos.kernel.ids import OrgId
from agentos.kernel.seals import LedgerKey, LedgerKeys
from tests.evidence.ledger.conftest import Books

KEYS = LedgerKeys(LedgerKey(bytes(32)))
BEGAN = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.fixture
def kept(tmp_path: Path) -> Anchors:
    """A folder of anchors."""
    return Anchors(tmp_path / "anchors", KEYS)


def anchor(number: int, org: str = "acme") -> Anchor:
    return Anchor(org, number, f"{number:064}", BEGAN + timedelta(seconds=5 * number))


def lines(kept: Anchors, org: str = "acme") -> list[bytes]:
    return kept.file(org).read_bytes().splitlines(keepends=True)


def test_each_organization_has_its_file_whatever_its_name(kept: Anchors, tmp_path: Path) -> None:
    names = ["acme", "-", "../acme", "a/b", "..", "Ä"]
    kept.append(anchor(1, name) for name in names)
    assert {file.parent for file in tmp_path.rglob("*.jsonl")} == {kept.folder}
    again = Anchors(kept.folder, KEYS)
    assert again.last() == ({name: anchor(1, name) for name in names}, None)
    for name in names:
        assert again.of(name).anchors == (anchor(1, name),)


def test_a_file_is_thinned_when_it_is_full_and_keeps_its_first_and_all_of_its_last_lines(
    kept: Anchors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FULL", 30_000)
    for number in range(1, 2001):
        kept.append([anchor(number)])
        assert kept.file("acme").stat().st_size <= 30_000
    history = kept.of("acme")
    assert (history.wrong, history.torn) == ("", 0)
    numbers = [one.number for one in history.anchors]
    assert numbers[0] == 1
    assert numbers[-30:] == list(range(1971, 2001))
    gaps = [later - earlier for earlier, later in pairwise(numbers)]
    assert max(gaps[:20]) > max(gaps[-40:])
    assert Anchors(kept.folder, KEYS).last()[0]["acme"] == anchor(2000)
    assert kept.cuts == 0


def test_an_anchor_that_did_not_reach_the_disk_is_none_and_is_written_again(
    kept: Anchors, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.append([anchor(1)])

    def fsync(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        with pytest.raises(AnchorsUnusable):
            kept.append([anchor(2), anchor(2, "other")])
    assert kept.last() == ({}, None)
    kept.append([anchor(2)])
    assert kept.last() == ({"acme": anchor(2)}, None)
    assert [one.number for one in kept.of("acme").anchors] == [1, 2, 2]


def test_that_facts_were_set_aside_is_not_thinned(kept: Anchors, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FULL", 10_000)
    kept.append([anchor(1)])
    kept.append([replace(anchor(1), hash=SET_ASIDE)])
    for number in range(2, 301):
        kept.append([anchor(number)])
    history = kept.of("acme")
    assert history.wrong == ""
    assert [one.number for one in history.anchors if one.hash == SET_ASIDE] == [1]
    assert kept.file("acme").stat().st_size <= 10_000


def test_another_process_goes_on_with_a_file_and_a_thinned_one_is_not_taken_for_cut(
    kept: Anchors, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Anchors(kept.folder, KEYS)
    kept.append([anchor(1)])
    other.append([anchor(2)])
    kept.append([anchor(3)])
    monkeypatch.setattr(module, "FULL", 100)
    other.append([anchor(4)])
    kept.append([anchor(5)])
    assert kept.of("acme").wrong == ""
    assert kept.last()[0]["acme"] == anchor(5)
    assert (kept.cuts, other.cuts) == (0, 0)


@pytest.mark.parametrize("lost", [slice(0, 1), slice(1, 2), slice(1, 3), slice(0, 4)])
def test_a_line_that_is_lost_shows(kept: Anchors, lost: slice) -> None:
    for number in range(1, 6):
        kept.append([anchor(number)])
    assert kept.of("acme").wrong == ""
    left = lines(kept)
    del left[lost]
    kept.file("acme").write_bytes(b"".join(left))
    assert "are missing" in kept.of("acme").wrong


@pytest.mark.parametrize("cut", [1, 3])
def test_a_cut_end_shows_by_what_is_added_behind_it(kept: Anchors, cut: int) -> None:
    for number in range(1, 4):
        kept.append([anchor(number)])
    kept.file("acme").write_bytes(b"".join(lines(kept)[:-cut]))
    kept.last()
    kept.append([anchor(4)])
    assert kept.cuts == 1
    assert "are missing" in kept.of("acme").wrong


def test_a_torn_line_is_counted_and_what_follows_fits(kept: Anchors) -> None:
    kept.append([anchor(1)])
    whole = kept.file("acme").read_bytes()
    with kept.file("acme").open("ab") as file:
        file.write(whole[: len(whole) // 2])
    history = kept.of("acme")
    assert (history.anchors, history.torn, history.wrong) == ((anchor(1),), 1, "")
    assert kept.last()[0]["acme"] == anchor(1)
    kept.append([anchor(2)])
    history = kept.of("acme")
    assert (history.anchors, history.torn, history.wrong) == ((anchor(1), anchor(2)), 1, "")
    assert kept.torn == 1


@pytest.mark.parametrize("torn", [b"\xff\xfe\n", b"\0" * 9000, b"{}\n", b"[]\n", b"\n", b"7\n" * 5000])
def test_whatever_is_torn_is_no_crash(kept: Anchors, torn: bytes) -> None:
    kept.append([anchor(1)])
    with kept.file("acme").open("ab") as file:
        file.write(torn)
    fresh = Anchors(kept.folder, KEYS)
    assert fresh.last()[0]["acme"] == anchor(1)
    fresh.append([anchor(2)])
    history = fresh.of("acme")
    assert history.anchors == (anchor(1), anchor(2))
    assert history.torn >= 1


def test_a_full_disk_keeps_back_no_other_organization_and_leaves_what_can_be_gone_on_with(
    kept: Anchors, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.append([anchor(1), anchor(1, "other")])
    sync, full = os.fsync, OSError(28, "No space left on device")
    failing = [full]

    def fsync(descriptor: int) -> None:
        if failing:
            raise failing.pop()
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(AnchorsUnusable, match="No space left"):
        kept.append([anchor(2), anchor(2, "other")])
    assert kept.of("other").anchors[-1] == anchor(2, "other")
    kept.append([anchor(3)])
    assert kept.of("acme").wrong == ""


def test_a_file_that_cannot_be_used_is_told_and_keeps_back_no_other(kept: Anchors) -> None:
    kept.file("acme").mkdir(parents=True)
    with pytest.raises(AnchorsUnusable):
        kept.append([anchor(1), anchor(1, "other")])
    found, failed = kept.last()
    assert found == {"other": anchor(1, "other")}
    assert failed is not None
    with pytest.raises(AnchorsUnusable):
        kept.of("acme")


def test_a_line_of_another_organization_is_nobodys_and_one_whose_key_is_absent_proves_nothing(kept: Anchors) -> None:
    kept.append([anchor(1), anchor(1, "other")])
    kept.file("acme").write_bytes(kept.file("other").read_bytes())
    assert "not written here" in kept.of("acme").wrong
    keys = LedgerKeys(LedgerKey(b"x" * 32))
    rotated = Anchors(kept.folder, keys)
    assert rotated.of("other") == History((), 0, frozenset({KEYS.now.id}))
    assert "other" not in rotated.last()[0]
    rotated.append([anchor(2, "other")])
    assert rotated.of("other") == History((anchor(2, "other"),), 0, frozenset({KEYS.now.id}))
    assert kept.of("other") == History((anchor(1, "other"),), 0, frozenset({keys.now.id}))


async def chain(books: Books, organization: OrgId, count: int) -> Any:
    await books.toss(organization, count)
    await books.chain()
    return await books.superuser()


async def test_a_file_that_was_cut_removed_or_put_back_is_found(
    books: Books, organization: OrgId, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = await chain(books, organization, 3)
    path = books.anchors.file(organization)
    before = path.read_bytes()
    await books.toss(organization, 2)
    await books.chain()
    monkeypatch.setattr(service, "UNANCHORED", timedelta())
    assert (await books.look(organization, driver)).broken is None
    for left, number in ((None, 1), (b"", 1), (before, 4)):
        if left is None:
            path.unlink()
        else:
            path.write_bytes(left)
        broken = (await books.look(organization, driver)).broken
        assert broken is not None
        assert (broken.kind, broken.number) == (Tampering.ANCHOR, number), broken.what
        assert (await service.standing(books.database, books.anchors))["unanchored_seconds"] > 0
    await driver.close()


async def test_a_chainer_anchors_anew_what_was_cut_off_the_file(books: Books, organization: OrgId) -> None:
    await books.toss(organization, 2)
    await books.chain()
    chainer, path = books.chainer(), books.anchors.file(organization)
    assert await chainer.anchor() == 0
    for cut in (path.unlink, lambda: path.write_bytes(b"")):
        cut()
        assert await chainer.anchor() == 1
        assert books.anchors.last()[0][organization].number == 2
    assert books.anchors.cuts == 2
    assert (await service.standing(books.database, books.anchors))["unanchored_seconds"] == 0
    assert 'agentos_ledger_anchor_errors_total{code="anchors_cut"' in books.meter.page().decode()
    broken = (await books.look(organization)).broken
    assert broken is not None
    assert broken.kind is Tampering.ANCHOR
    assert "are missing" in broken.what


async def test_anchors_that_cannot_be_read_are_told(books: Books, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = await service.standing(books.database, Anchors(tmp_path / "file", books.keys))
    assert found["anchors_unusable"]


async def test_what_anchors_prove_is_told_torn_ones_too_and_what_nobody_here_wrote_is_found(
    books: Books, organization: OrgId
) -> None:
    await books.toss(organization, 2)
    await books.chain()
    path = books.anchors.file(organization)
    with path.open("ab") as file:
        file.write(b'{"org":"x","num')
    await books.toss(organization, 2)
    await books.chain()
    found = await books.look(organization)
    assert found.broken is None
    held = found.held
    assert held.first is not None
    assert held.last is not None
    assert (held.anchors, held.torn, held.first.number, held.last.number) == (2, 1, 2, 4)
    assert 'agentos_ledger_anchor_errors_total{code="anchors_torn"' in books.meter.page().decode()
    path.write_bytes(path.read_bytes().replace(b'"number":2,', b'"number":1,'))
    broken = (await books.look(organization)).broken
    assert broken is not None
    assert broken.kind is Tampering.ANCHOR
