"""The registry that outlives processes: what each loaded is registered once, and never becomes something else.

    loaded, not registered           → registered; served
    loaded, registered with its digest   → served
    loaded, registered with another  → withheld here: it was changed without a new version
    loaded, not registered, read-only    → withheld here

Registering does not wait for anything and nothing waits for it but applying and promoting: a run is pinned to digests,
so what it calls was compared when its version was made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from agentos.kernel.database import Database
from agentos.kernel.errors import Conflict, NotFound
from agentos.kernel.looking import look_for_ever
from agentos.kernel.unit_of_work import UnitOfWork
from agentos.runtime.skills import store, versions
from agentos.runtime.skills.contracts import Difference, compare
from agentos.runtime.skills.model import Contract, Registered, RegistryDiffers, RegistryReadOnly, SkillUnknown
from agentos.runtime.skills.service import Registry

log = structlog.get_logger(__name__)

LOOK_SECONDS: Final = 60.0  # between looks at the registry: what was restored is served again within a minute
RETRY_SECONDS: Final = 1.0  # while the database is away, or not migrated yet
MOST_VERSIONS: Final = 200  # of one skill in an answer


class Keeper:
    """Compares what a process loaded with the registry, and withholds what differs."""

    def __init__(self, database: Database, registry: Registry, *, service: str, read_only: bool) -> None:
        self._database, self._registry, self._service = database, registry, service
        self.read_only = read_only
        self._compared: set[tuple[str, str]] = set()

    @property
    def settled(self) -> bool:
        """Whether everything that is loaded was compared with the registry."""
        return self._compared.issuperset((one.name, one.version) for one in self._registry.every())

    async def settle(self) -> None:
        """Return once everything that is loaded was compared. Raises DatabaseUnavailable or DiskFull (Unavailable)."""
        if not self.settled:
            await self.look()

    async def look(self) -> None:
        """Register what is new, and withhold what differs. Raises DatabaseUnavailable or DiskFull (Unavailable)."""
        loaded = self._registry.every()
        contracts = [one.contract for one in loaded]
        async with self._database.connection("agentos_system") as connection:
            held = await store.register(connection, contracts, self._service, write=not self.read_only)
        reasons = {}
        for one in loaded:
            key = (one.name, one.version)
            digest, added = held.get(key, ("", False))
            if added:
                self._registry.count("registered")
            if digest == one.digest:
                continue
            reasons[key] = (
                f"it was changed without a new version (registered {digest[:19]}, loaded {one.digest[:19]})"
                if digest
                else "the registry is read-only and does not know it"
            )
            if key not in self._registry.withheld:
                self._registry.count("conflict" if digest else "refused")
                log.error("skill_withheld", skill=one.name, version=one.version, reason=reasons[key])
        self._registry.withhold(reasons)
        self._compared = {(one.name, one.version) for one in loaded}

    async def keep_for_ever(self, stop: asyncio.Event) -> None:
        """Look now and again until told to stop; while it cannot be looked at, more often."""

        async def look() -> float:
            await self.look()
            return LOOK_SECONDS

        await look_for_ever(look, stop, every_seconds=RETRY_SECONDS, waits="registry_not_compared")


@dataclass(frozen=True, slots=True)
class Entry:
    """A registered skill, and what this process makes of it."""

    registered: Registered
    loaded: str | None  # digest of what is loaded
    withheld: str | None  # why it is not served

    @property
    def state(self) -> str:
        """``served``, ``withheld``, ``not_loaded``, or ``corrupt`` for a row that is not as it was registered."""
        if not self.registered.intact:
            return "corrupt"
        return "withheld" if self.withheld else "served" if self.loaded else "not_loaded"


async def every(work: UnitOfWork, registry: Registry, *, after: tuple[str, str], most: int) -> list[Entry]:
    """Registered skills by name and version."""
    return [_entry(one, registry) for one in await store.page(work, after, most)]


async def versions_of(work: UnitOfWork, registry: Registry, name: str) -> list[Entry]:
    """A skill's versions, in their order; at most 200. Raises SkillUnknown (NotFound)."""
    found = [_entry(one, registry) for one in await store.versions(work, name, MOST_VERSIONS)]
    if not found:
        raise SkillUnknown(f"no skill '{name[:64]}' is registered", then="See 'agentos skills list'.")
    return sorted(found, key=_order)


async def resolve(work: UnitOfWork, registry: Registry, name: str, wanted: str) -> Entry:
    """The registered version that a version, a range or ``latest`` means today.

    Raises SkillUnknown (NotFound), SkillVersionMalformed (Invalid).
    """
    found = {one.registered.version: one for one in await versions_of(work, registry, name)}
    registry.count("resolved")
    version = versions.chosen(wanted, found)
    if version is None:
        raise SkillUnknown(
            f"skill '{name}' has no version '{wanted[:64]}'; registered are {', '.join(found)}"[:500],
            then=f"See 'agentos skills show {name}'.",
        )
    return found[version]


async def contract(work: UnitOfWork, name: str, version: str) -> Contract:
    """A skill's contract. Raises SkillUnknown (NotFound), RegistryCorrupt (Conflict)."""
    found = await store.get(work, name, version)
    if found is None:
        raise SkillUnknown(
            f"skill '{name[:64]}' version '{version[:64]}' is not registered", then="See 'agentos skills list'."
        )
    return found.contract


async def difference(work: UnitOfWork, name: str, was: str, now: str) -> Difference:
    """What version ``now`` of a skill changes for who relied on ``was``. Raises as ``contract`` does."""
    return compare(await contract(work, name, was), await contract(work, name, now))


async def breaking(work: UnitOfWork, name: str, was: str, now: str) -> tuple[str, ...]:
    """Why version ``now`` of a skill breaks who relied on ``was``. What is not known of either is a reason too."""
    try:
        return (await difference(work, name, was, now)).breaking
    except (NotFound, Conflict) as error:
        return (f"cannot be compared: {error.what}",)


@dataclass(frozen=True, slots=True)
class Restored:
    """What putting one row back came to: ``put_back`` (it was missing), ``mended`` (it was damaged), or ``kept``."""

    name: str
    version: str
    did: str
    digest: str
    was: str | None = None  # the damaged row's digest, where it was another


async def everything(database: Database) -> list[Registered]:
    """Every registered skill by name and version."""
    async with database.connection("agentos_app") as connection:
        return await store.everything(connection)


async def restore(
    database: Database, rows: Sequence[Registered], *, read_only: bool, dry_run: bool, by: str
) -> list[Restored]:
    """Put back rows that are missing or not as they were registered, all or none; other rows stay as they are.

    A whole row with another digest or contract than the file's is never replaced: RegistryDiffers (Conflict). Raises
    RegistryReadOnly (Conflict) unless ``dry_run``.
    """
    if read_only and not dry_run:
        raise RegistryReadOnly("the registry is read-only, so nothing is restored", then="Unset REGISTRY_READ_ONLY.")
    there = {(one.name, one.version): one for one in await everything(database)}
    plan = [(one, there.get((one.name, one.version))) for one in rows]
    other = [f"{one.name}@{one.version}" for one, seen in plan if seen and seen.intact and seen.seal != one.seal]
    if other:
        raise _differs(other)
    done = [_restored(one, seen) for one, seen in plan]
    if dry_run:
        return done
    async with database.connection("agentos_system") as connection:
        for one, seen in plan:
            if (seen is None or not seen.intact) and not await store.restore(connection, one, seen, by):
                raise _differs([f"{one.name}@{one.version}"])
    return done


def _restored(one: Registered, seen: Registered | None) -> Restored:
    if seen is None:
        return Restored(one.name, one.version, "put_back", one.digest)
    if seen.intact:
        return Restored(one.name, one.version, "kept", one.digest)
    return Restored(one.name, one.version, "mended", one.digest, seen.digest if seen.digest != one.digest else None)


def _differs(named: list[str]) -> RegistryDiffers:
    return RegistryDiffers(
        f"the registry holds otherwise than the file: {', '.join(named)}"[:1000],
        then="Nothing was restored. See 'agentos registry verify FILE'; a skill that changed needs a new version.",
    )


def _entry(one: Registered, registry: Registry) -> Entry:
    key = (one.name, one.version)
    return Entry(one, registry.digests.get(key), registry.withheld.get(key))


def _order(one: Entry) -> tuple[bool, object, str]:
    number = versions.ordinal(one.registered.version)
    return (number is not None, number.precedence_key if number is not None else (), one.registered.version)
