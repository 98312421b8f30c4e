"""Keep triggers, fire them, and say what is to become of a firing."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import jmespath
from jmespath.exceptions import JMESPathError
from standardwebhooks.webhooks import Webhook as StandardWebhook

from agentos.intake.identity.model import SecretRead
from agentos.intake.triggers import moments, store
from agentos.intake.triggers.model import (
    MOST_QUEUED,
    MOST_TRIGGERS,
    BadEvent,
    BadSignature,
    BadTrigger,
    Event,
    Firing,
    FiringsMissed,
    Overlap,
    Schedule,
    State,
    TooManyTriggers,
    Trigger,
    TriggerAdded,
    TriggerChanged,
    TriggerDisabled,
    TriggerFired,
    TriggerKnown,
    TriggerRemoved,
    TriggerUnknown,
    Wanted,
    Webhook,
    best,
)
from agentos.kernel import ids
from agentos.kernel.canonical import NotCanonical, canonical
from agentos.kernel.database import Database
from agentos.kernel.ids import FiringId, OrgId, TriggerId
from agentos.kernel.retention import Retention
from agentos.kernel.unit_of_work import UnitOfWork

SECRET: Final = "secret://"  # noqa: S105  # how a secret is named, not one
MOST_PATH: Final = 500  # characters of a path into an event
MOST_COPIES: Final = 100  # of what came in what a path makes; [@,@]|[@,@]|… doubles it with every six characters
MOST_MISSED: Final = 1000  # moments of a schedule made good in one transaction
# A firing that is over can be looked up for a month; an event that comes again after that fires again.
KEPT: Final = Retention("firings_forget", timedelta(days=30))


@dataclass(frozen=True, slots=True)
class Became:
    """What is to happen with a firing now. ``replaces``: runs that are to be cancelled for it."""

    trigger: Trigger
    firing: Firing
    admit: bool
    replaces: tuple[str, ...] = ()


async def add(work: UnitOfWork, wanted: Wanted, *, by: str, at: datetime) -> tuple[Trigger, str | None]:
    """Make a trigger; with a webhook's, the secret part of its address, which is told here once.

    Raises BadTrigger, NotCanonical or MalformedId (Invalid), TriggerKnown or TooManyTriggers (Conflict).
    """
    ids.checked_name(wanted.name, what="trigger")
    _check(wanted, at)
    if await store.count(work) >= MOST_TRIGGERS:
        raise TooManyTriggers(f"an organization has {MOST_TRIGGERS} triggers at most", then="Remove one.")
    if await store.named(work, wanted.name) is not None:
        raise TriggerKnown(f"there is a trigger '{wanted.name}' already", then="Choose another name.")
    trigger_id = TriggerId(ids.new("trg"))
    address = secrets.token_urlsafe(32) if isinstance(wanted.on, Webhook) else None
    next_at = moments.next_after(wanted.on, at) if isinstance(wanted.on, Schedule) else None
    hashed = None if address is None else _hash(address)
    await store.add(work, trigger_id, wanted, {"hook_hash": hashed, "next_at": next_at, "created_by": by})
    await work.publish(TriggerAdded(trigger_id, wanted.name, wanted.agent_id, by))
    return await get(work, trigger_id), address


async def get(work: UnitOfWork, trigger_id: str, lock: str = "") -> Trigger:
    """One trigger. Raises TriggerUnknown (NotFound)."""
    found = await store.get(work, trigger_id, lock)
    if found is None:
        raise TriggerUnknown(f"no trigger '{trigger_id[:64]}'", then="See 'agentos triggers list'.")
    return found


async def listed(work: UnitOfWork, *, kind: str, agent: str, after: str, most: int) -> list[Trigger]:
    """Triggers, oldest first."""
    return await store.listed(work, kind=kind, agent=agent, after=after, most=most)


async def firings(work: UnitOfWork, trigger_id: str, *, state: str, before: str, most: int) -> list[Firing]:
    """A trigger's firings, newest first. Raises TriggerUnknown (NotFound)."""
    await get(work, trigger_id)
    return await store.firings(work, trigger_id, state=state, before=before, most=most)


async def change(
    work: UnitOfWork,
    trigger_id: str,
    *,
    is_enabled: bool | None,
    overlap: Overlap | None,
    most_open: int | None,
    priority: int | None,
    cancel_runs: bool,
    by: str,
    at: datetime,
) -> Trigger:
    """Change a trigger. Disabled, it fires no more from this commit on; what it fired without a run yet is withdrawn.

    ``cancel_runs``: the open runs that it started are cancelled, too. Enabled again, a schedule goes on with its next
    moment: those that passed meanwhile are not made good, because somebody wanted it so.
    Raises TriggerUnknown (NotFound).
    """
    found = await get(work, trigger_id, "FOR UPDATE")
    enabled = found.is_enabled if is_enabled is None else is_enabled
    next_at = found.next_at
    if isinstance(found.on, Schedule) and enabled and not found.is_enabled:
        next_at = moments.next_after(found.on, at)
    withdrawn = 0 if enabled else await store.withdraw(work, trigger_id, "trigger disabled")
    values = {
        "is_enabled": enabled,
        "overlap": (overlap or found.overlap).value,
        "most_open": most_open or found.most_open,
        "priority": found.priority if priority is None else priority,
        "next_at": next_at,
    }
    await store.change(work, trigger_id, values)
    await work.publish(TriggerChanged(trigger_id, found.name, enabled, withdrawn, cancel_runs, by))
    return await get(work, trigger_id)


async def remove(work: UnitOfWork, trigger_id: str, *, by: str) -> None:
    """Remove a trigger and its firings; runs that it started go on. Raises TriggerUnknown (NotFound)."""
    found = await get(work, trigger_id, "FOR UPDATE")
    await store.remove(work, trigger_id)
    await work.publish(TriggerRemoved(trigger_id, found.name, by))


async def fire(
    work: UnitOfWork, trigger: Trigger, event: Event, *, dedup: str, due_at: datetime, request_id: str
) -> tuple[FiringId, bool]:
    """Fire a trigger that is locked FOR SHARE; the firing, and whether this call made it.

    Raises TriggerDisabled (Conflict), NotCanonical (Invalid).
    """
    if not trigger.is_enabled:
        raise TriggerDisabled(f"the trigger '{trigger.name}' is disabled", where=trigger.id)
    firing_id = FiringId(ids.new("firing"))
    values = {
        "id": firing_id,
        "trigger_id": trigger.id,
        "dedup": dedup,
        "due_at": due_at,
        "input": canonical(input_of(trigger, event)),
        "request_id": request_id,
    }
    if not await store.fire(work, values):
        return FiringId(await store.fired(work, trigger.id, dedup)), False
    await work.publish(TriggerFired(trigger.id, firing_id))
    return firing_id, True


async def fire_schedule(work: UnitOfWork, trigger_id: str, *, at: datetime) -> timedelta | None:
    """Fire every moment of a schedule that has come, and set its next; how late the last of them is.

    Each moment fires once, whoever calls this and however often. Moments older than the schedule's catch-up, and those
    whose input has no canonical form, are left out and told as FiringsMissed. None when nothing was due.
    """
    found = await store.get(work, trigger_id, "FOR UPDATE")
    if found is None or not isinstance(found.on, Schedule) or not found.is_enabled:
        return None
    if found.next_at is None or found.next_at > at:
        return None
    passed, after = moments.between(found.on, found.next_at, at, MOST_MISSED)
    missed = [one for one in passed if at - one > found.on.catch_up]
    for moment in passed[len(missed) :]:
        said = moment.isoformat()
        event = Event(id=said, source=f"/triggers/{found.name}", type="agentos.schedule", time=moment)
        try:
            await fire(work, found, event, dedup=said, due_at=moment, request_id=ids.new("req"))
        except NotCanonical:  # it will not have one by the next look either, and the clock goes on
            missed.append(moment)
    if missed:
        await work.publish(FiringsMissed(found.id, len(missed), missed[0].isoformat(), missed[-1].isoformat()))
    await store.move(work, found.id, after)
    return at - passed[-1]


async def hook_of(database: Database, address: str) -> tuple[OrgId, str]:
    """Whose webhook an address is: organization and trigger. Raises TriggerUnknown (NotFound)."""
    if len(address) <= 100:
        async with database.connection("agentos_system") as connection:
            found = await store.hook(connection, _hash(address))
        if found is not None:
            return found
    raise TriggerUnknown("no webhook has this address", then="Copy it from where the trigger was made.")


async def fire_webhook(
    work: UnitOfWork,
    trigger_id: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    secret: Callable[[str], str],
    at: datetime,
    request_id: str,
) -> tuple[FiringId, bool]:
    """Fire on a signed call: once for each webhook-id. Raises BadSignature (401), TriggerDisabled (Conflict).

    The signature's time may be five minutes off, which is Standard Webhooks' window; within it a replay has a known id.
    """
    found = await get(work, trigger_id, "FOR SHARE")
    if not isinstance(found.on, Webhook):
        raise TriggerUnknown("no webhook has this address", then="Copy it from where the trigger was made.")
    signed_with = secret(found.on.secret.removeprefix(SECRET))
    try:
        StandardWebhook(signed_with).verify(body, dict(headers), json_parse=False)
    except Exception:  # whatever a forger sends: the library raises many kinds on it
        raise BadSignature(
            "the call is not signed as agreed, or is too old", then="Sign it by Standard Webhooks, and send it at once."
        ) from None
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        raise BadEvent("the signed body is no JSON", then="Send JSON.") from None
    await work.publish(SecretRead(found.on.secret, found.id))
    told = {name.lower(): value for name, value in headers.items()}["webhook-id"][:255]
    event = Event(id=told, source=f"/triggers/{found.name}", type="agentos.webhook", time=at, data=data)
    return await fire(work, found, event, dedup=told, due_at=at, request_id=request_id)


async def fire_event(
    work: UnitOfWork, event: Event, *, at: datetime, request_id: str
) -> tuple[Trigger, FiringId, bool] | None:
    """Fire the trigger that matches an event best, once for each source and id; None when none matches.

    Raises NotCanonical (Invalid) for an event whose input has no canonical form.
    """
    for one in best(await store.for_events(work), event):
        locked = await store.get(work, one.id, "FOR SHARE")
        if locked is not None and locked.is_enabled:
            dedup = f"{event.source} {event.id}"
            fired = await fire(work, locked, event, dedup=dedup, due_at=at, request_id=request_id)
            return (locked, *fired)
    return None


async def simulate(work: UnitOfWork, event: Event) -> dict[str, Any]:
    """Which trigger would fire on an event and with what input, and which others match. Nothing is fired."""
    found = best(await store.for_events(work), event)
    return {
        "fires": None if not found else {"id": found[0].id, "name": found[0].name, "agent_id": found[0].agent_id},
        "input": None if not found else input_of(found[0], event),
        "also_match": [{"id": one.id, "name": one.name, "priority": one.priority} for one in found[1:]],
    }


async def weigh(work: UnitOfWork, firing_id: str) -> Became | None:
    """Say what is to become of a firing, and record it unless it is to be admitted. None: nothing is left to do.

    The trigger is locked until the unit of work ends, so a disabled trigger starts nothing from its commit on.
    """
    trigger, firing = await _decided_alone(work, firing_id)
    if trigger is None or firing is None or firing.state not in (State.FIRED, State.QUEUED):
        return None
    open_ones = await store.those(work, trigger.id, State.ADMITTED, trigger.most_open + 1)
    if trigger.overlap is Overlap.ALLOW or len(open_ones) < trigger.most_open:
        return Became(trigger, firing, True)
    if trigger.overlap is Overlap.REPLACE:
        over = open_ones[: len(open_ones) - trigger.most_open + 1]
        return Became(trigger, firing, True, tuple(one.run_id for one in over if one.run_id))
    if trigger.overlap is Overlap.QUEUE:
        waiting = await store.those(work, trigger.id, State.QUEUED, MOST_QUEUED)
        if len(waiting) < MOST_QUEUED:
            await store.becomes(work, firing.id, State.QUEUED, f"{len(open_ones)} runs are open", None)
            return Became(trigger, firing, False)
    await store.becomes(work, firing.id, State.SKIPPED, f"{len(open_ones)} runs are open", None)
    return Became(trigger, firing, False)


async def admitted(work: UnitOfWork, firing_id: str, run_id: str) -> None:
    """Record that the firing's run was admitted, in the same unit of work."""
    await store.becomes(work, firing_id, State.ADMITTED, "", run_id)


async def refused(work: UnitOfWork, firing_id: str, code: str) -> None:
    """Record why the firing's run could not be admitted."""
    await store.becomes(work, firing_id, State.REFUSED, code, None)


async def ended(work: UnitOfWork, firing_id: str) -> str | None:
    """Record that the firing's run has ended; the firing that waited longest for that, if any."""
    trigger, firing = await _decided_alone(work, firing_id)
    if trigger is None or firing is None:
        return None
    if firing.state is State.ADMITTED:
        await store.becomes(work, firing.id, State.ENDED, "", firing.run_id)
    waiting = await store.those(work, firing.trigger_id, State.QUEUED, 1)
    return waiting[0].id if waiting else None


async def maker(work: UnitOfWork, firing_id: str) -> str | None:
    """Who made the trigger of a firing; None when it is gone."""
    fired = await store.firing(work, firing_id)
    found = None if fired is None else await store.get(work, fired.trigger_id)
    return None if found is None else found.created_by


async def open_runs(work: UnitOfWork, trigger_id: str) -> list[str]:
    """The runs that a trigger started and that have not ended."""
    return [one.run_id for one in await store.those(work, trigger_id, State.ADMITTED, 10_000) if one.run_id]


def read_event(headers: Mapping[str, str], body: bytes) -> Event:
    """A CloudEvent out of a message. Raises BadEvent (Invalid)."""
    # Here, since it takes 2 MB that most processes of the platform never need.
    from cloudevents.core.bindings.http import HTTPMessage, from_http_event

    try:
        found = from_http_event(HTTPMessage(headers=dict(headers), body=body))
        data = found.get_data()
        json.dumps(data)
        said = (found.get_id(), found.get_source(), found.get_type(), found.get_subject() or "")
    except Exception as error:  # whatever a sender sends: the library raises many kinds on it
        first = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
        raise BadEvent(f"no CloudEvent 1.0 with a JSON payload: {first}", then="See cloudevents.io.") from None
    if any(len(one) > 500 or "\x00" in one for one in said):
        raise BadEvent("an attribute is longer than 500 characters or holds NUL")
    return Event(*said, time=found.get_time(), data=data)


def input_of(trigger: Trigger, event: Event) -> dict[str, Any]:
    """The input of the run: what is always the same, and over it what is taken from the event.

    A path that finds nothing, or that does not fit the event, leaves its field as it is.
    """
    document = event.document()
    taken = {name: _taken(path, document) for name, path in trigger.take.items()}
    return {**trigger.input, **{name: value for name, value in taken.items() if value is not None}}


def _taken(path: str, document: dict[str, Any]) -> Any:
    try:
        return jmespath.search(path, document)
    except Exception:  # the library lets Python's own errors through for data that a function cannot take
        return None


async def _decided_alone(work: UnitOfWork, firing_id: str) -> tuple[Trigger | None, Firing | None]:
    """A firing and its trigger, which is locked first: whoever queues a firing and whoever ends a run take turns."""
    seen = await store.firing(work, firing_id)
    if seen is None:
        return None, None
    trigger = await store.get(work, seen.trigger_id, "FOR UPDATE")
    return trigger, await store.firing(work, firing_id, "FOR UPDATE")


def _copies(parsed: Mapping[str, Any]) -> int:
    """How often what a path makes can hold what it was given, at most: each part may go on from the one before."""
    children = parsed["children"]
    found = len(children) if parsed["type"].startswith("multi_select") else 1
    for one in children:
        found *= _copies(one)
    return found


def _check(wanted: Wanted, at: datetime) -> None:
    canonical(dict(wanted.input))
    match wanted.on:
        case Schedule():
            moments.checked(wanted.on, at)
        case Webhook():
            if not wanted.on.secret.startswith(SECRET):
                raise BadTrigger(
                    "a webhook's secret is named, never written", where="secret", then=f"Write {SECRET}NAME."
                )
        case _:
            pass
    for name, path in wanted.take.items():
        try:
            if len(path) > MOST_PATH:
                raise BadTrigger(f"the path is longer than {MOST_PATH} characters", where=f"take.{name[:64]}")
            if _copies(jmespath.compile(path).parsed) > MOST_COPIES:
                raise BadTrigger("the path copies what came too often", where=f"take.{name[:64]}")
        except JMESPathError as error:
            said = str(error).splitlines()[0][:200]
            raise BadTrigger(f"no path into an event: {said}", where=f"take.{name[:64]}") from None


def _hash(address: str) -> bytes:
    return hashlib.sha256(address.encode()).digest()
