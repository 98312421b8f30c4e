"""Effect classes, autonomy tiers, the matrix between them, and what a decision says."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final


class EffectClass(IntEnum):
    """What a skill can do to the world, from reading to acts nobody can take back."""

    S0 = 0  # read
    S1 = 1  # low-risk internal write
    S2 = 2  # medium
    S3 = 3  # high-risk external commit
    S4 = 4  # irreversible or regulated


class Tier(IntEnum):
    """How much an agent may do alone."""

    L0 = 0  # observe
    L1 = 1  # recommend: drafts only
    L2 = 2  # low-risk alone
    L3 = 3  # high-risk with approval
    L4 = 4  # trusted, still policy-gated


class Verdict(StrEnum):
    """What policy says of one call. The order of the members is from most to least restrictive."""

    DENY = "deny"
    DRAFT = "draft"
    ASK_TWO = "ask_two"
    ASK = "ask"
    ALLOW = "allow"

    @property
    def approvers(self) -> int:
        """How many different people must approve before the call may execute."""
        return {Verdict.ASK: 1, Verdict.ASK_TWO: 2}.get(self, 0)


RESTRICTIVE_FIRST: Final = tuple(Verdict)


@dataclass(frozen=True, slots=True)
class Decision:
    """What policy said of one call, with everything needed to say why afterwards."""

    verdict: Verdict
    code: str  # stable, e.g. "tier_matrix"
    rule: str  # the first rule that gave the verdict, in words
    policy_hash: str  # of the rules and the matrix that decided


_A, _D, _R, _Q, _QQ = Verdict.ALLOW, Verdict.DENY, Verdict.DRAFT, Verdict.ASK, Verdict.ASK_TWO

# The matrix of the design: a row per tier, a column per effect class S0..S4. L4 × S3 is "ask" unless a rule names the
# skill (see rules in service.py).
MATRIX: Final[dict[Tier, tuple[Verdict, Verdict, Verdict, Verdict, Verdict]]] = {
    Tier.L0: (_A, _D, _D, _D, _D),
    Tier.L1: (_A, _R, _R, _R, _R),
    Tier.L2: (_A, _A, _Q, _Q, _QQ),
    Tier.L3: (_A, _A, _A, _Q, _QQ),
    Tier.L4: (_A, _A, _A, _Q, _QQ),
}
