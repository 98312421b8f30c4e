"""Keep subscriptions, owe facts to them, and settle what each try to deliver came to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit

from agentos.evidence.subscriptions import store
from agentos.evidence.subscriptions.model import (
    BACKOFF,
    MOST_SUBSCRIPTIONS,
    Answer,
    BadSubscription,
    Claimed,
    Delivery,
    DeliveryGivenUp,
    DeliveryNotDead,
    DeliveryRetried,
    DeliveryState,
    DeliveryUnknown,
    Outcome,
    Subscription,
    SubscriptionAdded,
    SubscriptionChanged,
    SubscriptionDisabled,
    SubscriptionKnown,
    SubscriptionRemoved,
    SubscriptionsFull,
    SubscriptionUnknown,
    checked_secret,
    checked_wants,
    event,
    written_event,
)
from agentos.evidence.subscriptions.ports import Receivers
from agentos.intake.identity.model import SecretRead
from agentos.kernel import ids
from agentos.kernel.facts import Fact
from agentos.kernel.ids import SubscriptionId
from agentos.kernel.unit_of_work import UnitOfWork

GONE: Final = "the receiver answered 410: it wants nothing more"


async def add(
    work: UnitOfWork, *, name: str, url: str, wants: Iterable[str], secret: str, enabled: bool, by: str
) -> Subscription:
    """Add a subscription; it is told of what happens from the commit on. ``url`` was checked by the receivers' port.

    Raises MalformedId, BadSubscription (Invalid), SubscriptionKnown, SubscriptionsFull (Conflict).
    """
    ids.checked_name(name, what="name")
    wanted, reference = checked_wants(wants), checked_secret(secret)
    await store.alone(work)
    await _free(work, name)
    if await store.count(work) >= MOST_SUBSCRIPTIONS:
        raise SubscriptionsFull(
            f"the organization has {MOST_SUBSCRIPTIONS} subscriptions", then="Remove one, or let one receiver fan out."
        )
    subscription_id = SubscriptionId(ids.new("sub"))
    values = {"id": subscription_id, "name": name, "url": url, "wants": list(wanted), "secret": reference}
    await store.add(work, {**values, "enabled": enabled, "by": by})
    await work.publish(SubscriptionAdded(subscription_id, name, _host(url), list(wanted), enabled, by))
    return await get(work, subscription_id)


async def listed(work: UnitOfWork, *, after: str, most: int) -> list[Subscription]:
    """Subscriptions, oldest first."""
    return await store.listed(work, after, most)


async def get(work: UnitOfWork, subscription_id: str, *, lock: bool = False) -> Subscription:
    """One subscription. Raises SubscriptionUnknown (NotFound)."""
    found = await store.get(work, subscription_id, lock=lock)
    if found is None:
        raise SubscriptionUnknown(f"no subscription '{subscription_id[:64]}'", then="See 'agentos subscriptions list'.")
    return found


async def change(
    work: UnitOfWork,
    subscription_id: str,
    *,
    name: str | None,
    url: str | None,
    wants: Iterable[str] | None,
    secret: str | None,
    enabled: bool | None,
    by: str,
) -> Subscription:
    """Change what is given. Deliveries that are owed go to the new address; without a change nothing is published.

    Raises SubscriptionUnknown (NotFound), MalformedId, BadSubscription (Invalid), SubscriptionKnown (Conflict).
    """
    if name is not None:
        ids.checked_name(name, what="name")
        await store.alone(work)
    old = await get(work, subscription_id, lock=True)
    if name is not None and name != old.name:
        await _free(work, name)
    acts = old.enabled if enabled is None else enabled
    new = replace(
        old,
        name=old.name if name is None else name,
        url=old.url if url is None else url,
        wants=old.wants if wants is None else checked_wants(wants),
        secret=old.secret if secret is None else checked_secret(secret),
        enabled=acts,
        reason="" if acts else old.reason,
    )
    if new != old:
        await store.change(work, new)
        await _changed(work, new, by)
    return new


async def remove(work: UnitOfWork, subscription_id: str, *, by: str) -> None:
    """Remove a subscription; what it is still owed is not sent. Raises SubscriptionUnknown (NotFound)."""
    found = await get(work, subscription_id, lock=True)
    await store.remove(work, found.id)
    await work.publish(SubscriptionRemoved(found.id, found.name, by))


async def deliveries(work: UnitOfWork, subscription_id: str, *, state: str, after: str, most: int) -> list[Delivery]:
    """Deliveries of a subscription, oldest first, in one state or, if that is empty, in any.

    Raises SubscriptionUnknown (NotFound), BadSubscription (Invalid).
    """
    if state and state not in list(DeliveryState):
        raise BadSubscription(
            f"no delivery is '{state[:20]}'", where="state", then=f"Use {', '.join(DeliveryState)} or all."
        )
    await get(work, subscription_id)
    return await store.deliveries(work, subscription_id, state, after, most)


async def retry(work: UnitOfWork, subscription_id: str, delivery_id: str, *, by: str) -> Delivery:
    """Owe a dead letter anew, with another day of tries and the same webhook-id.

    Raises SubscriptionUnknown, DeliveryUnknown (NotFound), SubscriptionDisabled, DeliveryNotDead (Conflict).
    """
    subscription = await get(work, subscription_id, lock=True)
    found = await store.delivery(work, subscription_id, delivery_id)
    if found is None:
        raise DeliveryUnknown(f"no delivery '{delivery_id[:64]}' of it", then="See 'agentos subscriptions deliveries'.")
    if found.state is not DeliveryState.DEAD:
        raise DeliveryNotDead(
            f"the delivery is {found.state}", where=delivery_id[:64], then="What is pending is tried by itself."
        )
    if not subscription.enabled:
        raise SubscriptionDisabled("the subscription is not enabled", then="Enable it, then retry.")
    await store.revive(work, delivery_id)
    await work.publish(DeliveryRetried(found.id, subscription_id, by))
    again = await store.delivery(work, subscription_id, delivery_id)
    assert again is not None
    return again


async def owe(
    work: UnitOfWork, fact: Fact, event_id: str, subscriptions: Sequence[Subscription], *, at: datetime
) -> int:
    """Owe a fact to these subscriptions, each once however often this is called; how many were new to it."""
    values = {"event_id": event_id, "fact": fact.name, "key": fact.key}
    body = event(work.organization, event_id, fact, at)
    pairs = [(ids.new("dlv"), one.id) for one in subscriptions]
    return await store.queue(work, pairs, {**values, "event": body})


async def settle(work: UnitOfWork, one: Claimed, answer: Answer, *, at: datetime, luck: float) -> Outcome:
    """Write down what a try came to, and when the next one is. ``luck`` in 0…1 is the share of the jitter."""
    if not answer.held:
        await work.publish(SecretRead(one.secret, one.subscription_id))
    if answer.delivered:
        kept = await store.ended(work, one, DeliveryState.DELIVERED, answer, due=at, at=at)
        return Outcome.DELIVERED if kept else Outcome.LATE
    subscription = await store.get(work, one.subscription_id, lock=True) if answer.gone else None
    if answer.gone:
        due = None
    elif answer.held:
        due = BACKOFF.held_until(first=one.first_try_at, at=at)
    else:
        due = BACKOFF.next_try(one.tries + 1, first=one.first_try_at, at=at, luck=luck, asked=answer.retry_after)
    state = DeliveryState.DEAD if due is None else DeliveryState.PENDING
    if not await store.ended(work, one, state, answer, due=due or at, at=at):
        return Outcome.LATE
    if due is not None:
        return Outcome.HELD if answer.held else Outcome.RETRIED
    await work.publish(
        DeliveryGivenUp(
            one.id, one.subscription_id, one.event_id, one.fact, one.tries + (not answer.held), answer.reason
        )
    )
    if not answer.gone:
        return Outcome.GIVEN_UP
    if subscription is not None and subscription.enabled and subscription.url == one.url:
        disabled = replace(subscription, enabled=False, reason=GONE)
        await store.change(work, disabled)
        await _changed(work, disabled, by="")
    return Outcome.GONE


async def tried(work_organization: ids.OrgId, one: Subscription, receivers: Receivers, *, at: datetime) -> Answer:
    """Send an event ``agentos.Test`` at once, keep nothing of it, and return what the receiver said.

    Call it outside any unit of work.
    """
    name = ids.new("dlv")
    body = written_event(work_organization, name, "Test", one.id, {"subscription_id": one.id}, at)
    return await receivers.send(one.url, secret=one.secret, webhook_id=name, body=body)


async def _free(work: UnitOfWork, name: str) -> None:
    if await store.named(work, name) is not None:
        raise SubscriptionKnown(f"there is a subscription '{name}' already", then="Choose another name.")


async def _changed(work: UnitOfWork, one: Subscription, by: str) -> None:
    await work.publish(
        SubscriptionChanged(one.id, one.name, _host(one.url), list(one.wants), one.enabled, one.reason, by)
    )


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""
