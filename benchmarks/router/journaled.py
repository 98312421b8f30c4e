"""A process of runs whose model is asked under everything: policy, stops, a cap, a shared limit, and the journal.

An agent's run asks its model ten times and reads once between two answers. Nothing ever binds: what is measured is what
asking costs. Argument: the fake vendors' address, which the environment names, too.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import uvloop

from agentos.apps.api.health import Catalogue
from agentos.apps.bootstrap import ORGANIZATION
from agentos.apps.parts import process, worker
from agentos.control.agents import manifest
from agentos.control.budgets import service as budgets
from agentos.control.budgets.model import Limits, Period, Price
from agentos.control.deployments import service as deployments
from agentos.runtime.runs import service
from agentos.runtime.skills import skill
from benchmarks.peers.answering import answer, versions
from benchmarks.peers.asking import FIRST, MOST_TOKENS, SYSTEM
from benchmarks.spine.inside import Callers

NAME: Final = "bench_router"
PRICE: Final = Price("claude", FIRST, input=3_000_000, output=15_000_000)
MOST_A_DAY: Final = 10**12  # millionths of a dollar: more than the benchmark can spend


@skill(version="1", effect="S0")
async def bench_look(n: int) -> dict[str, int]:
    """Read nothing: the least a step can do."""
    return {"n": n}


def document() -> dict[str, Any]:
    """The manifest of the agent."""
    return {
        "apiVersion": "agentos/v1",
        "kind": "Agent",
        "metadata": {"name": NAME, "category": "benchmarks", "owner": "benchmarks"},
        "spec": {
            "instructions": SYSTEM,
            "model": {"provider": "claude", "name": FIRST, "max_tokens": MOST_TOKENS},
            "skills": [{"name": "bench_look", "version": "1"}],
            "tier": "L2",
            "budgets": {"turns": 100, "steps": 100, "duration": "1h"},
            "input": {
                "schema": {
                    "type": "object",
                    "properties": {"steps": {"type": "integer"}},
                    "required": ["steps"],
                    "additionalProperties": False,
                }
            },
        },
    }


async def main() -> None:
    """Answer the questions of the benchmark."""
    async with process(eager=True) as held:
        callers = Callers(held)
        held.parts.doors.hint = callers.hint
        at = datetime.now(UTC)
        async with held.parts.doors.open(ORGANIZATION) as work:
            await deployments.apply(
                work,
                manifest.read_documents([document()]),
                Catalogue(held.parts.registry),
                held.models,
                by="author",
                at=at,
            )
            await budgets.set_price(work, PRICE.provider, PRICE.model, PRICE, by="author", at=at)
            await budgets.set_budget(work, "", Period.DAY, Limits(money=MOST_A_DAY), by="author", at=at)

        async def run(wanted: int) -> None:
            await callers.run(wanted, NAME)

        async def check(wanted: int) -> dict[str, int]:
            """Calls of the model that a run's journal holds, and how many of them were billed."""
            run_id = await callers.run(wanted, NAME)
            async with held.parts.doors.open(ORGANIZATION) as work:
                rows = await service.steps(work, run_id)
            asked = [row for row in rows if row["kind"] == "model" and row["phase"] == "result"]
            return {"asked": len(asked), "billed": sum(row["meta"]["cost"]["micros"] > 0 for row in asked)}

        async with await worker(held, inline_only=True):
            await answer({"settings": versions("agentos", "temporalio", "asyncpg")}, run, check=check)


if __name__ == "__main__":
    uvloop.run(main())
