"""What one decision costs: a call's hosts are looked for and the whole table of rules is asked, as before each effect.

The calls differ, as those of runs do: skills of every class, at every tier, with arguments of a few hundred characters
that name a host now and then. The rulebook is the one that a process keeps; reading it is not part of a decision.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import product
from typing import Any, Final

from agentos.control.policy.hosts import hosts_of
from agentos.control.policy.model import DeploymentPolicy, EffectClass, OrganizationPolicy, Tier
from agentos.control.policy.rules import Proposed, Rulebook, decide
from agentos.control.stops.model import InForce, Stop, StopKind, StopScope, Subject
from benchmarks.report import Row, percentile

DECISIONS: Final = 20_000
POLICIES: Final = 100
TARGET_MS: Final = 0.1
TARGET_CEDAR_MS: Final = 0.5
SUBJECT: Final = Subject("dep_1", "payer", "money")
_AT: Final = datetime(2026, 1, 1, tzinfo=UTC)


def rows() -> list[Row]:
    """The rows of decisions: the p50 of many, in one process, warmed up."""
    plain, much = _rulebook(""), _rulebook("\n".join(_policies()))
    where = f"in the process, {DECISIONS:,} calls"
    return [
        Row("decision", "ms", _p50(plain), TARGET_MS, where=where),
        Row(f"decision, {POLICIES} Cedar policies", "ms", _p50(much), TARGET_CEDAR_MS, where=where),
    ]


def _p50(book: Rulebook) -> float:
    calls = list(_calls())
    for skill, effect, tier, arguments in calls:
        decide(Proposed(skill, effect, True, tier, hosts=hosts_of(arguments)), book)
    took = []
    for number in range(DECISIONS):
        skill, effect, tier, arguments = calls[number % len(calls)]
        began = time.perf_counter()
        decide(Proposed(skill, effect, True, tier, hosts=hosts_of(arguments)), book)
        took.append(time.perf_counter() - began)
    return percentile(took, 0.5) * 1000


def _calls() -> Iterator[tuple[str, EffectClass, Tier, dict[str, Any]]]:
    for effect, tier, number in product(EffectClass, Tier, range(8)):
        arguments = {
            "customer": f"customer-{number:06}",
            "amount": number * 17,
            "text": "Please settle the open invoice of last month. " * 8,
            "items": [{"name": f"item {item}", "count": item} for item in range(number)],
        }
        if number % 2:
            arguments["callback"] = f"https://host{number}.example/back"
        yield f"skill_{effect.name.lower()}_{number}", effect, tier, arguments


def _rulebook(text: str) -> Rulebook:
    """Some of everything that an organization writes, of which little meets a call, as it is."""
    targets = {StopScope.SKILL: "wipe_*", StopScope.DOMAIN: "evil.example", StopScope.AGENT: SUBJECT.agent_id + "x"}
    stops = [Stop(scope, "o", StopKind.DENY, scope, one, "", "", _AT) for scope, one in targets.items()]
    organization = OrganizationPolicy(
        deny=tuple(f"old_{number}_*" for number in range(20)),
        disabled=("broken",),
        ask=("skill_s2_7",),
        trusted=("skill_s3_1",),
        cedar=text,
    )
    return Rulebook(SUBJECT, InForce.about(SUBJECT, stops), organization, DeploymentPolicy(deny=("skill_s1_7",)))


def _policies() -> Iterator[str]:
    """Policies of four shapes: by skill, by host, by category and tier, and one that names a skill for L4."""
    for number in range(POLICIES):
        name = f'@id("p{number}")'
        yield (
            f'{name} forbid (principal, action, resource == Skill::"skill_s4_{number}");',
            f'{name} @verdict("ask") forbid (principal, action, resource) '
            f'when {{ context.effect >= 2 && context.hosts.contains("host{number}.example") }};',
            f'{name} forbid (principal in Category::"category_{number}", action, resource) '
            f'when {{ context.tier < 3 && context.skill like "skill_s{number % 5}_*" }};',
            f'{name} permit (principal, action, resource == Skill::"skill_s3_{number}") '
            "unless { context.submitted };",
        )[number % 4]


__all__ = ["rows"]
