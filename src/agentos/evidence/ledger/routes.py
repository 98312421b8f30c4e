"""The HTTP door to the ledger: entries searched, exported and verified, and what was in force at a moment."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from agentos.evidence.ledger import service
from agentos.evidence.ledger.anchors import Anchors
from agentos.evidence.ledger.chain import shown, told_time
from agentos.evidence.ledger.model import Anchor, Row, Search, Seen, Verified
from agentos.evidence.subscriptions.model import cloud_event
from agentos.intake.identity.model import Caller, Permission
from agentos.intake.identity.routes import Reader, may
from agentos.kernel.clock import now
from agentos.kernel.http import BadCursor, Cursor, DoorsDep, Limit, MalformedRequest, cursor_of, page, position_of
from agentos.kernel.ids import OrgId
from agentos.kernel.seals import LedgerKeys
from agentos.kernel.unit_of_work import Doors

DAY: Final = timedelta(days=1)
OLDEST: Final = datetime(2000, 1, 1, tzinfo=UTC)  # no ledger reaches so far back: everything is unknown

router = APIRouter(prefix="/api/v1/audit", tags=["audit"])

Auditor = Annotated[Caller, may(Permission.READ_LEDGER)]
Word = Annotated[str, Query(max_length=200)]
From = Annotated[AwareDatetime | None, Query(alias="from", description="Entries of facts from then on.")]
To = Annotated[AwareDatetime | None, Query(description="Entries of facts before then.")]
At = Annotated[AwareDatetime | None, Query(description="The moment that is asked about; else now.")]
Before = Annotated[AwareDatetime | None, Query(description="The moment to compare with; else a day before.")]
Order = Annotated[Literal["newest", "oldest"], Query(description="Which entries come first.")]
Form = Annotated[Literal["entry", "cloudevents"], Query(description="Entries, or CloudEvents 1.0 of their facts.")]
Number = Annotated[int, Path(ge=1, le=2**53)]


async def ledger_keys(doors: DoorsDep) -> LedgerKeys:
    """The keys of the ledger. Raises LedgerKeyMissing (Unavailable)."""
    return doors.database.ledger_keys or LedgerKeys.load("")


KeysDep = Annotated[LedgerKeys, Depends(ledger_keys)]


class Looking(BaseModel):
    """How far to verify in one request, and from where on."""

    model_config = ConfigDict(extra="forbid")

    cursor: str = Field(
        "", max_length=200, description="The next_cursor of the part before, good for an hour; empty begins anew."
    )
    most: int = Field(200_000, ge=1, le=200_000, description="Entries to verify in this request, at most.")


@router.get("/entries")
async def search_entries(
    caller: Auditor,
    doors: DoorsDep,
    limit: Limit = 50,
    cursor: Cursor = "",
    fact: Word = "",
    key: Word = "",
    person: Word = "",
    run: Word = "",
    deployment: Word = "",
    from_: From = None,
    to: To = None,
    order: Order = "newest",
    form: Form = "entry",
) -> dict[str, Any]:
    """Entries of the ledger that fit all that is said: what happened, by its fact, its key, who did it, and when."""
    wanted = Search(fact, key, person, run, deployment, _utc(from_), _utc(to))
    async with doors.open(caller.organization) as work:
        rows = await service.search(
            work, wanted, beyond=_number(cursor), is_oldest_first=order == "oldest", most=limit + 1
        )
    if form == "cloudevents":
        return page([_event(caller.organization, row) for row in rows], limit, by="ledgernumber")
    return page([shown(row) for row in rows], limit, by="number")


@router.get("/entries/{entry}")
async def show_entry(entry: Number, caller: Auditor, doors: DoorsDep) -> dict[str, Any]:
    """One entry of the ledger."""
    async with doors.open(caller.organization) as work:
        return shown(await service.entry(work, entry))


@router.post("/verify")
async def verify(asked: Looking, caller: Auditor, doors: DoorsDep, keys: KeysDep, request: Request) -> dict[str, Any]:
    """Hold the ledger against its key, its columns and its anchors, part by part; the first link that does not hold.

    Go on with ``next_cursor`` while there is one, also behind a fact that is amiss. A cut within the window, which no
    anchor covers yet, would be unseen.
    """
    return await verified(doors, caller.organization, keys, request.app.state.anchors, asked, by=caller.handle)


async def verified(
    doors: Doors, organization: OrgId, keys: LedgerKeys, anchors: Anchors | None, asked: Looking, *, by: str
) -> dict[str, Any]:
    """One part of a chain verified, as it is told. Raises BadCursor (Invalid)."""
    after: Seen | None = Seen(0, 0, 0)
    if asked.cursor:
        after = service.seen_by(keys, organization, position_of(asked.cursor), at=now())
    if after is None:
        said = "this cursor was not given out by this organization's ledger, or over an hour ago"
        raise BadCursor(said, then="Begin without one.")
    found, seen = await service.verify(doors, organization, keys, anchors, after=after, most=asked.most, by=by)
    token = None if seen is None else cursor_of(service.token(keys, organization, seen, at=now()))
    return _verified(found, anchors) | {"next_cursor": token}


@router.get("/state")
async def state(caller: Reader, doors: DoorsDep, at: At = None) -> dict[str, Any]:
    """What was in force at a moment: versions, tiers, stops, policies, budgets, gates and more; else unknown."""
    async with doors.open(caller.organization) as work:
        moment = now()
        return await service.state(work, doors.database.ledger_keys, at=at or moment, now=moment)


@router.get("/state/diff")
async def difference(caller: Reader, doors: DoorsDep, before: Before = None, after: At = None) -> dict[str, Any]:
    """What changed between two moments of what is in force."""
    moment = now()
    second = after or moment
    async with doors.open(caller.organization) as work:
        keys, first = doors.database.ledger_keys, before or max(second, OLDEST) - DAY
        return await service.difference(work, keys, before=first, after=second, now=moment)


def _event(organization: OrgId, row: Row) -> dict[str, Any]:
    one = shown(row)
    event = cloud_event(organization, one["id"], one["fact"], one["key"], one["body"], row.at)
    return event | {"ledgernumber": one["number"], "ledgerhash": one["hash"]}


def _utc(at: datetime | None) -> datetime | None:
    try:
        return None if at is None else at.astimezone(UTC)
    except OverflowError:
        raise MalformedRequest("this moment is in no year of UTC", where="from or to", then="Leave it out.") from None


def _number(cursor: str) -> int | None:
    said = position_of(cursor)
    if said and not (said.isascii() and said.isdigit() and len(said) < 17):
        raise BadCursor("this cursor was not given out by this listing", then="Start again without a cursor.")
    return int(said) if said else None


def _verified(found: Verified, anchors: Anchors | None) -> dict[str, Any]:
    held = found.held
    is_known = anchors is not None and (found.is_whole or found.broken is not None)
    return {
        "holds": False if found.broken is not None else "unknown" if found.unread else True,
        "is_whole": found.is_whole,
        "checked": found.checked,
        "through": found.through,
        "entries": found.entries,
        "broken": None
        if found.broken is None
        else {"kind": found.broken.kind.value, "number": found.broken.number, "what": found.broken.what},
        "earlier": found.earlier,
        "unread": [asdict(one) for one in found.unread],
        "anchors": held.anchors if is_known else "unknown",
        "anchors_torn": held.torn if is_known else "unknown",
        "anchors_unread": sorted(held.absent) if is_known else "unknown",
        "anchors_from": _anchor(held.first) if is_known else "unknown",
        "anchored": _anchor(held.last) if is_known else "unknown",
        "window_entries": found.window if is_known else "unknown",
    }


def _anchor(one: Anchor | None) -> dict[str, Any] | None:
    return None if one is None else {"entry": one.number, "at": told_time(one.at)}
