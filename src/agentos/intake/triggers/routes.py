"""The HTTP door to triggers, to events and to webhooks."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from agentos.intake.identity.model import Caller, Permission
from agentos.intake.identity.routes import Reader, may, refused
from agentos.intake.triggers import service
from agentos.intake.triggers.model import (
    BadSignature,
    BadTrigger,
    Event,
    Firing,
    Overlap,
    Pattern,
    Schedule,
    State,
    Trigger,
    Wanted,
    Webhook,
    spec_of,
)
from agentos.kernel.clock import now
from agentos.kernel.http import Cursor, DoorsDep, FreeJson, Limit, page, position_of
from agentos.kernel.openapi import lets_in
from agentos.kernel.units import duration

router = APIRouter(prefix="/api/v1", tags=["triggers"])

Changer = Annotated[Caller, may(Permission.CHANGE_TRIGGERS)]
Sender = Annotated[Caller, may(Permission.SEND_EVENTS)]
NAME: Final = r"^[a-z][a-z0-9_-]{0,62}$"
Text = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00]*$")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class OnSchedule(_Body):
    """By the clock."""

    cron: str = Field(max_length=200, description="minute hour day month weekday")
    time_zone: str = Field("UTC", max_length=64, description="Of the IANA database, as Europe/Berlin.")
    catch_up: str = Field("1h", max_length=40, description="How long ago a missed moment may be to be made good.")


class OnWebhook(_Body):
    """By a call that is signed by Standard Webhooks."""

    secret: Text = Field(description="By reference: secret://NAME.")


class OnEvent(_Body):
    """By an event whose attributes match."""

    type: Text = "*"
    source: Text = "*"
    subject: Text = "*"


class NewTrigger(_Body):
    """A trigger that is to be."""

    name: str = Field(pattern=NAME)
    agent: str = Field(pattern=NAME)
    environment: str = Field("production", pattern=NAME)
    schedule: OnSchedule | None = None
    webhook: OnWebhook | None = None
    event: OnEvent | None = None
    input: dict[str, FreeJson] = Field(default_factory=dict, max_length=100)
    take: dict[str, str] = Field(default_factory=dict, max_length=100, description="Field → JMESPath into the event.")
    overlap: Overlap = Field(Overlap.ALLOW, description="What to do while most_open runs of it are open.")
    most_open: int = Field(1, ge=1, le=1000)
    priority: int = Field(0, ge=-1000, le=1000, description="Of those that match an event, the highest fires.")
    is_enabled: bool = True


class TriggerChange(_Body):
    """What is to change about a trigger."""

    is_enabled: bool | None = None
    overlap: Overlap | None = None
    most_open: int | None = Field(None, ge=1, le=1000)
    priority: int | None = Field(None, ge=-1000, le=1000)
    cancel_runs: bool = Field(False, description="Cancel the open runs that it started, too.")


class SomeEvent(_Body):
    """An event to look at."""

    id: Text = "simulated"
    source: Text
    type: Text
    subject: str = Field("", max_length=500)
    data: FreeJson = None


def secret(request: Request) -> Callable[[str], str]:
    """How this process finds a secret by its name."""
    found: Callable[[str], str] = request.app.state.secret
    return found


SecretDep = Annotated[Callable[[str], str], Depends(secret)]


@router.get("/agents/triggers")
async def list_triggers(
    caller: Reader,
    doors: DoorsDep,
    limit: Limit = 50,
    cursor: Cursor = "",
    kind: Annotated[str, Query(max_length=20)] = "",
    agent: Annotated[str, Query(max_length=63)] = "",
) -> dict[str, Any]:
    """Triggers, oldest first."""
    async with doors.open(caller.organization) as work:
        found = await service.listed(work, kind=kind, agent=agent, after=position_of(cursor), most=limit + 1)
    return page([shown(one) for one in found], limit)


@router.post("/agents/triggers", status_code=201)
async def add_trigger(body: NewTrigger, caller: Changer, doors: DoorsDep, secret: SecretDep) -> dict[str, Any]:
    """Make a trigger. A webhook's address is in this answer and nowhere else."""
    wanted = _wanted(body)
    if isinstance(wanted.on, Webhook) and wanted.on.secret.startswith(service.SECRET):
        secret(wanted.on.secret.removeprefix(service.SECRET))  # now rather than at the first call
    async with doors.open(caller.organization) as work:
        made, address = await service.add(work, wanted, by=caller.handle, at=now())
    return shown(made) | ({} if address is None else {"path": f"/api/v1/hooks/{address}"})


@router.post("/agents/triggers/simulate")
async def simulate(body: SomeEvent, caller: Reader, doors: DoorsDep) -> dict[str, Any]:
    """Which trigger would fire on an event, and with what input. Nothing is fired."""
    event = Event(id=body.id, source=body.source, type=body.type, subject=body.subject, time=now(), data=body.data)
    async with doors.open(caller.organization) as work:
        return await service.simulate(work, event)


@router.get("/agents/triggers/{trigger_id}")
async def show_trigger(trigger_id: str, caller: Reader, doors: DoorsDep) -> dict[str, Any]:
    """One trigger."""
    async with doors.open(caller.organization) as work:
        return shown(await service.get(work, trigger_id))


@router.patch("/agents/triggers/{trigger_id}")
async def change_trigger(trigger_id: str, body: TriggerChange, caller: Changer, doors: DoorsDep) -> dict[str, Any]:
    """Change a trigger. ``is_enabled: false`` stops it at once, also the firing that has no run yet."""
    async with doors.open(caller.organization) as work:
        return shown(
            await service.change(
                work,
                trigger_id,
                is_enabled=body.is_enabled,
                overlap=body.overlap,
                most_open=body.most_open,
                priority=body.priority,
                cancel_runs=body.cancel_runs,
                by=caller.handle,
                at=now(),
            )
        )


@router.delete("/agents/triggers/{trigger_id}", status_code=204)
async def remove_trigger(trigger_id: str, caller: Changer, doors: DoorsDep) -> None:
    """Remove a trigger and its firings. Runs that it started go on."""
    async with doors.open(caller.organization) as work:
        await service.remove(work, trigger_id, by=caller.handle)


@router.get("/agents/triggers/{trigger_id}/firings")
async def list_firings(
    trigger_id: str,
    caller: Reader,
    doors: DoorsDep,
    limit: Limit = 50,
    cursor: Cursor = "",
    state: Annotated[State | None, Query()] = None,
) -> dict[str, Any]:
    """A trigger's firings, newest first, with what became of each."""
    async with doors.open(caller.organization) as work:
        found = await service.firings(
            work, trigger_id, state="" if state is None else state.value, before=position_of(cursor), most=limit + 1
        )
    return page([_firing(one) for one in found], limit)


@router.post(
    "/events", status_code=202, openapi_extra=lets_in(body=("application/cloudevents+json", "application/json"))
)
async def send_event(request: Request, caller: Sender, doors: DoorsDep) -> dict[str, Any]:
    """Take a CloudEvent 1.0, structured or binary. The trigger that matches best fires, once per source and id."""
    event = service.read_event(dict(request.headers), await request.body())
    async with doors.open(caller.organization) as work:
        fired = await service.fire_event(work, event, at=now(), request_id=request.state.request_id)
    if fired is None:
        return {"trigger_id": None, "firing_id": None, "first": False}
    return {"trigger_id": fired[0].id, "firing_id": fired[1], "first": fired[2]}


@router.post("/hooks/{address}", status_code=202, openapi_extra=lets_in(401, 429, 503, body=("application/json",)))
async def call_webhook(address: str, request: Request, doors: DoorsDep, secret: SecretDep) -> dict[str, Any]:
    """Take a call that is signed by Standard Webhooks. It fires its trigger, once for each webhook-id."""
    organization, trigger_id = await service.hook_of(doors.database, address)
    request.app.state.rates.take(f"hook {trigger_id}")
    body = await request.body()
    try:
        async with doors.open(organization) as work:
            firing_id, first = await service.fire_webhook(
                work,
                trigger_id,
                dict(request.headers),
                body,
                secret=secret,
                at=now(),
                request_id=request.state.request_id,
            )
    except BadSignature:
        await refused(request, organization, "bad_signature", trigger_id, "webhook")
        raise
    return {"firing_id": firing_id, "first": first}


def shown(one: Trigger) -> dict[str, Any]:
    """A trigger as the API shows it."""
    return {
        "id": one.id,
        "name": one.name,
        "kind": one.kind.value,
        "agent": one.agent_id,
        "environment": one.environment,
        "on": json.loads(spec_of(one.on)),
        "input": one.input,
        "take": one.take,
        "overlap": one.overlap.value,
        "most_open": one.most_open,
        "priority": one.priority,
        "is_enabled": one.is_enabled,
        "next_at": one.next_at if one.is_enabled else None,
        "changes": one.changes,
        "created_by": one.created_by,
        "created_at": one.created_at,
    }


def _firing(one: Firing) -> dict[str, Any]:
    return {
        "id": one.id,
        "trigger_id": one.trigger_id,
        "due_at": one.due_at,
        "fired_at": one.fired_at,
        "state": one.state.value,
        "reason": one.reason,
        "run_id": one.run_id,
        "request_id": one.request_id,
        "input": json.loads(one.input),
    }


def _wanted(body: NewTrigger) -> Wanted:
    given = [one for one in (body.schedule, body.webhook, body.event) if one is not None]
    if len(given) != 1:
        raise BadTrigger("a trigger fires on one thing", then="Give one of schedule, webhook and event.")
    on: Schedule | Webhook | Pattern
    match given[0]:
        case OnSchedule() as one:
            catch_up = duration(one.catch_up)
            if catch_up > timedelta(days=366):
                raise BadTrigger("nothing older than a year is made good", where="schedule.catch_up")
            on = Schedule(one.cron, one.time_zone, catch_up)
        case OnWebhook() as one:
            on = Webhook(one.secret)
        case OnEvent() as one:
            on = Pattern(one.type, one.source, one.subject)
    return Wanted(
        name=body.name,
        agent_id=body.agent,
        environment=body.environment,
        on=on,
        input=body.input,
        take=body.take,
        overlap=body.overlap,
        most_open=body.most_open,
        priority=body.priority,
        is_enabled=body.is_enabled,
    )
