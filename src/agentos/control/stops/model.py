"""Stops, what each withholds, and which of them concern one deployment."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import ClassVar, Final

from agentos.kernel.errors import Conflict, Invalid, NotFound
from agentos.kernel.facts import Fact

EVERYBODY: Final = "*"  # the organization of a stop of every organization
MOST_STOPS: Final = 1000  # in force in one organization: all of them are read when one changes


class StopMalformed(Invalid):
    """A stop of a kind, scope or target that there is not."""

    code = "stop_malformed"


class StopUnknown(NotFound):
    """No such stop in this organization, nor of every organization."""

    code = "stop_unknown"


class StopTargetUnknown(NotFound):
    """What is to be stopped is not there."""

    code = "stop_target_unknown"


class StopUnconfirmed(Conflict):
    """Stopping or releasing every organization takes a typed confirmation."""

    code = "stop_unconfirmed"


class DeniesEverything(Conflict):
    """The entry would deny all that there is; that takes a typed confirmation, or is a kill."""

    code = "stop_denies_everything"


class TooManyStops(Conflict):
    """The organization has as many stops in force as it may."""

    code = "too_many_stops"


class DenylistChanged(Conflict):
    """The denylist has changed since the revision that the caller saw."""

    code = "denylist_changed"


class StopKind(StrEnum):
    """What a stop withholds. The order of the members is from most to least restrictive."""

    KILL = "kill"  # no effect is committed any more; runs are held where they are
    PAUSE = "pause"  # runs are held before their next step
    DEGRADE = "degrade"  # runs act as L1: reads go on, everything else becomes a draft
    DENY = "deny"  # an entry of the emergency denylist: calls that match it are denied


class StopScope(StrEnum):
    """What a stop is about."""

    GLOBAL = "global"  # every organization
    ORGANIZATION = "organization"
    CATEGORY = "category"
    DEPLOYMENT = "deployment"
    AGENT = "agent"
    SKILL = "skill"  # exact id or glob
    DOMAIN = "domain"  # a host and everything below it
    PROVIDER = "provider"


@dataclass(frozen=True, slots=True)
class Stop:
    """One order that withholds action."""

    id: str
    organization: str  # EVERYBODY: of every organization
    kind: StopKind
    scope: StopScope
    target: str  # a category, id, glob, host or provider; empty where the scope needs none
    reason: str
    ordered_by: str
    ordered_at: datetime
    lifted_by: str | None = None
    lifted_at: datetime | None = None
    lift_reason: str = ""

    @property
    def everybodys(self) -> bool:
        """Whether it stops every organization."""
        return self.organization == EVERYBODY


@dataclass(frozen=True, slots=True)
class Wanted:
    """A stop that somebody orders."""

    kind: StopKind
    scope: StopScope
    target: str = ""
    reason: str = ""
    confirm: str = ""  # the target, or "global", typed once more where that is asked for


@dataclass(frozen=True, slots=True)
class Denylist:
    """The organization's emergency denylist as one document. ``revision`` rises with every change of its entries."""

    skills: tuple[str, ...]
    domains: tuple[str, ...]
    agents: tuple[str, ...]
    providers: tuple[str, ...]
    revision: int

    def entries(self) -> Iterator[tuple[StopScope, str]]:
        """Each entry once."""
        for scope, targets in (
            (StopScope.SKILL, self.skills),
            (StopScope.DOMAIN, self.domains),
            (StopScope.AGENT, self.agents),
            (StopScope.PROVIDER, self.providers),
        ):
            yield from ((scope, target) for target in dict.fromkeys(targets))


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom stops are about: one deployment."""

    deployment_id: str
    agent_id: str
    category: str


_RESTRICTIVE_FIRST: Final = tuple(StopKind)
_ALWAYS: Final = (StopScope.GLOBAL, StopScope.ORGANIZATION)


@dataclass(frozen=True, slots=True)
class InForce:
    """The stops that concern one deployment now, the most restrictive first."""

    stops: tuple[Stop, ...] = ()

    @classmethod
    def about(cls, subject: Subject, stops: Iterable[Stop]) -> InForce:
        """Those of an organization's stops, and of everybody's, that concern the subject."""
        named = {
            StopScope.CATEGORY: subject.category,
            StopScope.DEPLOYMENT: subject.deployment_id,
            StopScope.AGENT: subject.agent_id,
        }
        found = [one for one in stops if one.scope not in named or named[one.scope] == one.target]
        return cls(tuple(sorted(found, key=lambda one: (_RESTRICTIVE_FIRST.index(one.kind), one.ordered_at, one.id))))

    @property
    def held(self) -> Stop | None:
        """The stop that holds the deployment's runs, if any: a kill before a pause."""
        return next((one for one in self.stops if one.kind in (StopKind.KILL, StopKind.PAUSE)), None)

    @property
    def degraded(self) -> Stop | None:
        """The stop that lowers the deployment to L1, if any."""
        return next((one for one in self.stops if one.kind is StopKind.DEGRADE), None)

    def denies(self, skill: str, hosts: Iterable[str]) -> Stop | None:
        """The denylist entry that a call of this skill towards these hosts meets, if any."""
        reached = tuple(hosts)
        for one in self.stops:
            if one.kind is not StopKind.DENY or one.scope is StopScope.PROVIDER:
                continue
            if one.scope is StopScope.SKILL and not fnmatchcase(skill, one.target):
                continue
            if one.scope is StopScope.DOMAIN and not any(_within(host, one.target) for host in reached):
                continue
            return one
        return None

    def denies_provider(self, provider: str) -> Stop | None:
        """The denylist entry that a model call to this provider meets, if any."""
        return next(
            (
                one
                for one in self.stops
                if one.kind is StopKind.DENY and one.scope is StopScope.PROVIDER and one.target == provider
            ),
            None,
        )


def _within(host: str, domain: str) -> bool:
    return host == domain or host.endswith("." + domain)


@dataclass(frozen=True, slots=True)
class StopOrdered(Fact):
    """Somebody ordered a stop."""

    key_field: ClassVar[str] = "stop_id"
    stop_id: str
    kind: str
    scope: str
    target: str
    by: str


@dataclass(frozen=True, slots=True)
class StopLifted(Fact):
    """Somebody lifted a stop."""

    key_field: ClassVar[str] = "stop_id"
    stop_id: str
    kind: str
    scope: str
    target: str
    by: str


_WIDE: Final = (
    StopScope.GLOBAL,
    StopScope.ORGANIZATION,
    StopScope.CATEGORY,
    StopScope.DEPLOYMENT,
    StopScope.AGENT,
)
# What each kind of stop can be about.
SCOPES: Final[Mapping[StopKind, tuple[StopScope, ...]]] = {
    StopKind.KILL: _WIDE,
    StopKind.PAUSE: _WIDE,
    StopKind.DEGRADE: _WIDE,
    StopKind.DENY: (StopScope.SKILL, StopScope.DOMAIN, StopScope.AGENT, StopScope.PROVIDER),
}

_GLOB: Final = re.compile(r"(?:[A-Za-z0-9_.:@/*?-]|\[!?[A-Za-z0-9_.:@/-]+\]){1,200}")
_WILD: Final = re.compile(r"\*|\?|\[[^\]]*\]")
_HOST: Final = re.compile(r"(?=.{1,253}$)[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_][a-z0-9_-]{0,62})*")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,99}")


def checked(wanted: Wanted) -> Wanted:
    """What is wanted, in the one form in which it is kept. Raises StopMalformed (Invalid), StopUnconfirmed or
    DeniesEverything (Conflict).
    """
    kind, scope, target = wanted.kind, wanted.scope, wanted.target.strip()
    if scope not in SCOPES[kind]:
        allowed = ", ".join(SCOPES[kind])
        raise StopMalformed(f"no {kind} is about a {scope}", where="scope", then=f"A {kind} is about: {allowed}.")
    if scope in _ALWAYS:
        if target:
            raise StopMalformed(f"the scope '{scope}' has no target", where="target", then="Leave it out.")
        if scope is StopScope.GLOBAL:
            confirmed(wanted.confirm)
        return Wanted(kind, scope, "", wanted.reason)
    if scope is StopScope.DOMAIN:
        target = target.lower().rstrip(".")
    form, then = _FORMS.get(scope, (_NAME, "Write the id as a listing shows it."))
    if not form.fullmatch(target):
        raise StopMalformed(f"'{target[:100]}' names no {scope}", where="target", then=then)
    everything = (scope is StopScope.SKILL and not _WILD.sub("", target)) or (
        scope is StopScope.DOMAIN and "." not in target and target != "localhost"
    )
    if everything and wanted.confirm.strip() != target:
        raise DeniesEverything(
            f"'{target}' would deny every {scope}"
            if scope is StopScope.SKILL
            else f"all of '{target}' would be denied",
            where="target",
            then=f"Name fewer, kill the organization instead, or confirm with '{target}'.",
        )
    return Wanted(kind, scope, target, wanted.reason)


_FORMS: Final = {
    StopScope.SKILL: (_GLOB, "Write a skill's id, or a glob such as 'webhook_*'."),
    StopScope.DOMAIN: (_HOST, "Write a host such as example.com; everything below it is denied, too."),
}


def confirmed(typed: str) -> None:
    """Raises StopUnconfirmed (Conflict) unless the word for everything was typed."""
    if typed.strip() != StopScope.GLOBAL:
        raise StopUnconfirmed(
            "this concerns every organization of the platform",
            where="confirm",
            then=f"Confirm with the word '{StopScope.GLOBAL.value}'.",
        )
