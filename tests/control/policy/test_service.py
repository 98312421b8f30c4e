"""The tier matrix, row by row, and the rules around it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentos.control.policy.model import RESTRICTIVE_FIRST, EffectClass, Tier, Verdict
from agentos.control.policy.service import POLICY_HASH, Proposed, decide

DESIGN = """
L0 allow deny  deny  deny  deny
L1 allow draft draft draft draft
L2 allow allow ask   ask   ask_two
L3 allow allow allow ask   ask_two
L4 allow allow allow ask   ask_two
"""
CELLS = [
    (Tier[row.split()[0]], EffectClass(column), Verdict(cell))
    for row in DESIGN.strip().splitlines()
    for column, cell in enumerate(row.split()[1:])
]


@pytest.mark.parametrize(("tier", "effect", "verdict"), CELLS)
def test_the_matrix_is_the_designs(tier: Tier, effect: EffectClass, verdict: Verdict) -> None:
    decision = decide(Proposed("s", effect, True, tier))
    assert decision.verdict is verdict
    assert decision.code == "tier_matrix"
    assert decision.policy_hash == POLICY_HASH


@given(st.sampled_from(Tier), st.sampled_from(EffectClass), st.booleans())
def test_a_skill_that_the_version_does_not_name_is_denied(tier: Tier, effect: EffectClass, submitted: bool) -> None:
    decision = decide(Proposed("s", effect, False, tier, submitted))
    assert decision.verdict is Verdict.DENY
    assert decision.code == "skill_not_allowed"


@given(st.sampled_from(Tier), st.sampled_from([e for e in EffectClass if e is not EffectClass.S0]))
def test_a_submitted_draft_executes_under_approval_or_not_at_all(tier: Tier, effect: EffectClass) -> None:
    decision = decide(Proposed("s", effect, True, tier, submitted=True))
    assert decision.verdict in (Verdict.ASK, Verdict.ASK_TWO, Verdict.DENY)
    if effect is EffectClass.S4 and tier > Tier.L0:
        assert decision.verdict is Verdict.ASK_TWO


@given(st.sampled_from([t for t in Tier if t > Tier.L0]), st.sampled_from(EffectClass))
def test_a_lower_tier_is_never_less_restrictive(tier: Tier, effect: EffectClass) -> None:
    lower = decide(Proposed("s", effect, True, Tier(tier - 1))).verdict
    assert RESTRICTIVE_FIRST.index(lower) <= RESTRICTIVE_FIRST.index(decide(Proposed("s", effect, True, tier)).verdict)
