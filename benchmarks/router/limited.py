"""A shared limit under load: callers in several processes ask as fast as they may, and the fake vendor counts.

What counts is what arrived at the vendor, stamped with the database's clock, and what it billed for it: in no window of
60 s more than the limit.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from typing import Final

from benchmarks.report import Row
from benchmarks.stack import Answering, Stack

PROCESSES: Final = 4
CALLERS: Final = 200
SECONDS: Final = 180
WINDOW: Final = 60.0
# Both bind: an answer is billed 832 tokens on average, so the requests of a minute are billed 1,997,000.
REQUESTS, TOKENS = 2_400, 2_000_000

Arrivals = Sequence[tuple[float, int]]  # seconds by the database's clock, and the tokens that were billed


async def measure(stack: Stack, vendors: Answering) -> Arrivals:
    """Let the callers ask, and tell what arrived. BENCH_LIMIT_SECONDS: for how long, 180 unless it says so."""
    seconds = int(os.environ.get("BENCH_LIMIT_SECONDS", str(SECONDS)))
    limits = {"CLAUDE_RATE_LIMIT_RPM": str(REQUESTS), "CLAUDE_RATE_LIMIT_TPM": str(TOKENS)}
    command = [sys.executable, "-m", "benchmarks.router.inside", vendors.hello["url"], "limited"]
    callers = [await Answering.begin(f"limited-{n}", command, stack, **limits) for n in range(PROCESSES)]
    await vendors.ask("stamp")
    each = {"kind": "plain", "callers": CALLERS // PROCESSES, "most": 10**6, "seconds": seconds, "timeout": 90}
    try:
        answers = await asyncio.gather(*(one.ask("calls", within=seconds + 120, **each) for one in callers))
    finally:
        for one in callers:
            await one.end()
    failed = [who for answer in answers for _, who in answer["calls"] if who != "first"]
    if failed:
        raise RuntimeError(f"{len(failed)} calls under the limit failed, the first with {failed[0]}")
    return [(at, tokens) for at, tokens in await vendors.ask("stamps")]


def rows(arrivals: Arrivals) -> list[Row]:
    """The rows, in the order in which they are read."""
    where = f"{CALLERS} callers in {PROCESSES} processes, any 60 s"
    requests, tokens = fullest(arrivals)
    requests_used, tokens_used = used(arrivals)
    return [
        Row("rate limit, most requests", "requests", requests, REQUESTS, where=where),
        Row("rate limit, most tokens", "tokens", tokens, TOKENS, where=where),
        Row("rate limit, requests used", "%", requests_used, 95, "higher", where="in whole minutes"),
        Row("rate limit, tokens used", "%", tokens_used, 95, "higher", where="in whole minutes"),
    ]


def fullest(arrivals: Arrivals) -> tuple[int, int]:
    """The most requests, and the most tokens, of any window."""
    most_requests = most_tokens = tokens = begin = 0
    for end, (at, billed) in enumerate(arrivals):
        tokens += billed
        while arrivals[begin][0] <= at - WINDOW:
            tokens -= arrivals[begin][1]
            begin += 1
        most_requests, most_tokens = max(most_requests, end - begin + 1), max(most_tokens, tokens)
    return most_requests, most_tokens


def used(arrivals: Arrivals) -> tuple[float | None, float | None]:
    """Per cent of the requests and of the tokens that were used in the whole minutes from the first arrival on; None
    when there is no such minute."""
    began = arrivals[0][0]
    minutes = int((arrivals[-1][0] - began) // WINDOW)
    if not minutes:
        return None, None
    billed = [tokens for at, tokens in arrivals if at < began + minutes * WINDOW]
    return 100 * len(billed) / (minutes * REQUESTS), 100 * sum(billed) / (minutes * TOKENS)
