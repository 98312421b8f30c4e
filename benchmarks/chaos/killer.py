"""Kill services of a running stack by SIGKILL, by the dice of a seed, and keep an exact record of it.

Some kills are lonely: a worker dies while everything else serves, and nothing else is killed until its runs go on
elsewhere. They show how long a takeover takes. All others come as they come, also onto what has not come back yet.
A person who stops runs may demand that certain services are killed next.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import psutil

from agentos.apps.embedded import process
from agentos.apps.embedded.home import Home, ServiceState
from benchmarks.chaos.receivers import Receivers

# How often which is killed. A backend's SIGKILL makes PostgreSQL throw out all others and recover.
SHARES = {"worker": 45, "api": 20, "temporal": 15, "postgres": 13, "postgres backend": 7}
GAP_SECONDS = 1.0  # the mean between two kills that are not lonely
LONGEST_GAP_SECONDS = 3.0
SERVING_SECONDS = 20.0  # how long a service that should come back is waited for, at most
MOVED_SECONDS = 8.0  # how long a lonely kill waits for its runs to go on, at most


@dataclass(frozen=True, slots=True)
class Kill:
    """One SIGKILL. ``pid`` of a worker or the API tells which calls it hit."""

    at: float
    victim: str  # a name of SHARES, or "temporal and its file"
    service: str
    pid: int
    serving: bool  # whether every service served just before
    seconds_since_last: float

    @property
    def kind(self) -> str:
        """Which service it was, whatever was done to it besides."""
        return self.victim.partition(" ")[0]


def spread(count: int, kills: int, dice: random.Random) -> list[int]:
    """So many moments among so many kills, over the whole time, never the very first or last."""
    return [int(kills / count * (number + dice.uniform(0.3, 0.7))) for number in range(count)]


class Killer:
    """Kills one service after the other until it has killed as many as wanted."""

    def __init__(
        self, home: Home, receivers: Receivers, seed: int, *, wanted: int, deletions: int, lonely: float
    ) -> None:
        self.kills: list[Kill] = []
        self.demanded: list[str] = []  # what is killed next, whatever the dice say
        self.held = False  # a stop holds runs, which do not go on elsewhere: nothing waits for that
        self.over = False
        self._home = home
        self._receivers = receivers
        self._random = random.Random(seed)
        self._wanted = wanted
        self._lonely = lonely
        self._deletions = set(spread(deletions, wanted, self._random))

    async def work(self, after_each: Callable[[], None], until: float) -> None:
        """Kill until as many as wanted are killed, or until that time of ``time.monotonic``.

        While a stop is ordered or in force then, only what is demanded is killed, on top.
        """
        while (self.held or len(self.kills) < self._wanted) and time.monotonic() < until:
            if len(self.kills) >= self._wanted and not self.demanded:
                await asyncio.sleep(0.02)
                continue
            victim = self._next()
            lonely = victim == "worker" and not self.held and self._random.random() < self._lonely
            if lonely:
                await self._all_serve()
                await asyncio.sleep(self._random.uniform(0.5, 1.5))  # until runs are in the workers' hands again
            done = await self._kill(victim)
            if done is None:
                continue
            self.kills.append(done)
            if done.kind in self.demanded:
                self.demanded.remove(done.kind)
            after_each()
            if lonely:
                await self._moved(done)
            else:
                gap = min(self._random.expovariate(1 / GAP_SECONDS), LONGEST_GAP_SECONDS)
                await asyncio.sleep(max(gap, 0.02))
        self.over = True

    def _next(self) -> str:
        if len(self.kills) in self._deletions:
            return "temporal and its file"
        if self.demanded:
            return self.demanded[0]
        return self._random.choices(list(SHARES), list(SHARES.values()))[0]

    async def _kill(self, victim: str) -> Kill | None:
        kind = victim.partition(" ")[0]
        entry = await self._running(kind)
        if entry is None or entry.identity is None:
            return None
        serving = self._serves()
        since = time.time() - self.kills[-1].at if self.kills else 1e9
        pid = entry.identity.pid
        if victim == "postgres backend":
            pid = self._backend(pid)
            if not pid:
                return None
            at = time.time()
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                return Kill(at, victim, entry.name, pid, serving, since)
            return None
        if victim == "temporal and its file":
            process.send(entry.identity, signal.SIGSTOP)  # so that it cannot die between two deletions
            for file in self._home.temporal.glob("temporal.db*"):
                file.unlink(missing_ok=True)
        at = time.time()
        if not process.send(entry.identity, signal.SIGKILL):
            return None
        return Kill(at, victim, entry.name, pid, serving, since)

    async def _running(self, kind: str) -> ServiceState | None:
        """A service of that kind that runs now, or as soon as one does."""
        limit = time.monotonic() + SERVING_SECONDS
        while time.monotonic() < limit:
            alive = [
                one
                for one in self._home.state().services
                if one.name.partition("-")[0] == kind and one.state == "running" and process.alive(one.identity)
            ]
            if alive:
                return self._random.choice(alive)
            await asyncio.sleep(0.02)
        return None

    def _backend(self, postmaster: int) -> int:
        with suppress(psutil.Error):
            children = psutil.Process(postmaster).children()
            backends = [one.pid for one in children if "agentos agentos" in " ".join(one.cmdline())]
            if backends:
                return self._random.choice(sorted(backends))
        return 0

    def _serves(self) -> bool:
        services = self._home.state().services
        return all(one.state == "running" and process.alive(one.identity) for one in services)

    async def _all_serve(self) -> None:
        limit = time.monotonic() + SERVING_SECONDS
        while not self._serves() and not self.held and time.monotonic() < limit:
            await asyncio.sleep(0.05)

    async def _moved(self, kill: Kill) -> None:
        """Wait until every run that the process had in its hands was seen in another one."""
        held = self._receivers.in_hands_of(kill.pid)
        limit = time.monotonic() + MOVED_SECONDS
        while time.monotonic() < limit and not self.held:
            if not held & self._receivers.in_hands_of(kill.pid):
                return
            await asyncio.sleep(0.05)
