"""The registry as a file: whole or refused, and put back without changing what a skill is."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text

from agentos.kernel.canonical import digest
from agentos.kernel.database import Database
from agentos.kernel.errors import Invalid
from agentos.kernel.ids import OrgId
from agentos.kernel.signing import ForeignKey, NotSigned, SignatureWrong, Signer, make_key
from agentos.kernel.unit_of_work import Doors
from agentos.runtime.skills import exports, registered
from agentos.runtime.skills.exports import Finding
from agentos.runtime.skills.model import (
    Registered,
    RegistryCorrupt,
    RegistryDiffers,
    RegistryFileInvalid,
    RegistryReadOnly,
    Skill,
)
from tests.runtime.skills.test_registered import keeper, loaded, made, name, superuser_url

__all__ = ["name", "superuser_url"]  # fixtures

AT = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    make_key(tmp_path / "key.pem")
    return Signer.load(tmp_path / "key.pem")


def row(one: Skill) -> Registered:
    document = json.loads(json.dumps(one.contract.document()))
    return Registered(one.name, one.version, one.digest, document, digest(document), AT, "worker-1")


def listed(one: Registered, **more: Any) -> dict[str, Any]:
    """A row as the API lists it."""
    told = {"name": one.name, "version": one.version, "digest": one.digest, "seal": one.seal}
    return told | {"state": "served", "loaded": one.digest} | more


ROWS = [row(made("a")), row(made("a", "2")), row(made("b"))]


def test_a_file_gives_back_the_rows_that_were_exported(signer: Signer) -> None:
    document = json.loads(json.dumps(exports.export(ROWS, signer, at=AT)))
    assert exports.read(document) == ROWS
    assert exports.read(document, pinned=signer.public_key) == ROWS


def test_a_damaged_row_is_not_signed(signer: Signer) -> None:
    damaged = replace(ROWS[0], document=ROWS[0].document | {"effect": "S4"})
    with pytest.raises(RegistryCorrupt, match="a@1"):
        exports.export([damaged, ROWS[1]], signer, at=AT)


def test_no_change_to_a_file_goes_unnoticed(signer: Signer) -> None:
    text = json.dumps(exports.export(ROWS, signer, at=AT))
    luck = random.Random(1)
    for _ in range(300):
        at = luck.randrange(len(text))
        other = luck.choice([text[:at], text[:at] + luck.choice('x0"{}') + text[at + 1 :], text[:at] + text[at + 1 :]])
        if other == text:
            continue
        try:
            changed = json.loads(other)
        except ValueError:
            continue
        if changed == json.loads(text):
            continue
        with pytest.raises(Invalid):
            exports.read(changed)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"skills": []}, SignatureWrong),
        ({"signature": None}, NotSigned),
        ({"format": 2}, SignatureWrong),
    ],
)
def test_a_tampered_file_is_refused(signer: Signer, change: dict[str, Any], error: type[Invalid]) -> None:
    with pytest.raises(error):
        exports.read(exports.export(ROWS, signer, at=AT) | change)


def test_a_file_that_somebody_else_signed_is_refused(signer: Signer, tmp_path: Path) -> None:
    make_key(tmp_path / "other.pem")
    document = exports.export(ROWS, Signer.load(tmp_path / "other.pem"), at=AT)
    with pytest.raises(ForeignKey):
        exports.read(document, pinned=signer.public_key)


@pytest.mark.parametrize(
    "document",
    [
        {"kind": "receipt", "format": 1, "skills": []},
        {"kind": exports.KIND, "format": 1},
        {"kind": exports.KIND, "format": 1, "skills": [{"name": "a"}]},
        {"kind": exports.KIND, "format": 1, "skills": "a"},
        {"kind": exports.KIND, "format": 1, "skills": [3]},
    ],
)
def test_a_signed_document_that_is_no_export_is_refused(signer: Signer, document: dict[str, Any]) -> None:
    with pytest.raises(RegistryFileInvalid):
        exports.read(signer.sign(document))


def test_a_skill_that_is_in_a_file_twice_is_refused(signer: Signer) -> None:
    with pytest.raises(RegistryFileInvalid, match="twice"):
        exports.read(exports.export([ROWS[0], ROWS[0]], signer, at=AT))


def test_what_differs_is_named() -> None:
    a1, a2, b1 = ROWS
    assert exports.differences(ROWS, [listed(one) for one in ROWS]) == []
    there = [
        listed(a1, digest="sha256:" + "9" * 64, loaded="sha256:" + "8" * 64),
        listed(b1, state="corrupt"),
        listed(row(made("c"))),
    ]
    assert exports.differences(ROWS, there) == [
        Finding("a", "1", "registered with another digest, sha256:999999999999"),
        Finding("a", "1", "loaded with another digest, sha256:888888888888"),
        Finding("a", "2", "missing in the registry"),
        Finding("b", "1", "the registry's row is not as it was registered"),
        Finding("c", "1", "not in the file"),
    ]
    assert exports.differences([a2], [listed(a2, seal="x")]) == [Finding("a", "2", "registered with another contract")]


@pytest.fixture
async def superuser(superuser_url: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(superuser_url)
    yield connection
    await connection.close()


async def rows_of(database: Database, name: str) -> list[Registered]:
    return [one for one in await registered.everything(database) if one.name == name]


async def test_what_was_lost_or_damaged_is_put_back_and_told_and_nothing_else_changes(
    database: Database, superuser: asyncpg.Connection[Any], organization: OrgId, name: str
) -> None:
    await keeper(database, loaded(*(made(name, one) for one in "1234"))).look()
    before = await rows_of(database, name)
    where = "WHERE name = $1 AND version ="
    await superuser.execute(f"DELETE FROM agentos.skills {where} '1'", name)
    await superuser.execute(f"UPDATE agentos.skills SET contract = contract - 'effect' {where} '2'", name)
    await superuser.execute(f"UPDATE agentos.skills SET digest = 'sha256:forged' {where} '3'", name)
    damaged = await rows_of(database, name)
    planned = await registered.restore(database, before, read_only=False, dry_run=True, by="ada")
    assert await rows_of(database, name) == damaged
    done = await registered.restore(database, before, read_only=False, dry_run=False, by="ada")
    assert done == planned
    assert [(one.version, one.did, one.was) for one in done] == [
        ("1", "put_back", None),
        ("2", "mended", None),
        ("3", "mended", "sha256:forged"),
        ("4", "kept", None),
    ]
    assert await rows_of(database, name) == before
    again = await registered.restore(database, before, read_only=False, dry_run=False, by="ada")
    assert {one.did for one in again} == {"kept"}
    async with Doors(database).open(organization) as work:
        rows = await work.all(
            text("SELECT body FROM outbox WHERE name = 'SkillRestored' AND key = :name"), {"name": name}
        )
    assert {(row.body["version"], row.body["was"], row.body["by"]) for row in rows} == {
        ("1", None, "ada"),
        ("2", before[1].digest, "ada"),
        ("3", "sha256:forged", "ada"),
    }


async def test_a_whole_row_is_never_given_another_digest(
    database: Database, superuser: asyncpg.Connection[Any], name: str
) -> None:
    await keeper(database, loaded(made(name), made(name, "2"))).look()
    await superuser.execute("DELETE FROM agentos.skills WHERE name = $1 AND version = '2'", name)
    before = await rows_of(database, name)
    file = [row(made(name, source="two")), row(made(name, "2"))]
    for dry_run in (True, False):
        with pytest.raises(RegistryDiffers, match=f"{name}@1"):
            await registered.restore(database, file, read_only=False, dry_run=dry_run, by="ada")
    assert await rows_of(database, name) == before


async def test_a_read_only_registry_is_not_restored(database: Database, name: str) -> None:
    file = [row(made(name))]
    with pytest.raises(RegistryReadOnly):
        await registered.restore(database, file, read_only=True, dry_run=False, by="ada")
    (planned,) = await registered.restore(database, file, read_only=True, dry_run=True, by="ada")
    assert planned.did == "put_back"
    assert await rows_of(database, name) == []
