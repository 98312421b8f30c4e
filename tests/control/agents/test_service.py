"""Applying manifests: the same content is the same version, all or none, and no skill changes unnoticed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentos.control.agents import manifest, service
from agentos.control.agents.model import (
    AgentApplied,
    AgentUnknown,
    Applied,
    Definition,
    ManifestInvalid,
    SkillPinnedOtherwise,
    VersionAmbiguous,
    VersionCreated,
    VersionUnknown,
)
from agentos.kernel.clock import now
from agentos.kernel.errors import Invalid
from agentos.kernel.ids import OrgId
from agentos.kernel.unit_of_work import Doors

from .catalogues import Models, Skills, document

SKILLS = Skills("look@1", "note@1", "note@2")


async def apply(
    doors: Doors, organization: OrgId, *documents: dict[str, Any], skills: Skills = SKILLS
) -> list[Applied]:
    async with doors.open(organization) as work:
        return await service.apply(work, manifest.read_documents(documents), skills, Models(), by="author", at=now())


async def test_the_same_content_is_the_same_version(doors: Doors, organization: OrgId) -> None:
    (first,) = await apply(doors, organization, document(skills=["look@1", "note@1"]))
    (again,) = await apply(doors, organization, document(skills=["note@1", {"name": "look", "version": "1"}]))
    assert (first.created, again.created) == (True, False)
    assert again.version == first.version
    assert first.version.number == 1
    assert first.version.hash.startswith("sha256:")


@pytest.mark.parametrize(
    "change",
    [
        {"instructions": "Write well."},
        {"model": {"provider": "stub", "name": "x"}},
        {"skills": ["look@1"]},
        {"tier": "L2"},
        {"budgets": {"turns": 7}},
        {"input": {"schema": {"type": "object"}}},
        {"output": {"schema": {"type": "string"}}},
        {"onDenied": "stop"},
        {"triggers": [{"type": "manual"}]},
        {"category": "other"},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_other_content_is_another_version(doors: Doors, organization: OrgId, change: dict[str, Any]) -> None:
    (first,) = await apply(doors, organization, document())
    (second,) = await apply(doors, organization, document(**change))
    assert second.created
    assert second.version.number == 2
    assert second.version.hash != first.version.hash


async def test_a_definition_comes_back_as_it_was_hashed(doors: Doors, organization: OrgId) -> None:
    model = {
        "provider": "stub",
        "heat": 1.0,
        "zero": -0.0,
        "small": 1e-7,
        "half": 0.5,
        "n": 9007199254740991,
        "ö": None,
    }
    (made,) = await apply(doors, organization, document(model=model, skills=["look@1"]))
    async with doors.open(organization) as work:
        found = await service.get_version(work, "writer", made.version.hash)
    assert found == made.version
    assert found.definition.hash() == found.hash
    assert Definition.read(found.definition.canonical()) == found.definition


async def test_applying_says_what_happened_once_per_new_version(doors: Doors, organization: OrgId) -> None:
    for expected in ([VersionCreated, AgentApplied], [AgentApplied]):
        async with doors.open(organization) as work:
            await service.apply(work, manifest.read_documents([document()]), SKILLS, Models(), by="author", at=now())
            assert [type(fact) for fact in work.facts] == expected


async def test_one_bad_manifest_means_that_none_is_applied_and_all_faults_are_told(
    doors: Doors, organization: OrgId
) -> None:
    with pytest.raises(ManifestInvalid) as caught:
        await apply(
            doors,
            organization,
            document("good"),
            document("bad", skills=["look@1", "gone@1", "note@9"], model={"provider": "oracle"}),
        )
    assert [(one["where"], one["code"]) for one in caught.value.extra["problems"]] == [
        ("documents[1].spec.skills[1]", "no_such_skill"),
        ("documents[1].spec.skills[2]", "no_such_skill"),
        ("documents[1].spec.model.provider", "no_such_model"),
    ]
    async with doors.open(organization) as work:
        assert await service.list_agents(work) == []


async def test_a_skill_that_changed_without_a_new_version_is_refused(doors: Doors, organization: OrgId) -> None:
    await apply(doors, organization, document("first", skills=["note@1"]))
    changed = Skills("look@1", "note@1", "note@2")
    changed.digests["note@1"] = "sha256:other"
    with pytest.raises(SkillPinnedOtherwise, match=r"without a new version: 'note' version '1' .*'first'"):
        await apply(doors, organization, document("second", skills=["look@1", "note@1"]), skills=changed)
    (done,) = await apply(doors, organization, document("second", skills=["note@2"]), skills=changed)
    assert done.created


async def test_a_range_pins_the_version_that_it_means_now(doors: Doors, organization: OrgId) -> None:
    skills = Skills("note@1", "note@1.2.0", "note@1.3.0")
    skills.meant = {"note@^1.2": "1.2.0", "note@latest": "1.2.0"}
    (ranged,) = await apply(doors, organization, document(skills=["note@^1.2"]), skills=skills)
    (exact,) = await apply(doors, organization, document(skills=["note@1.2.0"]), skills=skills)
    assert exact.version == ranged.version
    assert [one.version for one in ranged.version.definition.skills] == ["1.2.0"]
    skills.meant["note@latest"] = "1.3.0"
    (newer,) = await apply(doors, organization, document(skills=["note@latest"]), skills=skills)
    assert newer.version.number == 2


async def test_a_refused_apply_pins_nothing(doors: Doors, organization: OrgId) -> None:
    await apply(doors, organization, document("first", skills=["note@1"]))
    changed = Skills("look@1", "note@1")
    changed.digests |= {"note@1": "sha256:other", "look@1": "sha256:passing"}
    with pytest.raises(SkillPinnedOtherwise):
        await apply(doors, organization, document("second", skills=["look@1", "note@1"]), skills=changed)
    assert await apply(doors, organization, document("second", skills=["look@1"]))


async def test_organizations_pin_and_name_on_their_own(doors: Doors, organization: OrgId, database: Any) -> None:
    from agentos.intake.identity import service as identity

    other = OrgId(organization + "x")
    await identity.found_organization(database, other, name="Other")
    await apply(doors, organization, document(skills=["note@1"]))
    changed = Skills("note@1")
    changed.digests["note@1"] = "sha256:other"
    (made,) = await apply(doors, other, document(skills=["note@1"]), skills=changed)
    assert made.version.number == 1


async def test_applies_at_the_same_time_number_versions_without_gap(doors: Doors, organization: OrgId) -> None:
    async def one(number: int) -> list[Applied]:
        docs = [document(name, instructions=f"Write {number}.", skills=["look@1", "note@1"]) for name in ("a", "b")]
        return await apply(doors, organization, *(docs if number % 2 else reversed(docs)))

    await asyncio.gather(*(one(number) for number in range(8)), *(one(number) for number in range(8)))
    async with doors.open(organization) as work:
        for name in ("a", "b"):
            assert [v.number for v in await service.list_versions(work, name)] == list(range(8, 0, -1))


async def test_a_version_is_found_by_number_hash_and_beginning(doors: Doors, organization: OrgId) -> None:
    (made,) = await apply(doors, organization, document())
    hashed = made.version.hash
    async with doors.open(organization) as work:
        for named in ("1", "v1", hashed, hashed[7:], hashed[:20], hashed[7:20]):
            assert await service.get_version(work, "writer", named) == made.version
        for named in ("2", "0", "", hashed[7:10], "latest", "%", "zzzz", "sha256:", hashed + "0", "9" * 30):
            with pytest.raises(VersionUnknown):
                await service.get_version(work, "writer", named)
        with pytest.raises(AgentUnknown):
            await service.get_version(work, "nobody", "1")
        with pytest.raises(Invalid):
            await service.get_version(work, "no\0body", "1")


async def test_the_beginning_of_two_hashes_is_ambiguous(
    doors: Doors, organization: OrgId, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = iter(range(10))
    monkeypatch.setattr(Definition, "hash", lambda self: f"sha256:abcd{next(number):060d}")
    await apply(doors, organization, document())
    await apply(doors, organization, document(instructions="Other."))
    async with doors.open(organization) as work:
        with pytest.raises(VersionAmbiguous):
            await service.get_version(work, "writer", "abcd")


async def test_an_agent_shows_what_was_applied_last(doors: Doors, organization: OrgId) -> None:
    await apply(doors, organization, document())
    (second,) = await apply(doors, organization, document(category="letters"))
    async with doors.open(organization) as work:
        found = await service.get_agent(work, "writer")
        assert (found.category, found.versions, found.latest) == ("letters", 2, second.version.hash)
        assert await service.list_agents(work) == [found]
        with pytest.raises(AgentUnknown):
            await service.get_agent(work, "nobody")
