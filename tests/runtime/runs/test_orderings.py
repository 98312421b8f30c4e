"""No ordering of yes, no, time, policy and crash lets an action happen twice, or without a yes that still held."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentos.control.approvals import service as approvals
from agentos.control.approvals.ticker import tick
from agentos.control.deployments import service as deployments
from agentos.control.policy.model import Tier
from agentos.kernel.clock import now
from agentos.kernel.database import Database
from agentos.kernel.errors import AgentOSError
from agentos.kernel.ids import OrgId, RunId
from agentos.runtime.runs import calls as calling
from agentos.runtime.runs.model import RunStatus
from tests.runtime.runs.harness import DONE, Harness, calls, harness, make_skill

EVENTS = (
    *("yes", "yes", "no", "timeout", "lower", "raise", "segment", "segment"),
    *("crash before the intent", "crash before the send", "crash within the call"),
)


class Crash(BaseException):
    """The worker is gone."""


async def crash(*_: Any, **__: Any) -> Any:
    raise Crash


def crash_within(_given: dict[str, Any]) -> Any:
    raise Crash


async def answer(held: Harness, run_id: RunId, approved: bool) -> bool:
    """Whether the answer was taken."""
    async with held.doors.open(held.organization) as work:
        found = await approvals.listed(work, status="", run_id=run_id, after="", most=10)
        if not found:
            return False
        try:
            await approvals.answer(
                work, found[-1].id, person_id="p", handle="ann", approved=approved, note="", at=now()
            )
        except AgentOSError:
            return False
        return True


async def intents(held: Harness, run_id: RunId) -> list[dict[str, Any]]:
    return [step for step in await held.steps(run_id) if step["phase"] == "intent"]


async def play(held: Harness, deployment: str, events: list[str]) -> None:
    run_id, said, number, low = await held.start(), [], 0, False
    held.world.done.clear()
    held.world.acts.clear()
    for event in [*events, "segment"]:
        tier = {"lower": Tier.L1, "raise": Tier.L3}.get(event)
        if tier is not None:
            low = tier is Tier.L1
            async with held.doors.open(held.organization) as work:
                await deployments.set_tier(work, deployment, tier, by="a", at=now())
        elif event in ("yes", "no"):
            if await answer(held, run_id, event == "yes"):
                said.append(event)
        elif event == "timeout":
            await tick(held.doors, held.parts.meter, at=now() + timedelta(hours=3))
        else:
            number, before = number + 1, await intents(held, run_id)
            with pytest.MonkeyPatch.context() as patched:
                if event == "crash before the intent":
                    patched.setattr(approvals, "consume", crash)
                elif event == "crash before the send":
                    patched.setattr(calling, "_timed", crash)
                elif event == "crash within the call":
                    held.world.next("launch", crash_within)
                try:
                    await held.segment(run_id, number)
                except Crash:
                    number -= 1  # Temporal tries the segment again
                held.world.acts.clear()
            if low and not before:
                assert not await intents(held, run_id), "a draft beats a yes"
        assert held.world.count("launch") <= 1, events
    sent = await intents(held, run_id)
    if sent:
        assert said[:1] == ["yes"], events
        assert sent[0]["meta"]["approval"]
    else:
        assert held.world.done == [], events
    async with held.doors.open(held.organization) as work:
        found = await approvals.listed(work, status="", run_id=run_id, after="", most=10)
    assert sum(one.consumed_at is not None for one in found) <= 1
    run = await held.run(run_id)
    if run.status is RunStatus.COMPLETED:
        assert not [one for one in found if one.status == "pending"], "a run that is over asks nobody"


async def test_no_ordering_acts_twice_or_without_a_yes(database: Database, organization: OrgId) -> None:
    held = harness(database, organization)
    held.parts.registry.add(make_skill(held.world, "launch", "S3", timeout=timedelta(milliseconds=50)))
    held.parts.settings = held.parts.settings.model_copy(update={"send_window_seconds": 0.05})
    deployment = await held.agent([calls(("launch", 1)), DONE], ["launch"], tier="L3")
    loop = asyncio.get_running_loop()

    @settings(max_examples=80, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.sampled_from(EVENTS), max_size=8))
    def every(events: list[str]) -> None:
        async def one() -> None:
            async with held.doors.open(held.organization) as work:
                await deployments.set_tier(work, deployment, Tier.L3, by="a", at=now())
            await play(held, deployment, ["segment", *events])

        asyncio.run_coroutine_threadsafe(one(), loop).result(60)

    await asyncio.to_thread(every)
