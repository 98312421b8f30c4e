"""``make bench-evidence``: what evidence costs and what it holds."""

from __future__ import annotations

import asyncio

from benchmarks import report
from benchmarks.evidence import ledger
from benchmarks.stack import engines


async def main() -> None:
    """Measure, keep the rows, and print them."""
    async with engines(LOG_LEVEL="WARNING") as stack:
        for name, said in (await stack.settings()).items():
            print(f"{name}: {said}")
        rows = await ledger.rows(stack)
    report.write("evidence", rows, title="evidence")


if __name__ == "__main__":
    asyncio.run(main())
