"""What the journals, the receivers' records and the list of kills say together, as figures.

A takeover is measured from a worker's SIGKILL to the next row that another attempt wrote to the journal of a run which
that worker was executing. Which worker executes a run is known from what the run itself told the driver; whether it was
another attempt that wrote a row stands in the row.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from agentos.evidence.effects import service as effects
from agentos.kernel.errors import AgentOSError
from benchmarks.chaos.killer import Kill
from benchmarks.chaos.receivers import Delivery, Receivers
from benchmarks.chaos.stopper import UNDER, Stopping

# How long a kill of the engine or the database can reach: until it serves again, until workers' heartbeats that were
# not heard in time have run out (2 s), and a call that was sent just before may still be sent or answered (3 s).
REACH_SECONDS = 10.0
# The attempt that a dead process leaves may still commit what it sent to the database with its last breath.
LAST_BREATH_SECONDS = 0.2


@dataclass(slots=True)
class Told:
    """One run with all that is known of it."""

    number: int
    kind: str
    deliveries: int
    run: dict[str, Any]
    journal: list[dict[str, Any]]
    denied: bool
    times: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.times = [datetime.fromisoformat(row["at"]).timestamp() for row in self.journal]


@dataclass(slots=True)
class Takeover:
    """A run that went on elsewhere after its worker was killed."""

    number: int
    kill: Kill
    seconds: float
    alone: bool


def takeovers(runs: list[Told], kills: list[Kill], stops: list[Stopping], receivers: Receivers) -> list[Takeover]:
    """Every takeover after a kill of a worker, with whether anything else was down or was killed meanwhile.

    A run that a stop held meanwhile is none: it was not to go on.
    """
    found = []
    moments = [kill.at for kill in kills]
    for place, kill in enumerate(kills):
        if kill.victim != "worker":
            continue
        for told in runs:
            if not executed_by(told, kill, receivers):
                continue
            at = _next_attempt(told, kill.at)
            if at is None or at - kill.at < LAST_BREATH_SECONDS:  # it was in other hands already
                continue
            if any(one.kind == told.kind and one.ordering <= at and kill.at <= one.lifted for one in stops):
                continue
            others = bisect_right(moments, at) - (place + 1)
            found.append(Takeover(told.number, kill, at - kill.at, alone=others == 0 and kill.serving))
    return found


def executed_by(told: Told, kill: Kill, receivers: Receivers) -> bool:
    """Whether the killed process was executing the run: it was the last one that the run was seen in."""
    before = [pid for at, pid, _ in receivers.seen[told.number] if at <= kill.at]
    if not before or before[-1] != kill.pid:
        return False
    last = bisect_right(told.times, kill.at) - 1
    if last < 0 or last + 1 == len(told.times):
        return False
    row = told.journal[last]
    return row["kind"] != "ask" and not row["key"].startswith("stopped:")


def _next_attempt(told: Told, at: float) -> float | None:
    """When another attempt than the one of that moment wrote its first row. None when it did not, or a person did."""
    last = bisect_right(told.times, at) - 1
    token = (told.journal[last]["segment"], told.journal[last]["attempt"])
    for row, moment in zip(told.journal[last + 1 :], told.times[last + 1 :], strict=True):
        if (row["segment"], row["attempt"]) == token:
            if moment - at > LAST_BREATH_SECONDS:
                return None  # the attempt lived on: it was in other hands already
            continue
        return None if row["kind"] == "note" else moment
    return None


@dataclass(slots=True)
class Call:
    """A call of a skill as journaled: sent within an attempt, and how its end became known."""

    told: Told
    key: str
    sent: float
    known: float | None  # when its result was journaled by the attempt that sent it
    uncertain: bool  # a person had to settle it

    @property
    def step(self) -> int:
        """Which delivery of its run it was: the agents make one in each turn."""
        return _delivery(self.key)


def _delivery(key: str) -> int:
    return int(key.partition(".")[0].removeprefix("t"))


def calls(runs: list[Told]) -> list[Call]:
    """Every call that was sent, as often as it was sent."""
    found = []
    for told in runs:
        rows = {(row["key"], row["phase"]): (row, at) for row, at in zip(told.journal, told.times, strict=True)}
        for (key, phase), (row, at) in rows.items():
            if phase != "intent":
                continue
            result = rows.get((key.partition("~")[0], "result"))
            known = None
            if result is not None and result[0]["meta"].get("sends") == int(key.partition("~")[2]):
                mine = (result[0]["segment"], result[0]["attempt"]) == (row["segment"], row["attempt"])
                known = result[1] if mine else None
            found.append(Call(told, key, at, known, (f"{key}!settled", "result") in rows))
    return found


def hit_by(call: Call, kills: list[Kill], receivers: Receivers) -> str:
    """What was killed under the call, so that its end may have been lost; empty when nothing was.

    Its own process, while it was on the wire; else the engine or the database so shortly before or meanwhile that the
    run went on in other hands before the call's end could be journaled.
    """
    until = call.known if call.known is not None else call.sent + REACH_SECONDS
    pid = sender(call, receivers)
    for kill in kills:
        if kill.victim in ("worker", "api") and kill.pid == pid and call.sent <= kill.at <= until:
            return kill.victim
    if call.known is None:
        for kill in reversed(kills):
            near = kill.at <= until and call.sent <= kill.at + REACH_SECONDS
            if kill.victim not in ("worker", "api") and near:
                return kill.victim
    return ""


def sender(call: Call, receivers: Receivers) -> int | None:
    """The process that sent the call: the one whose delivery came, or the last one that the run was seen in."""
    seen = receivers.seen[call.told.number]
    came = [pid for at, pid, step in seen if call.sent <= at <= call.sent + LAST_BREATH_SECONDS and step == call.step]
    before = [pid for at, pid, _ in seen if at < call.sent]
    return came[0] if came else before[-1] if before else None


@dataclass(slots=True)
class Outside:
    """What happened outside, from the receivers' own records."""

    doubled_keyed: int
    suppressed: int
    doubled_plain: int
    missing: int
    without_a_yes: int


def outside(runs: list[Told], receivers: Receivers) -> Outside:
    """Compare what the receivers hold with what each run should have done: each delivery once, a denied one never."""
    keys: defaultdict[tuple[int, int], set[str]] = defaultdict(set)
    for one in receivers.keyed:
        keys[one.number, one.step].add(one.key)
    plain = Counter((one.number, one.step) for one in receivers.plain)
    missing = without = 0
    for told in runs:
        there = keys if told.kind == "keyed" else plain
        denied = {told.deliveries - 1} if told.denied else set()
        done = {step for step in range(told.deliveries) if (told.number, step) in there}
        without += len(done & denied)
        if told.run["status"] == "completed":
            missing += told.deliveries - len(denied) - len(done - denied)
    return Outside(
        doubled_keyed=sum(len(one) - 1 for one in keys.values()),
        suppressed=len(receivers.keyed) - len(receivers.first),
        doubled_plain=sum(count - 1 for count in plain.values()),
        missing=missing,
        without_a_yes=without,
    )


@dataclass(slots=True)
class Stopped:
    """What the proofs and the receivers say of all stops together."""

    committed: int = 0  # effects after an order and before its lift, by the proofs
    received: int = 0  # the same, by the receivers' records
    wire: int = 0  # calls that were on the wire at an order, by the proofs
    proofs: int = 0  # that verify
    beset: int = 0  # stops under which each service of UNDER was killed


def stopped(runs: list[Told], kills: list[Kill], stops: list[Stopping], key: str, receivers: Receivers) -> Stopped:
    """What came after each order, told in two ways that share nothing but the time of the order."""
    found = Stopped(received=len(received_after(runs, stops, receivers)))
    for stop in stops:
        found.committed += len({_send(one) for proof in stop.proofs for one in proof["effects_after"]})
        found.wire += len(_on_the_wire(stop))
        found.proofs += sum(_verifies(proof, key) for proof in stop.proofs)
        died = {kill.kind for kill in kills if stop.answered <= kill.at <= stop.lifting}
        found.beset += died >= set(UNDER)
    return found


def received_after(runs: list[Told], stops: list[Stopping], receivers: Receivers) -> list[Delivery]:
    """Deliveries that a stop should have withheld, by the receivers' own records.

    What arrived was sent by the last intent that its run had journaled for it before. It should not have come if that
    intent is from after the order and before the lift, if there is no intent, or if it came after the order's answer
    and the proof does not name the call among those on the wire.
    """
    ids = {told.number: told.run["id"] for told in runs}
    sent: defaultdict[tuple[int, int], list[float]] = defaultdict(list)
    for call in calls(runs):
        sent[call.told.number, call.step].append(call.sent)
    found = []
    for stop in stops:
        ordered, lifted = (
            datetime.fromisoformat(stop.stop[f"{what}_at"]).timestamp() for what in ("ordered", "lifted")
        )
        wire = _on_the_wire(stop)
        for one in receivers.keyed if stop.kind == "keyed" else receivers.plain:
            intent = max((at for at in sent[one.number, one.step] if at <= one.arrived), default=None)
            if intent is None:
                bad = ordered < one.arrived < lifted
            else:
                unnamed = (ids[one.number], one.step) not in wire
                bad = ordered < intent < lifted or (stop.answered < one.arrived < stop.lifting and unnamed)
            if bad:
                found.append(one)
    return found


def _on_the_wire(stop: Stopping) -> set[tuple[str, int]]:
    """The calls that were on the wire at the order, by both proofs: of which run, and which delivery."""
    return {(one["run_id"], _delivery(one["step"])) for proof in stop.proofs for one in proof["on_the_wire"]}


def _send(effect: dict[str, Any]) -> tuple[str, str, int]:
    return effect["run_id"], effect["step"], effect["send"]


def _verifies(proof: dict[str, Any], key: str) -> bool:
    try:
        effects.check(proof, pinned=key)
    except AgentOSError:
        return False
    return True
