"""The journal of one run in the hands of one attempt: what is recorded is returned, what is new is appended and fenced.

An append is one statement. It is refused, and nothing is written, when another attempt owns the run, and for intents
also when the run was ordered to stop or a scope's epoch moved. So whatever the caller does after an append that held an
intent is allowed by everything that was true at that commit.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import msgspec

from agentos.kernel.clock import elapsed
from agentos.kernel.database import Database, translated
from agentos.kernel.errors import Unavailable
from agentos.runtime.runs.model import Claimed, SegmentLost, StepsJournaled, Token

# A payload over this goes to a blob named by its digest, so that a listing of the journal never drags it along.
# PostgreSQL moves values over 2 kB out of the row by itself; 256 kB is where a blob's second statement costs nothing.
BLOB_BYTES: Final = 256 * 1024

# How long a worker holds on to the result of a sent effect while the database is away. An embedded one is back in a
# second, a failover takes 10-30 s; after that the step is settled like one whose worker was lost.
OUTLAST_SECONDS: Final = 30.0
OUTLAST_PAUSE_SECONDS: Final = 0.1

_OF_SKILLS: Final = frozenset({"skill", "ask", "draft"})  # the kinds of entries that the ledger is told of

FIRST: Final = Token(1, 1)  # of a run nobody has worked on: its journal is empty and need not be read


class Ordered(Exception):  # a turn of the loop, never an answer to a user
    """The run was ordered to pause or to cancel; no intent was written."""

    def __init__(self, order: str) -> None:
        super().__init__(order)
        self.order = order


class EpochsMoved(Exception):  # a turn of the loop, never an answer to a user
    """Something withheld action since the decision was made; no intent was written. Decide again."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the journal: a step's intent or its result."""

    key: str
    phase: str  # intent | result
    kind: str  # model | skill | ask | draft | note | message
    name: str
    status: str
    meta: dict[str, Any]
    content: Any = None
    effect: int | None = None
    idempotency_key: str | None = None
    window_seconds: float | None = None
    send_before: datetime | None = None  # as recorded
    seconds_to_send: float = 0.0  # of a recorded intent: until send_before, by the database's clock


@dataclass(slots=True)
class Journal:
    """A run's steps, recorded and new. Appends of one run are made one at a time."""

    database: Database
    claimed: Claimed
    recorded: dict[tuple[str, str], Entry]
    length: int
    epochs: dict[str, int]
    standing: str = ""  # the run's order as of the last append
    messages: int = 0  # how many the run was handed by then
    held: tuple[Entry, ...] = ()  # results that wait for the next append and are written before what it brings
    bill: str | None = None  # of the answer that is appended next: it is settled in that very transaction
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @classmethod
    async def open(cls, database: Database, claimed: Claimed) -> Journal:
        """The journal of a run that was just claimed. Raises DatabaseUnavailable."""
        run = claimed.run
        recorded: dict[tuple[str, str], Entry] = {}
        length = 0
        if run.token != FIRST:
            for row in await _load(database, run.organization, run.id):
                length = row["seq"]
                recorded[row["key"], row["phase"]] = _entry(row)
        return cls(database, claimed, recorded, length, dict(claimed.epochs), run.ordered, run.messages)

    def result(self, key: str) -> Entry | None:
        """The recorded result of a step."""
        return self.recorded.get((key, "result"))

    def intent(self, key: str) -> Entry | None:
        """The recorded intent of a step."""
        return self.recorded.get((key, "intent"))

    def hold(self, entry: Entry) -> None:
        """Let a result wait for the next append, because that comes at once and one commit is cheaper than two.

        Whoever holds a result calls ``flush`` before it does anything slow instead, and before it leaves.
        """
        self.held += (entry,)

    async def flush(self) -> None:
        """Make durable what is held. Raises SegmentLost or DatabaseUnavailable."""
        if self.held:
            await self.append()

    async def append(self, *entries: Entry) -> None:
        """Make entries durable, after what is held. Raises SegmentLost, Ordered, EpochsMoved or DatabaseUnavailable."""
        async with self._lock:
            await self.append_within(None, *self.held, *entries)
            self.held = ()

    async def append_surely(self, entry: Entry) -> None:
        """Make the result of something that was done durable, waiting out a database that is away for a while.

        After a broken connection nobody knows whether the last append was committed, so the journal is read again
        before the next try. Raises SegmentLost or, when the database stays away, DatabaseUnavailable.
        """
        until = elapsed() + OUTLAST_SECONDS
        while True:
            try:
                return await self.append(entry)
            except Unavailable as away:
                if isinstance(away, SegmentLost) or elapsed() > until:
                    raise
            await asyncio.sleep(OUTLAST_PAUSE_SECONDS)
            with suppress(Unavailable):
                await self._reread()
                if (entry.key, entry.phase) in self.recorded:
                    return None

    async def _reread(self) -> None:
        run = self.claimed.run
        for row in await _load(self.database, run.organization, run.id):
            self.length = row["seq"]
            self.recorded.setdefault((row["key"], row["phase"]), _entry(row))
        self.held = tuple(entry for entry in self.held if (entry.key, entry.phase) not in self.recorded)

    async def append_within(self, connection: Any | None, *entries: Entry) -> None:
        """The same on a connection of the caller's, which may hold a transaction; without one, as a group commit."""
        run = self.claimed.run
        intent = any(entry.phase == "intent" for entry in entries)
        contents: list[bytes | None] = []
        blobs: list[str | None] = []
        for entry in entries:
            data = None if entry.content is None else msgspec.json.encode(entry.content)
            if data is not None and len(data) > BLOB_BYTES:
                name = _digest(data)
                await self._keep(name, data, connection)
                blobs.append(name)
                contents.append(None)
            else:
                blobs.append(None)
                contents.append(data)
        execute = self.database.group.row if connection is None else connection.fetchrow
        verdict, self.standing, self.messages, _ = await execute(
            _APPEND,
            run.organization,
            run.id,
            run.token.segment,
            run.token.attempt,
            self.length + 1,
            list(self.epochs) if intent else [],
            list(self.epochs.values()) if intent else [],
            [entry.key for entry in entries],
            [entry.phase for entry in entries],
            [entry.kind for entry in entries],
            [entry.name for entry in entries],
            [entry.status for entry in entries],
            [entry.effect for entry in entries],
            [entry.idempotency_key for entry in entries],
            [entry.window_seconds for entry in entries],
            [msgspec.json.encode(entry.meta).decode() for entry in entries],
            contents,
            blobs,
            self.bill,
            self._fact(entries, contents, blobs),
        )
        if verdict == "fenced":
            raise SegmentLost("another attempt owns this run now", where=run.id)
        if verdict == "ordered":
            raise Ordered(self.standing)
        if verdict == "epochs":
            raise EpochsMoved
        self.length += len(entries)
        self.bill = None
        for entry in entries:
            self.recorded[entry.key, entry.phase] = entry

    def _fact(
        self, entries: Sequence[Entry], contents: Sequence[bytes | None], blobs: Sequence[str | None]
    ) -> str | None:
        """What the ledger is told of an append, if it holds steps of skills: models' answers and notes are none."""
        run = self.claimed.run
        steps = [
            {
                "seq": seq,
                "key": entry.key,
                "phase": entry.phase,
                "kind": entry.kind,
                "name": entry.name,
                "status": entry.status,
                "effect": entry.effect,
                "idempotency_key": entry.idempotency_key,
                "meta": entry.meta,
                "content": blob if blob is not None or data is None else _digest(data),
            }
            for seq, (entry, data, blob) in enumerate(zip(entries, contents, blobs, strict=True), self.length + 1)
            if entry.kind in _OF_SKILLS
        ]
        if not steps:
            return None
        return StepsJournaled(run.id, run.deployment_id, run.token.segment, run.token.attempt, steps).body()

    async def _keep(self, name: str, data: bytes, connection: Any | None) -> None:
        """Keep a payload that is too large for the journal, under its digest."""
        if connection is None:
            pool = await self.database.driver()
            with translated():
                async with pool.acquire() as own:
                    return await self._keep(name, data, own)
        organization = self.claimed.run.organization
        async with connection.transaction():
            await connection.execute("SELECT set_config('agentos.organization', $1, true)", organization)
            await connection.execute(_KEEP, organization, name, data)
        return None


_APPEND: Final = (
    "SELECT verdict, standing, messages, "
    "CASE WHEN verdict = 'ok' THEN budget_settle($1, $2, $19::jsonb, NULL) END AS overshot "
    "FROM journal_append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16::text[]::jsonb[], "
    "$17, $18, $20)"
)
_KEEP: Final = "INSERT INTO blobs (org, digest, content) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
_LOAD: Final = """
SELECT j.seq, j.key, j.phase, j.kind, j.name, j.status, j.effect, j.idempotency_key, j.send_before,
       extract(epoch FROM j.send_before - clock_timestamp())::double precision AS seconds_to_send,
       j.meta::text AS meta, coalesce(j.content, b.content) AS content
FROM journal j LEFT JOIN blobs b ON b.org = j.org AND b.digest = j.blob
WHERE j.org = $1 AND j.run_id = $2 ORDER BY j.seq
"""


async def _load(database: Database, organization: str, run_id: str) -> list[Any]:
    pool = await database.driver()
    with translated():
        async with pool.acquire() as connection, connection.transaction(readonly=True):
            await connection.execute("SELECT set_config('agentos.organization', $1, true)", organization)
            return list(await connection.fetch(_LOAD, organization, run_id))


def _entry(row: Mapping[str, Any]) -> Entry:
    return Entry(
        key=row["key"],
        phase=row["phase"],
        kind=row["kind"],
        name=row["name"],
        status=row["status"],
        meta=msgspec.json.decode(row["meta"]),
        content=None if row["content"] is None else msgspec.json.decode(row["content"]),
        effect=row["effect"],
        idempotency_key=row["idempotency_key"],
        send_before=row["send_before"],
        seconds_to_send=row["seconds_to_send"] or 0.0,
    )


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()
