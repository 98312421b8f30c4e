"""DBOS: one workflow of N steps, each recorded in PostgreSQL before the next begins. Argument: the database's URL."""

from __future__ import annotations

import asyncio
import sys

from answering import answer, versions
from dbos import DBOS, DBOSConfig


@DBOS.step()
async def note(n: int) -> dict[str, int]:
    return {"n": n}


@DBOS.workflow()
async def work(steps: int) -> int:
    for n in range(steps):
        await note(n)
    return steps


async def run(steps: int) -> None:
    assert await work(steps) == steps


async def main() -> None:
    config: DBOSConfig = {"name": "spine", "system_database_url": sys.argv[1], "log_level": "WARNING"}
    DBOS(config=config)
    DBOS.launch()
    await answer({"settings": f"{versions('dbos')}; async workflow and steps, its default pool of 20"}, run)


if __name__ == "__main__":
    asyncio.run(main())
