"""The agent of the benchmark: the fake vendor lets it read as often as its input says."""

from __future__ import annotations

from typing import Any, Final

from agentos.runtime.skills import skill
from benchmarks.peers.asking import FIRST, MOST_TOKENS, SYSTEM

NAME: Final = "bench_router"


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
