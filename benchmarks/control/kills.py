"""Kills of running runs: what was committed after the order, what was on the wire, how long until all stopped."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from benchmarks.report import Row, percentile
from benchmarks.stack import Answering, Stack

KILLS: Final = 100
AT_ONCE: Final = 50  # runs at work when each order is given
WORKERS: Final = 2
MOST_SECONDS: Final = 5


@dataclass
class Found:
    """What was measured of every kill."""

    after: int = 0
    wire: list[int] = field(default_factory=list)
    rest_seconds: list[float] = field(default_factory=list)
    order_seconds: list[float] = field(default_factory=list)
    at_work: list[int] = field(default_factory=list)  # runs that the order found at work


async def measure(stack: Stack, say: Callable[[str], None], kills: int = KILLS, at_once: int = AT_ONCE) -> Found:
    """Order so many kills on a stack of engines, with workers of its own. Raises NoAnswer."""
    receiver = stack.folder / "received"
    receiver.touch()
    env = {"AGENTOS_SKILLS": "benchmarks.control.killed", "BENCH_RECEIVER": str(receiver), "LOG_LEVEL": "WARNING"}
    names = [f"killed-worker-{number}" for number in range(1, WORKERS + 1)]
    workers = [stack.start(name, "agentos.apps.worker", AGENTOS_SERVICE=name, **env) for name in names]
    killer = await Answering.begin("killing", [sys.executable, "-m", "benchmarks.control.killing"], stack, **env)
    found = Found()
    try:
        for number in range(1, kills + 1):
            said = await killer.ask("kill", at_once=at_once)
            found.after += said["after"]
            found.wire.append(said["wire"])
            found.rest_seconds.append(said["rest_seconds"])
            found.order_seconds.append(said["order_seconds"])
            found.at_work.append(said["brought_to_rest"])
            if number % 10 == 0:
                say(f"{number} of {kills} kills: {found.after} effects after the order")
    finally:
        await killer.end()
        for one in workers:
            stack.stop(one)
    return found


def rows(found: Found) -> list[Row]:
    """The rows, in the order in which they are read."""
    kills, known = len(found.wire), bool(found.wire)
    where = f"{kills} kills of {AT_ONCE} running runs in {WORKERS} workers"
    return [
        Row("kill, effects after the order", "effects", found.after if known else None, 0, where=where),
        Row(
            "kill to all stopped, p95",
            "s",
            percentile(found.rest_seconds, 0.95) if known else None,
            MOST_SECONDS,
            where="from the order to the last run's rest, by the database's clock",
        ),
        Row(
            "kill, on the wire",
            "calls",
            median(found.wire) if known else None,
            where="a kill; sent before the order, recorded or settled after it",
        ),
        Row(
            "kill, answered, p95",
            "ms",
            percentile(found.order_seconds, 0.95) * 1000 if known else None,
            where="the order's transaction, beside the runs' own",
        ),
    ]
