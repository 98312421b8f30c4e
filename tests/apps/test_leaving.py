"""A process that is told to stop ends, also while its database and its engine take what is sent and never answer."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from agentos.apps.embedded.ports import choose


@pytest.fixture
async def hole() -> AsyncIterator[int]:
    """The port of a server that takes connections and says nothing."""
    held: list[asyncio.StreamWriter] = []

    async def take(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    for writer in held:
        writer.transport.abort()


async def test_processes_whose_servers_never_answer_end_when_they_are_told_to(hole: int, tmp_path: Path) -> None:
    await asyncio.gather(left("worker", "/metrics", hole, tmp_path), left("api", "/health", hole, tmp_path))


async def left(program: str, page: str, hole: int, folder: Path) -> None:
    """Start it, let it serve, tell it to stop, and see it end."""
    port = choose()
    env = {
        **os.environ,
        "DATABASE_URL": f"postgresql://nobody:none@127.0.0.1:{hole}/none",
        "AGENTOS_DATABASE_ACQUIRE_SECONDS": "600",
        "TEMPORAL_ADDRESS": f"127.0.0.1:{hole}",
        "AGENTOS_PORT": str(port),
        "AGENTOS_METRICS_PORT": str(port),
    }
    running = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        f"agentos.apps.{program}",
        env=env,
        cwd=folder,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client, asyncio.timeout(60):
            while True:
                with suppress(httpx.TransportError):
                    assert (await client.get(page)).status_code == 200
                    break
                await asyncio.sleep(0.1)
        await asyncio.sleep(1)  # until something waits for an answer
        running.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(running.wait(), 60) in (0, -signal.SIGTERM)
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()
