"""Runs on a real Temporal: started by facts, woken, interrupted, and found again when their workflow is gone."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from temporalio.client import Client
from temporalio.worker import Worker

from agentos.control.approvals import service as approvals
from agentos.control.deployments import service as deployments
from agentos.control.stops import service as stops
from agentos.control.stops.model import StopKind, StopScope, Wanted
from agentos.kernel.clock import now
from agentos.kernel.database import Database
from agentos.kernel.durable import Link
from agentos.kernel.errors import Unavailable
from agentos.kernel.ids import OrgId, RunId
from agentos.kernel.outbox import consume, move, read
from agentos.kernel.settings import TemporalSettings
from agentos.runtime.runs import engine as engines
from agentos.runtime.runs import service
from agentos.runtime.runs.activities import activities
from agentos.runtime.runs.engine import Engine, RunEngine
from agentos.runtime.runs.model import Run
from agentos.runtime.runs.workflow import AgentRun
from tests.runtime.runs.harness import DONE, Harness, calls, harness


class Stage:
    """A harness with its own task queue, an engine, and workers that come and go."""

    def __init__(self, held: Harness, link: Link, client: Client, queue: str) -> None:
        self.held, self.client, self.queue = held, client, queue
        self.engine = Engine(link, queue, eager=True)
        self.run_engine = RunEngine(held.doors, self.engine, held.parts.meter)
        held.doors.hint = self.run_engine.hint

    @asynccontextmanager
    async def worker(self, *, inline_only: bool = False) -> AsyncIterator[None]:
        async with Worker(
            self.client,
            task_queue=self.queue,
            workflows=[AgentRun],
            activities=activities(self.held.parts),
            no_remote_activities=inline_only,
        ):
            yield

    async def until(self, run_id: RunId, good: Callable[[Run], bool]) -> Run:
        async with asyncio.timeout(30):
            while True:
                run = await self.held.run(run_id)
                if good(run):
                    return run
                await asyncio.sleep(0.02)

    async def ended(self, run_id: RunId) -> Run:
        return await self.until(run_id, lambda run: run.status.terminal)

    async def closed(self, run_id: RunId) -> None:
        await self.client.get_workflow_handle(run_id).result()


@pytest.fixture
async def stage(database: Database, organization: OrgId) -> Stage:
    held = harness(database, organization)
    link = Link(TemporalSettings(address=os.environ["AGENTOS_TEST_TEMPORAL"]), identity="test")
    return Stage(held, link, await link.client(), f"queue-{uuid.uuid4().hex}")


def waits_for(reason: str) -> Callable[[Run], bool]:
    return lambda run: (run.waiting or {}).get("reason") == reason


async def test_a_run_starts_at_its_commit_and_its_workflow_ends_with_it(stage: Stage) -> None:
    await stage.held.agent([calls(("look", 1), ("note", 2)), DONE])
    async with stage.worker():
        run_id = await stage.held.start()
        assert (await stage.ended(run_id)).status.value == "completed"
        await stage.closed(run_id)


async def test_a_run_whose_hint_failed_is_started_by_its_fact(stage: Stage) -> None:
    stage.held.doors.hint = None
    await stage.held.agent([DONE])
    stop = asyncio.Event()
    async with stage.worker():
        run_id = await stage.held.start()
        assert (await stage.held.run(run_id)).status.value == "accepted"
        consumer = asyncio.create_task(consume(stage.held.parts.database, [stage.run_engine.consumer()], stop))
        assert (await stage.ended(run_id)).status.value == "completed"
        stop.set()
        await consumer


async def test_starting_a_run_twice_is_starting_it_once(stage: Stage) -> None:
    await stage.held.agent([calls(("pay", 1)), DONE], ["pay"], tier="L3")
    async with stage.worker():
        run_id = await stage.held.start()
        await stage.until(run_id, waits_for("approval"))
        assert await stage.engine.start(stage.held.organization, run_id) is False


async def test_a_yes_wakes_the_run(stage: Stage) -> None:
    await stage.held.agent([calls(("pay", 1)), DONE], ["pay"], tier="L3")
    async with stage.worker():
        run_id = await stage.held.start()
        await stage.until(run_id, waits_for("approval"))
        async with stage.held.doors.open(stage.held.organization) as work:
            (asked,) = await approvals.listed(work, status="pending", run_id=run_id, after="", most=2)
            await approvals.answer(work, asked.id, person_id="p", handle="approver", approved=True, note="", at=now())
        assert (await stage.ended(run_id)).status.value == "completed"
    assert stage.held.world.count("pay") == 1


async def test_cancelling_interrupts_a_read_that_is_under_way(stage: Stage) -> None:
    begun = asyncio.Event()

    async def long(_given: dict[str, Any]) -> Any:
        begun.set()
        await asyncio.sleep(0.25)
        raise Unavailable("again")

    stage.held.world.next("look", *[long] * 200)
    stage.held.parts.registry.get("look", "1")
    await stage.held.agent([calls(("look", 1)), calls(("note", 1)), DONE])
    async with stage.worker():
        run_id = await stage.held.start()
        await begun.wait()
        async with stage.held.doors.open(stage.held.organization) as work:
            await service.order(work, run_id, "cancel", by="a")
        run = await stage.ended(run_id)
        await stage.closed(run_id)
    assert run.status.value == "cancelled"
    assert stage.held.world.count("note") == 0


async def test_pausing_and_resuming_goes_on_where_the_run_was(stage: Stage) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def hold(_given: dict[str, Any]) -> dict[str, Any]:
        begun.set()
        await asyncio.wait_for(go.wait(), 5)
        return {}

    stage.held.world.next("note", hold)
    await stage.held.agent([calls(("note", 1)), calls(("note", 2)), DONE])
    async with stage.worker():
        run_id = await stage.held.start()
        await begun.wait()
        async with stage.held.doors.open(stage.held.organization) as work:
            await service.order(work, run_id, "pause", by="a")
        go.set()
        run = await stage.until(run_id, lambda run: run.status.value == "paused")
        async with stage.held.doors.open(stage.held.organization) as work:
            await service.order(work, run_id, "resume", by="a")
        run = await stage.ended(run_id)
    assert run.status.value == "completed"
    assert stage.held.world.count("note") == 2


async def test_resuming_a_deployment_wakes_the_runs_that_waited_for_it(stage: Stage) -> None:
    deployment = await stage.held.agent([calls(("look", 1)), calls(("note", 2)), DONE])

    async def pause(_given: dict[str, Any]) -> dict[str, Any]:
        async with stage.held.doors.open(stage.held.organization) as work:
            await deployments.pause(work, deployment, by="a", at=now())
        return {}

    stage.held.world.next("look", pause)
    async with stage.worker():
        run_id = await stage.held.start()
        await stage.until(run_id, waits_for("deployment_paused"))
        async with stage.held.doors.open(stage.held.organization) as work:
            await deployments.resume(work, deployment, by="a", at=now())
        assert (await stage.ended(run_id)).status.value == "completed"


async def skip_the_past(stage: Stage) -> None:
    """Pass over the facts that earlier tests left behind."""
    database, consumer = stage.held.parts.database, stage.run_engine.consumer()
    async with database.connection("agentos_system") as connection:
        while found := (await read(connection, consumer, 1000))[0]:
            await move(database, consumer, found[-1].position)


async def test_lifting_a_stop_wakes_the_runs_that_it_held_once_for_each_time(stage: Stage) -> None:
    """The name of a wake is of one wait: an earlier lift must not let a held run spin."""
    organization, stop, ordered = stage.held.organization, asyncio.Event(), list[str]()
    await skip_the_past(stage)
    consumer = asyncio.create_task(consume(stage.held.parts.database, [stage.run_engine.consumer()], stop))
    await stage.held.agent([calls(("note", 1), ("note", 2), ("note", 3)), DONE])

    async def kill(_given: dict[str, Any]) -> dict[str, Any]:
        async with stage.held.doors.open(organization) as work:
            made = await stops.order(work, Wanted(StopKind.KILL, StopScope.ORGANIZATION), by="a")
        ordered.append(made.id)
        return {}

    stage.held.world.next("note", kill, kill)
    async with stage.worker():
        run_id = await stage.held.start()
        for number in range(2):
            async with asyncio.timeout(30):
                while len(ordered) <= number:
                    await asyncio.sleep(0.01)
            await stage.until(run_id, lambda run: (run.waiting or {}).get("detail") == ordered[-1])
            async with stage.held.doors.open(organization) as work:
                await stops.lift(work, ordered[-1], by="a")
        run = await stage.ended(run_id)
    stop.set()
    await consumer
    assert run.status.value == "completed"
    assert run.token.segment <= 4, "it waited, and did not ask again and again"
    assert stage.held.world.count("note") == 3


async def test_the_sweeper_restores_a_parked_run_whose_workflow_is_gone(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "YOUNG_SECONDS", 0.0)
    await stage.held.agent([calls(("pay", 1)), DONE], ["pay"], tier="L3")
    async with stage.worker():
        run_id = await stage.held.start()
        await stage.until(run_id, waits_for("approval"))
        handle = stage.client.get_workflow_handle(run_id)
        await handle.terminate("the engine lost it")
        assert not await stage.engine.alive(run_id)
        async with asyncio.timeout(20):
            while not await stage.engine.alive(run_id):  # the engine's index may be late
                await stage.run_engine.sweep()
                await asyncio.sleep(0.1)
        async with stage.held.doors.open(stage.held.organization) as work:
            (asked,) = await approvals.listed(work, status="pending", run_id=run_id, after="", most=2)
            await approvals.answer(work, asked.id, person_id="p", handle="approver", approved=True, note="", at=now())
        assert (await stage.ended(run_id)).status.value == "completed"
    # The sweep may find runs that an earlier test left behind, too.
    assert [key for _, key in stage.held.world.done if key.startswith(run_id)] == [f"{run_id}.t0.c0"]


async def test_a_long_inline_run_goes_on_under_heartbeats(stage: Stage) -> None:
    stage.held.parts.settings = stage.held.parts.settings.model_copy(update={"inline_seconds": 0.1})

    async def slow(_given: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(0.12)
        return {}

    stage.held.world.next("note", slow, slow, slow)
    await stage.held.agent([calls(("note", 1)), calls(("note", 2)), calls(("note", 3)), DONE])
    async with stage.worker():
        run = await stage.ended(await stage.held.start())
    assert run.status.value == "completed"
    assert run.token.segment == 2
    assert stage.held.world.count("note") == 3


async def test_nothing_is_lost_while_the_engine_is_away(stage: Stage) -> None:
    await stage.held.agent([DONE])
    away = Link(TemporalSettings(address="127.0.0.1:1"), identity="test")
    broken = RunEngine(stage.held.doors, Engine(away, stage.queue), stage.held.parts.meter)
    stage.held.doors.hint = broken.hint
    run_id = await stage.held.start()
    run = await stage.held.run(run_id)
    assert run.status.value == "accepted"
    stop = asyncio.Event()
    async with stage.worker():
        consumer = asyncio.create_task(consume(stage.held.parts.database, [stage.run_engine.consumer()], stop))
        assert (await stage.ended(run_id)).status.value == "completed"
        stop.set()
        await consumer
