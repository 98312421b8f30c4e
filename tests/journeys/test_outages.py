"""While the database or the engine is away nothing is lost: requests are told when to come back, runs wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import asyncpg
import pytest
from sqlalchemy import make_url

from agentos.kernel.database import DatabaseUnavailable, DiskFull, unavailable
from tests.journeys.conftest import Platform, running
from tests.runtime.runs.harness import DONE, calls


class Cable:
    """The connection to a server on loopback, which can be pulled out and put back."""

    def __init__(self, host: str, port: int) -> None:
        self._to = (host, port)
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def plug(self) -> None:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def pull(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._open):
            writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.current_task())  # type: ignore[arg-type]
        there_reader, there = await asyncio.open_connection(*self._to)
        if self._server is None or not self._server.is_serving():  # pulled while it was put through
            there.transport.abort()
            writer.transport.abort()
            return
        self._open |= {writer, there}
        await asyncio.gather(self._pump(reader, there), self._pump(there_reader, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()
        with suppress(ConnectionError, OSError):
            await writer.wait_closed()
        self._open.discard(writer)


@pytest.fixture
async def cable(database_url: str) -> AsyncIterator[Cable]:
    url = make_url(database_url)
    found = Cable(str(url.host), int(url.port or 5432))
    await found.plug()
    yield found
    await found.pull()


@pytest.fixture
async def shaky(cable: Cable, database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Platform]:
    url = make_url(database_url).set(host="127.0.0.1", port=cable.port)
    async with running(url.render_as_string(hide_password=False), monkeypatch) as found:
        yield found


async def test_without_the_database_requests_are_told_when_to_come_back(shaky: Platform, cable: Cable) -> None:
    await shaky.apply([DONE], [])
    await cable.pull()
    answer = await shaky.author.post("/api/v1/runs", json={"agent": "tester", "input": {"task_description": "go"}})
    assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
    assert int(answer.headers["retry-after"]) >= 1
    ready = await shaky.nobody.get("/health/ready")
    assert ready.status_code == 503
    assert ready.json()["checks"]["database"]["status"] == "failed"
    assert (await shaky.nobody.get("/health")).status_code == 200
    await cable.plug()
    run = await shaky.run()
    assert (await shaky.until(run["id"], "completed"))["status"] == "completed"


async def test_a_run_that_is_under_way_when_the_database_goes_away_goes_on_afterwards(
    shaky: Platform, cable: Cable
) -> None:
    sent = asyncio.Event()

    async def send(given: dict[str, Any]) -> dict[str, Any]:
        await cable.pull()
        sent.set()
        return given

    shaky.world.next("note", send)
    await shaky.apply([calls(("note", 1)), calls(("note", 2)), DONE], ["note"])
    run = await shaky.run()
    await asyncio.wait_for(sent.wait(), 10)
    await asyncio.sleep(0.3)
    await cable.plug()
    await shaky.until(run["id"], "completed")
    assert shaky.world.count("note") == 2  # the result was held on to, so nothing was sent twice


def test_a_full_disk_is_told_apart_from_a_database_that_is_away() -> None:
    assert isinstance(unavailable(asyncpg.DiskFullError("no space left on device")), DiskFull)
    assert isinstance(unavailable(asyncpg.ConnectionDoesNotExistError("gone")), DatabaseUnavailable)
    assert isinstance(unavailable(ConnectionRefusedError()), DatabaseUnavailable)
    assert unavailable(asyncpg.UniqueViolationError("twice")) is None
    assert unavailable(ValueError("ours")) is None
