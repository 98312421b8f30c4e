"""What withholds action from the live segments of this process: one look for all of them, twice a second.

That no effect is committed under a stop is the journal's doing and needs nothing of this. Here segments learn of a stop
between their effects, so that no model is asked and no read begun either, and are brought to rest in time:

    order → noticed within a look → no step begins; answers of what was sent before are recorded
          → after the grace: reads and models' answers are broken off
          → at the last moment: a call that was sent is left to itself and settled like one whose worker was lost

A process that cannot look for long begins no step: it fails closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final, Protocol

import structlog

from agentos.control.policy.service import Rulebooks
from agentos.kernel.clock import elapsed
from agentos.kernel.database import Database
from agentos.kernel.unit_of_work import Doors
from agentos.runtime.runs.model import Run, StopsUnreadable
from agentos.runtime.runs.settings import RunSettings

log = structlog.get_logger(__name__)

_NOW: Final = "SELECT epochs_now($1::text[], $2::text[]) AS epochs"


class Live(Protocol):
    """A live segment, as far as it is told of stops."""

    began: float
    moved: bool  # an epoch that decisions stand on has moved, as this process has seen
    held_since: float | None  # when this process saw that a stop holds the run
    interrupt: asyncio.Event  # what may be broken off is
    forced: asyncio.Event  # what was sent is no longer waited for

    @property
    def run(self) -> Run:
        """The run, as it was claimed."""
        ...

    @property
    def seen(self) -> Mapping[str, int]:
        """The epochs that its decisions are made under."""
        ...


class Halts:
    """The live segments of a process and what they are told."""

    def __init__(self, rulebooks: Rulebooks) -> None:
        self._rulebooks = rulebooks
        self._live: set[Live] = set()
        self._watching = False
        self._seen_at = 0.0

    def begins(self, segment: Live) -> None:
        """Tell this segment from now on."""
        self._live.add(segment)

    def ends(self, segment: Live) -> None:
        """Tell this segment no more."""
        self._live.discard(segment)

    def check_sight(self, segment: Live, settings: RunSettings) -> None:
        """Raises StopsUnreadable (Unavailable) when this process has not been able to look for too long."""
        blind = elapsed() - max(self._seen_at, segment.began)
        if self._watching and blind > settings.stop_blind_seconds:
            raise StopsUnreadable("whether this run is stopped cannot be read", where=segment.run.id)

    async def look_for(self, segment: Live, database: Database) -> None:
        """Look now, for one segment, whether anything that it stands on has moved. Raises DatabaseUnavailable."""
        org, seen = str(segment.run.organization), segment.seen
        now = await _now(database, [(org, scope) for scope in seen])
        segment.moved = any(now[org, scope] != value for scope, value in seen.items())

    async def look(self, doors: Doors, settings: RunSettings) -> None:
        """Look once for every live segment, and bring to rest those that a stop holds. Raises DatabaseUnavailable."""
        segments = list(self._live)
        wanted = {(str(one.run.organization), scope) for one in segments for scope in one.seen}
        now = await _now(doors.database, sorted(wanted)) if wanted else {}
        self._seen_at = elapsed()
        for one in segments:
            run, seen = one.run, one.seen
            found = {scope: now.get((str(run.organization), scope)) for scope in seen}
            one.moved = found != seen
            held = one.moved and await self._held(doors, run, found)
            if not held:
                one.held_since = None
            elif one.held_since is None:
                one.held_since = elapsed()
            if one.held_since is not None:
                since = elapsed() - one.held_since
                if since >= settings.stop_grace_seconds:
                    one.interrupt.set()
                if since >= settings.stop_force_seconds:
                    one.forced.set()

    async def _held(self, doors: Doors, run: Run, found: Mapping[str, int | None]) -> bool:
        epochs = {scope: value for scope, value in found.items() if value is not None}
        return (await self._rulebooks.under(doors, run.organization, run.subject, epochs)).stops.held is not None

    async def watch_for_ever(self, doors: Doors, settings: RunSettings, stop: asyncio.Event) -> None:
        """Look until ``stop``, whatever happens to what it reads from."""
        self._watching, self._seen_at = True, elapsed()
        while not stop.is_set():
            try:
                await asyncio.wait_for(self.look(doors, settings), settings.stop_blind_seconds)
            except Exception as error:  # the segments are told by check_sight when this lasts
                log.warning("stops_not_read", error=type(error).__name__)
            try:
                await asyncio.wait_for(stop.wait(), settings.stop_look_seconds)
            except TimeoutError:
                continue


async def _now(database: Database, wanted: list[tuple[str, str]]) -> dict[tuple[str, str], int | None]:
    row = await database.lookups.row(_NOW, [org for org, _ in wanted], [scope for _, scope in wanted])
    return dict(zip(wanted, row["epochs"], strict=True))
