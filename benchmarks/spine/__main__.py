"""``make bench-spine``: the rounds, and what is measured once. BENCH_ROUNDS sets the number of rounds, at least 3."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

import psutil

from agentos.apps.embedded import ports, probe
from benchmarks import report
from benchmarks.spine.rows import CLASSIC, DBOS, LANGGRAPH, OURS, Found, rows
from benchmarks.stack import PEERS, ROOT, Answering, NoAnswer, Stack, engines

CALLERS: Final = 20
PARKED: Final = 1000
APPROVED: Final = 120

# A burst lets 20 callers begin runs for this long and waits for all to end. The slowest peers' 20 runs take longer than
# that, so they make one wave.
BURST_SECONDS: Final = 2.5

SCRIPTS: Final = {DBOS: "with_dbos.py", LANGGRAPH: "with_langgraph.py", CLASSIC: "with_temporal.py"}


@dataclass(frozen=True)
class Measure:
    """One thing that is measured of every contender in every round."""

    name: str
    steps: int
    callers: int = 1
    most: int = 20
    seconds: float = 1.5
    do: str = "runs"
    leaves_out: tuple[str, ...] = ()

    def figure(self, answer: dict[str, Any]) -> float:
        """Milliseconds of the median run for one caller; runs per second for more."""
        if self.callers == 1:
            return median(answer["latencies"]) * 1000
        return len(answer["latencies"]) / float(answer["elapsed"])


MEASURES: Final = (
    Measure("5", 5),
    Measure("20", 20),
    Measure("50", 50),
    Measure("20 by 20", 20, CALLERS, 10_000, BURST_SECONDS),
    # One wave of it would take one-activity-per-step Temporal 11 s in each round, to say what the row above says.
    Measure("50 by 20", 50, CALLERS, 10_000, BURST_SECONDS, leaves_out=(CLASSIC,)),
    Measure("reads 5", 5, do="reads", leaves_out=tuple(SCRIPTS)),
    Measure("reads 20", 20, do="reads", leaves_out=tuple(SCRIPTS)),
    Measure("reads 50", 50, do="reads", leaves_out=tuple(SCRIPTS)),
    Measure("reads 20 by 20", 20, CALLERS, 10_000, BURST_SECONDS, do="reads", leaves_out=tuple(SCRIPTS)),
)
OVER_HTTP: Final = (Measure("events", 20), Measure("polling", 20))


async def main() -> None:
    """Measure, keep the rows, and print them."""
    rounds = max(3, int(os.environ.get("BENCH_ROUNDS", "3")))
    missing: dict[str, str] = {}
    found = Found()
    async with engines(AGENTOS_SKILLS="benchmarks.spine.steps", LOG_LEVEL="WARNING") as stack:
        ours = [sys.executable, "-m", "benchmarks.spine.inside"]
        contenders = [await Answering.begin(OURS, [*ours, "embedded"], stack, **_approver(stack))]
        contenders += await _peers(stack, missing)
        for name, said in (await stack.settings()).items():
            print(f"{name}: {said}")
        for one in contenders:
            print(f"contender {one.name}: {one.hello['settings']}")
        worker = await _worker(stack)
        await _warm_up(contenders)
        for number in range(rounds):
            _tell(f"round {number + 1} of {rounds}")
            for measure in MEASURES:
                for one in contenders[number % len(contenders) :] + contenders[: number % len(contenders)]:
                    if one.name not in (*measure.leaves_out, *missing):
                        await _take(measure, one, found, missing)
        await _singles(contenders, found, missing)
        for one in contenders:
            await one.end()
        await _over_http(stack, found, rounds)
        stack.stop(worker)
        await _parked(stack, found, ours)
    peers = [name for name in SCRIPTS if (MEASURES[0].name, name) in found.rounds or name in missing]
    report.write("spine", rows(found, peers), title="the durable spine", missing=missing)
    print(
        f"approve to next step: p50 {report.shown(median(found.approve_seconds) * 1000)} ms of {APPROVED}; "
        f"parked: {report.shown(found.parked_seconds)} s for {PARKED}, a worker without runs "
        f"{report.shown(found.empty_mb)} MB"
    )


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _approver(stack: Stack) -> dict[str, str]:
    return {"AGENTOS_SERVICE": "bench", "BENCH_APPROVER_KEY": stack.key("approver")}


async def _peers(stack: Stack, missing: dict[str, str]) -> list[Answering]:
    found = []
    for name, script in SCRIPTS.items():
        argument = stack.engine.address if name == CLASSIC else await stack.new_database(name.lower())
        try:
            if not PEERS.exists():
                raise NoAnswer("there is no .venv-peers; 'make peers' says why")
            place = ROOT / "benchmarks" / "peers" / script
            found.append(await Answering.begin(name, [str(PEERS), str(place), argument], stack))
        except NoAnswer as error:
            missing[name] = str(error)
    return found


async def _worker(stack: Stack) -> Any:
    """A real worker process. It polls within a second of its start."""
    started = stack.start("worker", "agentos.apps.worker", AGENTOS_SERVICE="worker-1")
    await asyncio.sleep(2)
    return started


async def _warm_up(contenders: list[Answering]) -> None:
    for one in contenders:
        await one.ask("runs", steps=20, callers=CALLERS, most=CALLERS, seconds=2)
        await one.ask("runs", steps=5, callers=1, most=3, seconds=1)
    for steps in (5, 20, 50):
        check = await contenders[0].ask("check", wanted=steps)
        if check["steps"] != steps:
            raise NoAnswer(f"a run of {steps} steps has {check['steps']}")
        print(f"a {steps}-step run of ours: {check['steps']} steps, {check['rows']} rows, {check['commits']} commits")


async def _take(measure: Measure, one: Answering, found: Found, missing: dict[str, str]) -> None:
    values = {"steps": measure.steps, "callers": measure.callers, "most": measure.most, "seconds": measure.seconds}
    try:
        figure: float | None = measure.figure(await one.ask(measure.do, **values))
    except NoAnswer as error:
        if one.name == OURS:
            raise
        missing[one.name], figure = str(error), None
    found.rounds[measure.name, one.name].append(figure)
    _tell(f"  {measure.name}: {one.name} {report.shown(figure)}")


async def _singles(contenders: list[Answering], found: Found, missing: dict[str, str]) -> None:
    """The size of a history, and approvals: one figure needs no rounds, the other has a distribution of its own."""
    for one in contenders:
        if one.name in (OURS, CLASSIC) and one.name not in missing:
            found.history_bytes[one.name] = float(await one.ask("history", wanted=50))
    found.approve_seconds = await contenders[0].ask("approve", count=APPROVED)
    found.approve_p95_ms = report.percentile(found.approve_seconds, 0.95) * 1000


async def _over_http(stack: Stack, found: Found, rounds: int) -> None:
    """A real API process, and callers in a process of their own."""
    port = ports.choose()
    api = stack.start("api", "agentos.apps.api", AGENTOS_SERVICE="api", AGENTOS_PORT=str(port))
    url, key = f"http://127.0.0.1:{port}", stack.key("author")
    async with asyncio.timeout(30):
        while not await probe.http(port, "/health"):
            await asyncio.sleep(0.1)
    command = [sys.executable, "-m", "benchmarks.spine.over_http", url, key]
    callers = {one: await Answering.begin(OURS, [*command, one.name], stack) for one in OVER_HTTP}
    for one in callers.values():
        await one.ask("runs", steps=20, callers=1, most=3, seconds=5)
    for _ in range(rounds):
        for measure, one in callers.items():
            await _take(measure, one, found, {})
    for one in callers.values():
        await one.end()
    stack.stop(api)


async def _parked(stack: Stack, found: Found, ours: list[str]) -> None:
    """A fresh worker process, and a thousand runs that it executed until they wait for an approval."""
    worker = await _worker(stack)
    found.empty_mb = psutil.Process(worker.pid).memory_info().rss / 1e6
    plain = await Answering.begin(OURS, [*ours, "plain"], stack, **_approver(stack))
    began = time.perf_counter()
    await plain.ask("park", count=PARKED)
    found.parked_seconds = time.perf_counter() - began
    await asyncio.sleep(2)
    found.parked_mb = psutil.Process(worker.pid).memory_info().rss / 1e6
    await plain.end()


if __name__ == "__main__":
    asyncio.run(main())
