"""``make bench-control``: what control costs and what it holds. BENCH_KILLS: how many kills, 100 unless it says so."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Final

from benchmarks import report
from benchmarks.control import budgets, decision, kills, privacy
from benchmarks.report import Row
from benchmarks.stack import Answering, Stack, engines

APPROVED: Final = 120  # as many as make bench-spine approves
MOST_APPROVE_MS: Final = 250


async def main() -> None:
    """Measure, keep the rows, and print them: what concerns personal data by its types in a second table."""
    wanted = int(os.environ.get("BENCH_KILLS", str(kills.KILLS)))
    rows = decision.rows()
    async with engines(AGENTOS_SKILLS="benchmarks.spine.steps", LOG_LEVEL="WARNING") as stack:
        for name, said in (await stack.settings()).items():
            print(f"{name}: {said}")
        rows.append(await _approvals(stack))
        rows += kills.rows(await kills.measure(stack, _say, wanted))
        rows += budgets.rows(await budgets.measure(stack.database.url))
    found, by_type, missing, _ = privacy.rows()
    report.write("control", [*rows, *found], title="control", missing=missing)
    report.write("control-privacy-types", by_type, title="personal data by type")


async def _approvals(stack: Stack) -> Row:
    worker = stack.start("worker", "agentos.apps.worker", AGENTOS_SERVICE="worker-1")
    inside = [sys.executable, "-m", "benchmarks.spine.inside", "embedded"]
    env = {"AGENTOS_SERVICE": "bench", "BENCH_APPROVER_KEY": stack.key("approver")}
    ours = await Answering.begin("approving", inside, stack, **env)
    try:
        await ours.ask("runs", steps=5, callers=1, most=3, seconds=1)
        seconds = await ours.ask("approve", count=APPROVED)
    finally:
        await ours.end()
        stack.stop(worker)
    p95 = report.percentile(seconds, 0.95) * 1000
    return Row("approve to next step, p95", "ms", p95, MOST_APPROVE_MS, where="in the process; a worker goes on")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
