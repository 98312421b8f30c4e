"""The HTTP door to effects and to proofs of stop."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from pydantic import AwareDatetime

from agentos.evidence.effects import service
from agentos.evidence.effects.model import Effect
from agentos.intake.identity.routes import Reader
from agentos.kernel.clock import now
from agentos.kernel.http import BadCursor, Cursor, DoorsDep, Limit, SignerDep, page, position_of

router = APIRouter(prefix="/api/v1", tags=["effects"])

LAST: Final = timedelta(days=1)  # unless asked otherwise

From = Annotated[AwareDatetime | None, Query(alias="from", description="Else a day before the end.")]
To = Annotated[AwareDatetime | None, Query(description="Else now.")]
Filter = Annotated[str, Query(max_length=63, pattern=r"^[a-z0-9_-]*$")]


@router.get("/stops/{stop_id}/proof")
async def prove_stop(stop_id: str, caller: Reader, doors: DoorsDep, signer: SignerDep) -> dict[str, Any]:
    """That a kill or a pause let no effect through, signed: the last before it, what was on the wire, what came after.

    Of a stop of every organization it proves this for yours.
    """
    async with doors.open(caller.organization) as work:
        found = await service.proof(work, stop_id)
    return signer.sign(found.document())


@router.get("/effects")
async def list_effects(
    caller: Reader,
    doors: DoorsDep,
    limit: Limit = 50,
    cursor: Cursor = "",
    deployment: Filter = "",
    from_: From = None,
    to: To = None,
) -> dict[str, Any]:
    """Effects that were committed within a time, newest first: each send of each, from its intent on."""
    until = to or now()
    since = from_ or _earlier(until)
    async with doors.open(caller.organization) as work:
        found = await service.listed(
            work, deployment=deployment, since=since, until=until, before=_before(cursor), most=limit + 1
        )
    rows = page([_effect(one) for one in found], limit, by="position")
    for row in rows["items"]:
        del row["position"]
    return rows


def _earlier(until: datetime) -> datetime:
    try:
        return until - LAST
    except OverflowError:
        return until


def _before(cursor: str) -> tuple[datetime, str, int] | None:
    said = position_of(cursor)
    if not said:
        return None
    try:
        at, run_id, seq = said.split(" ")
        return datetime.fromisoformat(at).astimezone(UTC), run_id, min(int(seq), 2**31 - 1)
    except (ValueError, OverflowError):
        raise BadCursor("this cursor was not given out by a listing", then="Start again without a cursor.") from None


def _effect(one: Effect) -> dict[str, Any]:
    return {
        "position": f"{one.committed_at.astimezone(UTC).isoformat()} {one.run_id} {one.seq}",
        "run_id": one.run_id,
        "step": one.step,
        "send": one.send,
        "skill": one.skill,
        "effect": f"S{one.effect}",
        "deployment_id": one.deployment_id,
        "agent_id": one.agent_id,
        "idempotency_key": one.idempotency_key,
        "arguments_digest": one.arguments_digest,
        "approval_id": one.approval_id,
        "committed_at": one.committed_at,
        "became": one.became or "unknown",
        "became_at": one.became_at,
    }
