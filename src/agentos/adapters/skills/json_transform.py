"""Reshape JSON by a JMESPath expression.

An expression can be short and still ask for more memory than a machine has (``[@,@]|[@,@]|…`` doubles each time), and a
thread cannot be stopped. So it is evaluated in a process of its own with bounded memory and time, which is killed when
the call ends. That costs about 50 ms a call.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field
from typing_extensions import TypedDict

from agentos.adapters.skills import jmespath_process
from agentos.kernel.errors import Invalid
from agentos.runtime.skills import skill

MOST_BYTES: Final = 4 * 1024 * 1024  # of the data, and of the result, as JSON
_PROGRAM: Final = str(Path(jmespath_process.__file__))


class ExpressionRefused(Invalid):
    """An expression is not JMESPath, does not fit the data, or asks for too much."""

    code = "expression_refused"


class Transformed(TypedDict):
    """The result: any JSON, null when the expression finds nothing."""

    result: Any


@skill(version="1", effect="S0", timeout="10s")
async def json_transform(
    data: Annotated[Any, Field(description="The JSON to read from, 4 MiB at most.")],
    expression: Annotated[str, Field(min_length=1, max_length=4000, description="A JMESPath expression.")],
) -> Transformed:
    """Select, filter and reshape JSON by a JMESPath expression. It reads nothing else and changes nothing."""
    try:
        told = json.dumps([expression, data], allow_nan=False).encode()
    except ValueError as error:
        raise ExpressionRefused(f"the data is not JSON: {error}") from None
    if len(told) > MOST_BYTES:
        raise ExpressionRefused(f"the data is larger than {MOST_BYTES} bytes", then="Select a part of it first.")
    # -I: neither the environment nor the current folder decides what is imported.
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        _PROGRAM,
        str(MOST_BYTES),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={},
    )
    try:
        said, _ = await process.communicate(told)  # the process bounds what it says
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        answer = json.loads(said)
    except ValueError:
        raise ExpressionRefused("the expression asks for too much memory or time") from None
    if "refused" in answer:
        raise ExpressionRefused(answer["refused"], then="See the JMESPath specification.")
    return {"result": answer["result"]}
