"""What the chaos agents do: think for a moment, deliver, and again, until all deliveries are made.

Before it thinks, an agent tells the driver in which process it is. That is how the driver knows which runs a killed
worker was executing; nothing of the run depends on whether it was told.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from typing import Any

import aiohttp

from agentos.adapters.llm.stub import behaviour
from agentos.runtime.inference import Question


@behaviour("chaos")
async def chaos(question: Question) -> dict[str, Any]:
    """The next delivery, or the end. The same conversation gets the same answer, only the time it takes is random."""
    given = json.loads(question.messages[0].text)
    results = [result for message in question.messages for result in message.results]
    step = len(results)
    await _tell(given["receiver"], given["number"], step)
    if step == given["deliveries"]:
        return {"text": f"{sum(not one.failed for one in results)} of {step} delivered"}
    await asyncio.sleep(given["think_seconds"] * random.uniform(0.5, 1.5))
    asks = given["ask"] and step == given["deliveries"] - 1
    name = f"deliver_{given['kind']}{'_asked' if asks else ''}"
    arguments = {"receiver": given["receiver"], "number": given["number"], "step": step}
    return {"calls": [{"skill": name, "arguments": arguments}]}


async def _tell(receiver: str, number: int, step: int) -> None:
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=0.5)) as session:
            await session.post(f"{receiver}/here", json={"number": number, "step": step, "pid": os.getpid()})
    except (aiohttp.ClientError, TimeoutError):
        return
