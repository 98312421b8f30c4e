"""Two receivers and a guest book, as local HTTP servers: what they hold is what really happened outside.

The first receiver honours keys: a key that it knows is answered as before and changes nothing. The second takes every
delivery as new. Both take a moment before and after they take a delivery, so that kills find calls on the wire that
have not arrived, that have taken effect, and that were about to be answered.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Self

from aiohttp import web

BEFORE_SECONDS = 0.1  # at most; with the next one well under the skills' timeout of 1 s
AFTER_SECONDS = 0.3


@dataclass(slots=True)
class Delivery:
    """One delivery as it arrived. ``answered`` is None when it never was: its caller had gone."""

    number: int
    step: int
    key: str
    pid: int
    arrived: float
    answered: float | None = None


class Receivers:
    """Listens on a free port of loopback while it is open."""

    def __init__(self, seed: int, deliveries: int) -> None:
        self.deliveries = deliveries  # that each run makes
        self.keyed: list[Delivery] = []
        self.plain: list[Delivery] = []
        self.first: dict[str, int] = {}  # by key, where the first receiver keeps what it took
        self.seen: defaultdict[int, list[tuple[float, int, int]]] = defaultdict(list)  # run → time, process, step
        self.address = ""
        self._random = random.Random(seed)
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/keyed", self._keyed)
        app.router.add_post("/plain", self._plain)
        app.router.add_post("/here", self._here)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.address = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def in_hands_of(self, pid: int) -> set[int]:
        """The runs that were last seen in that process and are not over."""
        return {number for number, seen in self.seen.items() if seen[-1][1] == pid and seen[-1][2] < self.deliveries}

    def under_way(self) -> int:
        """How many runs were seen and are not over."""
        return sum(seen[-1][2] < self.deliveries for seen in self.seen.values())

    def took_plain(self, number: int, step: int) -> int | None:
        """The second receiver's own record: where it keeps this delivery, or None when it has none."""
        return next((place for place, one in enumerate(self.plain) if (one.number, one.step) == (number, step)), None)

    async def _keyed(self, request: web.Request) -> web.Response:
        one = await self._arrived(request)
        self.keyed.append(one)
        place = self.first.setdefault(one.key, len(self.keyed) - 1)
        return await self._answered(one, place)

    async def _plain(self, request: web.Request) -> web.Response:
        one = await self._arrived(request)
        self.plain.append(one)
        return await self._answered(one, len(self.plain) - 1)

    async def _here(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.seen[body["number"]].append((time.time(), body["pid"], body["step"]))
        return web.Response()

    async def _arrived(self, request: web.Request) -> Delivery:
        body: dict[str, Any] = await request.json()
        one = Delivery(body["number"], body["step"], body["key"], body["pid"], time.time())
        self.seen[one.number].append((one.arrived, one.pid, one.step))
        await asyncio.sleep(self._random.uniform(0, BEFORE_SECONDS))
        return one

    async def _answered(self, one: Delivery, place: int) -> web.Response:
        await asyncio.sleep(self._random.uniform(0, AFTER_SECONDS))
        one.answered = time.time()
        return web.json_response({"taken": place})
