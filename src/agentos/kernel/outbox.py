"""Facts are written in the transaction of the change and read in commit-safe order, each handled once per consumer.

A fact's position is (transaction id, sequence). A reader stops at the oldest transaction that is still open, so a
transaction that commits late is never skipped; the price is that one long transaction holds back all readers, which is
why no transaction stays open across a call outside. Transaction ids are the cluster's own: after a logical restore into
a new cluster its ids are raised above the old ones (see docs/decisions/0003-facts-in-order.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Self

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from agentos.kernel.clock import elapsed
from agentos.kernel.database import Database
from agentos.kernel.errors import AgentOSError, Unavailable
from agentos.kernel.facts import Fact
from agentos.kernel.ids import OrgId
from agentos.kernel.retention import Retention

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Position:
    """Where a fact stands. Positions compare in the order in which facts are read."""

    transaction: int
    sequence: int

    @classmethod
    def start(cls) -> Self:
        """Before every fact."""
        return cls(0, 0)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A fact as a consumer gets it."""

    position: Position
    organization: OrgId
    fact: Fact
    at: datetime


Handler = Callable[[Delivery], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Consumer:
    """A named reader of facts. ``handle`` must be safe to repeat: after a crash the last facts are delivered again."""

    name: str
    facts: tuple[type[Fact], ...]
    handle: Handler


_WRITE: Final = text("INSERT INTO outbox (org, name, key, body) VALUES (:org, :name, :key, CAST(:body AS jsonb))")
_ANY: Final = "SELECT EXISTS (SELECT FROM outbox_read($1, $2::text[], 1)) AS found"
_LOCK: Final = text("SELECT outbox_lock(:consumer)")
_READ: Final = text("SELECT * FROM outbox_read(:consumer, CAST(:names AS text[]), :most)")
_MOVE: Final = text("SELECT outbox_move(:consumer, :transaction, :sequence)")
_SKIP: Final = text("SELECT outbox_skip(:consumer, CAST(:names AS text[]))")
_FAIL: Final = text("SELECT outbox_fail(:consumer, :transaction, :sequence, :error)")

BATCH: Final = 200  # facts per read: one read costs ~1 ms, handling one fact 1–5 ms
MOVE_EVERY: Final = 20  # facts between two commits of the cursor: so many are delivered again after a crash, at most
IDLE_SECONDS: Final = 0.25  # between looks at an empty outbox; a hint after the commit is the fast path
# After a look: at once when there is more; soon when there was some, so that facts that trickle in are read in batches
# and three consumers do not read without end beside a busy process.
PAUSES: Final = {"many": 0.0, "some": 0.05, "empty": IDLE_SECONDS}
SKIP_SECONDS: Final = 5.0  # between two moves of a cursor past facts that its consumer does not read
# Facts that are chained and that every consumer has passed; a week to look at what happened as it was written.
KEPT: Final = Retention("outbox_forget", timedelta(days=7))
TRIES: Final = 5  # before a fact that a handler cannot handle is set aside, counted and logged


async def write(connection: AsyncConnection, organization: OrgId, fact: Fact) -> None:
    """Add a fact to the outbox within the transaction of ``connection``."""
    await connection.execute(_WRITE, {"org": organization, "name": fact.name, "key": fact.key, "body": fact.body()})


async def consume(database: Database, consumer: Consumer, stop: asyncio.Event) -> None:
    """Handle the consumer's facts in order until ``stop``. One process at a time does so; the others stand by.

    A handler that raises Unavailable is tried again, with the facts behind it waiting; any other error is tried
    ``TRIES`` times, then the fact is set aside in ``outbox_failures`` and counted.
    """
    pause, skipped = IDLE_SECONDS, elapsed()
    while not stop.is_set():
        try:
            found = await _turn(database, consumer, stop)
            pause = PAUSES[found]
            if found == "empty" and elapsed() - skipped >= SKIP_SECONDS:
                await skip(database, consumer)
                skipped = elapsed()
        except Exception as error:  # the consumer outlives every outage of what it reads from or writes to
            pause = min(max(pause, IDLE_SECONDS) * 2, 5.0)
            log.warning("consumer_waits", consumer=consumer.name, error=type(error).__name__, seconds=pause)
        if pause:
            try:
                await asyncio.wait_for(stop.wait(), pause)
            except TimeoutError:
                continue


async def _turn(database: Database, consumer: Consumer, stop: asyncio.Event) -> str:
    """One look at the outbox: whether it was ``empty``, had ``some`` facts, or as ``many`` as are read at once.

    The lock's transaction stays open while the batch is handled. It only reads, so it has no transaction id and holds
    back no reader; and it ends by itself when this process dies. Most looks find nothing, so they begin with one
    statement that locks nothing: an idle worker with six consumers takes half the processor time it took with the lock.
    """
    if not await _any(database, consumer):
        return "empty"
    async with database.connection("agentos_system") as held:
        if not (await held.execute(_LOCK, {"consumer": consumer.name})).scalar_one():
            return "empty"
        deliveries = await read(database, consumer)
        done: Position | None = None
        try:
            for number, delivery in enumerate(deliveries, 1):
                if stop.is_set():
                    break
                await _deliver(database, consumer, delivery)
                done = delivery.position
                if number % MOVE_EVERY == 0:
                    await move(database, consumer, done)
        finally:
            if done is not None:
                await move(database, consumer, done)
    return "many" if len(deliveries) == BATCH else "some" if deliveries else "empty"


async def _any(database: Database, consumer: Consumer) -> bool:
    row = await database.lookups.row(_ANY, consumer.name, [fact.__name__ for fact in consumer.facts])
    return bool(row["found"])


async def read(database: Database, consumer: Consumer, most: int = BATCH) -> list[Delivery]:
    """The consumer's next facts, oldest first, none of which can still be overtaken by an open transaction."""
    async with database.connection("agentos_system") as connection:
        rows = await connection.execute(
            _READ, {"consumer": consumer.name, "names": [fact.__name__ for fact in consumer.facts], "most": most}
        )
        found = []
        for row in rows.all():
            fact = Fact.read(row.name, row.body)
            if fact is not None:
                found.append(Delivery(Position(int(row.txid), row.seq), OrgId(row.org), fact, row.at))
        return found


async def skip(database: Database, consumer: Consumer) -> None:
    """Move the consumer past facts that it does not read, up to its next one.

    Without this a consumer of rare facts looks through all the others at each turn, and holds back what is forgotten.
    """
    async with database.connection("agentos_system") as connection:
        await connection.execute(
            _SKIP, {"consumer": consumer.name, "names": [fact.__name__ for fact in consumer.facts]}
        )


async def move(database: Database, consumer: Consumer, to: Position) -> None:
    """Remember that the consumer is done with everything up to this position."""
    async with database.connection("agentos_system") as connection:
        await connection.execute(
            _MOVE, {"consumer": consumer.name, "transaction": str(to.transaction), "sequence": to.sequence}
        )


async def _deliver(database: Database, consumer: Consumer, delivery: Delivery) -> None:
    for left in range(TRIES - 1, -1, -1):
        try:
            await consumer.handle(delivery)
            break
        except Unavailable:
            raise
        except Exception as error:  # a fact that cannot be handled must not hold up those behind it
            said = error.code if isinstance(error, AgentOSError) else type(error).__name__
            log.exception("fact_not_handled", consumer=consumer.name, fact=delivery.fact.name, error=said, left=left)
            if left == 0:
                await _set_aside(database, consumer, delivery, said)
            else:
                await asyncio.sleep(IDLE_SECONDS)


async def _set_aside(database: Database, consumer: Consumer, delivery: Delivery, said: str) -> None:
    at = delivery.position
    async with database.connection("agentos_system") as connection:
        await connection.execute(
            _FAIL,
            {"consumer": consumer.name, "transaction": str(at.transaction), "sequence": at.sequence, "error": said},
        )
