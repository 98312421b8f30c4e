"""The HTTP door to budgets and prices."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from agentos.control.budgets import service
from agentos.control.budgets.model import Budget, Limits, Period, Used
from agentos.intake.identity.model import Caller, Permission
from agentos.intake.identity.routes import Reader, may
from agentos.kernel.clock import now
from agentos.kernel.http import DoorsDep
from agentos.kernel.units import CURRENCY, dollars

router = APIRouter(prefix="/api/v1/budgets", tags=["budgets"])

Treasurer = Annotated[Caller, may(Permission.CHANGE_BUDGETS)]
Amount = Annotated[str | None, Field(max_length=40, description="Dollars as a text, as 12.50.")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Caps(_Body):
    """The caps of a subject for a period; what is not given is not capped."""

    agent: str = Field("", max_length=63, description="An agent; empty: the organization as a whole.")
    period: Period
    currency: str = Field(CURRENCY, max_length=10)
    money: Amount = None
    tokens: int | None = None
    steps: int | None = Field(None, description="Skill calls.")
    seconds: int | None = Field(None, description="Wall time of runs.")


class Pricing(_Body):
    """What a model costs: rates in dollars for a million tokens, or a ceiling for a call. Nothing given: removed."""

    provider: str = Field(min_length=1, max_length=64)
    model: str = Field(min_length=1, max_length=200, description="'*': every model that has no price of its own.")
    currency: str = Field(CURRENCY, max_length=10)
    input: Amount = None
    output: Amount = None
    cache_read: Amount = None
    cache_write: Amount = None
    call_ceiling: Amount = None


@router.get("")
async def list_budgets(caller: Reader, doors: DoorsDep) -> dict[str, Any]:
    """Every cap: the organization's first, then those of agents by name."""
    async with doors.open(caller.organization) as work:
        found = await service.list_budgets(work)
    return {"currency": CURRENCY, "items": [_shown(one) for one in found]}


@router.put("")
async def set_budget(body: Caps, caller: Treasurer, doors: DoorsDep) -> dict[str, Any]:
    """Replace a subject's caps for a period."""
    limits = service.limits(body.money, body.tokens, body.steps, body.seconds, currency=body.currency)
    async with doors.open(caller.organization) as work:
        done = await service.set_budget(work, body.agent, body.period, limits, by=caller.handle, at=now())
    return {"currency": CURRENCY, **_shown(done)}


@router.get("/usage")
async def show_usage(
    caller: Reader,
    doors: DoorsDep,
    on: Annotated[date | None, Query(description="A day of UTC; else today.")] = None,
) -> dict[str, Any]:
    """What was used up in a day and in its month, and what is reserved beside it, with the caps in force."""
    async with doors.open(caller.organization) as work:
        used = await service.used(work, on=on, at=now())
        caps = {(one.agent_id, one.period): one.limits for one in await service.list_budgets(work)}
    items = [_used(one, caps.get((one.agent_id, one.period), Limits())) for one in used]
    return {"currency": CURRENCY, "items": items}


@router.get("/prices")
async def list_prices(caller: Reader, doors: DoorsDep) -> dict[str, Any]:
    """What your organization says that models cost; of others the list price holds."""
    async with doors.open(caller.organization) as work:
        found = await service.list_prices(work)
    return {"currency": CURRENCY, "items": [one.shown() for one in found]}


@router.put("/prices")
async def set_price(body: Pricing, caller: Treasurer, doors: DoorsDep) -> dict[str, Any]:
    """Say what a model costs, or take that back."""
    amounts = body.model_dump(include={"input", "output", "cache_read", "cache_write", "call_ceiling"})
    price = service.price(body.provider, body.model, amounts, currency=body.currency)
    async with doors.open(caller.organization) as work:
        await service.set_price(work, body.provider, body.model, price, by=caller.handle, at=now())
    if price is None:
        return {"currency": CURRENCY, "provider": body.provider, "model": body.model, "removed": True}
    return {"currency": CURRENCY, **price.shown()}


def _subject(agent_id: str) -> dict[str, Any]:
    return {"of": "agent" if agent_id else "organization", "agent": agent_id or None}


def _shown(one: Budget) -> dict[str, Any]:
    changed = {"changed_by": one.changed_by, "changed_at": one.changed_at}
    return {**_subject(one.agent_id), "period": one.period.value, **one.limits.shown(), **changed}


def _used(one: Used, limits: Limits) -> dict[str, Any]:
    return {
        **_subject(one.agent_id),
        "period": one.period.value,
        "since": one.since,
        "money": dollars(one.money),
        "tokens": one.tokens,
        "steps": one.steps,
        "seconds": one.seconds,
        "calls": one.calls,
        "unknown_calls": one.unknown_calls,
        "overshot_calls": one.overshot_calls,
        "reserved_money": dollars(one.reserved_money),
        "reserved_tokens": one.reserved_tokens,
        "peak_money": dollars(one.peak_money),
        "limits": limits.shown(),
    }
