"""How models do, as every process saw them last: what health pages tell of providers that other processes ask."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec
import structlog

from agentos.kernel.clock import elapsed
from agentos.kernel.database import Database, translated
from agentos.kernel.errors import Unavailable
from agentos.runtime.inference.breaker import State

log = structlog.get_logger(__name__)

GATHER_SECONDS: Final = 0.5  # for changes to come together: a health page may be that late
MOST_MODELS: Final = 200  # that a process keeps in mind, least recently asked out: clients choose their names
AGAIN_SECONDS: Final = 15.0  # after which the same word of a model is written again, so that a page tells its time

_PUT: Final = "SELECT model_standings_put($1, $2::jsonb)"
_GET: Final = "SELECT process, provider, model, state, outcome, at FROM model_standings_get()"


@dataclass(frozen=True, slots=True)
class Seen:
    """How a model did, as a process saw it. ``outcome``: ok, or the code of its error."""

    process: str
    provider: str
    model: str
    state: State
    outcome: str
    at: datetime


class Board:
    """Where a process writes how models do, and reads how they do elsewhere."""

    def __init__(self, database: Database, process: str) -> None:
        self._database = database
        self._process = process
        self._told: dict[tuple[str, str], tuple[State, str, float]] = {}
        self._changed: set[tuple[str, str]] = set()
        self._writing: asyncio.Task[None] | None = None

    def tell(self, provider: str, model: str, state: State, outcome: str) -> None:
        """Take note of how a model did. Returns at once, and never fails: what cannot be written now is later."""
        key, at = (provider, model), elapsed()
        before = self._told.pop(key, None)
        if before is not None and before[:2] == (state, outcome) and at - before[2] < AGAIN_SECONDS:
            self._told[key] = before
            return
        self._told[key] = (state, outcome, at)
        if len(self._told) > MOST_MODELS:
            oldest = next(iter(self._told))
            del self._told[oldest]
            self._changed.discard(oldest)
        self._changed.add(key)
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())

    async def every(self) -> list[Seen]:
        """How models did that any process asked in the last day, the latest word first.

        Raises DatabaseUnavailable.
        """
        pool = await self._database.driver("agentos_system")
        with translated():
            rows: Any = await pool.fetch(_GET)
        return [Seen(**{**dict(row), "state": State(row["state"])}) for row in rows]

    async def close(self) -> None:
        """Write what is left."""
        if self._writing is not None:
            await self._writing

    async def _write(self) -> None:
        try:
            while self._changed:
                await asyncio.sleep(GATHER_SECONDS)
                changed, self._changed = self._changed, set()
                said = [
                    {"provider": key[0], "model": key[1], "state": self._told[key][0], "outcome": self._told[key][1]}
                    for key in changed
                ]
                pool = await self._database.driver("agentos_system")
                with translated():
                    await pool.fetchval(_PUT, self._process, msgspec.json.encode(said).decode())
        except Unavailable as away:
            log.warning("model_standings_unwritten", code=away.code)
        finally:
            self._writing = None
