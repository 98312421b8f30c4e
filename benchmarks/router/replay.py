"""Recorded runs that are executed again per second, on two processes: each from its recording's bytes to its hash.

A run has 20 steps: ten answers of the model, five reads and five effects; 25 rows of its journal. What is timed is all
that a replay does besides the database: parse the recording, execute the loop over it, compare, and hash both.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import time
from typing import Any, Final

from agentos.control.agents.model import Budgets, Definition, SkillRef
from agentos.control.policy.model import EffectClass, Tier, Verdict
from agentos.control.policy.rules import Proposed, Rulebook, decide
from agentos.control.stops.model import Subject
from agentos.evidence.replay.playback import play
from agentos.evidence.replay.recording import Recording
from agentos.kernel.canonical import digest
from agentos.kernel.ids import AgentId

PROCESSES: Final = 2
RUNS: Final = 400  # of each process
TURNS: Final = 9  # that call; the first one calls both skills, the others one of them in turn
DEPLOYMENT: Final = "dep_replayed"
SKILLS: Final = (("look", EffectClass.S0), ("note", EffectClass.S1))


def runs_per_second(runs: int = RUNS, processes: int = PROCESSES) -> float:
    """How many recorded runs all processes together execute again in a second."""
    context = multiprocessing.get_context("spawn")
    begin = context.Barrier(processes + 1)
    done: Any = context.Queue()
    workers = [context.Process(target=_work, args=(runs, begin, done)) for _ in range(processes)]
    for worker in workers:
        worker.start()
    begin.wait()
    began = time.perf_counter()
    for _ in workers:
        equal = done.get()
        if equal != runs:
            raise RuntimeError(f"{runs - equal} replays parted from their recordings")
    seconds = time.perf_counter() - began
    for worker in workers:
        worker.join()
    return runs * processes / seconds


def _work(runs: int, begin: Any, done: Any) -> None:
    data = json.dumps(recording().document()).encode()
    asyncio.run(_replay(data, 10))
    begin.wait()
    done.put(asyncio.run(_replay(data, runs)))


async def _replay(data: bytes, runs: int) -> int:
    equal = 0
    for _ in range(runs):
        found = Recording.read(json.loads(data))
        was = found.content.content_hash()
        outcome = await play(found)
        equal += outcome.divergence is None and outcome.content.content_hash() == was
    return equal


def recording() -> Recording:
    """A run as its journal would tell it."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    skills = [
        {
            "name": name,
            "version": "1",
            "digest": f"sha256:{name}",
            "effect": effect.name,
            "description": "A skill.",
            "input_schema": schema,
            "output_schema": {},
            "reversibility": "reversible",
            "idempotent": True,
            "has_lookup": False,
            "timeout_seconds": 1.0,
            "attempts": 3,
        }
        for name, effect in SKILLS
    ]
    definition = Definition(
        agent_id=AgentId("replayed"),
        category="bench",
        owner="bench",
        description="",
        instructions="Work.",
        model={"provider": "claude", "name": "some-model"},
        skills=tuple(SkillRef(one["name"], "1", one["digest"]) for one in skills),
        tier=Tier.L4,
        budgets=Budgets(turns=TURNS + 1, steps=3 * TURNS),
        input_schema={},
        output_schema=None,
        on_denied="continue",
        triggers=(),
    )
    rows = [row for turn in range(TURNS) for row in _turn(turn)] + [_answer(TURNS, "All done.", [])]
    return Recording.read(
        {
            "format": 1,
            "run": {
                "id": "run_replayed",
                "deployment_id": DEPLOYMENT,
                "journal_format": 1,
                "input": {"task_description": "go"},
                "status": "completed",
                "problem": None,
                "output": "All done.",
                "submitted": None,
            },
            "definition": definition.canonical(),
            "skills": skills,
            "policies": [[{}, {}]],
            "journal": rows,
        }
    )


def _turn(turn: int) -> list[dict[str, Any]]:
    called_now = SKILLS if turn == 0 else SKILLS[turn % 2 :][:1]
    wanted = [
        {"id": f"toolu_{turn}_{n}", "skill": name, "arguments": {"n": n}} for n, (name, _) in enumerate(called_now)
    ]
    rows = [_answer(turn, f"Turn {turn}: look first, then note what was found.", wanted)]
    for number, (name, effect) in enumerate(called_now):
        key, result = f"t{turn}.c{number}", {"n": number, "text": "what was found " * 8}
        decision = decide(Proposed(name, effect, True, Tier.L4), _BOOK)
        assert decision.verdict is Verdict.ALLOW
        called = {"version": "1", "arguments_digest": digest({"n": number})}
        decided = {**called, **decision.record(), "tier": "L4"}
        if effect is EffectClass.S0:
            rows.append(_row(key, "result", "skill", name, {**decided, "tries": 1}, result, effect))
        else:
            rows.append(_row(f"{key}~1", "intent", "skill", name, decided, {"n": number}, effect) | {"status": "sent"})
            rows.append(_row(key, "result", "skill", name, {**called, "sends": 1}, result, effect))
    return rows


def _answer(turn: int, text: str, wanted: list[dict[str, Any]]) -> dict[str, Any]:
    usage = {"input": 900 + turn, "output": 60}
    said = {"text": text, "provider": "claude", "model": "some-model", "calls": wanted, "usage": usage}
    cost = {"micros": 3600, "tokens": 960 + turn, "steps": len(wanted), "unknown": False}
    content = {**said, "stop": "calls" if wanted else "end"}
    return _row(f"t{turn}", "result", "model", "some-model", {"provider": "claude", "cost": cost}, content, None)


def _row(
    key: str, phase: str, kind: str, name: str, meta: dict[str, Any], content: Any, effect: int | None
) -> dict[str, Any]:
    return {
        "key": key,
        "phase": phase,
        "kind": kind,
        "name": name,
        "status": "ok",
        "meta": meta,
        "content": content,
        "effect": None if effect is None else int(effect),
    }


_BOOK: Final = Rulebook(Subject(DEPLOYMENT, "replayed", "bench"))

if __name__ == "__main__":
    print(f"replay, runs per second: {runs_per_second():.0f}")
