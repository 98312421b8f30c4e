"""``make bench-door``: the rounds. BENCH_SECONDS: how long the callers post in all rounds together, 60 unless it says
otherwise; BENCH_ROUNDS: at least 3; BENCH_PYSPY: a program to record the API process with, into build/bench.
"""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import aiohttp
import asyncpg
import psutil
from pydantic import SecretStr

from agentos.apps.bootstrap import give_key
from agentos.apps.embedded import ports, probe
from agentos.intake.identity import service as identity
from agentos.intake.identity.model import Role
from agentos.kernel.database import Database
from agentos.kernel.ids import OrgId
from agentos.kernel.settings import DatabaseSettings
from agentos.kernel.unit_of_work import Doors
from benchmarks import report
from benchmarks.door.rows import ALONE, BARE, BESIDE, HOOK_CALLERS, HOOKS, OURS, Found, rows
from benchmarks.stack import ROOT, Answering, NoAnswer, Stack, engines

CALLERS: Final = 200
QUIET: Final = OrgId("quiet")
WARM_UP_SECONDS: Final = 10.0
DRAIN_SECONDS: Final = 120.0  # for what was accepted to be over, before anything else is measured
AGENT: Final = {
    "apiVersion": "agentos/v1",
    "kind": "Agent",
    "metadata": {"name": "bench_door", "category": "benchmarks", "owner": "benchmarks"},
    "spec": {
        "instructions": "Answer once.",
        "model": {"provider": "stub", "script": [{"text": "done"}]},
        "skills": [],
        "tier": "L2",
    },
}
KINDS: Final = {
    "agentos.apps.api": "API",
    "agentos.apps.worker": "worker",
    "temporal": "Temporal",
    "postgres": "PostgreSQL",
    "benchmarks.door.callers": "callers",
}
# Limits of one caller are not what is measured: nobody's rate is exhausted here, and nobody is refused for waiting.
SECRET: Final = "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()
SETTINGS: Final = {
    "AGENTOS_REQUEST_RATE_PER_MINUTE": "10000000",
    "LOG_LEVEL": "WARNING",
    "AGENTOS_SECRET_BENCH": SECRET,
    "BENCH_HOOK_SECRET": SECRET,
}


async def main() -> None:
    """Measure, keep the rows, and print them."""
    rounds = max(3, int(os.environ.get("BENCH_ROUNDS", "3")))
    seconds = float(os.environ.get("BENCH_SECONDS", "60")) / rounds
    found, missing = Found(), dict[str, str]()
    async with engines(**SETTINGS) as stack:
        api, url = await _serving(stack, "api", "agentos.apps.api")
        stack.start("worker", "agentos.apps.worker", AGENTOS_SERVICE="worker-1")
        noisy = await _callers(stack, "noisy", url, stack.key("author"))
        quiet = await _callers(stack, "quiet", url, await _another_organization(stack))
        hook = await _hook(url, stack.key("author"))
        bare = await _bare(stack, missing)
        for name, said in (await stack.settings()).items():
            print(f"{name}: {said}")
        print(f"callers: {CALLERS}, {noisy.hello['settings']}; {rounds} rounds of {seconds:g} s")
        await noisy.ask("load", callers=CALLERS, seconds=WARM_UP_SECONDS)
        await _drained(stack)
        before = psutil.Process(api).memory_info().rss
        for number in range(rounds):
            _tell(f"round {number + 1} of {rounds}")
            spent = _processor_seconds()
            async with _watched(api, number):
                _take(found, OURS, said := await noisy.ask("load", callers=CALLERS, seconds=seconds))
            _tell_processor(spent, len(said["latencies"]))
            await _drained(stack)
            _take(found, ALONE, await quiet.ask("load", callers=1, seconds=seconds / 2))
            await _drained(stack)
            noise = asyncio.create_task(noisy.ask("load", callers=CALLERS, seconds=seconds / 2 + 1))
            await asyncio.sleep(0.5)
            _take(found, BESIDE, await quiet.ask("load", callers=1, seconds=seconds / 2))
            found.errors += sum((await noise)["errors"].values())
            await _drained(stack)
            _take(found, HOOKS, await noisy.ask("load", callers=HOOK_CALLERS, seconds=seconds / 4, hook=hook))
            await _drained(stack)
            if bare is not None:
                _take(found, BARE, await bare.ask("load", callers=CALLERS, seconds=seconds / 4))
        found.growth_mb = (psutil.Process(api).memory_info().rss - before) / 1e6
        for one in (noisy, quiet, bare):
            if one is not None:
                await one.end()
    report.write("door", rows(found, CALLERS), title="the door", missing=missing)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _take(found: Found, what: str, said: dict[str, Any]) -> None:
    found.take(what, said)
    if what != BARE:
        found.errors += sum(said["errors"].values())
    per_second, p95 = found.per_second[what][-1], found.p95[what][-1]
    _tell(f"  {what}: {report.shown(per_second)} a second, p95 {report.shown(p95)} ms, errors {said['errors']}")


async def _serving(stack: Stack, name: str, *words: str) -> tuple[int, str]:
    """A server process, once it answers: its process id and address."""
    port = ports.choose()
    started = stack.start(name, *words, str(port), AGENTOS_SERVICE=name, AGENTOS_PORT=str(port))
    async with asyncio.timeout(30):
        while not await probe.http(port, "/health"):
            await asyncio.sleep(0.1)
    return started.pid, f"http://127.0.0.1:{port}"


async def _callers(stack: Stack, name: str, url: str, key: str, *, apply: bool = True) -> Answering:
    """A process of callers of the organization whose author has this key, which now has the agent."""
    if apply:
        async with (
            aiohttp.ClientSession(url, headers={"Authorization": f"Bearer {key}"}) as session,
            session.post("/api/v1/agents", json={"documents": [AGENT]}) as said,
        ):
            if said.status != 200:
                raise NoAnswer(await said.text())
    return await Answering.begin(name, [sys.executable, "-m", "benchmarks.door.callers", url, key], stack)


async def _hook(url: str, key: str) -> str:
    """The path of a webhook that starts the agent."""
    wanted = {"name": "bench", "agent": "bench_door", "webhook": {"secret": "secret://bench"}}
    body = wanted | {"take": {"task_description": "data.title"}}
    async with (
        aiohttp.ClientSession(url, headers={"Authorization": f"Bearer {key}"}) as session,
        session.post("/api/v1/agents/triggers", json=body) as said,
    ):
        if said.status != 201:
            raise NoAnswer(await said.text())
        return str((await said.json())["path"])


async def _another_organization(stack: Stack) -> str:
    """The key of the author of a second organization."""
    database = Database(DatabaseSettings(url=SecretStr(stack.database.url)))
    try:
        await identity.found_organization(database, QUIET, name="Quiet")
        async with Doors(database).open(QUIET) as work:
            return await give_key(work, "author", Role.OPERATOR)
    finally:
        await database.close()


async def _bare(stack: Stack, missing: dict[str, str]) -> Answering | None:
    try:
        _, url = await _serving(stack, "bare", "benchmarks.peers.bare_fastapi")
        return await _callers(stack, "bare-callers", url, "none", apply=False)
    except (TimeoutError, NoAnswer) as error:
        missing[BARE] = str(error) or "it did not start"
        return None


async def _drained(stack: Stack) -> None:
    """Return when every accepted run is over."""
    admin = f"{stack.database.superuser_url.rpartition('/')[0]}/{stack.database.url.rpartition('/')[2]}"
    connection = await asyncpg.connect(admin)
    began = time.monotonic()
    try:
        while left := await connection.fetchval(
            "SELECT count(*) FROM agentos.runs WHERE status IN ('accepted', 'running')"
        ):
            if time.monotonic() - began > DRAIN_SECONDS:
                raise NoAnswer(f"{left} accepted runs are not over after {DRAIN_SECONDS:g} s")
            await asyncio.sleep(0.2)
    finally:
        await connection.close()
    _tell(f"  accepted runs were over {time.monotonic() - began:.1f} s after the last was accepted")


def _processor_seconds() -> dict[str, float]:
    """The processor time that each kind of process below this one has used."""
    found: dict[str, float] = defaultdict(float)
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            line, times = " ".join(child.cmdline()), child.cpu_times()
            name = next((name for mark, name in KINDS.items() if mark in line), "other")
            found[name] += times.user + times.system
    return found


def _tell_processor(before: dict[str, float], requests: int) -> None:
    each = {
        name: (spent - before.get(name, 0)) * 1000 / max(1, requests) for name, spent in _processor_seconds().items()
    }
    said = ", ".join(f"{name} {spent:.1f}" for name, spent in sorted(each.items(), key=lambda one: -one[1]))
    _tell(f"  milliseconds of processor time for each accepted request: {said}")


@asynccontextmanager
async def _watched(pid: int, number: int) -> AsyncIterator[None]:
    """Record where a process spends its time, if asked to."""
    program = os.environ.get("BENCH_PYSPY")
    if not program:
        yield
        return
    report.FOLDER.mkdir(parents=True, exist_ok=True)
    target = report.FOLDER / f"door-{number}.txt"
    words = ("record", "-p", str(pid), "-d", "10", "-f", "raw", "-o", str(target))
    spying = await asyncio.create_subprocess_exec(program, *words, cwd=ROOT, stdout=asyncio.subprocess.DEVNULL)
    yield
    await spying.wait()


if __name__ == "__main__":
    asyncio.run(main())
