"""Cases per second of an eval, beside Inspect AI. BENCH_ROUNDS sets the rounds, at least 3.

Ours is the whole way: a data set is kept, an eval is started over HTTP, and one worker process executes it through the
loop, the router and the scorers, each outcome durable in PostgreSQL. The time is the caller's, from the request to the
answer that says it is completed, which is asked for every 10 ms.
Inspect AI evaluates the same cases with the same answers by its mock model, in a process that has them loaded, and
keeps its log as it does by default.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp

from agentos.apps.embedded import ports, probe
from benchmarks import report
from benchmarks.evidence import sums
from benchmarks.report import Row
from benchmarks.stack import PEERS, ROOT, Answering, NoAnswer, Stack

TARGET: Final = 300.0
CONCURRENCY: Final = 32
LOOK_SECONDS: Final = 0.01
INSPECT: Final = "Inspect AI"
SKILLS: Final = "benchmarks.evidence.sums"
PATH: Final = "/api/v1/agents/quality"

AGENT: Final = {
    "apiVersion": "agentos/v1",
    "kind": "Agent",
    "metadata": {"name": "bench_sums", "category": "bench", "owner": "bench"},
    "spec": {
        "instructions": "Answer with the number alone.",
        "model": {"provider": "stub", "behaviour": "bench.sums"},
        "skills": [],
        "tier": "L1",
        "input": {
            "schema": {"type": "object", "properties": {"question": {"type": "string"}}, "required": ["question"]}
        },
    },
}


async def rows(stack: Stack, missing: dict[str, str] | None = None) -> list[Row]:
    """The row of evals. ``missing`` is told of a peer that could not be measured, with the reason."""
    rounds, missing = max(3, int(os.environ.get("BENCH_ROUNDS", "3"))), {} if missing is None else missing
    ours: list[float | None] = []
    theirs: list[float | None] = []
    async with _platform(stack) as session:
        async with session.post(f"{PATH}/datasets", json={"name": "sums", "content": sums.dataset()}) as said:
            said.raise_for_status()
        await _eval(session)
        for _ in range(rounds):
            ours.append(await _eval(session))
            _tell(f"  evals: AgentOS {report.shown(ours[-1])}")
    try:
        if not PEERS.exists():
            raise NoAnswer("there is no .venv-peers; 'make peers' says why")
        command = [str(PEERS), str(ROOT / "benchmarks" / "peers" / "with_inspect.py")]
        peer = await Answering.begin(INSPECT, command, stack, INSPECT_LOG_DIR=str(stack.folder / "inspect"))
        try:
            await peer.ask("cases", cases=sums.cases(), concurrency=CONCURRENCY)
            for _ in range(rounds):
                answer = await peer.ask("cases", cases=sums.cases(), concurrency=CONCURRENCY)
                if answer["right"] != _right():
                    raise NoAnswer(f"{answer['right']} of {sums.CASES} answers were right")
                theirs.append(sums.CASES / answer["elapsed"])
                _tell(f"  evals: {INSPECT} {report.shown(theirs[-1])}")
            print(f"contender {INSPECT}: {peer.hello['settings']}")
        finally:
            await peer.end()
    except NoAnswer as error:
        missing[INSPECT] = str(error)
    return [
        Row(
            "eval cases per second",
            "1/s",
            report.middle(ours),
            TARGET,
            "higher",
            {INSPECT: report.middle(theirs)},
            where=f"{sums.CASES:,} cases, {CONCURRENCY} at once, one worker",
        )
    ]


@asynccontextmanager
async def _platform(stack: Stack) -> AsyncIterator[aiohttp.ClientSession]:
    """An API process and one worker, and a client of an operator."""
    port = ports.choose()
    env = {"AGENTOS_SKILLS": SKILLS, "LOG_LEVEL": "WARNING"}
    api = stack.start("evals-api", "agentos.apps.api", AGENTOS_SERVICE="api", AGENTOS_PORT=str(port), **env)
    worker = stack.start("evals-worker", "agentos.apps.worker", AGENTOS_SERVICE="worker-1", **env)
    try:
        async with asyncio.timeout(60):
            while not await probe.http(port, "/health"):
                await asyncio.sleep(0.1)
        headers = {"Authorization": f"Bearer {stack.key('author')}"}
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers=headers) as session:
            async with session.post("/api/v1/agents", json={"documents": [AGENT]}) as said:
                said.raise_for_status()
            yield session
    finally:
        stack.stop(api)
        stack.stop(worker)


async def _eval(session: aiohttp.ClientSession) -> float:
    """Cases per second of one eval, whose every outcome is looked at."""
    wanted = {"dataset": "sums", "agent": "bench_sums", "concurrency": CONCURRENCY}
    began = time.perf_counter()
    async with session.post(f"{PATH}/offline-evals/run", json=wanted) as said:
        said.raise_for_status()
        place = said.headers["Location"]
    found: dict[str, Any] = {"status": "running"}
    async with asyncio.timeout(120):
        while found["status"] == "running":
            await asyncio.sleep(LOOK_SECONDS)
            async with session.get(place) as said:
                found = await said.json()
    elapsed = time.perf_counter() - began
    every = (found["report"] or {}).get("candidate", {}).get("scores", {}).get("all") or {"mean": 0, "samples": 0}
    counted = (found["done"], every["samples"], round(every["mean"] * every["samples"]))
    if found["status"] != "completed" or counted != (sums.CASES, sums.CASES, _right()):
        raise NoAnswer(f"the eval came to {json.dumps(found)[:500]}")
    return sums.CASES / elapsed


def _right() -> int:
    return sum(sums.said(one["asked"]) == one["right"] for one in sums.cases())


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
