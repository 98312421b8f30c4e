"""A skill: a versioned callable, its schemas, its effect class, and what to do when a call's end is unknown."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Self

from agentos.control.policy.model import EffectClass
from agentos.kernel.canonical import digest
from agentos.kernel.errors import Bug, Conflict, Exhausted, Invalid, NotFound, Unavailable
from agentos.kernel.facts import Fact


class SkillUnknown(NotFound):
    """No skill of that name and version is loaded."""

    code = "skill_unknown"


class SkillChanged(Conflict):
    """A loaded skill differs from the one that the version pinned: changed without a new version."""

    code = "skill_changed"


class SkillWithheld(Conflict):
    """A loaded skill is not served: the registry holds it with another digest, or is read-only and does not know it."""

    code = "skill_withheld"


class SkillVersionMalformed(Invalid):
    """Neither a skill's version nor a range of versions nor ``latest``."""

    code = "skill_version_malformed"


class RegistryCorrupt(Conflict):
    """A row of the registry is not as it was registered."""

    code = "registry_corrupt"


class RegistryDiffers(Conflict):
    """The registry holds a skill of this name and version with another digest than the file does."""

    code = "registry_differs"


class RegistryFileInvalid(Invalid):
    """A file is no whole export of the registry."""

    code = "registry_file_invalid"


class RegistryReadOnly(Conflict):
    """REGISTRY_READ_ONLY is set, so nothing is written to the registry."""

    code = "registry_read_only"


class SkillMisdeclared(Invalid):
    """A skill's declaration is not usable: a parameter without a type, a bad version, a name taken twice."""

    code = "skill_misdeclared"


class ArgumentsRefused(Invalid):
    """The arguments of a call do not fit the skill's schema."""

    code = "arguments_refused"


class SkillRaised(Bug):
    """A skill's code raised an error that it does not declare."""

    code = "skill_raised"


class SkillBrokeSchema(Bug):
    """A skill returned what its own schema forbids."""

    code = "skill_broke_schema"


class SkillTimedOut(Unavailable):
    """A skill did not end within its timeout."""

    code = "skill_timed_out"


class SkillsBusy(Exhausted):
    """This worker has as many synchronous skill calls under way as it allows."""

    code = "skills_busy"


class Reversibility(StrEnum):
    """Whether what a skill did can be taken back."""

    REVERSIBLE = "reversible"
    COMPENSABLE = "compensable"
    IRREVERSIBLE = "irreversible"


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a call is tried when it fails with a kind of error that may pass (Unavailable, Exhausted)."""

    attempts: int = 3
    first: timedelta = timedelta(milliseconds=200)
    factor: float = 2.0
    most: timedelta = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a call costs at the receiving system, in millionths of a US dollar."""

    per_call: int = 0
    per_unit: int = 0
    unit: str = ""  # what ``per_unit`` counts, such as "row"


@dataclass(frozen=True, slots=True)
class Contract:
    """What consumers of one version of a skill rely on. Its document is what the registry keeps."""

    name: str
    version: str
    digest: str
    description: str
    effect: EffectClass
    reversibility: Reversibility
    idempotent: bool
    timeout_seconds: float
    input_schema: dict[str, Any]
    output_schema: dict[str, Any]
    stable: tuple[str, ...] = ()  # paths of the output, such as "items[].id"
    cost: Cost | None = None  # None: nothing is said
    failures: tuple[str, ...] | None = None  # codes of errors; None: nothing is said

    def document(self) -> dict[str, Any]:
        """The contract as JSON data. Equal contracts give equal data."""
        return {
            **{name: getattr(self, name) for name in ("name", "version", "digest", "description", "idempotent")},
            "effect": self.effect.name,
            "reversibility": self.reversibility.value,
            "timeout_seconds": self.timeout_seconds,
            "input_schema": self.input_schema,
            "output_schema": self.output_schema,
            "stable": list(self.stable),
            "cost": None if self.cost is None else asdict(self.cost),
            "failures": None if self.failures is None else list(self.failures),
        }

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Self:
        """The contract whose document this is. Raises KeyError, TypeError or ValueError when it is none."""
        return cls(
            **{
                **data,
                "effect": EffectClass[data["effect"]],
                "reversibility": Reversibility(data["reversibility"]),
                "stable": tuple(data["stable"]),
                "cost": None if data["cost"] is None else Cost(**data["cost"]),
                "failures": None if data["failures"] is None else tuple(data["failures"]),
            }
        )


@dataclass(frozen=True, slots=True)
class Registered:
    """A row of the registry, as it stands in the database."""

    name: str
    version: str
    digest: str
    document: dict[str, Any]  # of the contract
    seal: str  # SHA-256 of the document's canonical form, as it was registered
    first_seen: datetime
    first_service: str

    @property
    def intact(self) -> bool:
        """Whether the row is as it was registered."""
        named = tuple(self.document.get(name) for name in ("name", "version", "digest"))
        return named == (self.name, self.version, self.digest) and digest(self.document) == self.seal

    @property
    def contract(self) -> Contract:
        """The contract. Raises RegistryCorrupt (Conflict) when the row is not as it was registered."""
        if not self.intact:
            raise RegistryCorrupt(
                f"the registry's row of skill '{self.name}' version '{self.version}' is not as it was registered",
                then="Put it back with 'agentos registry restore FILE'.",
            )
        return Contract.read(self.document)


@dataclass(frozen=True, slots=True)
class Lookup:
    """What a receiving system says of a call whose end we do not know."""

    happened: bool | None  # None: it cannot say
    value: Any = None


def no_secrets(name: str) -> str:
    """The resolver of a process that has no secrets: it refuses every name."""
    raise NotFound(f"there is no secret '{name}'", then="Set AGENTOS_SECRET_" + name.upper() + " for the workers.")


@dataclass(frozen=True, slots=True)
class SkillContext:
    """What a call may know besides its arguments. A skill asks for it by a first parameter of this type."""

    organization: str
    run_id: str
    key: str  # the idempotency key: the same for every attempt at the same effect
    timeout: timedelta
    roots: tuple[Path, ...] = ()  # folders that files may be read from and written to
    hosts: tuple[str, ...] = ()  # host or host:port that may be reached although its address is not public
    egress: tuple[str, ...] = ()  # hosts that may be asked over HTTP: host, host:port, *.domain, or * for all
    secret: Callable[[str], str] = no_secrets  # resolves secret://name; never journaled


@dataclass(frozen=True, slots=True)
class Skill:
    """A loaded skill. ``digest`` covers its schemas, its declared properties and the source of its module."""

    name: str
    version: str
    effect: EffectClass
    description: str
    input_schema: dict[str, Any]
    output_schema: dict[str, Any]
    reversibility: Reversibility
    idempotent: bool  # the receiver honours the key, or doing it twice is doing it once
    timeout: timedelta
    retry: Retry
    digest: str
    call: Callable[[SkillContext, dict[str, Any]], Awaitable[Any]] = field(compare=False)
    lookup: Callable[[SkillContext, dict[str, Any]], Awaitable[Lookup]] | None = field(default=None, compare=False)
    stable: tuple[str, ...] = ()
    cost: Cost | None = None
    failures: tuple[str, ...] | None = None

    @property
    def contract(self) -> Contract:
        """What consumers of this skill rely on."""
        return Contract(
            name=self.name,
            version=self.version,
            digest=self.digest,
            description=self.description,
            effect=self.effect,
            reversibility=self.reversibility,
            idempotent=self.idempotent,
            timeout_seconds=self.timeout.total_seconds(),
            input_schema=self.input_schema,
            output_schema=self.output_schema,
            stable=self.stable,
            cost=self.cost,
            failures=self.failures,
        )

    @property
    def read_only(self) -> bool:
        """Whether a call changes nothing, so that it needs no intent and may simply be done again."""
        return self.effect is EffectClass.S0

    @property
    def repeatable(self) -> bool:
        """Whether a call whose end is unknown may be executed again with the same key."""
        return self.read_only or self.idempotent


@dataclass(frozen=True, slots=True)
class SkillsRegistered(Fact):
    """A process loaded versions of skills that no other had, and registered them for every organization."""

    key_field: ClassVar[str] = "service"
    service: str
    skills: list[dict[str, str]]  # skill, version and digest of each


@dataclass(frozen=True, slots=True)
class SkillRestored(Fact):
    """A row of the registry was put back as it had been registered."""

    key_field: ClassVar[str] = "skill"
    skill: str
    version: str
    digest: str
    was: str | None  # the digest of the damaged row; None: there was none
    by: str
