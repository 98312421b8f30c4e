"""No ordering of yes, no, time, policy, stop and crash lets an action happen twice, or without a yes that still held,
or after a stop.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from agentos.control.approvals import service as approvals
from agentos.control.approvals.model import Approval
from agentos.control.approvals.ticker import tick
from agentos.control.deployments import service as deployments
from agentos.control.policy.model import Tier
from agentos.control.stops import service as stops
from agentos.control.stops.model import StopKind, StopScope, Wanted
from agentos.kernel.clock import now
from agentos.kernel.database import Database
from agentos.kernel.errors import AgentOSError
from agentos.kernel.ids import OrgId, RunId
from agentos.runtime.runs.model import RunStatus
from agentos.runtime.runs.outside import Live
from tests.runtime.runs.harness import DONE, Crash, Harness, calls, harness, make_skill

EVENTS = (
    *("yes", "yes", "yes", "yes", "no", "timeout", "lower", "raise", "stop", "lift", "segment", "segment"),
    *("crash before the intent", "crash before the send", "crash within the call"),
    *("stop before the intent", "stop within the call"),
)
TIERS = {"lower": Tier.L1, "raise": Tier.L3}


async def crash(*_: Any, **__: Any) -> Any:
    raise Crash


def crash_within(_given: dict[str, Any]) -> Any:
    raise Crash


@dataclass
class Play:
    """A run whose one effect takes a yes, and what has come about so far."""

    held: Harness
    deployment: str
    run_id: RunId
    said: list[str] = field(default_factory=list)  # the answers that were taken
    number: int = 0
    low: bool = False
    stop: str = ""  # in force

    async def happens(self, event: str) -> None:
        if event in TIERS:
            await self.put(TIERS[event])
        elif event in ("yes", "no"):
            await self.answer(event)
        elif event == "timeout":
            await tick(self.held.doors, self.held.parts.meter, at=now() + timedelta(hours=3))
        elif event in ("stop", "lift"):
            before = await self.done()
            await (self.order() if event == "stop" else self.lift())
            assert await self.done() == before, "a stop and its lift leave questions and answers as they are"
        else:
            await self.segment(event)

    async def segment(self, event: str) -> None:
        """One segment, with or without a crash or a stop in it."""
        before, held = await self.done(), bool(self.stop)
        with pytest.MonkeyPatch.context() as patched:
            ordering = self.prepare(event, patched)
            self.number += 1
            try:
                await self.held.segment(self.run_id, self.number)
            except Crash:
                self.number -= 1  # Temporal tries the segment again
            self.held.world.acts.clear()
        await asyncio.gather(*ordering)
        after = await self.done()
        if held or (self.stop and event == "stop before the intent"):
            assert after == before, "nothing is done, asked or used up under a stop"
        if self.low and not before[0]:
            assert not after[0], "a draft beats a yes"

    def prepare(self, event: str, patched: pytest.MonkeyPatch) -> list[asyncio.Task[None]]:
        """Let it come about in the next segment; what goes on by itself once it has."""
        ordering: list[asyncio.Task[None]] = []
        consume = approvals.consume

        async def stop_first(*given: Any, **more: Any) -> None:
            if not self.stop:
                await self.order()
            await consume(*given, **more)

        async def stop_within() -> dict[str, Any]:
            ordering.append(asyncio.create_task(self.order()))
            await asyncio.shield(ordering[0])  # the call may time out; the order is a person's
            return {}

        if event == "crash before the intent":
            patched.setattr(approvals, "consume", crash)
        elif event == "crash before the send":
            patched.setattr(Live, "call", crash)
        elif event == "crash within the call":
            self.held.world.next("launch", crash_within)
        elif event == "stop before the intent":
            patched.setattr(approvals, "consume", stop_first)
        elif event == "stop within the call":
            self.held.world.next("launch", lambda _: stop_within())
        return ordering

    async def put(self, tier: Tier) -> None:
        async with self.held.doors.open(self.held.organization) as work:
            await deployments.set_tier(work, self.deployment, tier, by="a", at=now())
        self.low = tier is Tier.L1

    async def answer(self, said: str) -> None:
        async with self.held.doors.open(self.held.organization) as work:
            found = await approvals.listed(work, status="", run_id=self.run_id, after="", most=10)
            if not found:
                return
            try:
                await approvals.answer(
                    work, found[-1].id, person_id="p", handle="ann", approved=said == "yes", note="", at=now()
                )
            except AgentOSError:
                return
        self.said.append(said)

    async def order(self) -> None:
        async with self.held.doors.open(self.held.organization) as work:
            wanted = Wanted(StopKind.KILL, StopScope.DEPLOYMENT, self.deployment)
            self.stop = (await stops.order(work, wanted, by="a")).id

    async def lift(self) -> None:
        if self.stop:
            async with self.held.doors.open(self.held.organization) as work:
                await stops.lift(work, self.stop, by="a")
        self.stop = ""

    async def done(self) -> tuple[list[str], list[Any], list[Any]]:
        """The intents, what was sent, and how each question stands."""
        asked = [(one.id, one.status, one.consumed_at) for one in await self.asked()]
        return [one["key"] for one in await self.intents()], list(self.held.world.done), asked

    async def intents(self) -> list[dict[str, Any]]:
        return [step for step in await self.held.steps(self.run_id) if step["phase"] == "intent"]

    async def asked(self) -> list[Approval]:
        async with self.held.doors.open(self.held.organization) as work:
            return await approvals.listed(work, status="", run_id=self.run_id, after="", most=10)


async def play(held: Harness, deployment: str, events: list[str]) -> None:
    held.world.done.clear()
    held.world.acts.clear()
    one = Play(held, deployment, await held.start())
    await one.put(Tier.L3)
    try:
        for event in ["segment", *events, "lift", "segment"]:
            await one.happens(event)
            assert held.world.count("launch") <= 1, events
    finally:
        await one.lift()
    sent = await one.intents()
    if sent:
        assert one.said[:1] == ["yes"], events
        assert sent[0]["meta"]["approval"]
    else:
        assert held.world.done == [], events
        assert one.said[:1] != ["yes"] or "lower" in events, "a yes is acted on once nothing withholds it"
    asked = await one.asked()
    assert sum(each.consumed_at is not None for each in asked) <= 1
    run = await held.run(one.run_id)
    if run.status is RunStatus.COMPLETED:
        assert not [each for each in asked if each.status == "pending"], "a run that is over asks nobody"


async def test_no_ordering_acts_twice_or_without_a_yes_or_after_a_stop(database: Database, organization: OrgId) -> None:
    held = harness(database, organization)
    held.parts.registry.add(make_skill(held.world, "launch", "S3", timeout=timedelta(milliseconds=50)))
    held.parts.settings = held.parts.settings.model_copy(update={"send_window_seconds": 0.05})
    deployment = await held.agent([calls(("launch", 1)), DONE], ["launch"], tier="L3")
    loop = asyncio.get_running_loop()

    @settings(
        max_examples=120,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],  # to look for a shorter ordering takes longer than the test may
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(st.sampled_from(EVENTS), min_size=3, max_size=10))
    @example(["yes", "stop", "segment", "lift", "segment"])
    @example(["stop", "yes", "segment", "segment", "lift"])
    @example(["stop", "segment", "lift", "yes", "segment"])
    @example(["yes", "stop before the intent", "segment", "lift"])
    @example(["yes", "stop within the call", "segment", "lift"])
    @example(["yes", "crash before the send", "stop", "segment", "lift"])
    def every(events: list[str]) -> None:
        asyncio.run_coroutine_threadsafe(play(held, deployment, events), loop).result(60)

    await asyncio.to_thread(every)
