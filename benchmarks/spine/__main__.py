"""``make bench-spine``: the rounds and the rows. BENCH_ROUNDS sets the number of rounds (3)."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import defaultdict
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

import psutil

from benchmarks import report
from benchmarks.stack import PEERS, ROOT, Answering, NoAnswer, Stack, engines

OURS: Final = "AgentOS"
DBOS, LANGGRAPH, CLASSIC = "DBOS", "LangGraph", "Temporal"
CALLERS: Final = 20
PARKED: Final = 1000
APPROVED: Final = 120

INSIDE: Final = "in the process"
INSIDE_TWO: Final = "in one process, the worker is another"
HTTP_EVENTS: Final = "over HTTP, follows the events"
HTTP_POLLING: Final = "over HTTP, asks every 5 ms"

# A burst lets 20 callers begin runs for this long and waits for all to end. The slowest peer's 20 runs of 50 steps take
# longer than that, so it makes one wave.
BURST_SECONDS: Final = 2.5


@dataclass(frozen=True)
class Measure:
    """One thing that is measured of every contender in every round."""

    name: str
    steps: int
    callers: int
    most: int
    seconds: float
    do: str = "runs"
    only: tuple[str, ...] = ()
    leaves_out: tuple[str, ...] = ()

    def figure(self, answer: dict[str, Any]) -> float:
        """Milliseconds of the median run for one caller; runs per second for more."""
        if self.callers == 1:
            return median(answer["latencies"]) * 1000
        return len(answer["latencies"]) / float(answer["elapsed"])


MEASURES: Final = (
    Measure("5", 5, 1, 20, 1.5),
    Measure("20", 20, 1, 20, 1.5),
    Measure("50", 50, 1, 12, 1.5),
    Measure("20 by 20", 20, CALLERS, 10_000, BURST_SECONDS),
    Measure("50 by 20", 50, CALLERS, 10_000, BURST_SECONDS, leaves_out=(CLASSIC,)),
    Measure("reads 5", 5, 1, 12, 1.0, do="reads", only=(OURS,)),
    Measure("reads 20", 20, 1, 12, 1.0, do="reads", only=(OURS,)),
    Measure("reads 50", 50, 1, 8, 1.0, do="reads", only=(OURS,)),
    Measure("reads 20 by 20", 20, CALLERS, 10_000, BURST_SECONDS, do="reads", only=(OURS,)),
)

Figures = dict[tuple[str, str], list[float | None]]  # by measure and contender, one for each round


async def main() -> None:
    """Measure, keep the rows, and print them."""
    rounds = max(3, int(os.environ.get("BENCH_ROUNDS", "3")))
    missing: dict[str, str] = {}
    async with engines(AGENTOS_SKILLS="benchmarks.spine.steps", LOG_LEVEL="WARNING") as stack:
        contenders = await _contenders(stack, missing)
        await _say(stack, contenders)
        figures: Figures = defaultdict(list)
        try:
            worker = await _worker(stack)
            await _warm_up(contenders)
            for number in range(rounds):
                print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
                for measure in MEASURES:
                    for one in contenders[number % len(contenders) :] + contenders[: number % len(contenders)]:
                        await _take(measure, one, figures, missing)
            singles = await _singles(contenders, missing)
        finally:
            for one in contenders:
                await one.end()
        over_http = await _over_http(stack, rounds)
        stack.stop(worker)
        parked = await _parked(stack)
    report.write("spine", _rows(figures, singles, over_http, parked), title="a durable spine", missing=missing)


async def _contenders(stack: Stack, missing: dict[str, str]) -> list[Answering]:
    inside = [sys.executable, "-m", "benchmarks.spine.inside", "embedded"]
    found = [await Answering.begin(OURS, inside, stack, **_as(stack, "api"))]
    folder = ROOT / "benchmarks" / "peers"
    for name, script, argument in (
        (DBOS, "with_dbos.py", await stack.new_database("dbos")),
        (LANGGRAPH, "with_langgraph.py", await stack.new_database("langgraph")),
        (CLASSIC, "with_temporal.py", stack.engine.address),
    ):
        if not PEERS.exists():
            missing[name] = "its environment .venv-peers is not installed (make peers)"
            continue
        try:
            found.append(await Answering.begin(name, [str(PEERS), str(folder / script), argument], stack))
        except NoAnswer as error:
            missing[name] = str(error)
    return found


def _as(stack: Stack, service: str) -> dict[str, str]:
    return {"AGENTOS_SERVICE": service, "BENCH_APPROVER_KEY": stack.key("approver")}


async def _worker(stack: Stack) -> psutil.Process:
    """A real worker process; it serves when its queue has a poller, for which a second is plenty."""
    started = stack.start("worker", "agentos.apps.worker", AGENTOS_SERVICE="worker-1")
    await asyncio.sleep(2)
    return started


async def _warm_up(contenders: list[Answering]) -> None:
    for one in contenders:
        await one.ask("runs", steps=20, callers=CALLERS, most=CALLERS, seconds=2)
        await one.ask("runs", steps=5, callers=1, most=3, seconds=1)
    for steps in (5, 20, 50):
        found = await contenders[0].ask("check", wanted=steps)
        if found["steps"] != steps:
            raise NoAnswer(f"a run of {steps} steps has {found['steps']}")
        print(f"a {steps}-step run of ours: {found['steps']} steps in {found['rows']} rows of the journal")


async def _take(measure: Measure, one: Answering, figures: Figures, missing: dict[str, str]) -> None:
    if one.name in measure.leaves_out or (measure.only and one.name not in measure.only) or one.name in missing:
        return
    values = {"steps": measure.steps, "callers": measure.callers, "most": measure.most, "seconds": measure.seconds}
    try:
        figure: float | None = measure.figure(await one.ask(measure.do, **values))
    except NoAnswer as error:
        if one.name == OURS:
            raise
        missing[one.name], figure = str(error), None
    figures[measure.name, one.name].append(figure)
    print(f"  {measure.name}: {one.name} {report.shown(figure)}", file=sys.stderr, flush=True)
