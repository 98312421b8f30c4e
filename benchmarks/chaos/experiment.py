"""The experiment: a stack of its own, runs that are asked for, kills and stops, and then the reckoning."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentos.apps.embedded import verbs
from agentos.apps.embedded.home import Home
from benchmarks.chaos import client, measure
from benchmarks.chaos.client import Client
from benchmarks.chaos.killer import Kill, Killer
from benchmarks.chaos.measure import Told
from benchmarks.chaos.people import People
from benchmarks.chaos.receivers import Receivers
from benchmarks.chaos.stopper import Stopper, Stopping

ROOT = Path(__file__).parents[2]
MODULES = "benchmarks.chaos.skills,benchmarks.chaos.behaviours"
KINDS = ("keyed", "plain")
DELIVERIES = 5  # of each run
ASKED_SHARE = 0.2  # of the runs: a person must approve their last delivery
TWICE_SHARE = 0.05  # of the requests: sent twice at the same moment, with the same key
THINK_SECONDS = (0.0, 0.1, 0.2, 0.3)  # before each; so some runs are over within a second, others take three
MOST_OPEN = 25  # runs under way at a time: what two cores carry, so that kills are what hurts and not the load
OVER_SECONDS = 60.0  # after the last kill and stop: then a run that is neither over nor waits for a reason is lost
NOT_INHERITED = ("DATABASE_URL", "TEMPORAL_ADDRESS", "AGENTOS_API_PORT", "AGENTOS_WORKERS", "PYTHONDONTWRITEBYTECODE")
TERMINAL = ("completed", "failed", "cancelled", "blocked")

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Size:
    """How large an experiment is."""

    kills: int
    deletions: int
    runs: int
    stops: int
    workers: int
    lonely: float  # the share of the workers' kills that nothing else follows until their runs go on
    minutes: float  # the killing ends then at the latest


FULL = Size(kills=300, deletions=8, runs=2000, stops=10, workers=2, lonely=0.6, minutes=12)
SHORT = Size(kills=24, deletions=1, runs=100, stops=1, workers=2, lonely=0.25, minutes=2)


@dataclass(slots=True)
class Found:
    """All that was found out."""

    size: Size
    seed: int
    kills: list[Kill]
    stops: list[Stopping]
    key: str  # that proofs are signed by, as the platform gave it before the first kill
    runs: list[Told]
    strangers: int  # runs that nobody asked for, or that were asked for once and are there twice
    receivers: Receivers
    people: People
    trouble: Counter[str]
    seconds: float


async def experiment(home: Path, size: Size, seed: int, say: Say) -> Found:
    """Do all of it in this home and stop the stack at the end. The same seed throws the same dice."""
    began = time.monotonic()
    trouble: Counter[str] = Counter()
    async with AsyncExitStack() as stack:
        receivers = await stack.enter_async_context(Receivers(seed, DELIVERIES))
        address = await stack.enter_async_context(_platform(home, size.workers, say))
        keys = client.keys(home)
        author = await stack.enter_async_context(Client(address, keys["author"], trouble))
        approver = await stack.enter_async_context(Client(address, keys["approver"], trouble))
        applied = await author.post("/api/v1/agents", {"documents": [_agent(kind) for kind in KINDS]})
        deployments = {one["agent_id"].removeprefix("chaos_"): one["deployment_id"] for one in applied["applied"]}
        key = (await author.get("/api/v1/signing-key"))["public_key"]

        numbers: dict[str, int] = {}
        people = People(approver, author, receivers, numbers, seed)
        killer = Killer(Home(home), receivers, seed, wanted=size.kills, deletions=size.deletions, lonely=size.lonely)
        stopper = Stopper(author, deployments, killer, seed, stops=size.stops, kills=size.kills)
        requests = _Requests(author, receivers, numbers, size, seed)
        answering = asyncio.create_task(people.work())
        asking = asyncio.create_task(requests.work())
        stopping = asyncio.create_task(stopper.work())
        watching = asyncio.create_task(_watch(requests, killer, people, stopper, say))
        try:
            requests.release(size.runs // 20)
            share = (size.runs - size.runs // 20) / size.kills
            await killer.work(
                lambda: requests.release(size.runs // 20 + int(share * len(killer.kills))),
                until=time.monotonic() + size.minutes * 60,
            )
            requests.release(size.runs)
            say(f"{len(killer.kills)} kills are done; waiting for what is under way")
            await stopping
            last = time.monotonic()
            await asking
            await _until_over(author, last + OVER_SECONDS, [answering])
        finally:
            for task in (answering, asking, stopping, watching):
                task.cancel()
            for task in (answering, asking, stopping, watching):
                with suppress(asyncio.CancelledError):
                    await task
        runs, strangers = await _told(author, requests, people)
        seconds = time.monotonic() - began
        return Found(size, seed, killer.kills, stopper.done, key, runs, strangers, receivers, people, trouble, seconds)


class _Requests:
    """Ask for runs, over HTTP and with a key each, as many as are released."""

    def __init__(self, author: Client, receivers: Receivers, numbers: dict[str, int], size: Size, seed: int) -> None:
        self.accepted: dict[int, str] = {}
        self._author = author
        self._receivers = receivers
        self._numbers = numbers
        self._size = size
        self._random = random.Random(seed)
        self._released = 0
        self._changed = asyncio.Event()

    def release(self, count: int) -> None:
        """So many may have been asked for from now on."""
        self._released = max(self._released, count)
        self._changed.set()

    async def work(self) -> None:
        """Ask until all are asked for."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._size.runs):
                while number >= self._released or self.under_way(number) >= MOST_OPEN:
                    self._changed.clear()
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._changed.wait(), 0.2)
                group.create_task(self._ask(number, self._body(number)))
                await asyncio.sleep(0.02)

    def under_way(self, asked: int) -> int:
        """How many of so many that were asked for are not over."""
        return asked - len(self._receivers.seen) + self._receivers.under_way()

    def _body(self, number: int) -> dict[str, Any]:
        kind = KINDS[number % 2]
        given = {
            "receiver": self._receivers.address,
            "number": number,
            "kind": kind,
            "deliveries": DELIVERIES,
            "ask": self._random.random() < ASKED_SHARE,
            "think_seconds": self._random.choice(THINK_SECONDS),
        }
        return {"agent": f"chaos_{kind}", "input": given}

    async def _ask(self, number: int, body: dict[str, Any]) -> None:
        times = 2 if self._random.random() < TWICE_SHARE else 1
        asked = (self._author.post("/api/v1/runs", body, key=f"chaos-{number}") for _ in range(times))
        for run in await asyncio.gather(*asked):
            before = self.accepted.setdefault(number, run["id"])
            if before != run["id"]:
                raise AssertionError(f"request {number} was accepted as {before} and as {run['id']}")
            self._numbers[run["id"]] = number


def _agent(kind: str) -> dict[str, Any]:
    return {
        "apiVersion": "agentos/v1",
        "kind": "Agent",
        "metadata": {
            "name": f"chaos_{kind}",
            "category": "chaos",
            "owner": "benchmarks",
            "description": f"Makes deliveries to the {kind} receiver.",
        },
        "spec": {
            "instructions": "Make the deliveries that you are asked for.",
            "model": {"provider": "stub", "behaviour": "chaos"},
            "skills": [{"name": f"deliver_{kind}{more}", "version": "1"} for more in ("", "_asked")],
            "tier": "L3",
            "budgets": {"turns": 10, "steps": 10, "duration": "2h"},
            "input": {"schema": {"type": "object"}},
        },
    }


async def _watch(requests: _Requests, killer: Killer, people: People, stopper: Stopper, say: Say) -> None:
    while True:
        await asyncio.sleep(10)
        accepted = len(requests.accepted)
        say(
            f"{len(killer.kills)} kills, {accepted} runs accepted, {requests.under_way(accepted)} under way, "
            f"{len(people.answers)} approvals answered, {len(people.settled)} effects settled, "
            f"{len(stopper.done)} stops lifted"
        )


async def _until_over(author: Client, until: float, helpers: list[asyncio.Task[None]]) -> None:
    """Return when every run is over, or at that time of ``time.monotonic``."""
    while time.monotonic() < until:
        for task in helpers:
            if task.done():
                task.result()
        going = [await author.every("/api/v1/runs", status=one) for one in ("accepted", "running", "waiting_approval")]
        if not any(going):
            return
        await asyncio.sleep(0.5)


async def _told(author: Client, requests: _Requests, people: People) -> tuple[list[Told], int]:
    """Every run that was asked for, with its journal; and how many others there are."""
    there = {row["id"] for row in await author.every("/api/v1/runs")}
    runs = []
    for number, run_id in sorted(requests.accepted.items()):
        if run_id not in there:  # it was accepted and is gone: the worst that could be
            runs.append(Told(number, KINDS[number % 2], DELIVERIES, {"id": run_id, "status": "gone"}, [], False))
            continue
        run = await author.get(f"/api/v1/runs/{run_id}")
        journal = await author.every(f"/api/v1/runs/{run_id}/journal")
        runs.append(Told(number, run["input"]["kind"], DELIVERIES, run, journal, run_id in people.denied))
    return runs, len(there - set(requests.accepted.values()))


@asynccontextmanager
async def _platform(home: Path, workers: int, say: Say) -> AsyncIterator[str]:
    """A stack whose workers know the chaos agents; stopped at the end."""
    ours = {
        "AGENTOS_HOME": str(home),
        "AGENTOS_SKILLS": MODULES,
        "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        # A service that starts a hundred times must not compile itself each time: an installed one does not.
        "PYTHONPYCACHEPREFIX": str(home / "bytecode"),
    }
    theirs = {name: os.environ.get(name) for name in (*ours, *NOT_INHERITED)}
    for name in theirs:
        os.environ.pop(name, None)
    os.environ.update(ours)
    try:
        state = await asyncio.to_thread(verbs.up, Home(home), workers=workers, say=say)
        yield state.api
    finally:
        await asyncio.shield(asyncio.to_thread(verbs.down, Home(home), say=say))
        for name, value in theirs.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


__all__ = ["FULL", "SHORT", "TERMINAL", "Found", "Size", "experiment", "measure"]
