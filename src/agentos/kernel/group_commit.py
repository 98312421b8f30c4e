"""Group commit: statements that are waiting at the same moment share one round trip and one commit.

A process that executes many runs at once makes thousands of tiny commits a second. Alone, a statement goes out at once
and pays nothing for this. Beside others it shares what a commit costs: for 20 runs that is a third of the time here and
of PostgreSQL's (measured by ``make bench-spine``).
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from agentos.kernel.errors import Unavailable

# One group of a statement is under way at a time, and whoever comes meanwhile shares the next: 20 callers need fewer
# commits than with two at a time. A group that takes long waits for a row's lock; then a second goes beside it, so that
# it never stops all the others.
LANES: Final = 2
LONG_SECONDS: Final = 0.01  # several times what a group takes on a slow disk
MOST: Final = 32  # statements in a group: the gain is flat from 10 on, and a group shares its members' waits

Pool = Callable[[], Awaitable["asyncpg.Pool[asyncpg.Record]"]]


@dataclass(slots=True)
class _Asked:
    arguments: tuple[Any, ...]
    answer: asyncio.Future[Any]


class GroupCommit:
    """Executes statements that answer exactly one row each, and that take whatever they lock in a single statement."""

    def __init__(self, pool: Pool, translated: Callable[[], Any]) -> None:
        self._pool = pool
        self._translated = translated
        self._waiting: defaultdict[str, deque[_Asked]] = defaultdict(deque)
        self._lanes: dict[str, set[asyncio.Task[None]]] = defaultdict(set)
        self._stuck: set[asyncio.Task[None]] = set()

    async def row(self, statement: str, *arguments: Any) -> Any:
        """The statement's row, durable when this returns. Raises DatabaseUnavailable, or the statement's own error.

        What one statement is refused for is never the error of another. After DatabaseUnavailable, and for a caller who
        was cancelled, it is not known whether the statement was committed.
        """
        asked = _Asked(arguments, asyncio.get_running_loop().create_future())
        self._waiting[statement].append(asked)
        self._open_lane(statement)
        return await asked.answer

    def _open_lane(self, statement: str) -> None:
        lanes = self._lanes[statement]
        if self._waiting[statement] and len(lanes) < LANES and lanes <= self._stuck:
            lanes.add(asyncio.create_task(self._work(statement)))

    def _takes_long(self, statement: str, lane: asyncio.Task[None]) -> None:
        self._stuck.add(lane)
        self._open_lane(statement)

    async def _work(self, statement: str) -> None:
        waiting = self._waiting[statement]
        task = asyncio.current_task()
        assert task is not None
        try:
            while waiting:
                group = [waiting.popleft() for _ in range(min(MOST, len(waiting)))]
                group = [one for one in group if not one.answer.done()]
                # In the order of their first argument, the organization: what two groups lock, they lock in one order.
                group.sort(key=lambda one: str(one.arguments[:1]))
                if group:
                    late = asyncio.get_running_loop().call_later(LONG_SECONDS, self._takes_long, statement, task)
                    try:
                        await self._execute(statement, group)
                    finally:
                        late.cancel()
                        self._stuck.discard(task)
        finally:
            self._lanes[statement].discard(task)

    async def _execute(self, statement: str, group: Sequence[_Asked]) -> None:
        try:
            rows = await self._commit(statement, group)
        except asyncio.CancelledError:
            for one in group:
                one.answer.cancel()
            raise
        except Exception as error:  # whatever it is, each waiting caller is told
            if len(group) > 1 and _taken_back(error):
                for one in group:  # each alone, so that only the one that was at fault is refused
                    await self._execute(statement, [one])
                return
            for one in group:
                if not one.answer.done():
                    one.answer.set_exception(error)
            return
        for one, row in zip(group, rows, strict=True):
            if not one.answer.done():
                one.answer.set_result(row)

    async def _commit(self, statement: str, group: Sequence[_Asked]) -> Sequence[Any]:
        pool = await self._pool()
        with self._translated():
            async with pool.acquire() as connection:
                if len(group) == 1:
                    return [await connection.fetchrow(statement, *group[0].arguments)]
                # One pipeline with one Sync: an implicit transaction, committed or rolled back as a whole.
                rows: Sequence[Any] = await connection.fetchmany(statement, [one.arguments for one in group])
                return rows


def _taken_back(error: Exception) -> bool:
    """Whether the server refused one statement, or ended a deadlock, and has surely committed none of the group."""
    if not isinstance(error, Unavailable):
        return True
    return str(getattr(error.__cause__, "sqlstate", "")).startswith("40")
