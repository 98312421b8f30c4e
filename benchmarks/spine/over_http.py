"""Callers over HTTP: ``python -m benchmarks.spine.over_http URL KEY (events | polling)``.

A caller posts /api/v1/runs on a connection that it keeps, and learns the end from the run's stream of events or by
getting the run every 5 ms.
"""

from __future__ import annotations

import asyncio
import json
import sys

import aiohttp

from benchmarks.peers.answering import answer, versions

LOOK_SECONDS = 0.005
TERMINAL = ("completed", "failed", "cancelled", "blocked")


async def main() -> None:
    """Answer the questions of the benchmark."""
    url, key, way = sys.argv[1:]
    async with aiohttp.ClientSession(url, headers={"Authorization": f"Bearer {key}"}) as session:

        async def run(wanted: int) -> None:
            body = {"agent": "bench_writer", "input": {"steps": wanted}}
            async with session.post("/api/v1/runs", json=body) as response:
                response.raise_for_status()
                place = response.headers["Location"]
            status = await (events if way == "events" else polling)(place)
            assert status == "completed", status

        async def events(place: str) -> str:
            async with session.get(f"{place}/events") as response:
                name = ""
                async for line in response.content:
                    if line.startswith(b"event:"):
                        name = line[6:].strip().decode()
                    elif line.startswith(b"data:") and name == "status":
                        status = str(json.loads(line[5:])["status"])
                        if status in TERMINAL:
                            return status
            raise RuntimeError("the stream ended before the run")

        async def polling(place: str) -> str:
            while True:
                async with session.get(place) as response:
                    status = str((await response.json())["status"])
                if status in TERMINAL:
                    return status
                await asyncio.sleep(LOOK_SECONDS)

        await answer({"settings": versions("aiohttp")}, run)


if __name__ == "__main__":
    asyncio.run(main())
