"""An agent that is killed at work: a behaviour that acts without end, and a skill that keeps when it was called."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

from agentos.adapters.llm.stub import behaviour
from agentos.runtime.inference import Question
from agentos.runtime.skills import SkillContext, skill

CALL_SECONDS = 0.1  # at the receiver; 50 runs make about 300 calls a second on two cores
STEPS = 400  # of a run: more than it comes to before it is killed


@skill(version="1", effect="S1", idempotent=True)
async def bench_act(context: SkillContext, n: int) -> dict[str, int]:
    """Act outside: the receiver keeps the key and the time in a file of its own, whatever the platform says."""
    with open(os.environ["BENCH_RECEIVER"], "a", encoding="utf-8") as file:
        file.write(f"{context.key} {time.time():.6f}\n")
    await asyncio.sleep(CALL_SECONDS)
    return {"n": n}


@behaviour("bench_act")
def act(question: Question) -> dict[str, Any]:
    """Call the skill once a turn."""
    turn = sum(message.role == "assistant" for message in question.messages)
    return {"calls": [{"skill": "bench_act", "arguments": {"n": turn}}]} if turn < STEPS else {"text": "done"}


def document() -> dict[str, Any]:
    """The agent's manifest."""
    return {
        "apiVersion": "agentos/v1",
        "kind": "Agent",
        "metadata": {"name": "bench_killed", "category": "benchmarks", "owner": "benchmarks"},
        "spec": {
            "instructions": "Act.",
            "model": {"provider": "stub", "behaviour": "bench_act"},
            "skills": [{"name": "bench_act", "version": "1"}],
            "tier": "L2",
            "budgets": {"turns": STEPS + 1, "steps": STEPS, "duration": "1h"},
        },
    }
