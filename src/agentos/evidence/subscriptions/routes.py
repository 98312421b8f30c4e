"""The HTTP door to subscriptions."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from agentos.evidence.subscriptions import service
from agentos.evidence.subscriptions.model import MOST_URL, MOST_WANTS, Delivery, Subscription
from agentos.evidence.subscriptions.ports import Receivers
from agentos.intake.identity.model import Caller, Permission
from agentos.intake.identity.routes import Reader, may
from agentos.kernel.clock import elapsed, now
from agentos.kernel.http import Cursor, DoorsDep, Limit, page, position_of

router = APIRouter(prefix="/api/v1/subscriptions", tags=["subscriptions"])

Changer = Annotated[Caller, may(Permission.CHANGE_SUBSCRIPTIONS)]


def receivers(request: Request) -> Receivers:
    """The process's way to receivers."""
    found: Receivers = request.app.state.receivers
    return found


ReceiversDep = Annotated[Receivers, Depends(receivers)]
Facts = Annotated[list[Annotated[str, Field(max_length=64)]], Field(min_length=1, max_length=MOST_WANTS)]
Url = Annotated[str, Field(max_length=MOST_URL, description="https, or http to a host that the operator allows.")]
Secret = Annotated[str, Field(max_length=73, description="The secret that signs, by reference: secret://NAME.")]


class NewSubscription(BaseModel):
    """An outside system that is to be told of facts."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(max_length=63)
    url: Url
    facts: Facts = Field(description="Names of facts, or globs such as Run*.")
    secret: Secret
    enabled: bool = True


class SubscriptionChange(BaseModel):
    """What is to change about a subscription."""

    model_config = ConfigDict(extra="forbid")
    name: str | None = Field(None, max_length=63)
    url: Url | None = None
    facts: Facts | None = None
    secret: Secret | None = None
    enabled: bool | None = None


@router.get("")
async def list_subscriptions(caller: Reader, doors: DoorsDep, limit: Limit = 50, cursor: Cursor = "") -> dict[str, Any]:
    """The subscriptions of your organization, oldest first."""
    async with doors.open(caller.organization) as work:
        found = await service.listed(work, after=position_of(cursor), most=limit + 1)
    return page([_subscription(one) for one in found], limit)


@router.post("", status_code=201)
async def add_subscription(
    body: NewSubscription, caller: Changer, doors: DoorsDep, outside: ReceiversDep
) -> dict[str, Any]:
    """Tell an outside system of facts from now on. Its address is checked now and again at each delivery."""
    url = await outside.check(body.url)
    async with doors.open(caller.organization) as work:
        return _subscription(
            await service.add(
                work,
                name=body.name,
                url=url,
                wants=body.facts,
                secret=body.secret,
                enabled=body.enabled,
                by=caller.handle,
            )
        )


@router.get("/{subscription_id}")
async def show_subscription(subscription_id: str, caller: Reader, doors: DoorsDep) -> dict[str, Any]:
    """One subscription."""
    async with doors.open(caller.organization) as work:
        return _subscription(await service.get(work, subscription_id))


@router.patch("/{subscription_id}")
async def change_subscription(
    subscription_id: str, body: SubscriptionChange, caller: Changer, doors: DoorsDep, outside: ReceiversDep
) -> dict[str, Any]:
    """Change a subscription, enable or disable it. What is owed waits while it is disabled."""
    url = None if body.url is None else await outside.check(body.url)
    async with doors.open(caller.organization) as work:
        return _subscription(
            await service.change(
                work,
                subscription_id,
                name=body.name,
                url=url,
                wants=body.facts,
                secret=body.secret,
                enabled=body.enabled,
                by=caller.handle,
            )
        )


@router.delete("/{subscription_id}", status_code=204)
async def remove_subscription(subscription_id: str, caller: Changer, doors: DoorsDep) -> None:
    """Remove a subscription and forget what it was owed."""
    async with doors.open(caller.organization) as work:
        await service.remove(work, subscription_id, by=caller.handle)


@router.get("/{subscription_id}/deliveries")
async def list_deliveries(
    subscription_id: str, caller: Reader, doors: DoorsDep, limit: Limit = 50, cursor: Cursor = "", state: str = "all"
) -> dict[str, Any]:
    """A subscription's deliveries, oldest first: pending, delivered, dead, or all."""
    async with doors.open(caller.organization) as work:
        found = await service.deliveries(
            work, subscription_id, state="" if state == "all" else state, after=position_of(cursor), most=limit + 1
        )
    return page([_delivery(one) for one in found], limit)


@router.post("/{subscription_id}/deliveries/{delivery_id}/retry")
async def retry_delivery(subscription_id: str, delivery_id: str, caller: Changer, doors: DoorsDep) -> dict[str, Any]:
    """Send a dead letter again, for another day, with the same webhook-id."""
    async with doors.open(caller.organization) as work:
        return _delivery(await service.retry(work, subscription_id, delivery_id, by=caller.handle))


@router.post("/{subscription_id}/test")
async def test_subscription(
    subscription_id: str, caller: Changer, doors: DoorsDep, outside: ReceiversDep
) -> dict[str, Any]:
    """Send an event agentos.Test at once, also while disabled, and show what the receiver said.

    The API itself sends it, so the secret must be set for the API as well as for the workers.
    """
    async with doors.open(caller.organization) as work:
        found = await service.get(work, subscription_id)
    began = elapsed()
    answer = await service.tried(caller.organization, found, outside, at=now())
    return {
        "delivered": answer.delivered,
        "status": answer.status,
        "reason": answer.reason,
        "said": answer.said,
        "seconds": round(elapsed() - began, 3),
    }


def _subscription(one: Subscription) -> dict[str, Any]:
    return {
        "id": one.id,
        "name": one.name,
        "url": one.url,
        "facts": list(one.wants),
        "secret": one.secret,
        "enabled": one.enabled,
        "reason": one.reason,
        "created_by": one.created_by,
        "created_at": one.created_at,
    }


def _delivery(one: Delivery) -> dict[str, Any]:
    return {
        "id": one.id,
        "subscription_id": one.subscription_id,
        "event_id": one.event_id,
        "fact": one.fact,
        "key": one.key,
        "state": one.state.value,
        "due_at": one.due_at if one.state == "pending" else None,
        "tries": one.tries,
        "first_try_at": one.first_try_at,
        "last_try_at": one.last_try_at,
        "status": one.status,
        "reason": one.reason,
        "said": one.said,
        "made_at": one.made_at,
        "ended_at": one.ended_at,
    }
