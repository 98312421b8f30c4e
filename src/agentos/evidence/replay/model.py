"""Proposals, the actions that journals record, and what a proposal would have made of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Final

from agentos.control.budgets.model import Period
from agentos.control.policy.hosts import hosts_of
from agentos.control.policy.model import (
    Decision,
    DeploymentPolicy,
    EffectClass,
    OrganizationPolicy,
    Tier,
    Verdict,
)
from agentos.control.policy.rules import Proposed, Rulebook, decide
from agentos.control.stops.model import InForce, Stop, StopKind, StopScope, Subject
from agentos.kernel.errors import Invalid
from agentos.kernel.facts import Fact

MOST_STOPPED: Final = 1000  # effects that a report names one by one
_SUFFIX: Final = re.compile(r"[~!].*")  # of a step's key: which send of it, or what about it
_CALL: Final = re.compile(r"(t\d+)\.c(\d+)")


class BadWindow(Invalid):
    """A window of time that is none."""

    code = "bad_window"


@dataclass(frozen=True, slots=True)
class RunReplayed(Fact):
    """A run that is over was executed again against its journal, and what came of it was kept."""

    key_field: ClassVar[str] = "run_id"
    run_id: str
    agent_id: str
    parted: bool
    by: str


@dataclass(frozen=True, slots=True)
class ReplayAsked(Fact):
    """A live model answered a step of a run that is executed again. A number is None where nobody knows it."""

    key_field: ClassVar[str] = "ask_id"
    ask_id: str
    agent_id: str
    version: str  # that is tried
    provider: str
    model: str
    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    micros: int | None
    counted_micros: int  # what budgets count for the answer, known or not
    counted_tokens: int


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run may use up; None: whatever it likes."""

    turns: int | None = None
    steps: int | None = None
    tokens: int | None = None
    seconds: float | None = None
    money: int | None = None  # millionths of a dollar


@dataclass(frozen=True, slots=True)
class Cap:
    """What a day or a month of UTC may use up, of an agent or, with an empty id, of the organization as a whole."""

    period: Period
    agent_id: str = ""
    money: int | None = None
    tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Denylist:
    """Entries for the emergency denylist."""

    skills: tuple[str, ...] = ()  # ids or globs
    domains: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()

    def stops(self, at: datetime) -> list[Stop]:
        """The entries as the stops that they would be."""
        scopes = {
            StopScope.SKILL: self.skills,
            StopScope.DOMAIN: [one.lower() for one in self.domains],
            StopScope.AGENT: self.agents,
            StopScope.PROVIDER: self.providers,
        }
        return [
            Stop("proposed", "", StopKind.DENY, scope, target, "", "", at)
            for scope, targets in scopes.items()
            for target in targets
        ]


@dataclass(frozen=True, slots=True)
class Proposal:
    """What is to be tried. What is None stays as it is in force."""

    organization: OrganizationPolicy | None = None
    deployment: DeploymentPolicy | None = None  # of every deployment that is looked at
    tier: Tier | None = None  # at most a version's highest, as ever
    denylist: Denylist = field(default_factory=Denylist)
    budgets: Limits = field(default_factory=Limits)
    caps: tuple[Cap, ...] = ()

    @property
    def judges_answers(self) -> bool:
        """Whether it says anything of what models may be asked."""
        limits = (self.budgets.money, self.budgets.tokens)
        return bool(self.caps or self.denylist.providers) or limits != (None, None)

    def tier_of(self, present: Tier, highest: Tier) -> Tier:
        """The tier that would be in force for a version."""
        return min(present if self.tier is None else self.tier, highest)

    def book(
        self, subject: Subject, stops: Iterable[Stop], organization: OrganizationPolicy, deployment: DeploymentPolicy
    ) -> Rulebook:
        """What would be in force for a deployment where these are now. The proposal's denylist is added to stops."""
        return Rulebook(
            subject,
            InForce.about(subject, stops),
            organization if self.organization is None else self.organization,
            deployment if self.deployment is None else self.deployment,
        )


@dataclass(frozen=True, slots=True)
class Recorded:
    """One call of a run as its journal tells it, and what policy said of it then."""

    run_id: str
    seq: int  # of its first row in the run's journal
    subject: Subject
    version: str
    step: str
    skill: str
    at: datetime
    effect: EffectClass | None  # None: of a journal that does not tell
    tier: Tier | None
    pinned: bool
    registered: bool
    verdict: Verdict  # ASK stands for ASK_TWO, too
    sent: bool  # it was carried out, or is on the wire
    arguments: Any  # None: not told
    turn: int
    number: int  # of the run's calls, from 1
    tokens: int  # that the run had used before
    seconds: float  # since the run was accepted

    def proposed(self, proposal: Proposal, highest: Tier, *, by_hosts: bool) -> Proposed | None:
        """The call as policy sees it under a proposal; None when the journal does not tell enough."""
        if self.effect is None or self.tier is None or (by_hosts and self.arguments is None and self.registered):
            return None
        return Proposed(
            self.skill,
            self.effect,
            self.pinned,
            proposal.tier_of(self.tier, highest),
            submitted=self.step == "d",
            registered=self.registered,
            hosts=hosts_of(self.arguments),
        )

    def over(self, limits: Limits) -> str | None:
        """Which limit the run had passed when it made the call, if any."""
        used = {"turns": self.turn + 1, "steps": self.number, "tokens": self.tokens, "seconds": self.seconds}
        for name, value in used.items():
            most = getattr(limits, name)
            if most is not None and value > most:
                return f"{name}: {value:.0f} of {most:.0f}"
        return None


def recorded(rows: Iterable[Mapping[str, Any]]) -> Iterator[Recorded]:
    """The calls that one run's journal tells of, in the order in which they began. ``rows`` are in the journal's order.

    Calls whose arguments were refused never came before policy and are left out.
    """
    turn, tokens, answers = -1, 0, {}
    calls: dict[str, list[Mapping[str, Any]]] = {}
    before: dict[str, tuple[int, int]] = {}
    for row in rows:
        if row["kind"] == "model":
            turn += 1
            usage = row["meta"].get("usage") or {}
            tokens += (usage.get("input") or 0) + (usage.get("output") or 0)
            answers[row["key"]] = row["content"]
        elif row["kind"] in ("skill", "ask", "draft"):
            key = _SUFFIX.sub("", row["key"])
            calls.setdefault(key, []).append(row)
            before.setdefault(key, (turn, tokens))
    number = 0
    for step, steps in calls.items():
        told = [row for row in steps if "decision" in row["meta"] or row["kind"] == "ask" or row["phase"] == "intent"]
        if told:
            number += 1
            yield _call(step, steps, told[0], *before[step], number, answers)


def _call(
    step: str,
    steps: list[Mapping[str, Any]],
    first: Mapping[str, Any],
    turn: int,
    tokens: int,
    number: int,
    answers: Mapping[str, Any],
) -> Recorded:
    intent = next((row for row in steps if row["phase"] == "intent"), None)
    statuses = {row["status"] for row in steps}
    asked = any(row["kind"] == "ask" for row in steps) or any("approval" in row["meta"] for row in steps)
    if asked:
        verdict = Verdict.ASK
    elif "drafted" in statuses:
        verdict = Verdict.DRAFT
    else:
        verdict = Verdict.DENY if "denied" in statuses else Verdict.ALLOW
    pinned = first["meta"].get("version") != "unknown"
    effect = next((row["effect"] for row in steps if row["effect"] is not None), None if pinned else EffectClass.S4)
    tier = next((row["meta"]["tier"] for row in steps if "tier" in row["meta"]), None)
    return Recorded(
        run_id=first["run_id"],
        seq=first["seq"],
        subject=Subject(first["deployment_id"], first["agent_id"], first["category"]),
        version=first["run_version"],
        step=step,
        skill=first["name"],
        at=first["at"],
        effect=None if effect is None else EffectClass(effect),
        tier=None if tier is None else Tier[tier],
        pinned=pinned,
        registered=first["meta"].get("decision") != "skill_unregistered",
        verdict=verdict,
        sent=intent is not None,
        arguments=intent["content"] if intent is not None and intent["content"] else _wanted(step, answers),
        turn=turn,
        number=number,
        tokens=tokens,
        seconds=(first["at"] - first["accepted_at"]).total_seconds(),
    )


def _wanted(step: str, answers: Mapping[str, Any]) -> Any:
    """The arguments that the model wanted to call with, where its answer was read."""
    place = _CALL.fullmatch(step)
    answer = answers.get(place[1]) if place else None
    calls = answer.get("calls", []) if isinstance(answer, dict) else []
    return calls[int(place[2])].get("arguments") if place and int(place[2]) < len(calls) else None


@dataclass(slots=True)
class Report:
    """What a proposal would have made of recorded actions."""

    since: datetime
    until: datetime
    runs: set[str] = field(default_factory=set)
    actions: int = 0
    unknown: int = 0  # actions whose record does not tell enough to be judged
    complete: bool = True  # False: there was more than one look takes in
    recorded: Counter[str] = field(default_factory=Counter)
    proposed: Counter[str] = field(default_factory=Counter)
    rules: Counter[tuple[str, str]] = field(default_factory=Counter)  # what became stricter, by verdict and rule
    approvers: int = 0  # answers that people would have had to give more
    freed: int = 0  # actions that would have been less restricted
    stopped: list[dict[str, Any]] = field(default_factory=list)  # effects that happened and would not have
    stopped_more: int = 0  # beyond those that are named

    def take(
        self,
        one: Recorded,
        proposal: Proposal,
        highest: Tier,
        book: Rulebook,
        *,
        by_hosts: bool,
        cut: tuple[str, str] | None = None,
    ) -> None:
        """Put one recorded action before the proposal.

        ``by_hosts``: what would be in force looks at hosts. ``cut``: code and reason for which the run would not have
        come so far.
        """
        self.actions += 1
        self.runs.add(one.run_id)
        call = one.proposed(proposal, highest, by_hosts=by_hosts)
        if call is None:
            self.unknown += 1
            return
        over = one.over(proposal.budgets)
        decision = decide(call, book)
        if decision.verdict is not Verdict.DENY and cut is not None:
            code, reason = cut
            decision = Decision(Verdict.DENY, code, "the model would not have been asked before", book.hash, (reason,))
        elif decision.verdict is not Verdict.DENY and over is not None:
            words = "the run would have used up its budget before"
            decision = Decision(Verdict.DENY, "budget", words, book.hash, (over,))
        then, would = one.verdict, Verdict.ASK if decision.verdict is Verdict.ASK_TWO else decision.verdict
        self.recorded[then.value] += 1
        self.proposed[decision.verdict.value] += 1
        if would.rank > then.rank:
            self.freed += 1
        if would is Verdict.ASK and then is not Verdict.ASK:
            self.approvers += decision.approvers
        if would.rank < then.rank:
            self.rules[decision.verdict.value, decision.code] += 1
            if one.sent and one.effect is not EffectClass.S0 and would in (Verdict.DENY, Verdict.DRAFT):
                self._stop(one, decision)

    def _stop(self, one: Recorded, decision: Decision) -> None:
        if len(self.stopped) >= MOST_STOPPED:
            self.stopped_more += 1
            return
        self.stopped.append(
            {
                "run_id": one.run_id,
                "step": one.step,
                "agent_id": one.subject.agent_id,
                "deployment_id": one.subject.deployment_id,
                "skill": one.skill,
                "effect": one.effect.name if one.effect is not None else None,
                "at": one.at,
                "verdict": decision.verdict.value,
                "code": decision.code,
                "reasons": list(decision.reasons),
            }
        )

    def became(self, verdict: Verdict) -> int:
        """How many actions would have become this, and were less restricted."""
        return sum(count for (value, _code), count in self.rules.items() if value == verdict.value)
