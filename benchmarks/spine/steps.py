"""The agents of the benchmark: a behaviour that makes runs of exactly N steps, and skills that do next to nothing."""

from __future__ import annotations

import json
import time
from typing import Any

from agentos.adapters.llm.stub import behaviour
from agentos.runtime.inference import Question
from agentos.runtime.skills import skill


@skill(version="1", effect="S1")
async def bench_note(n: int) -> dict[str, int]:
    """Write nothing down: the least a step can do."""
    return {"n": n}


@skill(version="1", effect="S0")
async def bench_look(n: int) -> dict[str, int]:
    """Read nothing: the least a step can do."""
    return {"n": n}


@skill(version="1", effect="S3")
async def bench_send() -> dict[str, float]:
    """Tell when it was called, which is after its intent was committed."""
    return {"at": time.time()}


@behaviour("bench_steps")
def steps(question: Question) -> dict[str, Any]:
    """Call the agent's only skill once a turn, in the first turn twice when N is even, and end: N steps in all."""
    wanted = json.loads(question.messages[0].text)["steps"]
    turn = sum(message.role == "assistant" for message in question.messages)
    if turn >= (wanted - 1) // 2:
        return {"text": "done"}
    calls = 2 if turn == 0 and wanted % 2 == 0 else 1
    return {"calls": [{"skill": question.tools[0].name, "arguments": {"n": turn + one}} for one in range(calls)]}


@behaviour("bench_send")
def send(question: Question) -> dict[str, Any]:
    """Make one call that needs an approval, and end."""
    if len(question.messages) > 1:
        return {"text": "done"}
    return {"calls": [{"skill": "bench_send", "arguments": {}}]}


def documents() -> list[dict[str, Any]]:
    """The manifests of the agents: writer, reader and asker."""
    return [
        _agent("bench_writer", "bench_steps", "bench_note", "L2"),
        _agent("bench_reader", "bench_steps", "bench_look", "L2"),
        _agent("bench_asker", "bench_send", "bench_send", "L3"),
    ]


def _agent(name: str, does: str, skill_name: str, tier: str) -> dict[str, Any]:
    return {
        "apiVersion": "agentos/v1",
        "kind": "Agent",
        "metadata": {"name": name, "category": "benchmarks", "owner": "benchmarks"},
        "spec": {
            "instructions": "Do your steps.",
            "model": {"provider": "stub", "behaviour": does},
            "skills": [{"name": skill_name, "version": "1"}],
            "tier": tier,
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
