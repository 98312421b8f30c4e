"""A process of runs whose model is asked under everything: policy, stops, a cap, a shared limit, and the journal.

An agent's run asks its model ten times and reads once between two answers. Nothing ever binds: what is measured is what
asking costs. Argument: the fake vendors' address, which the environment names, too.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import uvloop

from agentos.apps.bootstrap import ORGANIZATION
from agentos.apps.parts import Catalogue, process, worker
from agentos.control.agents import manifest
from agentos.control.budgets import service as budgets
from agentos.control.budgets.model import Limits, Period, Price
from agentos.control.deployments import applying
from agentos.runtime.runs import service
from benchmarks.peers.answering import answer, versions
from benchmarks.peers.asking import FIRST
from benchmarks.router import agent
from benchmarks.spine.inside import Callers

PRICE: Final = Price("claude", FIRST, input=3_000_000, output=15_000_000)
MOST_A_DAY: Final = 10**12  # millionths of a dollar: more than the benchmark can spend


async def main() -> None:
    """Answer the questions of the benchmark."""
    async with process(eager=True) as held:
        callers = Callers(held)
        held.parts.doors.hint = callers.hint
        at = datetime.now(UTC)
        async with held.parts.doors.open(ORGANIZATION) as work:
            await applying.apply(
                work,
                manifest.read_documents([agent.document()]),
                Catalogue(held.parts.registry),
                held.models,
                by="author",
                at=at,
            )
            await budgets.set_price(work, PRICE.provider, PRICE.model, PRICE, by="author", at=at)
            await budgets.set_budget(work, "", Period.DAY, Limits(money=MOST_A_DAY), by="author", at=at)

        async def run(wanted: int) -> None:
            await callers.run(wanted, agent.NAME)

        async def check(wanted: int) -> dict[str, int]:
            """Calls of the model that a run's journal holds, and how many of them were billed."""
            run_id = await callers.run(wanted, agent.NAME)
            async with held.parts.doors.open(ORGANIZATION) as work:
                rows = await service.steps(work, run_id)
            asked = [row for row in rows if row["kind"] == "model" and row["phase"] == "result"]
            return {"asked": len(asked), "billed": sum(row["meta"]["cost"]["micros"] > 0 for row in asked)}

        async with await worker(held, inline_only=False):
            await answer({"settings": versions("agentos", "temporalio", "asyncpg")}, run, check=check)


if __name__ == "__main__":
    uvloop.run(main())
