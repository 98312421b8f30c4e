"""The registry in PostgreSQL: what was registered once never becomes something else."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr
from sqlalchemy import make_url, text
from sqlalchemy.exc import ProgrammingError

from agentos.apps.parts import Catalogue
from agentos.control.policy.model import EffectClass
from agentos.kernel.canonical import digest
from agentos.kernel.database import Database, DatabaseUnavailable
from agentos.kernel.ids import OrgId
from agentos.kernel.settings import DatabaseSettings
from agentos.kernel.unit_of_work import Doors
from agentos.runtime.skills import Registry, Retry, Reversibility, Skill, registered
from agentos.runtime.skills.model import RegistryCorrupt, SkillUnknown, SkillVersionMalformed, SkillWithheld
from agentos.runtime.skills.registered import Keeper


@pytest.fixture
def name() -> str:
    """A skill that no other test knows."""
    return f"s{uuid.uuid4().hex[:12]}"


@pytest.fixture
def superuser_url(database_url: str) -> str:
    """The superuser's way into this worker process's database."""
    url = make_url(os.environ["AGENTOS_TEST_SUPERUSER_URL"])
    return url.set(database=make_url(database_url).database).render_as_string(hide_password=False)


def made(name: str, version: str = "1", *, source: str = "one", **more: Any) -> Skill:
    """A skill whose digest is told by its source."""

    async def call(_context: Any, _arguments: dict[str, Any]) -> int:
        return 1

    values: dict[str, Any] = {
        "effect": EffectClass.S0,
        "description": "Does it.",
        "input_schema": {"type": "object", "properties": {"n": {"type": "integer", "maximum": 5.5}}},
        "output_schema": {"type": "integer"},
        "reversibility": Reversibility.REVERSIBLE,
        "idempotent": False,
        "timeout": timedelta(seconds=30),
        "retry": Retry(),
        "digest": digest([name, version, source]),
        "call": call,
    }
    return Skill(name=name, version=version, **values | more)


def loaded(*skills: Skill, counted: list[str] | None = None) -> Registry:
    registry = Registry((counted if counted is not None else []).append)
    for one in skills:
        registry.add(one)
    return registry


def keeper(database: Database, registry: Registry, *, service: str = "worker-1", read_only: bool = False) -> Keeper:
    return Keeper(database, registry, service=service, read_only=read_only)


@asynccontextmanager
async def damaged(superuser: str, name: str, change: str) -> AsyncIterator[None]:
    """A skill's rows damaged, and gone at the end: a damaged row would be in the way of every export."""
    connection = await asyncpg.connect(superuser)
    try:
        await connection.execute(f"UPDATE agentos.skills SET {change} WHERE name = $1", name)
        yield
    finally:
        await connection.execute("DELETE FROM agentos.skills WHERE name = $1", name)
        await connection.close()


async def test_what_is_loaded_is_registered_once_with_who_loaded_it_first(
    database: Database, doors: Doors, organization: OrgId, name: str
) -> None:
    counted: list[str] = []
    one = made(name, failures=("busy",))
    registry = loaded(one, counted=counted)
    await keeper(database, registry).look()
    await keeper(database, loaded(one), service="worker-2").look()
    async with doors.open(organization) as work:
        (entry,) = await registered.versions_of(work, registry, name)
    assert entry.registered.contract == one.contract
    assert (entry.state, entry.registered.digest, entry.registered.first_service) == ("served", one.digest, "worker-1")
    assert counted.count("registered") == 1


async def test_a_skill_that_changed_without_a_new_version_is_served_no_further_and_never_overwrites(
    database: Database, doors: Doors, organization: OrgId, name: str
) -> None:
    await keeper(database, loaded(made(name))).look()
    counted: list[str] = []
    registry = loaded(made(name, source="two"), made(name, "2", source="two"), counted=counted)
    changed = keeper(database, registry)
    assert not changed.settled
    await Catalogue(registry, changed).settle()
    assert changed.settled
    with pytest.raises(SkillWithheld, match="changed without a new version"):
        registry.get(name, "1")
    assert registry.resolve(name, "^2").version == "2"
    async with doors.open(organization) as work:
        first, second = await registered.versions_of(work, registry, name)
    assert (first.state, first.registered.digest) == ("withheld", made(name).digest)
    assert second.state == "served"
    await changed.look()
    assert counted.count("conflict") == 1


async def test_of_two_processes_that_register_at_once_one_is_withheld(database: Database, name: str) -> None:
    registries = [loaded(made(name, source=source), made(f"{name}x", source=source)) for source in ("one", "two")]
    await asyncio.gather(*(keeper(database, one).look() for one in registries))
    withheld = [sorted(one.withheld) for one in registries]
    assert sorted(withheld) == [[], [(name, "1"), (f"{name}x", "1")]]


async def test_a_read_only_registry_serves_what_it_knows_and_takes_nothing_new(
    database: Database, doors: Doors, organization: OrgId, name: str
) -> None:
    await keeper(database, loaded(made(name))).look()
    counted: list[str] = []
    registry = loaded(made(name), made(name, "2"), counted=counted)
    await keeper(database, registry, read_only=True).look()
    assert registry.resolve(name, "latest").version == "1"
    with pytest.raises(SkillWithheld, match="read-only and does not know it"):
        registry.get(name, "2")
    async with doors.open(organization) as work:
        assert len(await registered.versions_of(work, registry, name)) == 1
    assert counted.count("refused") == 1
    await keeper(database, registry).look()
    assert registry.get(name, "2").version == "2"


async def test_without_a_database_nothing_is_settled_and_nothing_is_withheld(name: str) -> None:
    away = Database(DatabaseSettings(url=SecretStr("postgresql://nobody:x@127.0.0.1:1/none")))
    registry = loaded(made(name))
    with pytest.raises(DatabaseUnavailable):
        await Catalogue(registry, keeper(away, registry)).settle()
    assert registry.get(name, "1")
    stop = asyncio.Event()
    kept = asyncio.create_task(keeper(away, registry).keep_for_ever(stop))
    await asyncio.sleep(0.05)
    stop.set()
    await kept
    await away.close()


async def test_a_look_that_fails_whatever_for_is_not_the_last(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = keeper(Database(DatabaseSettings(url=SecretStr("postgresql://nobody:x@127.0.0.1:1/none"))), loaded())
    looks, stop = 0, asyncio.Event()

    async def look() -> None:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise ValueError("as before migrations")
        stop.set()

    monkeypatch.setattr(kept, "look", look)
    monkeypatch.setattr(registered, "RETRY_SECONDS", 0.0)
    await asyncio.wait_for(kept.keep_for_ever(stop), 30)
    assert looks == 2


async def test_a_registered_version_is_resolved_also_where_it_is_not_loaded(
    database: Database, doors: Doors, organization: OrgId, name: str
) -> None:
    await keeper(database, loaded(*(made(name, one) for one in ("1.0.0", "1.10.0", "1.9.0")))).look()
    here = loaded(made(name, "1.9.0"))
    async with doors.open(organization) as work:
        found = await registered.resolve(work, here, name, "^1.2")
        assert (found.registered.version, found.state) == ("1.10.0", "not_loaded")
        assert [one.registered.version for one in await registered.versions_of(work, here, name)] == [
            "1.0.0",
            "1.9.0",
            "1.10.0",
        ]
        with pytest.raises(SkillUnknown, match=r"registered are 1\.0\.0, 1\.9\.0, 1\.10\.0"):
            await registered.resolve(work, here, name, "^2")
        with pytest.raises(SkillVersionMalformed):
            await registered.resolve(work, here, name, "^x")
        with pytest.raises(SkillUnknown, match="is registered"):
            await registered.resolve(work, here, f"{name}gone", "1")


async def test_what_breaks_is_told_from_the_registry_and_what_is_not_known_is_a_reason(
    database: Database, doors: Doors, organization: OrgId, name: str, superuser_url: str
) -> None:
    one = made(name)
    narrower = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 3}}}
    await keeper(database, loaded(one, made(name, "2", input_schema=narrower))).look()
    async with doors.open(organization) as work:
        assert await registered.breaking(work, name, "1", "2") == ("input.n: is limited more (maximum 3)",)
        assert await registered.breaking(work, name, "2", "1") == ()
        (why,) = await registered.breaking(work, name, "0", "2")
        assert why.startswith("cannot be compared: skill")
    async with (
        damaged(superuser_url, name, "contract = jsonb_set(contract, '{effect}', '\"S4\"')"),
        doors.open(organization) as work,
    ):
        with pytest.raises(RegistryCorrupt, match="is not as it was registered"):
            await registered.contract(work, name, "1")
        assert {each.state for each in await registered.versions_of(work, loaded(), name)} == {"corrupt"}


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO skills VALUES ('x', '1', 'd', '{}', 's', now(), 'me')",
        "UPDATE skills SET digest = 'd'",
        "DELETE FROM skills",
        "SELECT skills_registered('[]', 'me', true)",
        "SELECT skill_restored('x', '1', 'd', '{}', 's', now(), 'me', NULL, NULL, 'ada')",
    ],
)
async def test_no_use_case_of_an_organization_writes_the_registry(
    doors: Doors, organization: OrgId, statement: str
) -> None:
    with pytest.raises(ProgrammingError, match="permission denied"):
        async with doors.open(organization) as work:
            await work.run(text(statement))


async def test_what_is_registered_is_a_fact_of_every_organization_once(
    database: Database, organization: OrgId, name: str
) -> None:
    skill = made(name)
    for service in ("worker-1", "worker-2"):
        await keeper(database, loaded(skill), service=service).look()
    async with Doors(database).open(organization) as work:
        rows = await work.all(text("SELECT key, body FROM outbox WHERE name = 'SkillsRegistered'"))
    told = [(row.key, one["digest"]) for row in rows for one in row.body["skills"] if one["skill"] == name]
    assert told == [("worker-1", skill.digest)]
