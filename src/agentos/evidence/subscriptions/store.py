"""Subscriptions and deliveries in the database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import DateTime, Row, bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection

from agentos.evidence.subscriptions.model import Answer, Claimed, Delivery, DeliveryState, Subscription
from agentos.kernel.ids import DeliveryId, OrgId, SubscriptionId
from agentos.kernel.unit_of_work import UnitOfWork

_SUBSCRIPTION: Final = (
    "SELECT id, name, url, wants, secret, enabled, reason, created_by, created_at, "
    "CAST(CAST(since AS text) AS bigint) AS since FROM subscriptions"
)
_DELIVERY: Final = (
    "SELECT id, subscription_id, event_id, fact, key, state, due_at, tries, first_try_at, last_try_at, status, reason, "
    "said, made_at, ended_at FROM deliveries"
)
_ALONE: Final = text("SELECT pg_advisory_xact_lock(hashtextextended('subscriptions ' || :org, 0))")
_COUNT: Final = text("SELECT count(*) AS n FROM subscriptions")
_NAMED: Final = text(f"{_SUBSCRIPTION} WHERE name = :name")
_LIST: Final = text(f"{_SUBSCRIPTION} WHERE id > :after ORDER BY id LIMIT :most")
_GET: Final = text(f"{_SUBSCRIPTION} WHERE id = :id")
_LOCK: Final = text(f"{_SUBSCRIPTION} WHERE id = :id FOR UPDATE")
_ENABLED: Final = text(f"{_SUBSCRIPTION} WHERE enabled")
_COMMITTED: Final = text("SELECT CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint) AS position")
_ADD: Final = text(
    "INSERT INTO subscriptions (org, id, name, url, wants, secret, enabled, created_by) "
    "VALUES (:org, :id, :name, :url, :wants, :secret, :enabled, :by)"
)
_CHANGE: Final = text(
    "UPDATE subscriptions SET name = :name, url = :url, wants = :wants, secret = :secret, enabled = :enabled, "
    "reason = :reason WHERE id = :id"
)
_REMOVE_DELIVERIES: Final = text("DELETE FROM deliveries WHERE subscription_id = :id")
_REMOVE: Final = text("DELETE FROM subscriptions WHERE id = :id")
# A subscription that was removed meanwhile is left out; one that is being removed is waited for.
_QUEUE: Final = text(
    "INSERT INTO deliveries (org, id, subscription_id, event_id, fact, key, event, state, due_at) "
    "SELECT s.org, w.id, s.id, :event_id, :fact, :key, :event, 'pending', clock_timestamp() "
    "FROM subscriptions s JOIN unnest(CAST(:ids AS text[]), CAST(:subscriptions AS text[])) AS w (id, subscription_id) "
    "ON w.subscription_id = s.id FOR KEY SHARE OF s "
    "ON CONFLICT (org, subscription_id, event_id) DO NOTHING"
)
_CLAIM: Final = text("SELECT * FROM deliveries_claim(:claim, :most, :each, :seconds, :at)").bindparams(
    bindparam("at", type_=DateTime(timezone=True))
)
_DELIVERIES: Final = text(
    f"{_DELIVERY} WHERE subscription_id = :subscription_id AND id > :after AND (:state = '' OR state = :state) "
    "ORDER BY id LIMIT :most"
)
_DELIVERY_LOCK: Final = text(f"{_DELIVERY} WHERE subscription_id = :subscription_id AND id = :id FOR UPDATE")
# Whoever the receiver said yes to, it is delivered, also when the lease had run out.
_END: Final = text(
    "UPDATE deliveries SET state = :state, claim = NULL, due_at = :due_at, tries = tries + :counted, status = :status, "
    "reason = :reason, said = :said, ended_at = :ended_at "
    "WHERE id = :id AND state = 'pending' AND (claim = :claim OR :state = 'delivered')"
)
_REVIVE: Final = text(
    "UPDATE deliveries SET state = 'pending', claim = NULL, due_at = clock_timestamp(), tries = 0, "
    "first_try_at = NULL, ended_at = NULL WHERE id = :id"
)


async def alone(work: UnitOfWork) -> None:
    """Nobody else adds or renames a subscription of the organization until the unit of work ends."""
    await work.first(_ALONE, {"org": work.organization})


async def count(work: UnitOfWork) -> int:
    """How many subscriptions there are."""
    row = await work.first(_COUNT)
    return int(row.n) if row else 0


async def named(work: UnitOfWork, name: str) -> Subscription | None:
    """The subscription of that name."""
    return _subscription(await work.first(_NAMED, {"name": name}))


async def listed(work: UnitOfWork, after: str, most: int) -> list[Subscription]:
    """Subscriptions, oldest first."""
    rows = await work.all(_LIST, {"after": after, "most": most})
    return [found for row in rows if (found := _subscription(row))]


async def get(work: UnitOfWork, subscription_id: str, *, lock: bool = False) -> Subscription | None:
    """One subscription, locked until the unit of work ends where asked."""
    return _subscription(await work.first(_LOCK if lock else _GET, {"id": subscription_id}))


async def enabled(work: UnitOfWork) -> tuple[int, list[Subscription]]:
    """Every enabled subscription, and the position before which all had been committed when it looked."""
    committed = await work.first(_COMMITTED)
    assert committed is not None
    return committed.position, [found for row in await work.all(_ENABLED) if (found := _subscription(row))]


async def add(work: UnitOfWork, values: dict[str, Any]) -> None:
    """Add a subscription."""
    await work.run(_ADD, {"org": work.organization, **values})


async def change(work: UnitOfWork, one: Subscription) -> None:
    """Write a subscription that is locked."""
    values = {"id": one.id, "name": one.name, "url": one.url, "wants": list(one.wants), "secret": one.secret}
    await work.run(_CHANGE, {**values, "enabled": one.enabled, "reason": one.reason})


async def remove(work: UnitOfWork, subscription_id: str) -> None:
    """Remove a subscription that is locked, with its deliveries."""
    await work.run(_REMOVE_DELIVERIES, {"id": subscription_id})
    await work.run(_REMOVE, {"id": subscription_id})


async def queue(work: UnitOfWork, pairs: Sequence[tuple[str, str]], values: dict[str, Any]) -> int:
    """Owe an event to these (delivery id, subscription id); how many were not owed it already."""
    ids, subscriptions = [one for one, _ in pairs], [one for _, one in pairs]
    return await work.run(_QUEUE, {"ids": ids, "subscriptions": subscriptions, **values})


async def claim(
    connection: AsyncConnection, name: str, *, most: int, each: int, seconds: float, at: datetime | None
) -> list[Claimed]:
    """Claim deliveries that are due; as the system role."""
    values = {"claim": name, "most": most, "each": each, "seconds": seconds, "at": at}
    return [
        Claimed(
            OrgId(row.org),
            DeliveryId(row.id),
            SubscriptionId(row.subscription_id),
            row.url,
            row.secret,
            row.event_id,
            row.fact,
            row.event,
            row.tries,
            row.first_try_at,
            row.claimed_at,
            name,
        )
        for row in (await connection.execute(_CLAIM, values)).all()
    ]


async def deliveries(work: UnitOfWork, subscription_id: str, state: str, after: str, most: int) -> list[Delivery]:
    """Deliveries of a subscription, oldest first."""
    values = {"subscription_id": subscription_id, "state": state, "after": after, "most": most}
    return [_delivery(row) for row in await work.all(_DELIVERIES, values)]


async def delivery(work: UnitOfWork, subscription_id: str, delivery_id: str) -> Delivery | None:
    """One delivery of a subscription, locked."""
    row = await work.first(_DELIVERY_LOCK, {"subscription_id": subscription_id, "id": delivery_id})
    return _delivery(row) if row else None


async def ended(
    work: UnitOfWork, one: Claimed, state: DeliveryState, answer: Answer, *, due: datetime, at: datetime
) -> bool:
    """Write down what one try came to; False when the delivery is another worker's, or over, or no more."""
    values = {"id": one.id, "claim": one.claim, "state": state.value, "due_at": due, "status": answer.status}
    values |= {"reason": answer.reason, "said": answer.said, "counted": 0 if answer.held else 1}
    return bool(await work.run(_END, {**values, "ended_at": None if state is DeliveryState.PENDING else at}))


async def revive(work: UnitOfWork, delivery_id: str) -> None:
    """Owe a delivery anew."""
    await work.run(_REVIVE, {"id": delivery_id})


def _subscription(row: Row[Any] | None) -> Subscription | None:
    if row is None:
        return None
    return Subscription(**{**row._mapping, "id": SubscriptionId(row.id), "wants": tuple(row.wants)})


def _delivery(row: Row[Any]) -> Delivery:
    ids = {"id": DeliveryId(row.id), "subscription_id": SubscriptionId(row.subscription_id)}
    return Delivery(**{**row._mapping, **ids, "state": DeliveryState(row.state)})
