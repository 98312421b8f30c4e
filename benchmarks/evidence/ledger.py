"""Eight processes write facts while one chains them; a chain is verified; a thousand tamperings are looked for.

``ledger writes per second``: from the first fact to the entry of the last, so that neither writers nor the chainer can
be behind. ``ledger verified per second``: the whole chain, its columns and its anchors. Both share the machine with
PostgreSQL, with fsync on.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from typing import Final

import asyncpg
from pydantic import SecretStr
from sqlalchemy import make_url

from agentos.evidence.ledger import service
from agentos.evidence.ledger.anchors import Anchors
from agentos.evidence.ledger.chainer import Chainer
from agentos.intake.identity import service as identity
from agentos.kernel.database import Database
from agentos.kernel.ids import OrgId
from agentos.kernel.seals import LedgerKeys
from agentos.kernel.settings import DatabaseSettings
from agentos.kernel.telemetry import Meter
from agentos.kernel.unit_of_work import Doors
from benchmarks.evidence.tamperer import LENGTH, tamper
from benchmarks.report import Row, middle
from benchmarks.stack import ROOT, Stack

WRITERS: Final = 8
FACTS: Final = 40_000  # of a round
ROUNDS: Final = 3
TAMPERINGS: Final = 1000


async def rows(stack: Stack) -> list[Row]:
    """The rows of the ledger."""
    file = stack.env["AGENTOS_LEDGER_KEY"]
    settings = DatabaseSettings(url=SecretStr(stack.database.url), pool_size=5, ledger_key=file)
    database, keys = Database(settings), LedgerKeys.load(file)
    anchors = Anchors(stack.env["AGENTOS_LEDGER_ANCHORS"], keys)
    chainer = Chainer(database, keys, anchors, Meter())
    try:
        await chainer.turn()
        written, verified = [], []
        for number in range(ROUNDS):
            organization = OrgId(f"ledger_{number}")
            await identity.found_organization(database, organization, name=organization)
            written.append(await _write(stack, database, chainer, organization))
            verified.append(await _verify(database, keys, anchors, organization))
        found = await _tamper(stack, database, chainer, keys, anchors)
    finally:
        await database.close()
    where = f"{WRITERS} processes write, one chains; the machine is shared with PostgreSQL"
    return [
        Row("ledger writes per second", "entries", middle(written), 1500, "higher", where=where),
        Row("ledger verified per second", "entries", middle(verified), 50_000, "higher", where="in one process"),
        Row(
            "tamperings found of 1,000",
            "tamperings",
            found,
            TAMPERINGS,
            "higher",
            where=f"edits, deletions, insertions, reorderings of {LENGTH} entries, as superuser",
        ),
    ]


async def _write(stack: Stack, database: Database, chainer: Chainer, organization: OrgId) -> float:
    """Facts written and chained, per second."""
    words = [sys.executable, "-m", "benchmarks.evidence.writer", organization, str(FACTS // WRITERS)]
    writers = [
        subprocess.Popen(words, cwd=ROOT, env=stack.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(WRITERS)
    ]
    for one in writers:
        assert one.stdout is not None
        await asyncio.to_thread(one.stdout.readline)
    stop, began = asyncio.Event(), time.perf_counter()
    chaining = asyncio.create_task(chainer.chain_for_ever(stop))
    for one in writers:
        assert one.stdin is not None
        one.stdin.write(b"go\n")
        one.stdin.close()
    codes = [await asyncio.to_thread(one.wait) for one in writers]
    assert codes == [0] * WRITERS, codes
    done = FACTS // WRITERS // 20 * 20 * WRITERS
    while await _entries(database, organization) < done:
        await asyncio.sleep(0.02)
    seconds = time.perf_counter() - began
    stop.set()
    await chaining
    await chainer.anchor()
    return done / seconds


async def _entries(database: Database, organization: OrgId) -> int:
    pool = await database.driver("agentos_system")
    found = await pool.fetchval("SELECT number FROM ledger_ends($1)", [organization])
    return int(found or 0)


async def _verify(database: Database, keys: LedgerKeys, anchors: Anchors, organization: OrgId) -> float:
    """Entries verified, per second."""
    async with Doors(database).open(organization) as work:
        driver = await work.driver()
        began = time.perf_counter()
        found = await service.look(driver, organization, keys, anchors)
        seconds = time.perf_counter() - began
    assert found.broken is None, found.broken
    assert found.is_whole
    return found.checked / seconds


async def _tamper(stack: Stack, database: Database, chainer: Chainer, keys: LedgerKeys, anchors: Anchors) -> int:
    """How many of so many tamperings are found; each is taken back."""
    organization = OrgId("tampered")
    await identity.found_organization(database, organization, name=organization)
    async with Doors(database).open(organization) as work:
        for number in range(LENGTH):
            values = [organization, f"run_{number}", '{"run_id": "run_x", "deployment_id": "dep_x", "by": "ada"}']
            await (await work.driver()).execute(
                "INSERT INTO outbox (org, name, key, body) VALUES ($1, 'StepsJournaled', $2, $3::text::jsonb)", *values
            )
    await chainer.turn()
    await chainer.anchor()
    url = make_url(stack.database.superuser_url).set(database=make_url(stack.database.url).database)
    driver = await asyncpg.connect(
        url.set(drivername="postgresql").render_as_string(hide_password=False),
        server_settings={"search_path": "agentos"},
    )
    chance, found = random.Random(TAMPERINGS), 0
    try:
        assert (await service.look(driver, organization, keys, anchors)).broken is None
        for _ in range(TAMPERINGS):
            transaction = driver.transaction()
            await transaction.start()
            await tamper(driver, organization, chance)
            found += (await service.look(driver, organization, keys, anchors)).broken is not None
            await transaction.rollback()
    finally:
        await driver.close()
    return found
