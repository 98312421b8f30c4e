"""Decide one skill call: an ordered list of small rules, the most restrictive answer wins, and no answer is a no."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from agentos.control.policy.model import MATRIX, RESTRICTIVE_FIRST, Decision, EffectClass, Tier, Verdict
from agentos.kernel.canonical import digest


@dataclass(frozen=True, slots=True)
class Proposed:
    """A call as policy sees it."""

    skill: str
    effect: EffectClass
    pinned: bool  # whether the run's version names the skill
    tier: Tier  # in force for the deployment now, at most the version's
    submitted: bool = False  # a person submitted it out of a draft


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule answers or passes (None)."""

    code: str
    words: str
    answer: Callable[[Proposed], Verdict | None]


def _allowlist(call: Proposed) -> Verdict | None:
    return None if call.pinned else Verdict.DENY


def _tier_matrix(call: Proposed) -> Verdict | None:
    verdict = MATRIX[call.tier][call.effect]
    if call.submitted and verdict in (Verdict.DRAFT, Verdict.ALLOW):
        return Verdict.ASK_TWO if call.effect is EffectClass.S4 else Verdict.ASK
    return verdict


RULES: Final[tuple[Rule, ...]] = (
    Rule("skill_not_allowed", "the version does not name this skill", _allowlist),
    Rule("tier_matrix", "the tier in force against the skill's effect class", _tier_matrix),
)

DEFAULT_DENY: Final = Rule("default_deny", "no rule said yes", lambda _call: Verdict.DENY)

# Two decisions with the same hash were made by the same rules and the same matrix.
POLICY_HASH: Final = digest(
    {
        "rules": [[rule.code, rule.words] for rule in (*RULES, DEFAULT_DENY)],
        "matrix": {tier.name: [verdict.value for verdict in row] for tier, row in MATRIX.items()},
    }
)


def decide(call: Proposed) -> Decision:
    """What may be done with this call. The first rule that gave the most restrictive answer is cited."""
    given = [(rule, verdict) for rule in RULES if (verdict := rule.answer(call)) is not None]
    rule, verdict = min(given, key=lambda pair: RESTRICTIVE_FIRST.index(pair[1]), default=(DEFAULT_DENY, Verdict.DENY))
    return Decision(verdict, rule.code, rule.words, POLICY_HASH)
