"""Facts are written in the transaction of the change and read in commit-safe order, each handled once per consumer.

A fact's position is (transaction id, sequence). A reader stops at the oldest transaction that is still open, so a
transaction that commits late is never skipped; the price is that one long transaction holds back all readers, which is
why no transaction stays open across a call outside. Transaction ids are the cluster's own: after a logical restore into
a new cluster its ids are raised above the old ones (see docs/decisions/0003-facts-in-order.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Final

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from agentos.kernel.clock import elapsed
from agentos.kernel.database import Database
from agentos.kernel.errors import AgentOSError, Unavailable
from agentos.kernel.facts import Fact
from agentos.kernel.ids import OrgId
from agentos.kernel.looking import pause
from agentos.kernel.retention import Retention

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """Where a fact stands."""

    transaction: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """A fact as a consumer gets it."""

    position: Position
    organization: OrgId
    fact: Fact
    at: datetime


Handler = Callable[[Sequence[Delivery]], Awaitable[None]]

IDLE_SECONDS: Final = 0.25  # between looks at the outbox; a hint after the commit is the fast path
LEISURE_SECONDS: Final = 1.0  # between turns of a consumer that nobody waits for: a busy second's facts come together


@dataclass(frozen=True, slots=True)
class Consumer:
    """A named reader of facts. ``handle`` must be safe to repeat: after a crash the last facts are delivered again.

    ``handle`` gets facts of one organization that follow each other, in order, at most ``together``. ``pause`` is how
    many seconds it rests between two turns.
    """

    name: str
    facts: tuple[type[Fact], ...]
    handle: Handler
    together: int = 1
    pause: float = IDLE_SECONDS

    @property
    def names(self) -> list[str]:
        """The names of its facts."""
        return [fact.__name__ for fact in self.facts]


_WRITE: Final = text("INSERT INTO outbox (org, name, key, body) VALUES (:org, :name, :key, CAST(:body AS jsonb))")
_NEWS: Final = "SELECT txid, seq, names FROM outbox_news($1::text, $2::bigint)"
_LOCK: Final = text("SELECT outbox_lock(:consumer)")
_READ: Final = text("SELECT * FROM outbox_read(:consumer, CAST(:names AS text[]), :most)")
_MOVE: Final = text("SELECT outbox_move(:consumer, :transaction, :sequence)")
_SKIP: Final = text("SELECT outbox_skip(:consumer, CAST(:names AS text[]))")
_FAIL: Final = text("SELECT outbox_fail(:consumer, :transaction, :sequence, :error)")

BATCH: Final = 200  # facts per read: one read costs ~1 ms, handling one fact 1–5 ms
MOVE_EVERY: Final = 20  # facts, at least, between two moves of the cursor within a batch
EACH_SECONDS: Final = 5.0  # between looks of each consumer for itself, past facts that it does not read
LEAVE_SECONDS: Final = 5.0  # for what is being handled when the process is told to stop
# Facts that are chained and that every consumer has passed; a week to look at what happened as it was written.
KEPT: Final = Retention("outbox_forget", timedelta(days=7))
WAIT_SECONDS: Final = 5.0  # at most, before the next look while something is away
TRIES: Final = 5  # before a fact that a handler cannot handle is set aside, counted and logged


async def write(connection: AsyncConnection, organization: OrgId, fact: Fact) -> None:
    """Add a fact to the outbox within the transaction of ``connection``."""
    await connection.execute(_WRITE, {"org": organization, "name": fact.name, "key": fact.key, "body": fact.body()})


async def consume(database: Database, consumers: Sequence[Consumer], stop: asyncio.Event) -> None:
    """Handle the consumers' facts, each consumer's in order, until ``stop``. One process at a time does so for a
    consumer; the others stand by.

    A handler that raises Unavailable is tried again, with the facts behind it waiting; of any other error the facts are
    tried ``TRIES`` times, one by one, then the fact is set aside in ``outbox_failures`` and counted. So is one that
    cannot be read.

    One look at the outbox serves all of the consumers: it tells which facts have come, and wakes those who read them.
    Every few seconds each looks for itself, as a database that was restored has gone back behind what was seen of it.
    After ``stop`` a handler has a few seconds to end, and the database to answer; then they are left as if the process
    had died.
    """
    readers = [_Reader(database, one) for one in consumers]
    working = [asyncio.create_task(one.work(stop)) for one in readers]
    working.append(asyncio.create_task(_wake(database, readers, stop)))
    try:
        await stop.wait()
        for one in readers:
            one.due.set()
        await asyncio.wait(working, timeout=LEAVE_SECONDS)
    finally:
        for task in working:
            task.cancel()
        await asyncio.wait(working, timeout=LEAVE_SECONDS)


async def _wake(database: Database, readers: Sequence[_Reader], stop: asyncio.Event) -> None:
    """Wake the readers whose facts have come, until ``stop``."""
    end: Position | None = None
    looked, wait = elapsed(), IDLE_SECONDS
    while not stop.is_set():
        try:
            names, last = await _news(database, end)
            each = end is None or elapsed() - looked >= EACH_SECONDS
            for one in readers:
                if each or not names.isdisjoint(one.consumer.names):
                    one.due.set()
            if each:
                for one in readers:
                    await skip(database, one.consumer)
                looked = elapsed()
            end, wait = last, IDLE_SECONDS
        except Exception as error:  # whoever waits for facts outlives every outage of the database
            wait = min(wait * 2, WAIT_SECONDS)
            log.warning("outbox_not_seen", error=type(error).__name__, seconds=wait)
        await pause(stop, wait)


async def _news(database: Database, since: Position | None) -> tuple[frozenset[str], Position]:
    """The names of the facts that came since a position, and the position of the last; of all of them only that."""
    after = (None, None) if since is None else (str(since.transaction), since.sequence)
    row = await database.lookups.row(_NEWS, *after)
    return frozenset(row["names"]), Position(int(row["txid"]), int(row["seq"]))


class _Reader:
    """One consumer in this process. It takes a turn when facts are due, and while another process has its lock."""

    def __init__(self, database: Database, consumer: Consumer) -> None:
        self._database = database
        self.consumer = consumer
        self.due = asyncio.Event()

    async def work(self, stop: asyncio.Event) -> None:
        """Take turns until ``stop``."""
        wait = IDLE_SECONDS
        while await self.due.wait() and not stop.is_set():
            self.due.clear()
            try:
                again, wait = await self._turn(stop), IDLE_SECONDS
            except Exception as error:  # the consumer outlives every outage of what it reads from or writes to
                again = wait = min(wait * 2, WAIT_SECONDS)
                log.warning("consumer_waits", consumer=self.consumer.name, error=type(error).__name__, seconds=wait)
            if again is not None:
                self.due.set()
            await pause(stop, self.consumer.pause if again is None else again)

    async def _turn(self, stop: asyncio.Event) -> float | None:
        """Handle the next facts; in how many seconds to look again, None: once more are due.

        The lock's transaction stays open while the batch is handled. It only reads, so it has no transaction id and
        holds back no reader; and it ends by itself when this process dies.
        """
        database, consumer = self._database, self.consumer
        async with database.connection("agentos_system") as held:
            if not (await held.execute(_LOCK, {"consumer": consumer.name})).scalar_one():
                return IDLE_SECONDS  # another process is at it, and may die of it
            deliveries, unreadable = await read(held, consumer)
            for position in unreadable:
                log.error("fact_unreadable", consumer=consumer.name, position=position)
                await _set_aside(database, consumer, position, "fact_unreadable")
            moved = done = 0
            try:
                for group in _groups(deliveries, consumer.together):
                    if stop.is_set():
                        break
                    await _handle(database, consumer, group)
                    done += len(group)
                    if done - moved >= MOVE_EVERY:
                        await move(database, consumer, deliveries[done - 1].position)
                        moved = done
            finally:
                passed = [one.position for one in deliveries[moved:done]]
                if done == len(deliveries):
                    passed += unreadable
                if passed:
                    await move(database, consumer, max(passed))
        return 0.0 if len(deliveries) + len(unreadable) == BATCH else None


def _groups(deliveries: Sequence[Delivery], most: int) -> Iterator[list[Delivery]]:
    """Neighbours of one organization, so many at most."""
    for _, neighbours in groupby(deliveries, key=lambda one: one.organization):
        left = list(neighbours)
        for start in range(0, len(left), most):
            yield left[start : start + most]


async def _handle(database: Database, consumer: Consumer, group: Sequence[Delivery]) -> None:
    """Let a consumer handle facts together; where it cannot, one by one, so that one holds up no other."""
    if len(group) > 1:
        try:
            await consumer.handle(group)
            return
        except Unavailable:
            raise
        except Exception as error:  # which of them it was is found below, and logged
            log.warning("facts_one_by_one", consumer=consumer.name, facts=len(group), error=type(error).__name__)
    for one in group:
        await _deliver(database, consumer, one)


async def read(
    connection: AsyncConnection, consumer: Consumer, most: int = BATCH
) -> tuple[list[Delivery], list[Position]]:
    """The consumer's next facts, oldest first, none of which can still be overtaken by an open transaction.

    And where those stand that are none by their bodies: written past the platform, or by a release that told less.
    """
    rows = await connection.execute(_READ, {"consumer": consumer.name, "names": consumer.names, "most": most})
    found: list[Delivery] = []
    unreadable: list[Position] = []
    for row in rows.all():
        position = Position(int(row.txid), row.seq)
        try:
            fact = Fact.read(row.name, row.body)
        except TypeError:
            fact = None
        if fact is None:
            unreadable.append(position)
        else:
            found.append(Delivery(position, OrgId(row.org), fact, row.at))
    return found, unreadable


async def skip(database: Database, consumer: Consumer) -> None:
    """Move the consumer past facts that it does not read, up to its next one.

    Without this a consumer of rare facts looks through all the others at each turn, and holds back what is forgotten.
    """
    async with database.connection("agentos_system") as connection:
        await connection.execute(_SKIP, {"consumer": consumer.name, "names": consumer.names})


async def move(database: Database, consumer: Consumer, to: Position) -> None:
    """Remember that the consumer is done with everything up to this position."""
    async with database.connection("agentos_system") as connection:
        await connection.execute(
            _MOVE, {"consumer": consumer.name, "transaction": str(to.transaction), "sequence": to.sequence}
        )


async def _deliver(database: Database, consumer: Consumer, delivery: Delivery) -> None:
    for left in range(TRIES - 1, -1, -1):
        try:
            await consumer.handle([delivery])
            break
        except Unavailable:
            raise
        except Exception as error:  # a fact that cannot be handled must not hold up those behind it
            said = error.code if isinstance(error, AgentOSError) else type(error).__name__
            log.exception("fact_not_handled", consumer=consumer.name, fact=delivery.fact.name, error=said, left=left)
            if left == 0:
                await _set_aside(database, consumer, delivery.position, said)
            else:
                await asyncio.sleep(IDLE_SECONDS)


async def _set_aside(database: Database, consumer: Consumer, at: Position, said: str) -> None:
    async with database.connection("agentos_system") as connection:
        await connection.execute(
            _FAIL,
            {"consumer": consumer.name, "transaction": str(at.transaction), "sequence": at.sequence, "error": said},
        )
