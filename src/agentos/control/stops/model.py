"""Stops, what each withholds, and which of them concern one deployment."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final


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
    organization: str  # "*": of every organization
    kind: StopKind
    scope: StopScope
    target: str  # a category, id, glob, host or provider; empty where the scope needs none
    reason: str
    ordered_by: str
    ordered_at: datetime
    lifted_by: str | None = None
    lifted_at: datetime | None = None


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
