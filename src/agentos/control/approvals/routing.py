"""Who is asked, in which order and by when: what an organization says about it, and what follows for one question.

    routing   an organization's rules, ladder, times and ends; the defaults hold for what it does not say
    plan      what follows for one question, kept with its approval: changing the routing changes no open question

A plan has stages (a chain; each takes ``needed`` different people of those it names, or of all who may answer) and a
ladder. When the time of a level is up, the approval goes to the next rung, whose people may answer besides; at the top
it ends. ``role:NAME`` stands for everybody of that role.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any, Final, Self

from agentos.control.policy.model import EffectClass
from agentos.intake.identity.model import Permission, Role
from agentos.kernel.canonical import digest
from agentos.kernel.errors import Invalid
from agentos.kernel.units import duration, written

ROLE: Final = "role:"
MOST_RULES: Final = 50
MOST_STAGES: Final = 5
MOST_NAMED: Final = 50  # people and roles of one stage or rung
MOST_NEEDED: Final = 10
MOST_RUNGS: Final = 5
LONGEST: Final = timedelta(days=30)


class BadRouting(Invalid):
    """Rules for approvals that nobody could follow, or that end an irreversible effect in anything but a no."""

    code = "bad_routing"


class OnTimeout(StrEnum):
    """What becomes of a question when the time of those who are asked is up."""

    DENY = "deny"
    ESCALATE = "escalate"  # the next rung is asked; at the top of the ladder it is a no
    DRAFT = "draft"


@dataclass(frozen=True, slots=True)
class Stage:
    """A step of a chain: so many different people out of those named. Nobody named: all who may answer approvals."""

    approvers: tuple[str, ...] = ()
    needed: int = 1

    def document(self) -> dict[str, Any]:
        """The stage as JSON data."""
        return {"approvers": list(self.approvers), "needed": self.needed}


@dataclass(frozen=True, slots=True)
class Rule:
    """Whom to ask about calls of this kind. What is empty matches everything; skills may be globs."""

    stages: tuple[Stage, ...]
    effects: tuple[EffectClass, ...] = ()
    skills: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()

    def matches(self, *, effect: EffectClass, skill: str, category: str, agent: str) -> bool:
        """Whether a call is of this kind."""
        return (
            (not self.effects or effect in self.effects)
            and (not self.skills or any(fnmatchcase(skill, one) for one in self.skills))
            and (not self.categories or category in self.categories)
            and (not self.agents or agent in self.agents)
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """Who is asked about one question, and what the clock does with it."""

    stages: tuple[Stage, ...]
    ladder: tuple[tuple[str, ...], ...] = ()  # who may answer besides, level by level
    after: timedelta | None = None  # the time of each level; None: nothing happens before the end
    on_timeout: OnTimeout = OnTimeout.DENY

    @property
    def needed(self) -> int:
        """How many different people must say yes in all."""
        return sum(one.needed for one in self.stages)

    @property
    def top(self) -> int:
        """The highest level."""
        return len(self.ladder) if self.on_timeout is OnTimeout.ESCALATE and self.after is not None else 0

    def expires_at(self, asked_at: datetime, longest: timedelta) -> datetime:
        """When the question ends without an answer. It never moves."""
        return asked_at + (longest if self.after is None else min(longest, self.after * (self.top + 1)))

    def next_at(self, asked_at: datetime, level: int, reminded: bool, expires_at: datetime) -> datetime:
        """When the clock has to do something next: remind half-way through a level's time, hand on at its end."""
        if self.after is None:
            return expires_at
        return min(expires_at, asked_at + self.after * (level + (1.0 if reminded else 0.5)))

    def document(self) -> dict[str, Any]:
        """The plan as JSON data."""
        return {
            "stages": [one.document() for one in self.stages],
            "ladder": [list(rung) for rung in self.ladder],
            "after": None if self.after is None else written(self.after),
            "on_timeout": self.on_timeout.value,
        }

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Self:
        """The plan whose document this is."""
        return cls(
            tuple(Stage(tuple(one["approvers"]), one["needed"]) for one in data["stages"]),
            tuple(tuple(rung) for rung in data["ladder"]),
            None if data["after"] is None else duration(data["after"]),
            OnTimeout(data["on_timeout"]),
        )


# The time of one level, by effect class: two hours are within a working day, an hour is what a risky step may hold up
# its run, and who is asked to do what cannot be undone is asked at once. S1 is asked by an organization's own rules
# only and is in no hurry.
AFTER: Final[Mapping[EffectClass, timedelta | None]] = {
    EffectClass.S0: None,
    EffectClass.S1: None,
    EffectClass.S2: timedelta(hours=2),
    EffectClass.S3: timedelta(hours=1),
    EffectClass.S4: timedelta(minutes=15),
}
LEGAL_AFTER: Final = timedelta(minutes=30)  # of S3 where the agent's category is legal
LEGAL: Final = ("legal",)
ON_TIMEOUT: Final[Mapping[EffectClass, OnTimeout]] = dict.fromkeys(EffectClass, OnTimeout.ESCALATE)
LADDER: Final = (("role:admin",),)
END_IN_DENY: Final = (EffectClass.S3, EffectClass.S4)


@dataclass(frozen=True, slots=True)
class Routing:
    """What an organization says about who is asked, and by when."""

    rules: tuple[Rule, ...] = ()  # the first that matches holds
    ladder: tuple[tuple[str, ...], ...] = LADDER  # the first rung are the backups
    after: Mapping[EffectClass, timedelta | None] = field(default_factory=lambda: dict(AFTER))
    legal_after: timedelta = LEGAL_AFTER
    legal_categories: tuple[str, ...] = LEGAL
    on_timeout: Mapping[EffectClass, OnTimeout] = field(default_factory=lambda: dict(ON_TIMEOUT))

    @property
    def backups(self) -> tuple[str, ...]:
        """Who stands in for those that are asked."""
        return self.ladder[0] if self.ladder else ()

    def plan(self, *, effect: EffectClass, skill: str, category: str, agent: str, needed: int) -> Plan:
        """The plan for a call. A rule may ask more people than policy wants, never fewer: the rest may be anybody."""
        found = (one for one in self.rules if one.matches(effect=effect, skill=skill, category=category, agent=agent))
        rule = next(found, None)
        stages = rule.stages if rule is not None else ()
        if (short := needed - sum(one.needed for one in stages)) > 0:
            stages = (*stages, Stage((), short))
        legal = effect is EffectClass.S3 and category in self.legal_categories
        after = self.legal_after if legal else self.after.get(effect)
        return Plan(stages, self.ladder, after, self.on_timeout[effect])

    def document(self) -> dict[str, Any]:
        """The routing as JSON data, as it is stored, shown and given."""
        return {
            "rules": [
                {
                    "effects": [one.name for one in rule.effects],
                    "skills": list(rule.skills),
                    "categories": list(rule.categories),
                    "agents": list(rule.agents),
                    "stages": [one.document() for one in rule.stages],
                }
                for rule in self.rules
            ],
            "ladder": [list(rung) for rung in self.ladder],
            "after": {one.name: None if time is None else written(time) for one, time in self.after.items()},
            "legal_after": written(self.legal_after),
            "legal_categories": list(self.legal_categories),
            "on_timeout": {one.name: end.value for one, end in self.on_timeout.items()},
        }

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Self:
        """The routing of a document whose form is checked already; what it leaves out keeps its default.

        Raises BadRouting or MalformedDuration (Invalid).
        """
        after = {EffectClass[name]: None if time is None else duration(time) for name, time in data["after"].items()}
        on_timeout = {EffectClass[name]: OnTimeout(end) for name, end in data["on_timeout"].items()}
        made = cls(
            rules=tuple(
                Rule(
                    tuple(Stage(tuple(stage["approvers"]), stage["needed"]) for stage in one["stages"]),
                    tuple(EffectClass[name] for name in one["effects"]),
                    tuple(one["skills"]),
                    tuple(one["categories"]),
                    tuple(one["agents"]),
                )
                for one in data["rules"]
            ),
            ladder=LADDER if data["ladder"] is None else tuple(tuple(rung) for rung in data["ladder"]),
            after={**AFTER, **after},
            legal_after=LEGAL_AFTER if data["legal_after"] is None else duration(data["legal_after"]),
            legal_categories=tuple(data["legal_categories"]),
            on_timeout={**ON_TIMEOUT, **on_timeout},
        )
        made._check()
        return made

    def named(self) -> set[str]:
        """Every person and role that the rules and the ladder name."""
        stages = (stage.approvers for rule in self.rules for stage in rule.stages)
        return {one for group in (*stages, *self.ladder) for one in group}

    def _check(self) -> None:
        for number, rule in enumerate(self.rules):
            for position, stage in enumerate(rule.stages):
                people_only = bool(stage.approvers) and not any(one.startswith(ROLE) for one in stage.approvers)
                if people_only and stage.needed > len(set(stage.approvers)):
                    raise BadRouting(
                        f"{stage.needed} people are needed out of {len(set(stage.approvers))} that are named",
                        where=f"rules[{number}].stages[{position}]",
                        then="Name more people, or ask for fewer.",
                    )
        for number, rung in enumerate(self.ladder):
            if not rung:
                raise BadRouting("a rung names nobody", where=f"ladder[{number}]", then="Leave the rung out.")
        for name, time in (*((one.name, time) for one, time in self.after.items()), ("legal_after", self.legal_after)):
            if time is not None and not timedelta() < time <= LONGEST:
                raise BadRouting(f"a level lasts {LONGEST.days} days at most", where=name, then="Write 1h, say.")
        for one in END_IN_DENY:
            if self.on_timeout[one] is OnTimeout.DRAFT:
                raise BadRouting(
                    f"{one.name} ends in a no when nobody answers",
                    where=f"on_timeout.{one.name}",
                    then="Write deny or escalate.",
                )
        for ref in self.named():
            check_ref(ref)


def check_ref(ref: str) -> None:
    """Raises BadRouting (Invalid) for a role that is none, or whose people may not answer approvals."""
    if not ref.startswith(ROLE):
        return
    role = ref.removeprefix(ROLE)
    if role not in list(Role) or Permission.ANSWER_APPROVALS not in Role(role).permissions:
        able = ", ".join(ROLE + one for one in Role if Permission.ANSWER_APPROVALS in one.permissions)
        raise BadRouting(f"'{ref[:80]}' is no role that may answer approvals", then=f"Name a person, or one of {able}.")


@dataclass(frozen=True, slots=True)
class Requirement:
    """What a yes has to satisfy: the rule that asks, the effect class, and who must have said yes."""

    rule: str
    effect: EffectClass
    stages: tuple[Stage, ...]

    @property
    def needed(self) -> int:
        """How many different people in all."""
        return sum(one.needed for one in self.stages)

    def covers(self, now: Requirement) -> bool:
        """Whether a yes to this is a yes to what is required now: the same, or less of the same people."""
        if (self.rule, self.effect) != (now.rule, now.effect) or self.needed < now.needed:
            return False
        return self.stages == now.stages or all(not one.approvers for one in now.stages)

    def document(self) -> dict[str, Any]:
        """The requirement as JSON data."""
        return {
            "rule": self.rule,
            "effect": self.effect.name,
            "needed": self.needed,
            "stages": [one.document() for one in self.stages],
        }


def bound(
    *, arguments_digest: str, skill: str, skill_version: str, skill_digest: str, version: str, requirement: Requirement
) -> str:
    """The digest that a yes is bound to: these arguments, this skill, this agent version, this requirement."""
    return digest(
        {
            "arguments_digest": arguments_digest,
            "skill": {"name": skill, "version": skill_version, "digest": skill_digest},
            "agent_version": version,
            "requirement": requirement.document(),
        }
    )
