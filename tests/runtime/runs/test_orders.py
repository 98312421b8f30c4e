"""Orders that people give to a run under way: lower its tier, cancel, pause, resume."""

from __future__ import annotations

from typing import Any

import pytest

from agentos.control.deployments import service as deployments
from agentos.control.policy.model import Tier
from agentos.kernel.clock import now
from agentos.runtime.runs import service
from agentos.runtime.runs.model import RunEndedAlready, RunStatus
from tests.runtime.runs.harness import DONE, Harness, calls


async def test_lowering_the_tier_binds_the_next_effect_of_a_run_in_flight(held: Harness) -> None:
    deployment = await held.agent([calls(("note", 1)), calls(("note", 2)), DONE], tier="L2")

    async def lower(_given: dict[str, Any]) -> dict[str, Any]:
        async with held.doors.open(held.organization) as work:
            await deployments.set_tier(work, deployment, Tier.L1, by="a", at=now())
        return {}

    held.world.next("note", lower)
    run = await held.finish(await held.start())
    assert run.status is RunStatus.COMPLETED
    assert held.world.count("note") == 1
    assert [s["status"] for s in await held.steps(run.id) if s["key"] == "t1.c0"] == ["drafted"]


async def ordered(held: Harness, order: str) -> str:
    """A run to which this order is given while it looks."""
    run_id = await held.start()

    async def give(_given: dict[str, Any]) -> dict[str, Any]:
        async with held.doors.open(held.organization) as work:
            await service.order(work, run_id, order, by="a")
        return {}

    held.world.next("look", give)
    return run_id


async def test_a_cancelled_run_commits_no_further_effect(held: Harness) -> None:
    await held.agent([calls(("look", 1)), calls(("note", 2)), DONE])
    run_id = await ordered(held, "cancel")
    run = await held.finish(run_id)
    assert run.status is RunStatus.CANCELLED
    assert held.world.count("note") == 0
    assert [step["key"] for step in await held.steps(run_id)] == ["t0", "t0.c0", "t1"]  # the last answer is kept
    async with held.doors.open(held.organization) as work:
        with pytest.raises(RunEndedAlready):
            await service.order(work, run_id, "pause", by="a")


async def test_a_paused_run_rests_before_its_next_effect_and_goes_on_when_resumed(held: Harness) -> None:
    await held.agent([calls(("look", 1)), calls(("note", 2)), DONE])
    run_id = await ordered(held, "pause")
    run = await held.finish(run_id)
    assert run.status is RunStatus.PAUSED
    assert held.world.count("note") == 0
    assert [step["key"] for step in await held.steps(run_id)] == ["t0", "t0.c0", "t1"]
    async with held.doors.open(held.organization) as work:
        await service.order(work, run_id, "resume", by="a")
    run = await held.finish(run_id, run.token.segment + 1)
    assert run.status is RunStatus.COMPLETED
    assert held.world.count("note") == 1


async def test_effects_wait_while_the_deployment_is_paused(held: Harness) -> None:
    deployment = await held.agent([calls(("look", 1)), calls(("note", 2)), DONE])
    run_id = await held.start()

    async def pause(_given: dict[str, Any]) -> dict[str, Any]:
        async with held.doors.open(held.organization) as work:
            await deployments.pause(work, deployment, by="a", at=now())
        return {}

    held.world.next("look", pause)
    run = await held.finish(run_id)
    assert run.waiting is not None
    assert run.waiting["reason"] == "deployment_paused"
    assert [step["key"] for step in await held.steps(run_id)] == ["t0", "t0.c0", "t1"]
    assert held.world.count("note") == 0
    async with held.doors.open(held.organization) as work:
        await deployments.resume(work, deployment, by="a", at=now())
    run = await held.finish(run_id, run.token.segment + 1)
    assert run.status is RunStatus.COMPLETED
