"""The HTTP door to effects and to proofs of stop."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query
from pydantic import AwareDatetime

from agentos.evidence.effects import service
from agentos.evidence.effects.model import Effect, Position, Status, Wanted
from agentos.intake.identity.routes import Reader
from agentos.kernel.clock import now
from agentos.kernel.http import BadCursor, Cursor, DoorsDep, Limit, SignerDep, cursor_of, position_of

router = APIRouter(prefix="/api/v1", tags=["effects"])

LAST: Final = timedelta(days=1)  # unless asked otherwise

From = Annotated[AwareDatetime | None, Query(alias="from", description="Else a day before the end.")]
To = Annotated[AwareDatetime | None, Query(description="Else now.")]
Name = Annotated[str, Query(max_length=63, pattern=r"^[a-z0-9_-]*$")]
Skill = Annotated[str, Query(max_length=64)]
Version = Annotated[str, Query(max_length=80, description="A hash, or how one begins.")]


@router.get("/stops/{stop_id}/proof")
async def prove_stop(stop_id: str, caller: Reader, doors: DoorsDep, signer: SignerDep) -> dict[str, Any]:
    """That a kill or a pause let no effect through, signed: the last before it, what was on the wire, what came after.

    Of a stop of every organization it proves this for yours.
    """
    async with doors.open(caller.organization) as work:
        found = await service.proof(work, stop_id)
    return signer.sign(found.document())


@router.get("/agents/effects")
async def list_effects(
    caller: Reader,
    doors: DoorsDep,
    limit: Limit = 50,
    cursor: Cursor = "",
    deployment: Name = "",
    agent: Name = "",
    version: Version = "",
    skill: Skill = "",
    status: Status | Literal["all"] = "all",
    from_: From = None,
    to: To = None,
) -> dict[str, Any]:
    """Effects that were committed within a time, newest first: each send of each, from its intent on.

    A page looks at so many effects of the time at most, so it may hold fewer than ``limit``, or none; there is more as
    long as there is a ``next_cursor``.
    """
    until = to or now()
    of_status = None if status == "all" else status
    wanted = Wanted(from_ or _earlier(until), until, deployment, agent, version, skill, of_status)
    async with doors.open(caller.organization) as work:
        found, ended = await service.listed(work, wanted, before=_before(cursor), most=limit)
    return {"items": [_effect(one) for one in found], "next_cursor": None if ended is None else _cursor(ended)}


def _earlier(until: datetime) -> datetime:
    try:
        return until - LAST
    except OverflowError:
        return until


def _cursor(at: Position) -> str:
    return cursor_of(f"{at.at.astimezone(UTC).isoformat()} {at.run_id} {at.seq}")


def _before(cursor: str) -> Position | None:
    said = position_of(cursor)
    if not said:
        return None
    try:
        at, run_id, seq = said.split(" ")
        return Position(datetime.fromisoformat(at).astimezone(UTC), run_id, max(0, min(int(seq), 2**31 - 1)))
    except (ValueError, OverflowError):
        raise BadCursor("this cursor was not given out by a listing", then="Start again without a cursor.") from None


def _effect(one: Effect) -> dict[str, Any]:
    return {
        "run_id": one.run_id,
        "step": one.step,
        "send": one.send,
        "skill": one.skill,
        "skill_version": one.skill_version,
        "effect": f"S{one.effect}",
        "reversibility": one.reversibility or "unknown",
        "deployment_id": one.deployment_id,
        "agent_id": one.agent_id,
        "version": one.version,
        "revision": one.revision,
        "idempotency_key": one.idempotency_key,
        "arguments_digest": one.arguments_digest,
        "decision": one.decision,
        "policy": one.policy,
        "approval_id": one.approval_id,
        "committed_at": one.committed_at,
        "status": one.status,
        "became": one.became or "unknown",
        "became_at": one.became_at,
        "code": one.code,
        "told_by": one.told_by,
        "settled": None
        if one.settled is None
        else {"happened": one.settled == "happened", "by": one.settled_by, "at": one.settled_at},
    }
