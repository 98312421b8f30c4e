"""json_transform: JMESPath, and no expression that costs a worker."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agentos.adapters.skills.json_transform import ExpressionRefused
from agentos.kernel.errors import Invalid
from agentos.runtime.skills.model import SkillTimedOut
from tests.adapters.skills.conftest import Use

DATA = {"commits": [{"sha": "a1", "subject": "feat: add", "n": 3}, {"sha": "b2", "subject": "fix: mend", "n": 5}]}


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("commits[].sha", ["a1", "b2"]),
        ("commits[?starts_with(subject, 'fix')].{id: sha, n: n}", [{"id": "b2", "n": 5}]),
        ("sum(commits[].n)", 8),
        ("nothing.here", None),
        ("@", DATA),
    ],
)
async def test_json_is_reshaped(use: Use, expression: str, result: Any) -> None:
    assert await use("json_transform", data=DATA, expression=expression) == {"result": result}


@pytest.mark.parametrize(
    "expression",
    [
        "commits[",
        "no_such_function(@)",
        "sum(commits)",
        "sort_by(commits, &missing.deeper)",
        "[" * 2000,
        "a" + "|@" * 1500 + "[",
    ],
)
async def test_an_expression_that_cannot_be_evaluated_is_invalid(use: Use, expression: str) -> None:
    with pytest.raises(ExpressionRefused) as caught:
        await use("json_transform", data=DATA, expression=expression)
    assert isinstance(caught.value, Invalid)


@pytest.mark.parametrize(
    "expression",
    [
        "|".join(["[@,@]"] * 40),  # 2^40 times itself when it is written out
        "|".join(["[@,@,@,@][]"] * 60),  # 4^60 items
        "to_string(" + "|".join(["[@,@]"] * 40) + ")",
    ],
)
async def test_an_expression_that_grows_without_end_is_stopped(use: Use, expression: str) -> None:
    with pytest.raises((ExpressionRefused, SkillTimedOut)):  # by its bounds, or on a busy machine by the call's timeout
        await use("json_transform", data="x", expression=expression)


async def test_data_of_any_shape_and_script_survives(use: Use) -> None:
    data = {"ключ": ["ä", "\x00", "😀", 1.5, 2**53 - 1, None, True, {"": []}]}
    assert (await use("json_transform", data=data, expression="@"))["result"] == data


async def test_too_much_data_is_refused(use: Use) -> None:
    with pytest.raises(ExpressionRefused, match="larger than"):
        await use("json_transform", data="x" * (4 * 1024 * 1024), expression="@")


async def test_a_cancelled_transformation_leaves_no_process(use: Use) -> None:
    def running() -> list[str]:
        found = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                command = entry.read_bytes()
            except OSError:
                continue
            if b"jmespath_process" in command:
                found.append(entry.parent.name)
        return found

    before = set(running())
    endless = "to_string(" + "|".join(["[@,@]"] * 60) + ")"
    asking = asyncio.create_task(use("json_transform", data="x" * 1000, expression=endless))
    await asyncio.sleep(0.3)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert set(running()) <= before
