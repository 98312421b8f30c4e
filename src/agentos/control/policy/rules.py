"""Decide one skill call: an ordered table of small rules, the most restrictive answer wins, and no answer is a no.

Every rule answers or passes. Of the rules that gave the winning verdict the first is cited, with its reasons. A
rulebook is all that the rules look into besides the call; it never changes, so a process keeps one for as long as the
epochs of its deployment stand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache
from typing import Final

from agentos.control.policy import cedar
from agentos.control.policy.model import (
    MATRIX,
    Decision,
    DeploymentPolicy,
    EffectClass,
    OrganizationPolicy,
    PolicyRefused,
    Tier,
    Verdict,
)
from agentos.control.stops.model import InForce, Stop, StopKind, StopScope, Subject
from agentos.kernel.canonical import digest

KEPT: Final = 256  # organizations whose Cedar policies a process keeps as they were read
DECIDED: Final = 256  # kinds of call on which a rulebook keeps its decision: the skills of a few versions, some 200 kB


@dataclass(frozen=True, slots=True)
class Proposed:
    """A call as policy sees it."""

    skill: str
    effect: EffectClass
    pinned: bool  # whether the run's version names the skill
    tier: Tier  # in force for the deployment now, at most the version's
    submitted: bool = False  # a person submitted it out of a draft
    registered: bool = True  # whether any skill of that name is loaded
    hosts: tuple[str, ...] = ()  # that its arguments name, see hosts.py


@dataclass(frozen=True, slots=True)
class Answer:
    """What a rule says of a call, and what it went by."""

    verdict: Verdict
    reasons: tuple[str, ...] = ()


class Globs:
    """Patterns of names with * ? [abc], compiled once."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._compiled = [(one, re.compile(translate(one)).match) for one in patterns]

    def meeting(self, name: str) -> tuple[str, ...]:
        """The patterns that the name meets."""
        return tuple(one for one, match in self._compiled if match(name))

    def __bool__(self) -> bool:
        return bool(self._compiled)


class Rulebook:
    """What is in force for one deployment: the stops, the organization's policy, and the deployment's own."""

    def __init__(
        self,
        subject: Subject,
        stops: InForce = InForce(),  # noqa: B008  # frozen
        organization: OrganizationPolicy = OrganizationPolicy(),  # noqa: B008  # frozen
        deployment: DeploymentPolicy = DeploymentPolicy(),  # noqa: B008  # frozen
    ) -> None:
        self.subject = subject
        self.stops = stops
        self.organization = organization
        self.deployment = deployment
        self.disabled = frozenset(organization.disabled)
        self.trusted = frozenset(organization.trusted)
        self.organization_denies = Globs(organization.deny)
        self.deployment_denies = Globs(deployment.deny)
        self.allowed = None if deployment.allow is None else Globs(deployment.allow)
        self.organization_asks = Globs(organization.ask)
        self.deployment_asks = Globs(deployment.ask)
        self.cedar, self.broken = _cedar(organization.cedar)
        self.entities = None if self.cedar is None else cedar.entities_of(subject)
        self.decided: dict[Proposed, Decision] = {}  # see decide
        self.hash = digest(
            {
                "rules": RULES_HASH,
                "organization": organization.hash,
                "deployment": deployment.hash,
                "stops": [one.id for one in stops.stops],
            }
        )

    @property
    def asks_of_reads(self) -> bool:
        """Whether a call that only reads may have to wait for a person."""
        return bool(self.organization_asks or self.deployment_asks or (self.cedar is not None and self.cedar.asks))


@dataclass(frozen=True, slots=True)
class Case:
    """One call in front of the rules."""

    call: Proposed
    book: Rulebook
    tier: Tier  # the call's, or L1 at most while a stop degrades the deployment
    said: cedar.Said  # by the organization's own rules


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table. It answers or passes (None)."""

    code: str
    words: str
    answer: Callable[[Case], Answer | None]


def _unregistered(case: Case) -> Answer | None:
    return None if case.call.registered else Answer(Verdict.DENY)


def _disabled(case: Case) -> Answer | None:
    return Answer(Verdict.DENY) if case.call.skill in case.book.disabled else None


def _stopped(case: Case) -> Answer | None:
    held = case.book.stops.held
    return None if held is None or case.call.effect is EffectClass.S0 else Answer(Verdict.DENY, (_stop(held),))


def _denylisted(case: Case) -> Answer | None:
    met = case.book.stops.denies(case.call.skill, case.call.hosts)
    return Answer(Verdict.DENY, (_stop(met),)) if met is not None else None


def _organization_denies(case: Case) -> Answer | None:
    return _met(case.book.organization_denies, case, Verdict.DENY)


def _deployment_denies(case: Case) -> Answer | None:
    return _met(case.book.deployment_denies, case, Verdict.DENY)


def _allowlist(case: Case) -> Answer | None:
    if not case.call.pinned:
        return Answer(Verdict.DENY, ("the version does not name it",))
    if case.book.allowed is not None and not case.book.allowed.meeting(case.call.skill):
        return Answer(Verdict.DENY, ("the deployment's allow list does not name it",))
    return None


def _tier_matrix(case: Case) -> Answer:
    call, tier = case.call, case.tier
    verdict = MATRIX[tier][call.effect]
    reasons: tuple[str, ...] = (f"{tier.name} × {call.effect.name}",)
    if tier is not call.tier and (degraded := case.book.stops.degraded) is not None:
        reasons += (_stop(degraded),)
    if tier is Tier.L4 and call.effect is EffectClass.S3:
        named = [f"trusted: {call.skill}"] if call.skill in case.book.trusted else []
        named += [f"cedar: {one}" for one in case.said.permitted]
        if named:
            verdict, reasons = Verdict.ALLOW, (*reasons, *named)
    stays = verdict is Verdict.DRAFT and case.book.stops.degraded is not None  # also when a person submits it
    if call.submitted and not stays and verdict in (Verdict.DRAFT, Verdict.ALLOW):
        verdict = Verdict.ASK_TWO if call.effect is EffectClass.S4 else Verdict.ASK
        reasons += ("a person submitted it",)
    return Answer(verdict, reasons)


def _approval_required(case: Case) -> Answer | None:
    return _met(case.book.organization_asks, case, Verdict.ASK) or _met(case.book.deployment_asks, case, Verdict.ASK)


def _organization_rules(case: Case) -> Answer | None:
    if case.book.broken:
        return Answer(Verdict.DENY, (f"cedar: the policy cannot be read: {case.book.broken}",))
    return Answer(case.said.verdict, case.said.reasons) if case.said.verdict is not None else None


RULES: Final[tuple[Rule, ...]] = (
    Rule("skill_unregistered", "no such skill is loaded", _unregistered),
    Rule("skill_disabled", "the organization has switched the skill off", _disabled),
    Rule("stopped", "a kill switch or a pause holds effects back; reads go on", _stopped),
    Rule("denylisted", "the emergency denylist meets the call", _denylisted),
    Rule("organization_denies", "the organization denies the skill", _organization_denies),
    Rule("deployment_denies", "the deployment denies the skill", _deployment_denies),
    Rule("skill_not_allowed", "the version, or the deployment's allow list, does not name the skill", _allowlist),
    Rule("tier_matrix", "the tier in force against the skill's effect class", _tier_matrix),
    Rule("approval_required", "the organization or the deployment wants an approval for the skill", _approval_required),
    Rule("organization_rules", "a rule that the organization wrote in Cedar", _organization_rules),
)

DEFAULT_DENY: Final = Rule("default_deny", "no rule said yes", lambda _case: Answer(Verdict.DENY))

# Two decisions whose policy hashes cover the same of these were made by the same rules and the same matrix.
RULES_HASH: Final = digest(
    {
        "rules": [[rule.code, rule.words] for rule in (*RULES, DEFAULT_DENY)],
        "matrix": {tier.name: [verdict.value for verdict in row] for tier, row in MATRIX.items()},
    }
)


def decide(call: Proposed, rulebook: Rulebook) -> Decision:
    """What may be done with this call. The first rule that gave the most restrictive answer is cited.

    A decision depends on the call and the rulebook alone, and neither ever changes: a run that calls the same skill
    again and again is told what was decided first. Calls that name hosts, or a skill that the version does not, are
    decided each time, since there is no end of them.
    """
    known = rulebook.decided.get(call)
    if known is None:
        known = _decided(call, rulebook)
        if call.pinned and not call.hosts and len(rulebook.decided) < DECIDED:
            rulebook.decided[call] = known
    return known


def _decided(call: Proposed, rulebook: Rulebook) -> Decision:
    cited, found = DEFAULT_DENY, None
    for rule, answer in answers(call, rulebook):
        if answer is not None and (found is None or answer.verdict.rank < found.verdict.rank):
            cited, found = rule, answer
    found = found or Answer(Verdict.DENY)
    return Decision(found.verdict, cited.code, cited.words, rulebook.hash, found.reasons)


def answers(call: Proposed, rulebook: Rulebook) -> list[tuple[Rule, Answer | None]]:
    """What each rule of the table says of a call, in their order; None where it passes."""
    tier = min(call.tier, Tier.L1) if rulebook.stops.degraded is not None else call.tier
    case = Case(call, rulebook, tier, _said(call, rulebook, tier))
    return [(rule, rule.answer(case)) for rule in RULES]


def _said(call: Proposed, book: Rulebook, tier: Tier) -> cedar.Said:
    if book.cedar is None or book.entities is None:
        return cedar.NOTHING
    context = {
        "effect": int(call.effect),
        "tier": int(tier),
        "skill": call.skill,
        "agent": book.subject.agent_id,
        "category": book.subject.category,
        "deployment": book.subject.deployment_id,
        "hosts": call.hosts,
        "submitted": call.submitted,
    }
    return book.cedar.say(book.subject, book.entities, context)


@lru_cache(maxsize=KEPT)
def _cedar(text: str) -> tuple[cedar.Rules | None, str]:
    """The rules of a text that was accepted once, and why they cannot be read any more, if so."""
    try:
        return cedar.read(text), ""
    except PolicyRefused as error:  # a later release of the language: deny until somebody mends it
        return None, str(error)[:300]


def _met(globs: Globs, case: Case, verdict: Verdict) -> Answer | None:
    found = globs.meeting(case.call.skill)
    return Answer(verdict, tuple(f"glob: {one}" for one in found)) if found else None


_KINDS: Final = {StopKind.KILL: "kill switch", StopKind.PAUSE: "pause", StopKind.DEGRADE: "degraded mode"}


def _stop(one: Stop) -> str:
    """A stop as a reason cites it. Who ordered it and why stands with the stop, not in every journal."""
    about = one.scope.value if one.scope in (StopScope.GLOBAL, StopScope.ORGANIZATION) else f"{one.scope} {one.target}"
    return f"stop {one.id}: {_KINDS.get(one.kind, 'denylist')}, {about}"
