"""A skill: a versioned callable, its schemas, its effect class, and what to do when a call's end is unknown."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from agentos.control.policy.model import EffectClass
from agentos.kernel.errors import Bug, Conflict, Exhausted, Invalid, NotFound, Unavailable


class SkillUnknown(NotFound):
    """No skill of that name and version is loaded."""

    code = "skill_unknown"


class SkillChanged(Conflict):
    """A loaded skill differs from the one that the version pinned: changed without a new version."""

    code = "skill_changed"


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

    @property
    def read_only(self) -> bool:
        """Whether a call changes nothing, so that it needs no intent and may simply be done again."""
        return self.effect is EffectClass.S0

    @property
    def repeatable(self) -> bool:
        """Whether a call whose end is unknown may be executed again with the same key."""
        return self.read_only or self.idempotent
