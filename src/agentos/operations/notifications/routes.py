"""The HTTP door to messages that people were sent."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from agentos.intake.identity.model import Caller, Permission
from agentos.intake.identity.routes import Reader, may
from agentos.kernel.http import Cursor, DoorsDep, Limit, page, position_of
from agentos.operations.notifications import service
from agentos.operations.notifications.model import Notification

router = APIRouter(prefix="/api/v1/notifications", tags=["notifications"])

Sender = Annotated[Caller, may(Permission.WRITE_INBOX)]


@router.get("")
async def list_notifications(
    caller: Reader,
    doors: DoorsDep,
    limit: Limit = 50,
    cursor: Cursor = "",
    state: Annotated[str, Query(max_length=20, description="pending, sent, moot, dead or all.")] = "all",
    about: Annotated[str, Query(max_length=64, description="An approval's id, or that of an alert's thread.")] = "",
) -> dict[str, Any]:
    """Whom the platform told of what, oldest first: never where, and never what it said."""
    async with doors.open(caller.organization) as work:
        found = await service.listed(
            work, state="" if state == "all" else state, about=about, after=position_of(cursor), most=limit + 1
        )
    return page([_shown(one) for one in found], limit)


@router.post("/{notification_id}/retry")
async def retry_notification(notification_id: str, caller: Sender, doors: DoorsDep) -> dict[str, Any]:
    """Send a dead letter again, for another day, under the same key."""
    async with doors.open(caller.organization) as work:
        return _shown(await service.retry(work, notification_id, by=caller.handle))


def _shown(one: Notification) -> dict[str, Any]:
    return {
        "id": one.id,
        "kind": one.kind.value,
        "about": one.about,
        "thread_id": one.thread_id,
        "person": one.person,
        "channel": one.channel.value,
        "state": one.state.value,
        "due_at": one.due_at if one.state == "pending" else None,
        "tries": one.tries,
        "last_try_at": one.last_try_at,
        "reason": one.reason,
        "said": one.said,
        "made_at": one.made_at,
        "ended_at": one.ended_at,
    }
