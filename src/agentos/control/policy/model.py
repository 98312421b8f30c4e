"""Effect classes, autonomy tiers, the matrix between them, what people write besides, and what a decision says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Any, ClassVar, Final, Self

from agentos.kernel.canonical import digest
from agentos.kernel.errors import Conflict, Invalid
from agentos.kernel.facts import Fact


class PolicyRefused(Invalid):
    """A policy that cannot be in force; every fault is listed with its place. The policy before it stays."""

    code = "policy_refused"


MOST_PROBLEMS: Final = 20  # more than anyone mends in one go


def refused(faults: Sequence[tuple[str, str]]) -> PolicyRefused:
    """The error that tells all of these faults, each with its place."""
    problems = [{"where": where, "what": what[:300]} for where, what in faults[:MOST_PROBLEMS]]
    what, where = problems[0]["what"], problems[0]["where"]
    if len(faults) > 1:
        lines = [f"  {one['where']}: {one['what']}" for one in problems]
        if len(faults) > len(problems):
            lines.append(f"  … and {len(faults) - len(problems)} more")
        what = f"{len(faults)} problems:\n" + "\n".join(lines)
    then = "Mend it and try again; the policy before it is still in force."
    return PolicyRefused(what, where=where, then=then, problems=problems)


class PolicyDeniesEverything(Conflict):
    """The policy would deny every call, also reads; whoever means that says so with ``confirm``."""

    code = "policy_denies_everything"


class PolicyChangedMeanwhile(Conflict):
    """``If-Match`` names a state of the policy that is no longer the present one."""

    code = "policy_changed_meanwhile"
    status = 412


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

    @property
    def rank(self) -> int:
        """0 for the most restrictive."""
        return _RANK[self]


RESTRICTIVE_FIRST: Final = tuple(Verdict)
_RANK: Final = {verdict: rank for rank, verdict in enumerate(RESTRICTIVE_FIRST)}


@dataclass(frozen=True, slots=True)
class Decision:
    """What policy said of one call, with everything needed to say why afterwards."""

    verdict: Verdict
    code: str  # stable, e.g. "tier_matrix"
    rule: str  # the first rule that gave the verdict, in words
    policy_hash: str  # of the rules, the matrix, and all that was in force when it was decided
    reasons: tuple[str, ...] = ()  # which stop, glob or policy the rule went by

    @property
    def approvers(self) -> int:
        """How many different people must approve."""
        return self.verdict.approvers

    def record(self) -> dict[str, Any]:
        """The decision as a journal's row keeps it."""
        kept: dict[str, Any] = {"decision": self.code, "rule": self.rule, "policy": self.policy_hash}
        return kept | ({"reasons": list(self.reasons)} if self.reasons else {})


_A, _D, _R, _Q, _QQ = Verdict.ALLOW, Verdict.DENY, Verdict.DRAFT, Verdict.ASK, Verdict.ASK_TWO

# The matrix of the design: a row per tier, a column per effect class S0..S4. L4 × S3 is "ask" unless the organization's
# policy names the skill (the rule tier_matrix in rules.py).
MATRIX: Final[dict[Tier, tuple[Verdict, Verdict, Verdict, Verdict, Verdict]]] = {
    Tier.L0: (_A, _D, _D, _D, _D),
    Tier.L1: (_A, _R, _R, _R, _R),
    Tier.L2: (_A, _A, _Q, _Q, _QQ),
    Tier.L3: (_A, _A, _A, _Q, _QQ),
    Tier.L4: (_A, _A, _A, _Q, _QQ),
}


@dataclass(frozen=True, slots=True)
class OrganizationPolicy:
    """What an organization says of every agent's calls. Lists are sorted and hold each entry once."""

    deny: tuple[str, ...] = ()  # globs of skills that nobody may call
    disabled: tuple[str, ...] = ()  # skills that are switched off
    ask: tuple[str, ...] = ()  # globs of skills that always take an approval
    trusted: tuple[str, ...] = ()  # skills of S3 that an agent at L4 calls without asking
    cedar: str = ""  # rules in Cedar, see cedar.py

    def document(self) -> dict[str, Any]:
        """The policy as JSON data. Equal policies give equal data."""
        lists = {"deny": self.deny, "disabled": self.disabled, "ask": self.ask, "trusted": self.trusted}
        return {name: list(value) for name, value in lists.items()} | {"cedar": self.cedar}

    @property
    def hash(self) -> str:
        """``sha256:…`` of the policy: its name."""
        return digest(self.document())

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Self:
        """The policy that a document stands for; what it leaves out is empty."""
        lists = {name: _listed(data.get(name, ())) for name in ("deny", "disabled", "ask", "trusted")}
        return cls(**lists, cedar=str(data.get("cedar", "")))


@dataclass(frozen=True, slots=True)
class DeploymentPolicy:
    """What is said of the calls of one deployment, besides its tier. Lists are sorted and hold each entry once."""

    deny: tuple[str, ...] = ()  # globs of skills that it may not call
    allow: tuple[str, ...] | None = None  # globs: it may call these and no others; None: all that its version names
    ask: tuple[str, ...] = ()  # globs of skills that always take an approval

    def document(self) -> dict[str, Any]:
        """The policy as JSON data. Equal policies give equal data."""
        allow = None if self.allow is None else list(self.allow)
        return {"deny": list(self.deny), "allow": allow, "ask": list(self.ask)}

    @property
    def hash(self) -> str:
        """``sha256:…`` of the policy: its name."""
        return digest(self.document())

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Self:
        """The policy that a document stands for; what it leaves out is empty."""
        allow = data.get("allow")
        return cls(
            _listed(data.get("deny", ())), None if allow is None else _listed(allow), _listed(data.get("ask", ()))
        )


Policy = OrganizationPolicy | DeploymentPolicy


def _listed(given: Any) -> tuple[str, ...]:
    return tuple(sorted({str(one) for one in given}))


@dataclass(frozen=True, slots=True)
class Saved:
    """A policy as it was put in force. Number 0: nothing was ever saved, the policy is empty."""

    scope: str  # as in kernel/epochs.py: of the organization, or of a deployment
    number: int  # 1, 2, 3 … within its scope
    hash: str
    document: Mapping[str, Any]
    reason: str
    saved_by: str
    saved_at: datetime | None


@dataclass(frozen=True, slots=True)
class PolicyChanged(Fact):
    """Another policy is in force for an organization or one of its deployments."""

    key_field: ClassVar[str] = "scope"
    scope: str  # "organization", or "deployment:" and its id
    number: int
    policy: str  # its hash
    was: str
    changed_by: str
