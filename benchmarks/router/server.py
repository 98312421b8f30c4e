"""The fake vendors in a process of their own: they answer at once, fail as they are told, and stamp what arrives.

Its questions: ``behave`` (how the first vendor does), ``stamp`` and ``stamps`` (arrivals by the database's clock).
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from bisect import bisect
from typing import Any, Final

import asyncpg
import uvloop
from tests.fakes.models import FakeModels, Fault, Reply

from benchmarks.peers.answering import answer, versions
from benchmarks.peers.asking import FIRST, KEY, MOST_TOKENS, TOLD

RELATE_SECONDS: Final = 5.0
ASKED_TIMES: Final = 10  # of each relation the quickest answer counts: it bounds the clock's place best
USES: Final = 64  # different bills
LOOK: Final = "bench_look"


class Vendors:
    """Two vendors behind one address: the first one's ways change, the second is always well."""

    def __init__(self) -> None:
        self.pattern: list[Fault | None] = [None]
        self.ratio = 0.0
        self.faults: list[Fault] = []
        self.chance = random.Random(5)
        self.asked = 0
        self.arrivals: list[tuple[float, int]] | None = None
        self.plain = Reply(TOLD)
        self.billed = [self._bill() for _ in range(USES)]

    def brain(self, body: dict[str, Any]) -> Reply | Fault:
        """What becomes of a question."""
        if body["model"] != FIRST:
            return self.plain
        if body.get("tools"):
            return self._turn(body)
        if self.arrivals is not None:
            reply = self.chance.choice(self.billed)
            self.arrivals.append((time.monotonic(), sum(reply.usage.values())))
            return reply
        self.asked += 1
        fault = self.pattern[self.asked % len(self.pattern)]
        if fault is None and self.ratio and self.chance.random() < self.ratio:
            fault = self.chance.choice(self.faults)
        return fault or self.plain

    def _bill(self) -> Reply:
        used = {
            "input_tokens": self.chance.randrange(600, 1000),
            "output_tokens": self.chance.randrange(1, MOST_TOKENS),
        }
        return Reply(TOLD, usage=used)

    def _turn(self, body: dict[str, Any]) -> Reply:
        """A turn of an agent that looks as often as its input says, and ends."""
        turn = sum(message["role"] == "assistant" for message in body["messages"])
        wanted = int("".join(filter(str.isdigit, str(body["messages"][0]["content"])[:200])))
        return Reply(calls=[(LOOK, {"n": turn})]) if turn < wanted else self.plain


class Clock:
    """The database's clock, as this process's own clock tells it."""

    def __init__(self) -> None:
        self.own: list[float] = []
        self.theirs: list[float] = []

    async def relate(self, connection: asyncpg.Connection[Any]) -> None:
        """Ask the database for its time."""
        asked = []
        for _ in range(ASKED_TIMES):
            began = time.monotonic()
            theirs = float(await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())"))
            ended = time.monotonic()
            asked.append((ended - began, (began + ended) / 2, theirs))
        _, own, theirs = min(asked)
        self.own.append(own)
        self.theirs.append(theirs)

    def tell(self, at: float) -> float:
        """The database's time at a moment, between the two relations around it."""
        after = min(max(bisect(self.own, at), 1), len(self.own) - 1)
        before = after - 1
        part = (at - self.own[before]) / (self.own[after] - self.own[before])
        return self.theirs[before] + part * (self.theirs[after] - self.theirs[before])


async def main() -> None:
    """Answer calls, and the questions of the benchmark."""
    vendors, clock, relating = Vendors(), Clock(), set[asyncio.Task[None]]()

    async def behave(pattern: list[str | None] | None = None, ratio: float = 0, faults: list[str] | None = None) -> int:
        vendors.pattern = [None if name is None else Fault[name] for name in pattern or [None]]
        vendors.ratio, vendors.faults = ratio, [Fault[name] for name in faults or []]
        asked, vendors.asked = vendors.asked, 0
        return asked

    async def relate(connection: asyncpg.Connection[Any]) -> None:
        while True:
            await clock.relate(connection)
            await asyncio.sleep(RELATE_SECONDS)

    async def stamp() -> None:
        vendors.arrivals = []
        relating.add(asyncio.create_task(relate(await asyncpg.connect(os.environ["DATABASE_URL"]))))

    async def stamps() -> list[tuple[float, int]]:
        await asyncio.sleep(RELATE_SECONDS + 1)  # until the last arrival stands between two relations
        for task in relating:
            task.cancel()
        arrivals, vendors.arrivals = vendors.arrivals or [], None
        return sorted((clock.tell(at), tokens) for at, tokens in arrivals)

    async with FakeModels(brain=vendors.brain, key=KEY, keep=False) as fake:
        settings = f"{versions('aiohttp')}, Python {sys.version.split()[0]}"
        await answer({"settings": settings, "url": fake.url}, behave=behave, stamp=stamp, stamps=stamps)


if __name__ == "__main__":
    uvloop.run(main())
