"""One stack from the first `up` to `down`, over the real engines."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil

import asyncpg
import psutil
import pytest
from temporalio.client import Client

from agentos.apps.embedded import process, verbs
from agentos.apps.embedded.home import Desired

figures = logging.getLogger("figures")  # shown with --log-cli-level=INFO

SERVICES = ["postgres", "temporal", "api", "worker-1", "worker-2"]


def _login(stack) -> str:
    memory = stack.home.memory()
    return f"postgresql://agentos:{memory.login_password}@127.0.0.1:{memory.ports['postgres']}/agentos"


def test_up_serves_and_down_stops_everything_and_the_next_up_finds_the_same_data(stack):
    first = stack.up()
    assert [entry.name for entry in first.services] == SERVICES
    assert stack.said[:4] == [
        "starting postgres, temporal",
        "migrating the database",
        "preparing the organization",
        "starting api, worker-1, worker-2",
    ]
    picture = verbs.status(stack.home)
    assert picture["ready"] and all(row["ready"] for row in picture["services"])
    assert "database" in verbs.logs(stack.home, "migrate", 1)[0]

    async def write() -> None:
        connection = await asyncpg.connect(_login(stack))
        await connection.execute("CREATE TABLE kept (word text)")
        await connection.close()

    asyncio.run(write())
    pids = stack.pids()
    stack.up()
    assert stack.pids() == pids, "a second up starts nothing"

    assert stack.down() == SERVICES
    assert stack.processes() == [] and not process.alive(first.supervisor)
    assert stack.down() == [], "a second down has nothing to do"
    assert not verbs.status(stack.home)["ready"]

    second = stack.up()
    assert second.api == first.api, "ports are remembered"

    async def read() -> int:
        connection = await asyncpg.connect(_login(stack))
        try:
            return await connection.fetchval("SELECT count(*) FROM kept")
        finally:
            await connection.close()

    assert asyncio.run(read()) == 0


@pytest.mark.parametrize("name", ["postgres", "temporal", "api", "worker-1"])
def test_a_killed_service_serves_again(served, name):
    restarts = served.entry(name).restarts
    others = {service: pid for service, pid in served.pids().items() if service != name}
    figures.info("kill -9 %s: serving after %.3f s", name, served.kill(name))
    assert served.entry(name).restarts == restarts + 1
    assert {service: pid for service, pid in served.pids().items() if service != name} == others
    assert verbs.status(served.home)["ready"]


def test_a_long_query_does_not_keep_a_killed_postgres_from_coming_back(served):
    async def busy() -> asyncpg.Connection:
        connection = await asyncpg.connect(_login(served))
        asyncio.get_running_loop().create_task(connection.execute("SELECT count(*) FROM generate_series(1, 10^9)"))
        await asyncio.sleep(0.2)
        return connection

    async def scenario() -> float:
        connection = await busy()
        try:
            return await asyncio.to_thread(served.kill, "postgres")
        finally:
            connection.terminate()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                await asyncio.wait({task})
                task.exception()

    figures.info("kill -9 postgres with a busy backend: serving after %.3f s", asyncio.run(scenario()))


def test_a_lost_temporal_file_is_made_anew(served):
    before = served.entry("temporal")
    (served.home.temporal / "temporal.db").unlink()
    served.kill("temporal")
    assert (served.home.temporal / "temporal.db").exists()

    async def connect() -> None:
        await Client.connect(f"127.0.0.1:{before.ports['temporal']}")

    asyncio.run(connect())


def test_restart_ends_the_process_and_returns_when_the_next_one_serves(served):
    before = served.pids()
    verbs.restart(served.home, "postgres")
    verbs.restart(served.home, "worker-2")
    after = served.pids()
    assert after["postgres"] not in (None, before["postgres"]) and after["worker-2"] not in (None, before["worker-2"])
    assert after["temporal"] == before["temporal"] and after["api"] == before["api"]


def test_scale_changes_the_number_of_workers_and_nothing_else(served):
    before = served.pids()
    verbs.scale(served.home, "worker", 4)
    assert [row["state"] for row in verbs.ps(served.home)] == ["running"] * 7
    verbs.scale(served.home, "worker", 2)
    assert served.pids() == before
    assert "choosing a new one" not in served.home.log("supervisor").read_text()


def test_unknown_names_are_told_with_the_known_ones(served):
    with pytest.raises(verbs.UnknownService, match="bootstrap, migrate, postgres, supervisor, temporal, worker-1"):
        verbs.logs(served.home, "nobody", 5)
    with pytest.raises(verbs.UnknownService, match="postgres, temporal, api, worker-1, worker-2"):
        verbs.restart(served.home, "nobody")
    for name, count in (("api", 2), ("worker", -1), ("worker", 65)):
        with pytest.raises(verbs.NotScalable):
            verbs.scale(served.home, name, count)
    assert served.home.desired() == Desired(workers=2)


def test_everything_listens_and_talks_on_loopback_only(served):
    for name, pid in served.pids().items():
        for member in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            for connection in member.net_connections():
                assert connection.laddr.ip == "127.0.0.1", (name, connection)
                assert not connection.raddr or connection.raddr.ip == "127.0.0.1", (name, connection)


def test_the_home_is_private_and_tells_no_password_outside_its_one_file(served):
    memory = served.home.memory()
    assert served.home.path.stat().st_mode & 0o777 == 0o700
    assert (served.home.path / "stack.json").stat().st_mode & 0o777 == 0o600
    secrets = (memory.superuser_password, memory.login_password)
    state = (served.home.path / "state.json").read_text() + json.dumps(verbs.status(served.home))
    lines = [" ".join(process.command_line(pid)) for pid in served.pids().values()]
    logs = [log.read_text() for log in served.home.logs.glob("*.log")]
    assert not [text for text in [state, *lines, *logs] for secret in secrets if secret in text]


def test_the_login_role_is_no_superuser_and_postgres_is_durable(served):
    async def ask() -> dict[str, object]:
        connection = await asyncpg.connect(_login(served))
        role = "SELECT rolsuper, rolinherit, rolcreaterole, rolbypassrls FROM pg_roles WHERE rolname = current_user"
        found = dict(await connection.fetchrow(role))
        for name in ("fsync", "synchronous_commit", "full_page_writes", "data_checksums"):
            found[name] = await connection.fetchval(f"SHOW {name}")
        await connection.close()
        return found

    assert asyncio.run(ask()) == {
        "rolsuper": False,
        "rolinherit": False,
        "rolcreaterole": True,
        "rolbypassrls": False,
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "data_checksums": "on",
    }


def test_a_removed_home_leaves_nothing_running(stack):
    stack.up(workers=0)
    memory = stack.home.memory()
    shutil.rmtree(stack.home.path, ignore_errors=True)
    stack.until(lambda: process.belonging(memory.id) == [])
    shutil.rmtree(stack.home.path, ignore_errors=True)
