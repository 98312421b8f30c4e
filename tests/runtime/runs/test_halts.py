"""Stops bind the runs that they are about: no effect after the order, no step begun, everything goes on at the lift."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from agentos.adapters.llm.stub import Stub
from agentos.control.approvals import service as approvals
from agentos.control.stops import service as stops
from agentos.control.stops.model import Stop, StopKind, StopScope, Wanted
from agentos.intake.identity import service as identity
from agentos.kernel.clock import now
from agentos.kernel.database import Database
from agentos.kernel.errors import Unavailable
from agentos.kernel.ids import OrgId
from agentos.runtime.runs import admission, outcomes, service
from agentos.runtime.runs.journal import Journal
from agentos.runtime.runs.model import StopsUnreadable, TooManyHeld
from tests.runtime.runs.harness import DONE, Harness, calls, make_skill


async def order(held: Harness, kind: StopKind, target: str = "", scope: StopScope = StopScope.ORGANIZATION) -> Stop:
    async with held.doors.open(held.organization) as work:
        return await stops.order(work, Wanted(kind, scope, target, "test"), by="commander")


async def lift(held: Harness, stop: Stop) -> None:
    async with held.doors.open(held.organization) as work:
        await stops.lift(work, stop.id, by="commander")


def then(act: Callable[[], Any]) -> Callable[[dict[str, Any]], Any]:
    """A skill's call that does this before it answers."""

    async def call(_given: dict[str, Any]) -> dict[str, Any]:
        await act()
        return {}

    return call


@pytest.mark.parametrize("kind", [StopKind.KILL, StopKind.PAUSE])
@pytest.mark.parametrize("scope", ["organization", "category", "deployment", "agent"])
async def test_no_effect_is_committed_after_the_order_and_the_run_goes_on_at_the_lift(
    held: Harness, kind: StopKind, scope: str
) -> None:
    deployment = await held.agent([calls(("note", 1), ("note", 2)), calls(("note", 3)), DONE])
    target = {"organization": "", "category": "tests", "deployment": deployment, "agent": "tester"}[scope]
    ordered: list[Stop] = []

    async def stop() -> None:
        ordered.append(await order(held, kind, target, StopScope(scope)))

    held.world.next("note", then(stop))
    run_id = await held.start()
    end = await held.segment(run_id)
    run = await held.run(run_id)
    assert (end.state, run.waiting and run.waiting["reason"]) == ("wait", "stopped")
    assert held.world.count("note") == 1, "the call that was on the wire has its answer, and no other was made"
    steps = await held.steps(run_id)
    assert [one["key"] for one in steps if one["phase"] == "intent"] == ["t0.c0~1"]
    assert next(one for one in steps if one["key"] == "t0.c0" and one["phase"] == "result")["status"] == "ok"
    assert (await held.segment(run_id, 2)).state == "wait", "a takeover or a re-check finds it held still"
    await lift(held, ordered[0])
    assert (await held.finish(run_id, 3)).status.value == "completed"
    assert held.world.count("note") == 3


async def test_a_run_that_is_taken_over_while_it_is_held_does_nothing(held: Harness) -> None:
    await held.agent([calls(("look", 1), ("note", 2)), DONE])
    stop = await order(held, StopKind.KILL)
    run_id = await held.start()
    assert (await held.segment(run_id)).wake == f"stop:{stop.id}:1.1"
    assert held.world.done == []
    async with held.doors.open(held.organization) as work:
        why = await service.why(work, run_id)
    assert (why["reason"], why["detail"]) == ("stopped", stop.id)


async def test_another_organizations_stop_holds_nobody_here(held: Harness, database: Database) -> None:
    other = OrgId(held.organization + "_b")
    await identity.found_organization(database, other, name="Other")
    async with held.doors.open(other) as work:
        await stops.order(work, Wanted(StopKind.KILL, StopScope.ORGANIZATION), by="stranger")
    await held.agent([calls(("note", 1)), DONE])
    assert (await held.finish(await held.start())).status.value == "completed"


async def test_a_stop_of_every_organization_holds_and_releases_the_runs_of_each(held: Harness) -> None:
    await held.agent([calls(("note", 1)), DONE])
    wanted = Wanted(StopKind.KILL, StopScope.GLOBAL, confirm="global")
    stop = await stops.order_everything(held.doors, wanted, organization=held.organization, by="commander")
    try:
        again = await stops.order_everything(held.doors, wanted, organization=held.organization, by="commander")
        assert again.id == stop.id
        run_id = await held.start()
        assert (await held.segment(run_id)).state == "wait"
        assert held.world.done == []
    finally:
        await stops.lift_everything(held.doors, stop, organization=held.organization, by="commander")
    assert (await held.finish(run_id, 2)).status.value == "completed"


async def test_an_order_between_the_decision_and_the_intent_refuses_the_intent(
    held: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await held.agent([calls(("note", 1)), DONE])
    run_id = await held.start()
    real, ordered = Journal.append, []

    async def late(self: Journal, *entries: Any) -> None:
        if any(entry.phase == "intent" for entry in entries) and not ordered:
            ordered.append(await order(held, StopKind.KILL))
        await real(self, *entries)

    monkeypatch.setattr(Journal, "append", late)
    assert (await held.segment(run_id)).state == "wait"
    assert held.world.done == []
    assert not [one for one in await held.steps(run_id) if one["phase"] == "intent"]


async def test_a_lift_while_the_run_comes_to_rest_is_not_missed(held: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    await held.agent([calls(("note", 1)), DONE])
    stop = await order(held, StopKind.KILL)
    real = outcomes.hold

    async def late(*given: Any) -> Any:
        monkeypatch.setattr(outcomes, "hold", real)
        await lift(held, stop)
        return await real(*given)

    monkeypatch.setattr(outcomes, "hold", late)
    run_id = await held.start()
    assert (await held.segment(run_id)).state == "continue"
    assert (await held.finish(run_id, 2)).status.value == "completed"


async def test_an_approval_that_is_answered_under_a_kill_executes_only_after_the_lift(held: Harness) -> None:
    await held.agent([calls(("pay", 1)), DONE], ["pay"], tier="L3")
    run_id = await held.start()
    await held.segment(run_id)
    stop = await order(held, StopKind.KILL)
    async with held.doors.open(held.organization) as work:
        (asked,) = await approvals.listed(work, status="pending", run_id=run_id, after="", most=2)
        await approvals.answer(work, asked.id, person_id="p", handle="other", approved=True, note="", at=now())
    assert (await held.segment(run_id, 2)).state == "wait"
    assert held.world.done == []
    await lift(held, stop)
    assert (await held.finish(run_id, 3)).status.value == "completed"
    assert held.world.count("pay") == 1


async def test_an_entry_of_the_denylist_denies_the_next_call_of_a_run_that_is_under_way(held: Harness) -> None:
    await held.agent([calls(("note", 1)), calls(("note", 2)), calls(("look", 3)), DONE])

    async def deny() -> None:
        await order(held, StopKind.DENY, "no?e", StopScope.SKILL)

    held.world.next("note", then(deny))
    run_id = await held.start()
    assert (await held.finish(run_id)).status.value == "completed"
    assert held.world.count("note") == 1
    assert held.world.count("look") == 1
    denied = next(one for one in await held.steps(run_id) if one["key"] == "t1.c0")
    assert (denied["status"], denied["meta"]["decision"]) == ("denied", "denylisted")
    assert "no?e" in denied["meta"]["reasons"][0]


async def test_a_denied_provider_is_not_asked_and_the_run_waits(held: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    real = Stub.ask

    async def ask(self: Stub, *given: Any) -> Any:
        asked.append(1)
        return await real(self, *given)

    monkeypatch.setattr(Stub, "ask", ask)
    await held.agent([DONE])
    stop = await order(held, StopKind.DENY, "stub", StopScope.PROVIDER)
    run_id = await held.start()
    assert (await held.segment(run_id)).wake.startswith(f"stop:{stop.id}:")
    assert not asked
    await lift(held, stop)
    assert (await held.finish(run_id, 2)).status.value == "completed"


async def test_in_degraded_mode_reads_go_on_and_effects_become_drafts(held: Harness) -> None:
    deployment = await held.agent([calls(("look", 1), ("note", 2)), DONE])
    await order(held, StopKind.DEGRADE, deployment, StopScope.DEPLOYMENT)
    run_id = await held.start()
    assert (await held.finish(run_id)).status.value == "completed"
    assert [skill for skill, _ in held.world.done] == ["look"]
    assert next(one for one in await held.steps(run_id) if one["key"] == "t0.c1")["status"] == "drafted"


async def test_runs_are_accepted_under_a_stop_up_to_the_bound_and_all_go_on(held: Harness) -> None:
    await held.agent([DONE])
    before = await held.start()
    stop = await order(held, StopKind.PAUSE)
    held.parts.settings = held.parts.settings.model_copy(update={"held_most": 3})
    started = await asyncio.gather(*(held.start() for _ in range(5)), return_exceptions=True)
    accepted = [one for one in started if isinstance(one, str)]
    refused = [one for one in started if isinstance(one, TooManyHeld)]
    assert (len(accepted), len(refused)) == (3, 2)
    assert refused[0].retry_after == admission.HELD_RETRY
    await lift(held, stop)
    for run_id in [before, *accepted]:
        assert (await held.finish(run_id)).status.value == "completed"


async def test_the_time_that_a_stop_took_is_not_the_runs(held: Harness) -> None:
    await held.agent([calls(("note", 1)), DONE], budgets={"duration": "1s"})
    stop = await order(held, StopKind.PAUSE)
    run_id = await held.start()
    await held.segment(run_id)
    await asyncio.sleep(0.7)
    await held.segment(run_id, 2)
    await asyncio.sleep(0.7)
    await lift(held, stop)
    assert (await held.finish(run_id, 3)).status.value == "completed"


async def test_a_held_run_can_be_cancelled(held: Harness) -> None:
    await held.agent([calls(("note", 1)), DONE])
    await order(held, StopKind.KILL)
    run_id = await held.start()
    await held.segment(run_id)
    async with held.doors.open(held.organization) as work:
        await service.order(work, run_id, "cancel", by="a")
    assert (await held.finish(run_id, 2)).status.value == "cancelled"


class Watching:
    """A process that looks, as often as a test wants."""

    def __init__(self, held: Harness) -> None:
        self.held, self.halts = held, held.parts.halts

    async def look(self) -> None:
        await self.halts.look(self.held.doors, self.held.parts.settings)


async def under_way(held: Harness, run_id: Any, name: str) -> asyncio.Task[Any]:
    """A segment that is in a call of this skill."""
    task = asyncio.create_task(held.segment(run_id))
    while not held.world.count(name):
        await asyncio.sleep(0.005)
    return task


async def test_no_read_and_no_model_call_begins_once_a_look_has_seen_the_order(held: Harness) -> None:
    await held.agent([calls(("look", 1)), calls(("look", 2)), DONE])
    go = asyncio.Event()
    held.world.next("look", then(go.wait))
    run_id = await held.start()
    task = await under_way(held, run_id, "look")
    stop = await order(held, StopKind.KILL)
    await Watching(held).look()
    go.set()
    assert (await task).wake.startswith(f"stop:{stop.id}:")
    steps = [one["key"] for one in await held.steps(run_id)]
    assert steps == ["t0", "t0.c0", f"stopped:{stop.id}"], "the read's answer is recorded, and nothing else began"


async def test_a_read_is_broken_off_when_the_grace_is_over(held: Harness) -> None:
    held.parts.settings = held.parts.settings.model_copy(update={"stop_grace_seconds": 0.0})
    held.parts.registry.add(make_skill(held.world, "stare", "S0", timeout=timedelta(seconds=30)))
    await held.agent([calls(("stare", 1)), DONE], ["stare"])
    held.world.next("stare", then(asyncio.Event().wait))
    run_id = await held.start()
    task = await under_way(held, run_id, "stare")
    await order(held, StopKind.KILL)
    await Watching(held).look()
    assert (await task).state == "wait"
    assert (await held.run(run_id)).waiting["reason"] == "stopped"  # type: ignore[index]


async def test_a_call_that_was_sent_is_left_to_itself_at_the_last_moment_and_settled_at_the_lift(held: Harness) -> None:
    update = {"stop_grace_seconds": 0.0, "stop_force_seconds": 0.0}
    held.parts.settings = held.parts.settings.model_copy(update=update)
    held.parts.registry.add(make_skill(held.world, "drag", "S1", idempotent=True, timeout=timedelta(seconds=1)))
    await held.agent([calls(("drag", 1)), DONE], ["drag"])
    held.world.next("drag", then(asyncio.Event().wait))
    run_id = await held.start()
    task = await under_way(held, run_id, "drag")
    stop = await order(held, StopKind.KILL)
    await Watching(held).look()
    assert (await task).state == "wait"
    await lift(held, stop)
    assert (await held.finish(run_id, 2)).status.value == "completed"
    assert len({key for _, key in held.world.done}) == 1, "sent again with the same key"


async def test_a_process_that_cannot_look_begins_no_step(held: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    held.parts.settings = held.parts.settings.model_copy(update={"stop_blind_seconds": 0.05, "stop_look_seconds": 0.01})
    await held.agent([calls(("look", 1)), calls(("look", 2)), DONE])
    go, stop = asyncio.Event(), asyncio.Event()
    held.world.next("look", then(go.wait))
    run_id = await held.start()
    task = await under_way(held, run_id, "look")

    async def away(*_: Any) -> None:
        raise Unavailable("away")

    monkeypatch.setattr(held.parts.halts, "look", away)
    watching = asyncio.create_task(held.parts.halts.watch_for_ever(held.doors, held.parts.settings, stop))
    await asyncio.sleep(0.1)
    go.set()
    with pytest.raises(StopsUnreadable):
        await task
    stop.set()
    await watching
    assert held.world.count("look") == 1


async def test_looking_costs_nothing_while_nothing_moves(held: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    await held.agent([DONE])
    await held.finish(await held.start())
    loads: list[Any] = []
    real = stops.in_force

    async def load(*given: Any) -> Any:
        loads.append(given)
        return await real(*given)

    monkeypatch.setattr(stops, "in_force", load)
    run_ids = [await held.start() for _ in range(3)]
    loads.clear()
    for run_id in run_ids:
        await held.finish(run_id)
    assert not loads
