"""A database whose facts are sealed, and chains in it that tests may do things to as its superuser."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import asyncpg
import pytest
from pydantic import SecretStr
from sqlalchemy import make_url

from agentos.evidence.ledger import service
from agentos.evidence.ledger.anchors import Anchors
from agentos.evidence.ledger.chainer import Chainer
from agentos.evidence.ledger.model import Verified
from agentos.kernel import seals
from agentos.kernel.database import Database
from agentos.kernel.facts import Fact
from agentos.kernel.ids import OrgId
from agentos.kernel.seals import LedgerKeys
from agentos.kernel.settings import DatabaseSettings
from agentos.kernel.telemetry import Meter
from agentos.kernel.unit_of_work import Doors
from tests.conftest import new_database

_HELD_BACK = "SELECT EXISTS (SELECT FROM outbox WHERE txid >= pg_snapshot_xmin(pg_current_snapshot()))"


@dataclass(frozen=True, slots=True)
class CoinTossed(Fact):
    """A coin was tossed; for these tests."""

    key_field: ClassVar[str] = "coin"
    coin: str
    number: int
    by: str = "ada"
    run_id: str = "run_x"
    deployment_id: str = "dep_x"


@dataclass
class Books:
    """A sealed database, its key and its anchors."""

    database: Database
    doors: Doors
    keys: LedgerKeys
    anchors: Anchors
    url: str
    meter: Meter
    key: Path

    def chainer(self) -> Chainer:
        """A chainer of this process."""
        return Chainer(self.database, self.keys, self.anchors, self.meter)

    async def toss(self, organization: OrgId, count: int) -> None:
        """So many facts, each in a transaction of its own."""
        for number in range(count):
            async with self.doors.open(organization) as work:
                await work.publish(CoinTossed("euro", number))

    async def chain(self) -> int:
        """Chain what there is, and anchor the ends."""
        done = await self.turn(self.chainer())
        await self.chainer().anchor()
        return done

    async def turn(self, chainer: Chainer) -> int:
        """Chain what there is; what other tests' databases hold back for a moment is waited for."""
        driver = await self.superuser()
        try:
            for _ in range(20):
                if not await driver.fetchval(_HELD_BACK):
                    break
                await asyncio.sleep(0.05)
        finally:
            await driver.close()
        return await chainer.turn()

    async def look(self, organization: OrgId, driver: Any = None) -> Verified:
        """What verifying finds."""
        if driver is not None:
            return await service.look(driver, organization, self.keys, self.anchors)
        async with self.doors.open(organization) as work:
            return await service.look(await work.driver(), organization, self.keys, self.anchors)

    async def look_from(self, organization: OrgId, after: int) -> Verified:
        """What verifying finds behind an entry."""
        async with self.doors.open(organization) as work:
            return await service.look(await work.driver(), organization, self.keys, self.anchors, after=after)

    async def superuser(self) -> Any:
        """A connection that nothing binds."""
        url = make_url(os.environ["AGENTOS_TEST_SUPERUSER_URL"]).set(
            drivername="postgresql", database=make_url(self.url).database
        )
        return await asyncpg.connect(
            url.render_as_string(hide_password=False), server_settings={"search_path": "agentos"}
        )


@pytest.fixture(scope="session")
def sealed_url() -> str:
    """A migrated database of these tests' own: a chain takes the facts of every organization."""
    return asyncio.run(new_database(f"ledger_{os.getpid()}"))


@pytest.fixture(scope="session")
def ledger_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of the key that the sealed database is sealed with."""
    file = tmp_path_factory.mktemp("key") / "ledger.key"
    seals.make_key(file)
    return file


@pytest.fixture
async def books(sealed_url: str, ledger_key: Path, tmp_path: Path) -> AsyncIterator[Books]:
    """A sealed database, its key and its anchors."""
    database = Database(DatabaseSettings(url=SecretStr(sealed_url), pool_size=5, ledger_key=str(ledger_key)))
    keys = LedgerKeys.load(ledger_key)
    yield Books(database, Doors(database), keys, Anchors(tmp_path / "anchors", keys), sealed_url, Meter(), ledger_key)
    await database.close()


@pytest.fixture
async def organization(books: Books) -> OrgId:
    """A new organization in whose chain there is nothing, not even that it was founded."""
    name = OrgId(f"o{uuid.uuid4().hex[:12]}")
    driver = await books.superuser()
    await driver.execute("INSERT INTO organizations (org, name) VALUES ($1, $1)", name)
    await driver.close()
    return name


@pytest.fixture
async def database(books: Books) -> Database:
    """The sealed one."""
    return books.database
