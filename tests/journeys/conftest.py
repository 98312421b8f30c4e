"""The platform over HTTP: the real API on a real port with a worker beside it, on the session's database and engine."""

from __future__ import annotations

import asyncio
import atexit
import os
import shutil
import ssl
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from pydantic import SecretStr

from agentos.apps.api.app import create
from agentos.apps.api.server import config
from agentos.apps.bootstrap import give_key
from agentos.apps.parts import Process, process, worker
from agentos.intake.identity import service as identity
from agentos.intake.identity.model import Role
from agentos.kernel import seals
from agentos.kernel.ids import OrgId
from agentos.kernel.outbox import consume
from agentos.kernel.settings import DatabaseSettings
from agentos.kernel.signing import make_key
from tests.runtime.runs.harness import World, make_skill

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # signs the journeys' events: secret://journeys


@dataclass
class Platform:
    """A running platform with one organization and two people."""

    address: str
    author: httpx.AsyncClient
    approver: httpx.AsyncClient
    nobody: httpx.AsyncClient
    admin: httpx.AsyncClient
    held: Process
    world: World

    @asynccontextmanager
    async def acting(self, key: str) -> AsyncIterator[httpx.AsyncClient]:
        """A client with this key."""
        async with _client(self.address, key) as client:
            yield client

    async def stranger(self) -> str:
        """The key of an admin of another organization."""
        organization = OrgId(f"o{uuid.uuid4().hex[:12]}")
        await identity.found_organization(self.held.parts.database, organization, name="Others")
        async with self.held.parts.doors.open(organization) as work:
            return await give_key(work, "stranger", Role.ADMIN)

    async def apply(self, script: list[dict[str, Any]], skills: list[str], **spec: Any) -> dict[str, Any]:
        """Apply an agent ``tester`` and return what became of it."""
        answer = await self.author.post("/api/v1/agents", json={"documents": [document(script, skills, **spec)]})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()["applied"][0]
        return found

    async def run(self, given: Any = None, **headers: str) -> dict[str, Any]:
        """Start a run of ``tester``."""
        body = {"agent": "tester", "input": given or {"task_description": "go"}}
        answer = await self.author.post("/api/v1/runs", json=body, headers=headers)
        assert answer.status_code == 202, answer.text
        assert answer.headers["location"] == f"/api/v1/runs/{answer.json()['id']}"
        found: dict[str, Any] = answer.json()
        return found

    async def until(self, run_id: str, *statuses: str) -> dict[str, Any]:
        """The run, once it has one of these statuses."""
        async with asyncio.timeout(30):
            while True:
                run = (await self.author.get(f"/api/v1/runs/{run_id}")).json()
                if run["status"] in statuses:
                    return dict(run)
                await asyncio.sleep(0.03)

    async def question(self, run_id: str) -> dict[str, Any]:
        """The run's pending approval."""
        await self.until(run_id, "waiting_approval")
        (found,) = (await self.approver.get("/api/v1/approvals", params={"run": run_id})).json()["items"]
        return dict(found)


def document(script: list[dict[str, Any]], skills: list[str], **spec: Any) -> dict[str, Any]:
    """A manifest of the agent ``tester``."""
    return {
        "apiVersion": "agentos/v1",
        "kind": "Agent",
        "metadata": {"name": "tester", "category": "tests", "owner": "testers"},
        "spec": {
            "instructions": "Follow the script.",
            "model": {"provider": "stub", "script": script},
            "skills": [{"name": one, "version": "1"} for one in skills],
            "tier": "L4",
            **spec,
        },
    }


@pytest.fixture
async def platform(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Platform]:
    """A platform of the test's own organization and task queue."""
    async with running(database_url, monkeypatch) as found:
        yield found


@asynccontextmanager
async def running(
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    organization: OrgId | None = None,
    header_seconds: float = 10,
    **app: Any,
) -> AsyncIterator[Platform]:
    """A platform on this database; ``app``: what its API is created with."""
    monkeypatch.setenv("TEMPORAL_ADDRESS", os.environ["AGENTOS_TEST_TEMPORAL"])
    monkeypatch.setenv("AGENTOS_TASK_QUEUE", f"queue-{uuid.uuid4().hex}")
    monkeypatch.setenv("AGENTOS_RUN_SEND_WINDOW_SECONDS", "0.2")
    monkeypatch.setenv("LOG_LEVEL", "ERROR")
    monkeypatch.setenv("AGENTOS_WEBHOOK_ALLOW", "127.0.0.1")
    monkeypatch.setenv("AGENTOS_SECRET_JOURNEYS", SECRET)
    monkeypatch.setenv("AGENTOS_SIGNING_KEY", signing_key())
    monkeypatch.setenv("AGENTOS_LEDGER_ANCHORS", str(Path(ledger_key()).with_name("anchors")))
    async with AsyncExitStack() as stack:
        settings = DatabaseSettings(url=SecretStr(database_url), pool_size=5, ledger_key=ledger_key())
        held = await stack.enter_async_context(process(eager=True, database=settings))
        world = World()
        for name, effect in (("look", "S0"), ("note", "S1"), ("move", "S2"), ("pay", "S3")):
            held.parts.registry.add(make_skill(world, name, effect, idempotent=True))

        served = stack.enter_context(_served(held, **app))
        server = uvicorn.Server(config(served, header_seconds=header_seconds, port=0, lifespan="on"))
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        other = await stack.enter_async_context(process(eager=False, database=settings))
        other.parts.registry = held.parts.registry
        await stack.enter_async_context(await worker(other, inline_only=False))
        chainer, stop = held.chainer, asyncio.Event()
        assert chainer is not None
        readers = (
            held.run_engine,
            held.eval_engine,
            held.dispatch,
            held.answers,
            held.messages,
            held.notifications,
            held.artifacts,
            held.counting,
            held.scorer,
        )
        tasks = [
            asyncio.create_task(consume(held.parts.database, [one.consumer() for one in readers], stop)),
            asyncio.create_task(chainer.chain_for_ever(stop)),
            asyncio.create_task(held.dispatch.deliver_for_ever(stop)),
            asyncio.create_task(held.notifications.send_for_ever(stop)),
            asyncio.create_task(other.parts.halts.watch_for_ever(other.parts.doors, other.runs, stop)),
        ]
        address = f"http://127.0.0.1:{port}"
        clients = [await stack.enter_async_context(_client(address, key)) for key in await _keys(held, organization)]
        try:
            yield Platform(address, *clients, held, world)
        finally:
            stop.set()
            server.should_exit = True
            await asyncio.gather(*tasks, serving)


@cache
def signing_key() -> str:
    """A key of this test run's."""
    file = Path(tempfile.mkdtemp(prefix="agentos-key-")) / "signing-key.pem"
    atexit.register(shutil.rmtree, file.parent)
    make_key(file)
    return str(file)


@cache
def ledger_key() -> str:
    """A key of this test run's."""
    file = Path(tempfile.mkdtemp(prefix="agentos-key-")) / "ledger.key"
    atexit.register(shutil.rmtree, file.parent)
    seals.make_key(file)
    return str(file)


class _Lent:
    """A process that is already open, and that whoever uses it does not close."""

    held: Process

    async def __aenter__(self) -> Process:
        return self.held

    async def __aexit__(self, *_: object) -> None:
        return None


_idle: list[tuple[FastAPI, _Lent]] = []  # making its routes is most of an API's start


@contextmanager
def _served(held: Process, **app: Any) -> Iterator[FastAPI]:
    """An API over this process: one that another platform is done with, unless it is to be a special one."""
    lent = _Lent()
    made = (create(lambda: lent, **app), lent) if app or not _idle else _idle.pop()
    made[1].held = held
    yield made[0]
    if not app:
        _idle.append(made)


async def _keys(held: Process, organization: OrgId | None) -> list[str]:
    organization = organization or OrgId(f"o{uuid.uuid4().hex[:12]}")
    await identity.found_organization(held.parts.database, organization, name="Journeys")
    async with held.parts.doors.open(organization) as work:
        author = await give_key(work, "author", Role.OPERATOR)
        approver = await give_key(work, "approver", Role.APPROVER)
        return [author, approver, "", await give_key(work, "admin", Role.ADMIN)]


def _client(address: str, key: str) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.AsyncClient(base_url=address, headers=headers, timeout=20, verify=_tls())


@cache
def _tls() -> ssl.SSLContext:
    """Made once: reading the authorities takes longer than most tests ask for."""
    return httpx.create_ssl_context()
