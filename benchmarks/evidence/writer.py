"""``python -m benchmarks.evidence.writer ORGANIZATION COUNT``: one process that writes facts, a commit for each group.

It writes as runs do: statements of several runs at once, through the process's group commit, each of which journals the
step of a run and the fact that says so. It says when it is ready and begins when it is told.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Final

from agentos.kernel.database import Database
from agentos.kernel.settings import DatabaseSettings

AT_ONCE: Final = 20  # runs of one process
_WRITE: Final = """
WITH own AS MATERIALIZED (SELECT set_config('agentos.organization', $1, true) AS org)
INSERT INTO outbox (org, name, key, body)
SELECT own.org, 'StepsJournaled', $2, $3::text::jsonb FROM own RETURNING seq
"""


async def main() -> None:
    """Write so many facts."""
    organization, count = sys.argv[1], int(sys.argv[2])
    database = Database(DatabaseSettings.read())
    await database.group.row("SELECT 1 AS one")
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await asyncio.gather(*(_run(database, organization, f"run_{n}", count // AT_ONCE) for n in range(AT_ONCE)))
    await database.close()


async def _run(database: Database, organization: str, run_id: str, count: int) -> None:
    step = {
        "seq": 7,
        "key": "t3.c0~1",
        "phase": "intent",
        "kind": "skill",
        "name": "note",
        "status": "sent",
        "effect": 1,
        "idempotency_key": f"{run_id}.t3.c0",
        "meta": {"version": "1", "arguments_digest": "sha256:" + "0" * 64, "verdict": "allow", "rule": "tier_matrix"},
        "content": "sha256:" + "1" * 64,
    }
    body = json.dumps({"run_id": run_id, "deployment_id": "dep_1", "segment": 1, "attempt": 1, "steps": [step]})
    for _ in range(count):
        await database.group.row(_WRITE, organization, run_id, body)


if __name__ == "__main__":
    asyncio.run(main())
