"""Inspect AI: the cases of an eval, answered by its mock model and scored by its exact match.

Its log is written as it is by default; nothing is displayed. The model is a function of the question, as ours is.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

from answering import answer, versions
from inspect_ai import Task, eval_async
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import exact
from inspect_ai.solver import generate

ASKED = re.compile(r"What is (\d+) plus (\d+)\?")


def said(text: str) -> str:
    found = ASKED.search(text)
    assert found is not None
    one, other = int(found[1]), int(found[2])
    return str(one + other + (one % 10 == 3))


def answers(messages: Any, _tools: Any, _choice: Any, _config: Any) -> ModelOutput:
    asked, answered = messages[-1].text, said(messages[-1].text)
    output = ModelOutput.from_content("mockllm/model", answered)
    # Our stub's estimate. Without one it would count with a tokenizer that it fetches from the network.
    into, out = (len(text) // 4 + 1 for text in (asked, answered))
    output.usage = ModelUsage(input_tokens=into, output_tokens=out, total_tokens=into + out)
    return output


async def main() -> None:
    async def cases(cases: list[dict[str, str]], concurrency: int) -> dict[str, float]:
        samples = [Sample(id=one["id"], input=one["asked"], target=one["right"]) for one in cases]
        task = Task(dataset=MemoryDataset(samples), solver=generate(), scorer=exact())
        began = time.perf_counter()
        (log,) = await eval_async(
            task, model=get_model("mockllm/model", custom_outputs=answers), max_samples=concurrency
        )
        elapsed = time.perf_counter() - began
        assert log.status == "success", log.error
        right = sum(1 for one in log.samples or [] for score in (one.scores or {}).values() if score.value == "C")
        return {"elapsed": elapsed, "right": right}

    await answer({"settings": f"{versions('inspect-ai')}; mock model, its log on"}, cases=cases)


if __name__ == "__main__":
    asyncio.run(main())
