"""Effects as the journal has them, and what a proof of stop says of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from agentos.kernel.errors import Conflict, Invalid, NotFound
from agentos.kernel.ids import OrgId

TYPE: Final = "stop_proof"
FORMAT: Final = 1


class NothingToProve(NotFound):
    """Only a kill or a pause withholds every effect, which is what a proof of stop is about."""

    code = "nothing_to_prove"


class ProofRefused(Invalid):
    """The document is no proof of stop, or does not agree with itself."""

    code = "proof_refused"


class EffectAfterStop(Conflict):
    """A proof of stop names effects that were committed after the order."""

    code = "effect_after_stop"


class Status(StrEnum):
    """What is known of one send of an effect."""

    SENT = "sent"  # it is on the wire, or its worker was lost and the run will find out
    OK = "ok"
    FAILED = "failed"  # the receiver, or policy at a later look, refused it
    UNCERTAIN = "uncertain"  # only a person can tell
    SETTLED = "settled"  # a person told


@dataclass(frozen=True, slots=True)
class Effect:
    """One send of an effect, from its intent on."""

    run_id: str
    seq: int
    step: str
    send: int
    skill: str
    skill_version: str | None
    effect: int  # its class
    reversibility: str | None  # as the skill declared it; None where nobody knows the skill's version any more
    deployment_id: str
    agent_id: str
    version: str  # of the agent
    revision: int
    idempotency_key: str
    arguments_digest: str
    approval_id: str | None
    decision: str | None  # the code of policy's yes
    policy: str | None  # the hash of all that decided
    committed_at: datetime  # when its intent was journaled
    became: str | None  # how the step ended; None while nobody knows
    became_at: datetime | None
    code: str | None  # of the error that it ended in
    told_by: str | None  # who told its end, where the answer to the call did not: receiver, or a person
    settled: str | None  # a person's word: happened | not_happened
    settled_by: str | None
    settled_at: datetime | None
    status: str
    run_status: str
    run_waits_for: str | None


@dataclass(frozen=True, slots=True)
class Position:
    """Where a page of effects ended; the next begins before it."""

    at: datetime
    run_id: str
    seq: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which effects are looked for; what is empty says nothing. ``version`` is a hash or how one begins."""

    since: datetime
    until: datetime
    deployment: str = ""
    agent: str = ""
    version: str = ""
    skill: str = ""
    status: Status | None = None

    @property
    def all_of_them(self) -> bool:
        """Whether every effect of the time is wanted."""
        return not (self.deployment or self.agent or self.version or self.skill or self.status)


@dataclass(frozen=True, slots=True)
class Proof:
    """What the database says of one stop, for one organization."""

    organization: OrgId
    stop_id: str
    kind: str
    scope: str
    target: str
    ordered_by: str
    ordered_at: datetime
    horizon: str
    lifted_by: str | None
    lifted_at: datetime | None
    lift_horizon: str | None
    issued_at: datetime
    looked_back_to: datetime
    last_before: Effect | None
    on_the_wire: tuple[Effect, ...]
    after: tuple[Effect, ...]
    brought_to_rest: int
    held_before_working: int
    last_at_rest: datetime | None

    def document(self) -> dict[str, Any]:
        """The proof as it is signed: ids, digests and times, never arguments."""
        return {
            "type": TYPE,
            "format": FORMAT,
            "organization": self.organization,
            "stop": {
                "id": self.stop_id,
                "kind": self.kind,
                "scope": self.scope,
                "target": self.target,
                "ordered_by": self.ordered_by,
                "ordered_at": _time(self.ordered_at),
                "horizon": self.horizon,
                "lifted_by": self.lifted_by,
                "lifted_at": _time(self.lifted_at),
                "lift_horizon": self.lift_horizon,
            },
            "issued_at": _time(self.issued_at),
            "looked_back_to": _time(self.looked_back_to),
            "last_effect_before": None if self.last_before is None else _told(self.last_before),
            "on_the_wire": [_told(one) for one in self.on_the_wire],
            "effects_after": [_told(one) for one in self.after],
            "runs_brought_to_rest": self.brought_to_rest,
            "runs_held_before_working": self.held_before_working,
            "last_at_rest_at": _time(self.last_at_rest),
            "time_to_stop_seconds": None
            if self.last_at_rest is None
            else round((self.last_at_rest - self.ordered_at).total_seconds(), 3),
            "holds": not self.after,
        }


def check(document: Mapping[str, Any]) -> dict[str, Any]:
    """What a proof says, when it agrees with itself. Its signature is checked before.

    Raises ProofRefused (Invalid), EffectAfterStop (Conflict).
    """
    if document.get("type") != TYPE or document.get("format") != FORMAT:
        raise ProofRefused("the document is signed, but is no proof of stop", where="type")
    try:
        stop, after = document["stop"], document["effects_after"]
        ordered, last = _read(stop["ordered_at"]), document["last_effect_before"]
        if last is not None and _read(last["committed_at"]) > ordered:
            raise ProofRefused("the last effect before the order is from after it", where="last_effect_before")
        if any(_read(one["committed_at"]) > ordered for one in document["on_the_wire"]):
            raise ProofRefused("a call on the wire is from after the order", where="on_the_wire")
        if document["holds"] is not (not after):
            raise ProofRefused("the proof says one thing and lists another", where="holds")
        said = {
            "valid": True,
            "stop_id": stop["id"],
            "organization": document["organization"],
            "ordered_at": stop["ordered_at"],
            "lifted_at": stop["lifted_at"],
            "issued_at": document["issued_at"],
            "on_the_wire": len(document["on_the_wire"]),
            "effects_after": len(after),
            "time_to_stop_seconds": document["time_to_stop_seconds"],
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ProofRefused(f"the proof is not of the form of one: {type(error).__name__}") from None
    if after:
        raise EffectAfterStop(
            f"{len(after)} effects were committed after the order", where=stop["id"], then="See 'effects_after'."
        )
    return said


def _told(one: Effect) -> dict[str, Any]:
    return {
        "run_id": one.run_id,
        "step": one.step,
        "send": one.send,
        "skill": one.skill,
        "effect": f"S{one.effect}",
        "deployment_id": one.deployment_id,
        "arguments_digest": one.arguments_digest,
        "committed_at": _time(one.committed_at),
        "became": one.became or "unknown",
        "became_at": _time(one.became_at),
        "run_status": one.run_status,
        "run_waits_for": one.run_waits_for,
    }


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat()


def _read(text: str) -> datetime:
    return datetime.fromisoformat(text)
