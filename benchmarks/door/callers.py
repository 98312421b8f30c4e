"""Callers of one organization: ``python -m benchmarks.door.callers URL KEY``, then questions: see ``load``."""

from __future__ import annotations

import asyncio
import os
import sys
import time
import uuid
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import aiohttp
import uvloop
from standardwebhooks.webhooks import Webhook

from benchmarks.peers.answering import answer, versions

BODY = {"agent": "bench_door", "input": {"task_description": "answer once"}}


async def main() -> None:
    """Answer the questions of the benchmark."""
    url, key = sys.argv[1:]
    connector = aiohttp.TCPConnector(limit=0)
    headers = {"Authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(url, headers=headers, connector=connector) as session:

        async def post(_steps: int = 0) -> int:
            async with session.post("/api/v1/runs", json=BODY, headers={"Idempotency-Key": uuid.uuid4().hex}) as got:
                await got.read()
                return got.status

        async def call(path: str) -> int:
            body, message, at = b'{"title": "bench"}', uuid.uuid4().hex, datetime.now(UTC)
            signed = {
                "webhook-id": message,
                "webhook-timestamp": str(int(at.timestamp())),
                "webhook-signature": Webhook(os.environ["BENCH_HOOK_SECRET"]).sign(message, at, body.decode()),
            }
            async with session.post(path, data=body, headers=signed) as got:
                await got.read()
                return got.status

        async def load(callers: int, seconds: float, hook: str = "") -> dict[str, Any]:
            """Let the callers post for so long: how long each accepted request took, and what else was answered.

            ``hook``: the path of a webhook, which they call instead.
            """
            latencies: list[float] = []
            errors: Counter[str] = Counter()
            began = time.perf_counter()

            async def caller() -> None:
                while time.perf_counter() - began < seconds:
                    start = time.perf_counter()
                    try:
                        status = await (call(hook) if hook else post())
                    except (aiohttp.ClientError, TimeoutError) as error:
                        errors[type(error).__name__] += 1
                        continue
                    if status == 202:
                        latencies.append(time.perf_counter() - start)
                    else:
                        errors[str(status)] += 1

            await asyncio.gather(*(caller() for _ in range(callers)))
            return {"latencies": latencies, "errors": errors, "elapsed": time.perf_counter() - began}

        async def run(steps: int) -> None:
            await post(steps)

        await answer({"settings": versions("aiohttp", "uvloop")}, run, load=load)


if __name__ == "__main__":
    uvloop.run(main())
