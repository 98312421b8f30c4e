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


async def begin(held: Harness) -> EvalId:
    """An eval of so many cases, so many at once, on a model that is paid."""
    await held.agent([], [], model=PAID, input={"schema": {"type": "object"}})
    rows = [{"id": f"c{n}", "input": {"n": n}, "expected": str(n * 2), "scorer": "exact"} for n in range(CASES)]
    eval_id = EvalId(ids.new("eval"))
    async with held.doors.open(held.organization) as work:
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
    return eval_id


async def until_over(held: Harness, eval_id: str, process: asyncio.subprocess.Process, log: Path) -> Eval:
    async with asyncio.timeout(60):
        while (found := await show(held, eval_id)).status is EvalStatus.RUNNING:
            assert process.returncode is None, log.read_text()
            await asyncio.sleep(0.05)
    return found


def known(found: Eval) -> tuple[float, int]:
    assert found.report is not None
    said = found.report["candidate"]
    return said["scores"]["exact"]["mean"], said["asked"]


@pytest.fixture
async def vendor(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeModels]:
    async with FakeModels(brain=lambda body: Reply(str(number(body) * 2))) as fake:
        monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
        monkeypatch.setenv("ANTHROPIC_BASE_URL", fake.url)
        yield fake


async def test_an_eval_whose_worker_is_killed_goes_on_elsewhere_and_repeats_no_paid_call(
    database: Database, database_url: str, organization: OrgId, tmp_path: Path, vendor: FakeModels
) -> None:
    queue, log = f"queue-{uuid.uuid4().hex}", tmp_path / "worker.log"
    held = harness(database, organization)
    eval_id = await begin(held)
    vendor.fail(*[None] * HEARD, *[Fault.HANG] * AT_ONCE)
    async with worker(database_url, queue, vendor.url, log) as first, asyncio.timeout(60):
        while (await show(held, eval_id)).done < HEARD or len(vendor.headers) < HEARD + AT_ONCE:
            assert first.returncode is None, log.read_text()
            await asyncio.sleep(0.05)
        first.send_signal(signal.SIGKILL)
        await first.wait()
    answered = [number(one) for one in vendor.requests[:HEARD]]
    async with worker(database_url, queue, vendor.url, log) as second:
        found = await until_over(held, eval_id, second, log)
    assert (found.status, found.done) == (EvalStatus.COMPLETED, CASES), log.read_text()
    afterwards = [number(one) for one in vendor.requests[HEARD + AT_ONCE :]]
    assert sorted(answered + afterwards) == list(range(CASES))
    assert known(found) == (1, CASES)
    assert (found.lost, found.asked_again) == (1, AT_ONCE)
    await held.models.close()


async def test_whenever_workers_are_killed_no_more_is_asked_again_than_the_eval_says(
    database: Database, database_url: str, organization: OrgId, tmp_path: Path, vendor: FakeModels
) -> None:
    queue, log = f"queue-{uuid.uuid4().hex}", tmp_path / "worker.log"
    held = harness(database, organization)
    eval_id = await begin(held)
    vendor.pause = 0.05
    vendor.fail(*[Fault.SLOW] * CASES * 2)
    kept: set[int] = set()
    for heard in (2, 6):  # in the middle of answers, and while they are committed
        async with worker(database_url, queue, vendor.url, log) as one, asyncio.timeout(60):
            while len(vendor.requests) < heard or (await show(held, eval_id)).done <= len(kept):
                assert one.returncode is None, log.read_text()
                await asyncio.sleep(0.01)
            one.send_signal(signal.SIGKILL)
            await one.wait()
        async with held.doors.open(organization) as work:
            kept = {outcome.task.number for _, outcome in await service.outcomes(work, eval_id)}
        before = len(vendor.requests)
    async with worker(database_url, queue, vendor.url, log) as last:
        found = await until_over(held, eval_id, last, log)
    assert (found.status, known(found)) == (EvalStatus.COMPLETED, (1, CASES)), log.read_text()
    assert not kept & {number(one) for one in vendor.requests[before:]}
    assert found.lost == 2
    assert CASES <= len(vendor.requests) <= CASES + found.asked_again
    await held.models.close()


async def test_a_worker_that_is_told_to_stop_lets_paid_calls_end_and_another_asks_none_of_them_again(
    database: Database, database_url: str, organization: OrgId, tmp_path: Path, vendor: FakeModels
) -> None:
    queue, log = f"queue-{uuid.uuid4().hex}", tmp_path / "worker.log"
    held = harness(database, organization)
    eval_id = await begin(held)
    vendor.pause = 0.7  # an answer takes longer than the engine waits before it cancels
    vendor.fail(*[None] * HEARD, *[Fault.SLOW] * AT_ONCE)
    async with worker(database_url, queue, vendor.url, log) as first, asyncio.timeout(60):
        while len(vendor.requests) < HEARD + AT_ONCE:
            assert first.returncode is None, log.read_text()
            await asyncio.sleep(0.05)
        first.send_signal(signal.SIGTERM)
        assert await first.wait() == 0, log.read_text()
    assert (await show(held, eval_id)).done == HEARD + AT_ONCE, log.read_text()
    async with worker(database_url, queue, vendor.url, log) as second:
        found = await until_over(held, eval_id, second, log)
    assert (found.status, known(found), found.lost) == (EvalStatus.COMPLETED, (1, CASES), 0), log.read_text()
    assert sorted(number(one) for one in vendor.requests) == list(range(CASES))
    await held.models.close()
