"""``make bench-router``: our router, its peers and a bare call, to the same fake vendors. BENCH_ROUNDS: at least 3."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from statistics import median
from typing import Any, Final

from benchmarks import report
from benchmarks.peers.asking import KEY
from benchmarks.router import limited, replay
from benchmarks.router.rows import CLAUDE, LITELLM, OPENAI, OURS, RAW, Call, Found, after_open, answered, hop, rows
from benchmarks.stack import PEERS, ROOT, Answering, NoAnswer, Stack, engines

SCRIPTS: Final = {
    RAW: ("with_aiohttp.py",),
    LITELLM: ("with_litellm.py",),
    CLAUDE: ("with_sdk.py", "anthropic"),
    OPENAI: ("with_sdk.py", "openai"),
}
CALLERS: Final = 50
ROUTERS: Final = (OURS, LITELLM)  # the others have nothing to fall back to

TIMEOUT: Final = 0.5  # of a call to a provider that hangs
HANG_SECONDS: Final = 8.0  # long enough for a breaker's waits to reach their longest
LATEST_SECONDS: Final = 30.0
CALLS: Final = 10_000
FAULTS: Final = ["RATE_LIMITED_SILENTLY", "OVERLOADED", "BROKEN", "UNAVAILABLE", "HANG_UP", "HANG", "CUT", "GARBLED"]
PART: Final = 0.2
TURNS: Final = 9  # calls of a run's model that read; one more ends it


async def main() -> None:
    """Measure, keep the rows, and print them."""
    rounds = max(3, int(os.environ.get("BENCH_ROUNDS", "3")))
    found, missing = Found(), dict[str, str]()
    found.replays = await asyncio.to_thread(replay.runs_per_second)
    async with engines(LOG_LEVEL="ERROR") as stack:
        vendors = await Answering.begin("vendors", [sys.executable, "-m", "benchmarks.router.server"], stack)
        url = vendors.hello["url"]
        ours = [sys.executable, "-m", "benchmarks.router.inside", url]
        # A breaker counts only calls that had all the time that the platform gives a call.
        contenders = [await Answering.begin(OURS, ours, stack, API_TIMEOUT=str(round(TIMEOUT * 1000)))]
        contenders += await _peers(stack, url, missing)
        for name, said in (await stack.settings()).items():
            if name != "Temporal":
                print(f"{name}: {said}")
        for one in (vendors, *contenders):
            print(f"{one.name}: {one.hello['settings']}")
        for one in contenders:
            await _calls(one, "plain", callers=CALLERS, most=2000, seconds=2)
        for number in range(rounds):
            _tell(f"round {number + 1} of {rounds}")
            for one in contenders[number % len(contenders) :] + contenders[: number % len(contenders)]:
                if one.name not in missing:
                    await _round(one, vendors, found, missing)
        for one in contenders:
            if one.name in ROUTERS and one.name not in missing:
                found.success[one.name] = await _success(one, vendors)
                _tell(f"  success under faults: {one.name} {report.shown(found.success[one.name])}")
            await one.end()
        await _journaled(stack, url, found, rounds)
        _tell(f"rate limit: {limited.SECONDS} s")
        arrivals = await limited.measure(stack, vendors)
        await vendors.end()
    peers = [name for name in SCRIPTS if ("one", name) in found.rounds]
    report.write("router", rows(found, peers) + limited.rows(arrivals), title="the router", missing=missing)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


async def _peers(stack: Stack, url: str, missing: dict[str, str]) -> list[Answering]:
    started = []
    for name, (script, *words) in SCRIPTS.items():
        try:
            if not PEERS.exists():
                raise NoAnswer("there is no .venv-peers; 'make peers' says why")
            command = [str(PEERS), str(ROOT / "benchmarks" / "peers" / script), *words, url]
            started.append(await Answering.begin(name, command, stack))
        except NoAnswer as error:
            missing[name] = str(error)
    return started


async def _calls(
    one: Answering, kind: str, *, callers: int, most: int, seconds: float, timeout: float = 60
) -> tuple[list[Call], float]:
    """The calls, and how long all of them took together."""
    asked = {"kind": kind, "callers": callers, "most": most, "seconds": seconds, "timeout": timeout}
    answer = await one.ask("calls", **asked)
    return [(took, who) for took, who in answer["calls"]], float(answer["elapsed"])


async def _round(one: Answering, vendors: Answering, found: Found, missing: dict[str, str]) -> None:
    """Every measure of one contender, once."""
    took: dict[str, float | None] = {}
    try:
        took["one"] = usual = _all_well(await _calls(one, "plain", callers=1, most=1000, seconds=2))
        calls, elapsed = await _calls(one, "plain", callers=CALLERS, most=50_000, seconds=4)
        _all_well((calls, elapsed))
        took["fifty"] = len(calls) / elapsed
        if one.name in ROUTERS:
            took |= await _going_wrong(one, vendors, usual)
    except NoAnswer as error:
        if one.name == OURS:
            raise
        missing[one.name] = str(error)
        return
    for measure, figure in took.items():
        found.rounds[measure, one.name].append(figure)
    _tell(f"  {one.name}: " + ", ".join(f"{name} {report.shown(figure)}" for name, figure in took.items()))


def _all_well(done: tuple[list[Call], float]) -> float:
    """Milliseconds of the median call. Raises NoAnswer when one failed."""
    calls, _ = done
    failed = [who for _, who in calls if who not in ("first", "second")]
    if failed:
        raise NoAnswer(f"{len(failed)} of {len(calls)} plain calls failed, the first with {failed[0]}")
    return median(answered(calls)) * 1000


async def _going_wrong(one: Answering, vendors: Answering, usual: float) -> dict[str, float | None]:
    """What falling back costs, and what a provider costs that hangs and comes back."""
    took: dict[str, float | None] = {}
    for measure, fault in (("429", "RATE_LIMITED_SILENTLY"), ("500", "BROKEN")):
        await vendors.ask("behave", pattern=[fault, None, None, None])  # one in four: no breaker opens
        calls, _ = await _calls(one, "chain", callers=1, most=400, seconds=3)
        took[measure] = hop(calls, usual)
        await vendors.ask("behave")
        await _until_well(one)
    await vendors.ask("behave", pattern=["HANG"])
    calls, _ = await _calls(one, "chain", callers=1, most=10**6, seconds=HANG_SECONDS, timeout=TIMEOUT)
    took["open"], waited = after_open(calls, TIMEOUT)
    took["waited"] = float(waited)
    await vendors.ask("behave")
    took["recovery"] = await _until_well(one)
    return took


async def _until_well(one: Answering) -> float | None:
    """Seconds until the first model answers again; None when it does not."""
    began = time.perf_counter()
    while (since := time.perf_counter() - began) < LATEST_SECONDS:
        (call,), _ = await _calls(one, "chain", callers=1, most=1, seconds=1, timeout=TIMEOUT)
        if call[1] == "first":
            return since
        await asyncio.sleep(0.05)
    return None


async def _success(one: Answering, vendors: Answering) -> float:
    """Per cent of many calls that were answered while the first provider goes wrong now and then."""
    await vendors.ask("behave", ratio=PART, faults=FAULTS)
    calls, _ = await _calls(one, "chain", callers=CALLERS, most=CALLS, seconds=150, timeout=TIMEOUT)
    await vendors.ask("behave")
    by_first = len(answered(calls, "first"))
    _tell(f"  {one.name}: {len(calls)} calls, {by_first} answered by the first provider")
    return 100 * len(answered(calls)) / len(calls)


async def _journaled(stack: Stack, url: str, found: Found, rounds: int) -> None:
    """Model calls of runs, with everything that a run's call goes through."""
    limits = {"CLAUDE_RATE_LIMIT_RPM": str(10**8), "CLAUDE_RATE_LIMIT_TPM": str(10**12)}
    env = {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": url, "AGENTOS_SERVICE": "bench", **limits}
    env["AGENTOS_SKILLS"] = "benchmarks.router.agent"
    one = await Answering.begin("journaled", [sys.executable, "-m", "benchmarks.router.journaled"], stack, **env)
    check = await one.ask("check", wanted=TURNS)
    if check != {"asked": TURNS + 1, "billed": TURNS + 1}:
        raise NoAnswer(f"a run's journal tells of {check}")
    await _runs(one, CALLERS, 2)
    for _ in range(rounds):
        long, short = [await _runs(one, 1, 2, steps=steps) for steps in (TURNS + 20, TURNS)]
        a_call = (median(long["latencies"]) - median(short["latencies"])) / 20
        found.rounds["journaled one", OURS].append(a_call * 1000)
        many = await _runs(one, CALLERS, 5)
        figure = len(many["latencies"]) * (TURNS + 1) / many["elapsed"]
        found.rounds["journaled fifty", OURS].append(figure)
        _tell(f"  journaled: {report.shown(a_call * 1000)} ms, {report.shown(figure)} a second")
    await one.end()


async def _runs(one: Answering, callers: int, seconds: float, *, steps: int = TURNS) -> Any:
    return await one.ask("runs", steps=steps, callers=callers, most=10**6, seconds=seconds)


if __name__ == "__main__":
    asyncio.run(main())
