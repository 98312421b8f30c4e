"""``make bench-evidence``: what evidence costs and what it holds."""

from __future__ import annotations

import asyncio

from benchmarks import report
from benchmarks.evidence import evals, ledger, search
from benchmarks.stack import engines


async def main() -> None:
    """Measure, keep the rows, and print them."""
    missing: dict[str, str] = {}
    async with engines(LOG_LEVEL="WARNING") as stack:
        for name, said in (await stack.settings()).items():
            print(f"{name}: {said}")
        rows = await ledger.rows(stack) + await evals.rows(stack, missing) + await search.rows(stack)
    report.write("evidence", rows, title="evidence", missing=missing)


if __name__ == "__main__":
    asyncio.run(main())
