"""A person who kills a deployment now and then while services are killed, has it proved, and lifts the stop.

Under each stop a worker, the API and Temporal are killed at least once: the person asks the killer for it. A request
that nobody answers is repeated until it is answered; ordering the same stop again returns the first.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.chaos.client import Client
from benchmarks.chaos.killer import Killer, spread

UNDER = ("worker", "api", "temporal")  # what is killed under each stop, in an order that the dice give
HOLD_SECONDS = 3.0  # at least, from the order's answer to the proof
LONGEST_HOLD_SECONDS = 30.0  # then the proof is asked for, killed or not
LOOK_SECONDS = 0.05


@dataclass(slots=True)
class Stopping:
    """One stop as the person had it. Its order and its lift have times by the database's clock in ``stop``."""

    kind: str  # which of the two deployments
    ordering: float  # when it was first asked for
    answered: float  # from here on nothing may be sent
    lifting: float = 0.0  # up to here
    lifted: float = 0.0  # when the lift was answered
    stop: dict[str, Any] = field(default_factory=dict)
    proofs: list[dict[str, Any]] = field(default_factory=list)  # under the stop, and after its lift


class Stopper:
    """Orders stops, spread over the kills. ``deployments``: which to stop, by kind."""

    def __init__(
        self, person: Client, deployments: Mapping[str, str], killer: Killer, seed: int, *, stops: int, kills: int
    ) -> None:
        self.done: list[Stopping] = []
        self._person = person
        self._deployments = deployments
        self._killer = killer
        self._random = random.Random(f"{seed} stops")  # not the killer's dice, or both would throw the same
        self._moments = spread(stops, kills, self._random)

    async def work(self) -> None:
        """Order all stops, or as many as the killing leaves time for; none is in force at the end."""
        for moment in self._moments:
            while len(self._killer.kills) < moment:
                if self._killer.over:
                    return
                await asyncio.sleep(LOOK_SECONDS)
            self.done.append(await self._stop(self._random.choice(sorted(self._deployments))))

    async def _stop(self, kind: str) -> Stopping:
        body = {"kind": "kill", "scope": "deployment", "target": self._deployments[kind], "reason": "chaos"}
        ordering = time.time()
        self._killer.held = True
        stop = await self._person.post("/api/v1/stops", body)
        made = Stopping(kind, ordering, time.time())
        await self._hold()
        path = f"/api/v1/stops/{stop['id']}"
        made.proofs.append(await self._person.get(f"{path}/proof"))
        made.lifting = time.time()
        made.stop = await self._person.delete(path)
        made.lifted = time.time()
        self._killer.held = False
        made.proofs.append(await self._person.get(f"{path}/proof"))
        return made

    async def _hold(self) -> None:
        self._killer.demanded = self._random.sample(UNDER, len(UNDER))
        limit = time.monotonic() + LONGEST_HOLD_SECONDS
        await asyncio.sleep(HOLD_SECONDS)
        while self._killer.demanded and not self._killer.over and time.monotonic() < limit:
            await asyncio.sleep(LOOK_SECONDS)
        self._killer.demanded = []
