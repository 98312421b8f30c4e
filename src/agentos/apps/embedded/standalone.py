"""One engine without a supervisor, for tests and benchmarks: started, ready, and gone when the caller is gone."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

from agentos.apps.embedded import process
from agentos.apps.embedded.service import Service
from agentos.kernel.errors import Unavailable


class EngineFailed(Unavailable):
    """An engine did not start."""

    code = "engine_failed"


async def start(service: Service, log: Path, *, seconds: float = 60) -> subprocess.Popen[bytes]:
    """Start a service and return when it serves. Raises EngineFailed (Unavailable).

    Call it from the main thread: a service made with ``die_with_parent`` ends with the thread that started it.
    """
    await asyncio.to_thread(service.before)
    running = process.spawn(service.command, service.env, log, cwd=service.cwd)
    try:
        async with asyncio.timeout(seconds):
            while not await service.ready():
                if running.poll() is not None:
                    raise EngineFailed(f"{service.name} ended while starting", where=str(log))
                await asyncio.sleep(0.02)
        await service.provision()
    except BaseException as error:
        stop(service, running)
        if isinstance(error, TimeoutError):
            raise EngineFailed(f"{service.name} does not serve", where=str(log)) from None
        raise
    return running


def stop(service: Service, running: subprocess.Popen[bytes]) -> None:
    """Stop it: its signal, then SIGKILL. Doing it twice is fine."""
    running.send_signal(service.stop_signal)
    try:
        running.wait(service.stop_seconds)
    except subprocess.TimeoutExpired:
        running.kill()
        running.wait()
