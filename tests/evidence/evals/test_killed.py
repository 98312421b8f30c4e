"""A worker process is killed in the middle of an eval; another goes on, and pays for nothing twice."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agentos.evidence.evals import service
from agentos.evidence.evals.model import Eval, EvalStatus
from agentos.kernel import ids
from agentos.kernel.clock import now
from agentos.kernel.database import Database
from agentos.kernel.ids import EvalId, OrgId
from tests.fakes.models import KEY, FakeModels
from tests.fakes.replies import Fault, Reply
from tests.runtime.runs.harness import Harness, harness

CASES = 12
HEARD = 7
AT_ONCE = 3
PAID = {"provider": "claude", "name": "claude-haiku-4-5", "max_tokens": 50}


def number(body: dict[str, Any]) -> int:
    return int(json.loads(body["messages"][0]["content"][0]["text"])["n"])


@asynccontextmanager
async def worker(database_url: str, queue: str, url: str, log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A worker process of its own."""
    env = {
        **os.environ,
        "DATABASE_URL": database_url,
        "TEMPORAL_ADDRESS": os.environ["AGENTOS_TEST_TEMPORAL"],
        "AGENTOS_TASK_QUEUE": queue,
        "ANTHROPIC_API_KEY": KEY,
        "ANTHROPIC_BASE_URL": url,
        "LOG_LEVEL": "WARNING",
    }
    with log.open("ab") as said:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "agentos.apps.worker", env=env, stdout=said, stderr=said
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def show(held: Harness, eval_id: str) -> Eval:
    async with held.doors.open(held.organization) as work:
        return await service.get(work, eval_id)


async def test_an_eval_whose_worker_is_killed_goes_on_elsewhere_and_repeats_no_paid_call(
    database: Database, database_url: str, organization: OrgId, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, log = f"queue-{uuid.uuid4().hex}", tmp_path / "worker.log"
    async with FakeModels(brain=lambda body: Reply(str(number(body) * 2))) as vendor:
        monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
        monkeypatch.setenv("ANTHROPIC_BASE_URL", vendor.url)
        held = harness(database, organization)
        await held.agent([], [], model=PAID, input={"schema": {"type": "object"}})
        rows = [{"id": f"c{n}", "input": {"n": n}, "expected": str(n * 2), "scorer": "exact"} for n in range(CASES)]
        eval_id = EvalId(ids.new("eval"))
        async with held.doors.open(organization) as work:
            data = "\n".join(map(json.dumps, rows)).encode()
            await service.add_dataset(work, "sums", data, by="author", at=now())
            await service.start(
                work,
                held.models,
                eval_id,
                dataset="sums",
                agent_id="tester",
                version="1",
                repeats=1,
                concurrency=AT_ONCE,
                by="author",
                request_id="req-1",
                at=now(),
            )
        vendor.fail(*[None] * HEARD, *[Fault.HANG] * AT_ONCE)
        async with worker(database_url, queue, vendor.url, log) as first, asyncio.timeout(60):
            while (await show(held, eval_id)).done < HEARD or len(vendor.headers) < HEARD + AT_ONCE:
                assert first.returncode is None, log.read_text()
                await asyncio.sleep(0.05)
            first.send_signal(signal.SIGKILL)
            await first.wait()
        answered = [number(one) for one in vendor.requests[:HEARD]]
        async with worker(database_url, queue, vendor.url, log) as second, asyncio.timeout(60):
            while (found := await show(held, eval_id)).status is EvalStatus.RUNNING:
                assert second.returncode is None, log.read_text()
                await asyncio.sleep(0.05)
    assert (found.status, found.done) == (EvalStatus.COMPLETED, CASES), log.read_text()
    afterwards = [number(one) for one in vendor.requests[HEARD + AT_ONCE :]]
    assert sorted(answered + afterwards) == list(range(CASES))
    assert found.report is not None
    said = found.report["candidate"]
    assert (said["scores"]["exact"]["mean"], said["asked"]) == (1, CASES)
    await held.models.close()
