"""``python -m tests.evidence.ledger.processes write ORG COUNT | chain SECONDS``: a writer or a chainer to be killed."""

from __future__ import annotations

import asyncio
import sys

from agentos.evidence.ledger.anchors import Anchors
from agentos.evidence.ledger.chainer import Chainer
from agentos.evidence.ledger.settings import LedgerSettings
from agentos.kernel.database import Database
from agentos.kernel.ids import OrgId
from agentos.kernel.settings import DatabaseSettings
from agentos.kernel.telemetry import Meter
from agentos.kernel.unit_of_work import Doors
from tests.evidence.ledger.conftest import CoinTossed


async def write(database: Database, organization: str, count: str) -> None:
    """Write so many facts, each in a transaction of its own."""
    doors = Doors(database)
    for number in range(int(count)):
        async with doors.open(OrgId(organization)) as work:
            await work.publish(CoinTossed("euro", number))


async def chain(database: Database, seconds: str) -> None:
    """Chain for so long."""
    assert database.ledger_keys is not None
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(float(seconds), stop.set)
    anchors = Anchors(LedgerSettings.read().anchors, database.ledger_keys)
    await Chainer(database, database.ledger_keys, anchors, Meter()).chain_for_ever(stop)


async def main() -> None:
    """Do what the command line says."""
    database = Database(DatabaseSettings.read())
    verb, *words = sys.argv[1:]
    await {"write": write, "chain": chain}[verb](database, *words)
    await database.close()


if __name__ == "__main__":
    asyncio.run(main())
