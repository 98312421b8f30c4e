"""Apply manifests, and find agents and their versions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from agentos.control.agents import store
from agentos.control.agents.model import (
    Agent,
    AgentApplied,
    AgentUnknown,
    Applied,
    Definition,
    Manifest,
    Problem,
    SkillPinnedOtherwise,
    SkillRef,
    Version,
    VersionAmbiguous,
    VersionCreated,
    VersionEntry,
    VersionUnknown,
    invalid,
)
from agentos.control.agents.ports import ModelCatalogue, SkillCatalogue
from agentos.kernel import ids
from agentos.kernel.errors import Invalid, NotFound
from agentos.kernel.unit_of_work import UnitOfWork

_NUMBER: Final = re.compile(r"v?([1-9][0-9]{0,8})")
_PREFIX: Final = re.compile(r"(?:sha256:)?([0-9a-f]{4,64})")


async def apply(
    work: UnitOfWork,
    manifests: Sequence[Manifest],
    skills: SkillCatalogue,
    models: ModelCatalogue,
    *,
    by: str,
    at: datetime,
) -> list[Applied]:
    """Make a version of each manifest, all or none. Content that is a version already stays that version.

    A range of versions, or ``latest``, is what it means now: the version pins the exact one. Raises ManifestInvalid
    (Invalid) with every unknown skill and refused model policy at once, and SkillPinnedOtherwise (Conflict) when a
    skill changed without a new version.
    """
    await skills.settle()
    definitions = _defined(manifests, skills, models)
    await _pin(work, definitions, at)
    # Rows are locked in one order, so that two applies of the same agents wait for each other and never for ever.
    applied = {one.agent_id: await _put(work, one, by, at) for one in sorted(definitions, key=lambda d: d.agent_id)}
    return [applied[one.agent_id] for one in definitions]


async def get_version(work: UnitOfWork, agent_id: str, named: str) -> Version:
    """The version that a hash, the beginning of one (4 digits at least) or a number (``3`` or ``v3``) names.

    Digits alone are a number first. Raises AgentUnknown or VersionUnknown (NotFound), VersionAmbiguous or MalformedId
    (Invalid).
    """
    ids.checked_name(agent_id, what="agent")
    if number := _NUMBER.fullmatch(named):
        found = await store.by_number(work, agent_id, int(number[1]))
        if found is not None:
            return found
    if prefix := _PREFIX.fullmatch(named):
        some = await store.by_prefix(work, agent_id, f"sha256:{prefix[1]}")
        if len(some) > 1:
            raise VersionAmbiguous(
                f"more than one version of '{agent_id}' begins with '{named}'", then="Give more of the hash."
            )
        if some:
            return some[0]
    await get_agent(work, agent_id)
    raise VersionUnknown(
        f"agent '{agent_id}' has no version '{named[:80]}'", then=f"See 'agentos agents show {agent_id}'."
    )


async def get_agent(work: UnitOfWork, agent_id: str) -> Agent:
    """One agent. Raises MalformedId (Invalid), AgentUnknown (NotFound)."""
    found = await store.agent(work, ids.checked_name(agent_id, what="agent"))
    if found is None:
        raise AgentUnknown(f"no agent '{agent_id}'", then="See 'agentos agents list', or apply its manifest.")
    return found


async def list_agents(work: UnitOfWork, *, after: str = "", most: int = 200) -> list[Agent]:
    """Agents by name."""
    return await store.agents(work, after, most)


async def has_category(work: UnitOfWork, category: str) -> bool:
    """Whether any version of any agent is of that category."""
    return await store.has_category(work, category)


async def list_versions(
    work: UnitOfWork, agent_id: str, *, before: int = 2**31 - 1, most: int = 200
) -> list[VersionEntry]:
    """The agent's versions, newest first. Raises AgentUnknown (NotFound)."""
    await get_agent(work, agent_id)
    return await store.versions(work, agent_id, before, most)


async def check_skills(version: Version, skills: SkillCatalogue) -> None:
    """Make sure that every skill of a version can be called right now, as it was when it was pinned.

    Raises the catalogue's NotFound, Conflict and Unavailable, or SkillPinnedOtherwise (Conflict).
    """
    await skills.settle()
    for pinned in version.definition.skills:
        if skills.resolve(pinned.name, pinned.version).digest != pinned.digest:
            raise SkillPinnedOtherwise(
                f"skill '{pinned.name}' version '{pinned.version}' changed without a new version",
                where=f"version {version.number} of {version.agent_id}",
                then="Put back the skill as it was pinned, or give it a new version and apply the agent again.",
            )


def _defined(manifests: Iterable[Manifest], skills: SkillCatalogue, models: ModelCatalogue) -> list[Definition]:
    problems: list[Problem] = []
    definitions = []
    for manifest in manifests:
        pinned = []
        for index, wanted in enumerate(manifest.skills):
            try:
                found = skills.resolve(wanted.name, wanted.version)
                pinned.append(SkillRef(wanted.name, found.version, found.digest))
            except (NotFound, Invalid) as error:
                where = manifest.place(f"spec.skills[{index}]")
                problems.append(Problem(where, error.what, error.then, error.code))
        try:
            models.check(manifest.model)
        except Invalid as error:
            below = f"spec.model.{error.where}" if error.where else "spec.model"
            problems.append(Problem(manifest.place(below), error.what, error.then, error.code))
        definitions.append(
            Definition(
                agent_id=manifest.agent_id,
                category=manifest.category,
                owner=manifest.owner,
                description=manifest.description,
                instructions=manifest.instructions,
                model=manifest.model,
                skills=tuple(sorted(pinned, key=lambda one: one.name)),
                tier=manifest.tier,
                budgets=manifest.budgets,
                input_schema=manifest.input_schema,
                output_schema=manifest.output_schema,
                on_denied=manifest.on_denied,
                triggers=manifest.triggers,
                prompts=manifest.prompts,
            )
        )
    if problems:
        raise invalid(problems)
    return definitions


async def _pin(work: UnitOfWork, definitions: Iterable[Definition], at: datetime) -> None:
    wanted = {(one.name, one.version): (one.digest, made.agent_id) for made in definitions for one in made.skills}
    changed = []
    for (name, version), (digest, agent_id) in sorted(wanted.items()):
        held, holder = await store.pin(work, name, version, digest, agent_id, at)
        if held != digest:
            changed.append(f"'{name}' version '{version}' (pinned for agent '{holder}')")
    if changed:
        raise SkillPinnedOtherwise(
            f"skill changed without a new version: {', '.join(changed)}",
            then="Give the changed skill a new version in a module of its own, and name that version in the manifest.",
        )


async def _put(work: UnitOfWork, definition: Definition, by: str, at: datetime) -> Applied:
    await store.put_agent(work, definition, at)
    hashed = definition.hash()
    version = await store.by_hash(work, definition.agent_id, hashed)
    created = version is None
    if version is None:
        number = await store.next_number(work, definition.agent_id)
        version = Version(definition.agent_id, number, hashed, definition, by, at)
        await store.add_version(work, version)
        await work.publish(VersionCreated(definition.agent_id, hashed, number, by))
    await work.publish(AgentApplied(definition.agent_id, hashed, by))
    return Applied(version, created)
