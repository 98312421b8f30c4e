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

from agentos.evidence.evals import service
from agentos.evidence.evals.model import Eval, EvalStatus
from tests.evidence.evals.examination import begin, prepare, show
from tests.fakes.models import KEY, FakeModels
from tests.fakes.replies import Fault
from tests.runtime.runs.harness import Harness

CASES = 12
HEARD = 7
AT_ONCE = 3


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


async def test_an_eval_whose_worker_is_killed_goes_on_elsewhere_and_repeats_no_paid_call(
    paid: Harness, database_url: str, tmp_path: Path, vendor: FakeModels
) -> None:
    queue, log = f"queue-{uuid.uuid4().hex}", tmp_path / "worker.log"
    await prepare(paid, CASES)
    eval_id = await begin(paid, concurrency=AT_ONCE)
    vendor.fail(*[None] * HEARD, *[Fault.HANG] * AT_ONCE)
    async with worker(database_url, queue, vendor.url, log) as first, asyncio.timeout(60):
        while (await show(paid, eval_id)).done < HEARD or len(vendor.headers) < HEARD + AT_ONCE:
            assert first.returncode is None, log.read_text()
            await asyncio.sleep(0.05)
        first.send_signal(signal.SIGKILL)
        await first.wait()
    answered = [number(one) for one in vendor.requests[:HEARD]]
    async with worker(database_url, queue, vendor.url, log) as second:
        found = await until_over(paid, eval_id, second, log)
    assert (found.status, found.done) == (EvalStatus.COMPLETED, CASES), log.read_text()
    afterwards = [number(one) for one in vendor.requests[HEARD + AT_ONCE :]]
    assert sorted(answered + afterwards) == list(range(CASES))
    assert known(found) == (1, CASES)
    assert (found.lost, found.asked_again) == (1, AT_ONCE)


async def test_whenever_workers_are_killed_no_more_is_asked_again_than_the_eval_says(
    paid: Harness, database_url: str, tmp_path: Path, vendor: FakeModels
) -> None:
    queue, log = f"queue-{uuid.uuid4().hex}", tmp_path / "worker.log"
    await prepare(paid, CASES)
    eval_id = await begin(paid, concurrency=AT_ONCE)
    vendor.pause = 0.05
    vendor.fail(*[Fault.SLOW] * CASES * 2)
    kept: set[int] = set()
    for heard in (2, 6):  # in the middle of answers, and while they are committed
        async with worker(database_url, queue, vendor.url, log) as one, asyncio.timeout(60):
            while len(vendor.requests) < heard or (await show(paid, eval_id)).done <= len(kept):
                assert one.returncode is None, log.read_text()
                await asyncio.sleep(0.01)
            one.send_signal(signal.SIGKILL)
            await one.wait()
        async with paid.doors.open(paid.organization) as work:
            kept = {outcome.task.number for _, outcome in await service.outcomes(work, eval_id)}
        before = len(vendor.requests)
    async with worker(database_url, queue, vendor.url, log) as last:
        found = await until_over(paid, eval_id, last, log)
    assert (found.status, known(found)) == (EvalStatus.COMPLETED, (1, CASES)), log.read_text()
    assert not kept & {number(one) for one in vendor.requests[before:]}
    assert found.lost == 2
    assert CASES <= len(vendor.requests) <= CASES + found.asked_again


async def test_a_worker_that_is_told_to_stop_lets_paid_calls_end_and_another_asks_none_of_them_again(
    paid: Harness, database_url: str, tmp_path: Path, vendor: FakeModels
) -> None:
    queue, log = f"queue-{uuid.uuid4().hex}", tmp_path / "worker.log"
    await prepare(paid, CASES)
    eval_id = await begin(paid, concurrency=AT_ONCE)
    vendor.pause = 0.7  # an answer takes longer than the engine waits before it cancels
    vendor.fail(*[None] * HEARD, *[Fault.SLOW] * AT_ONCE)
    async with worker(database_url, queue, vendor.url, log) as first, asyncio.timeout(60):
        while len(vendor.requests) < HEARD + AT_ONCE:
            assert first.returncode is None, log.read_text()
            await asyncio.sleep(0.05)
        first.send_signal(signal.SIGTERM)
        assert await first.wait() == 0, log.read_text()
    assert (await show(paid, eval_id)).done == HEARD + AT_ONCE, log.read_text()
    async with worker(database_url, queue, vendor.url, log) as second:
        found = await until_over(paid, eval_id, second, log)
    assert (found.status, known(found), found.lost) == (EvalStatus.COMPLETED, (1, CASES), 0), log.read_text()
    assert sorted(number(one) for one in vendor.requests) == list(range(CASES))
