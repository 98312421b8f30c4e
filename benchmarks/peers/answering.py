"""Answer the questions of a benchmark: one JSON object a line on stdin, one a line on stdout. Standard library only.

    {"do": "runs", "steps": 20, "callers": 1, "most": 10, "seconds": 2}
    {"latencies": [seconds, …], "elapsed": seconds}

Each caller begins its next run as soon as it has seen the end of its last one, while fewer than ``most`` have begun in
all and ``seconds`` are not over; ``elapsed`` lasts until the last end. Every system is driven by this very code.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.metadata
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

Run = Callable[[int], Awaitable[None]]
Ask = Callable[[str, float], Awaitable[str]]  # a kind of call and its timeout in, who answered out


async def drive(run: Run, *, steps: int, callers: int, most: int, seconds: float) -> dict[str, Any]:
    """Let the callers run; how long each run took as its caller saw it, and all of them together."""
    latencies: list[float] = []
    began, begun = time.perf_counter(), 0

    async def caller() -> None:
        nonlocal begun
        while begun < most and time.perf_counter() - began < seconds:
            begun += 1
            start = time.perf_counter()
            await run(steps)
            latencies.append(time.perf_counter() - start)

    await asyncio.gather(*(caller() for _ in range(callers)))
    return {"latencies": latencies, "elapsed": time.perf_counter() - began}


async def answer(hello: dict[str, Any], run: Run | None = None, **more: Callable[..., Awaitable[Any]]) -> None:
    """Say hello, then answer until the questions end. ``more`` are questions that only this system answers; ``runs`` is
    one that all answer that are given ``run``."""
    if run is not None:
        more["runs"] = functools.partial(drive, run)
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer

    def say(what: Any) -> None:
        out.write(json.dumps(what) + "\n")
        out.flush()

    loop, lines = asyncio.get_running_loop(), asyncio.Queue[str]()

    def read() -> None:  # a thread, because a loop's own reader would need the pipe to be its own
        for line in sys.stdin:
            loop.call_soon_threadsafe(lines.put_nowait, line)
        loop.call_soon_threadsafe(lines.put_nowait, "")

    threading.Thread(target=read, daemon=True).start()
    say(hello)
    while line := await lines.get():
        asked = json.loads(line)
        try:
            what = asked.pop("do")
            say(await more[what](**asked))
        except Exception as error:
            traceback.print_exc()
            say({"error": f"{type(error).__name__}: {error}"})


async def answer_calls(hello: dict[str, Any], ask: Ask, **more: Callable[..., Awaitable[Any]]) -> None:
    """The same for what answers calls: ``calls`` drives them, and tells of each its seconds and who answered it.

    {"do": "calls", "kind": "chain", "callers": 50, "most": 10000, "seconds": 60, "timeout": 1}
    {"calls": [[seconds, "first"], [seconds, "second"], [seconds, "SomeError"], …], "elapsed": seconds}
    """

    async def calls(*, kind: str, callers: int, most: int, seconds: float, timeout: float = 60) -> dict[str, Any]:
        done: list[tuple[float, str]] = []

        async def one(_steps: int) -> None:
            began = time.perf_counter()
            try:
                who = await ask(kind, timeout)
            except Exception as error:
                who = type(error).__name__
            done.append((time.perf_counter() - began, who))

        driven = await drive(one, steps=1, callers=callers, most=most, seconds=seconds)
        return {"calls": done, "elapsed": driven["elapsed"]}

    await answer(hello, calls=calls, **more)


def versions(*names: str) -> str:
    """The installed versions of these packages."""
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
