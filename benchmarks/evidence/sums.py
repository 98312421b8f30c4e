"""The cases of the benchmark of evals, and the model that answers them: the same for every contender.

A case asks for the sum of two numbers; one answer in ten is wrong. The model is a function, so what is timed is
everything else: reading the data set, executing a case, scoring its answer, and keeping what came of it.
"""

from __future__ import annotations

import json
import re

from agentos.adapters.llm.stub import behaviour
from agentos.runtime.inference import Question

CASES = 1000
_ASKED = re.compile(r"What is (\d+) plus (\d+)\?")


def cases(count: int = CASES) -> list[dict[str, str]]:
    """The cases, as every contender gets them: id, what is asked, and what is right."""
    return [
        {"id": f"sum-{n:04}", "asked": f"What is {n} plus {n * 7 % 101}?", "right": str(n + n * 7 % 101)}
        for n in range(count)
    ]


def dataset(count: int = CASES) -> str:
    """The cases as our data set."""
    rows = (
        {"id": one["id"], "input": {"question": one["asked"]}, "expected": one["right"], "scorer": "exact"}
        for one in cases(count)
    )
    return "\n".join(json.dumps(one) for one in rows)


def said(text: str) -> str:
    """What the model says to a text that asks for a sum."""
    found = _ASKED.search(text)
    if found is None:
        return "I do not know."
    one, other = int(found[1]), int(found[2])
    return str(one + other + (one % 10 == 3))


@behaviour("bench.sums")
def sums(question: Question) -> str:
    """The model of our contender."""
    return said(question.messages[0].text)
