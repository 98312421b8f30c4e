"""One real PostgreSQL and one real Temporal for the whole test run, shared by all of its worker processes.

They are started by the process that starts the run and are found through the environment:

- AGENTOS_TEST_DATABASE_URL: the login role ``agentos`` and its database
- AGENTOS_TEST_SUPERUSER_URL: the superuser, to make and drop databases
- AGENTOS_TEST_TEMPORAL: Temporal's address

They end with that process, also when it is killed.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import structlog
from pydantic import SecretStr
from sqlalchemy import make_url

from agentos.apps.embedded import postgres, process, standalone, temporal
from agentos.apps.embedded.service import Service
from agentos.intake.identity import service as identity
from agentos.kernel.database import Database
from agentos.kernel.errors import AgentOSError
from agentos.kernel.ids import OrgId
from agentos.kernel.settings import DatabaseSettings
from agentos.kernel.unit_of_work import Doors
from tests import debian

_PREFIX = "agentos-tests-"
_started: list[tuple[Service, subprocess.Popen[bytes]]] = []
_folder: list[Path] = []


def pytest_configure(config: pytest.Config) -> None:
    """Start both engines before any worker process exists."""
    if hasattr(config, "workerinput") or config.option.help or config.option.collectonly:
        return
    for old in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):  # a killed run could not clean up
        if process.identify(int(old.name.removeprefix(_PREFIX).partition("-")[0])) is None:
            shutil.rmtree(old, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
    _folder.append(folder)
    try:
        asyncio.run(_start(folder))
    except AgentOSError as error:
        pytest_unconfigure()
        raise pytest.UsageError(f"The tests need a real PostgreSQL and Temporal: {error}") from None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a program of Debian's that this machine has not, and say so."""
    lacking = [name for mark in item.iter_markers("debian") for name in mark.args if debian.program(name) is None]
    if lacking:
        pytest.skip(f"no {' and no '.join(lacking)} here: see tools/debian.sh")


def pytest_unconfigure() -> None:
    """Stop what this process started."""
    for service, running in _started:
        running.kill() if service.name == "temporal" else standalone.stop(service, running)
        running.wait()
    _started.clear()
    for folder in _folder:
        shutil.rmtree(folder, ignore_errors=True)
    _folder.clear()


async def _start(folder: Path) -> None:
    # No test asserts what survives a power loss, and many make databases; kills lose nothing without fsync either.
    database = postgres.Server.temporary(folder, settings={"fsync": "off", "full_page_writes": "off"})
    engine = temporal.Server.temporary(folder)
    await asyncio.gather(*(_run(server.service(die_with_parent=True), server.log) for server in (database, engine)))
    os.environ["AGENTOS_TEST_DATABASE_URL"] = database.url
    os.environ["AGENTOS_TEST_SUPERUSER_URL"] = database.superuser_url
    os.environ["AGENTOS_TEST_TEMPORAL"] = engine.address


async def _run(service: Service, log: Path) -> None:
    _started.append((service, await standalone.start(service, log)))


def fresh_log() -> Any:
    """A log that tells everything, whatever processes of other tests have settled."""
    return structlog.wrap_logger(None, wrapper_class=structlog.make_filtering_bound_logger(0))


@pytest.fixture(scope="session")
def database_url() -> str:
    """A migrated database of this worker process's own."""
    return asyncio.run(new_database(f"worker_{os.getpid()}"))


async def new_database(name: str) -> str:
    """Make and migrate a database; its URL."""
    url = make_url(os.environ["AGENTOS_TEST_DATABASE_URL"])
    admin = await asyncpg.connect(os.environ["AGENTOS_TEST_SUPERUSER_URL"])
    try:
        await admin.execute(f'CREATE DATABASE "{name}" OWNER "{url.username}"')
    finally:
        await admin.close()
    migrated = url.set(drivername="postgresql", database=name).render_as_string(hide_password=False)
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "agentos.apps.migrate"],
        env={**os.environ, "DATABASE_URL": migrated},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return migrated


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """Connections to this worker process's database."""
    held = Database(DatabaseSettings(url=SecretStr(database_url), pool_size=5))
    yield held
    await held.close()


@pytest.fixture
def doors(database: Database) -> Doors:
    """Units of work in this worker process's database."""
    return Doors(database)


@pytest.fixture
async def organization(database: Database) -> OrgId:
    """A new organization that no other test knows."""
    name = OrgId(f"o{uuid.uuid4().hex[:12]}")
    await identity.found_organization(database, name, name="Test organization")
    return name
