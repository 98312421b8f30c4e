"""What tests of evals examine, and how they ask for it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import text

from agentos.adapters.llm.stub import behaviour
from agentos.evidence.evals import examining, service
from agentos.evidence.evals.model import (
    Dataset,
    Eval,
    Outcome,
)
from agentos.kernel import ids
from agentos.kernel.clock import now
from agentos.kernel.ids import EvalId
from agentos.runtime.inference.ports import Question
from tests.runtime.runs.harness import Harness

DATA = "sums"
NUMBER = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
SPEC = {"input": {"schema": NUMBER}, "output": {"schema": NUMBER}}
STUB = {"provider": "stub", "behaviour": "evals.double"}
PAID = {"provider": "claude", "name": "claude-haiku-4-5", "max_tokens": 50}


@behaviour("evals.double")
def double(question: Question) -> str:
    """Twice the number of the input, but for 13."""
    n = json.loads(question.messages[0].text)["n"]
    return json.dumps({"n": n * 2 if n != 13 else 0})


def case(n: int, **more: Any) -> dict[str, Any]:
    return {"id": f"c{n}", "input": {"n": n}, "expected": {"n": n * 2}, "scorer": "exact", **more}


async def add(held: Harness, rows: Sequence[Any], name: str = DATA) -> Dataset:
    data = "\n".join(one if isinstance(one, str) else json.dumps(one) for one in rows).encode()
    async with held.doors.open(held.organization) as work:
        return await service.add_dataset(work, name, data, by="author", at=now())


async def prepare(held: Harness, count: int) -> None:
    """An agent that asks a model that is paid for, and so many cases to examine it on."""
    await held.agent([], [], model=PAID, **SPEC)
    await add(held, [case(n) for n in range(count)])


async def begin(held: Harness, *, version: str = "1", **more: Any) -> EvalId:
    eval_id = EvalId(ids.new("eval"))
    wanted = {"dataset": DATA, "agent_id": "tester", "repeats": 1, "concurrency": 8, **more}
    async with held.doors.open(held.organization) as work:
        await service.start(
            work, held.models, eval_id, version=version, by="author", request_id="req-1", at=now(), **wanted
        )
    return eval_id


async def show(held: Harness, eval_id: str) -> Eval:
    async with held.doors.open(held.organization) as work:
        return await service.get(work, eval_id)


async def examined(held: Harness, **more: Any) -> Eval:
    eval_id = await begin(held, **more)
    await examining.examine(held.parts, held.organization, eval_id)
    return await show(held, eval_id)


async def outcomes(held: Harness, eval_id: str) -> dict[str, Outcome]:
    async with held.doors.open(held.organization) as work:
        return dict(await service.outcomes(work, eval_id, most=1000))


async def rows(held: Harness, table: str) -> list[Any]:
    async with held.doors.open(held.organization) as work:
        return list(await work.all(text(f"SELECT * FROM {table}")))
