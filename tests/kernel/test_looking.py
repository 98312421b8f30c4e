from __future__ import annotations

import asyncio

import pytest

from agentos.kernel import looking
from agentos.kernel.looking import look_for_ever, pause


class Log(list[tuple[str, str]]):
    def warning(self, event: str, *, error: str) -> None:
        self.append((event, error))


async def test_a_look_that_fails_is_logged_and_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    stop, looks, log = asyncio.Event(), 0, Log()
    monkeypatch.setattr(looking, "log", log)

    async def look() -> float | None:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise OSError("away")
        stop.set()
        return None

    await asyncio.wait_for(look_for_ever(look, stop, every_seconds=0, waits="clock_waits"), 5)
    assert (looks, log) == (2, [("clock_waits", "OSError")])


async def test_a_look_says_when_the_next_one_is() -> None:
    stop, looks = asyncio.Event(), 0

    async def look() -> float | None:
        nonlocal looks
        looks += 1
        if looks == 3:
            stop.set()
        return 0.0

    await asyncio.wait_for(look_for_ever(look, stop, every_seconds=3600, waits="clock_waits"), 5)
    assert looks == 3


async def test_being_told_to_stop_ends_a_pause_at_once() -> None:
    stop = asyncio.Event()
    paused = asyncio.create_task(pause(stop, 3600))
    await asyncio.sleep(0)
    stop.set()
    await asyncio.wait_for(paused, 5)
