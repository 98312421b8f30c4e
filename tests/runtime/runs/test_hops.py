"""Several models behind one agent: the journal of what was tried, budgets on every hop, stops, and the switches."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

import pytest
from sqlalchemy import make_url
from structlog.testing import capture_logs

from agentos.adapters.llm import Providers
from agentos.adapters.llm.settings import ClaudeSettings, OpenAISettings
from agentos.adapters.llm.stub import Stub
from agentos.control.budgets import service as budgets
from agentos.control.budgets.model import Limits, Period, Price
from agentos.control.stops import service as stops
from agentos.control.stops.model import StopKind, StopScope, Wanted
from agentos.kernel.clock import now
from agentos.kernel.database import Database
from agentos.kernel.ids import OrgId
from agentos.kernel.telemetry.catalogue import MODEL_CALLS, MODEL_FALLBACKS, MODEL_SECONDS, MODEL_SKIPS
from agentos.kernel.units import MICROS
from agentos.runtime.inference import Answer, Call, Stop, Usage
from agentos.runtime.inference.model import (
    ModelMisbehaved,
    ModelNotConfigured,
    ModelOverloaded,
    ModelRefusedKey,
    ModelTimedOut,
)
from agentos.runtime.inference.settings import RouterSettings
from agentos.runtime.runs import calls as performing
from agentos.runtime.runs import turns
from agentos.runtime.runs.model import Reason, RunStatus
from agentos.runtime.runs.ports import Parts
from tests.conftest import fresh_log
from tests.runtime.inference.fakes import Fake, Fakes
from tests.runtime.runs.harness import DONE, Harness, calls, harness

CHAIN = {
    "provider": "claude",
    "name": "large",
    "max_tokens": 100,
    "fallback": [{"provider": "claude", "name": "small"}, {"provider": "stub", "script": [DONE, DONE]}],
}


class Behind(Fake):
    """One provider with several models, each of which says or does what stands under its name."""

    def __init__(self, **said: Any) -> None:
        super().__init__("claude", else_=self._by_name)
        self.said = said

    def _by_name(self, question: Any) -> Any:
        said = self.said.get(question.model)
        return said.pop(0) if isinstance(said, list) else said


@pytest.fixture
async def held(database: Database, organization: OrgId) -> Harness:
    made = harness(database, organization)
    for name, micros in (("large", 10), ("small", 1), ("huge", 50)):
        price = Price("claude", name, input=micros * MICROS, output=micros * MICROS)
        async with made.doors.open(organization) as work:
            await budgets.set_price(work, price.provider, price.model, price, by="admin", at=now())
    return made


def behind(held: Harness, **said: Any) -> Behind:
    model = Behind(**said)
    fakes = Fakes(model)
    fakes.by_name["stub"] = Stub()  # type: ignore[assignment]
    held.parts.models = fakes
    return model


def switched(held: Harness, **switches: bool) -> Harness:
    """The same organization as another process with these switches sees it."""
    one = held.parts
    settings = RouterSettings.read(**switches)
    parts = Parts(
        *(one.doors, one.registry, one.models, one.settings, one.meter, one.secret, one.roots, one.hosts),
        log_parameters=False,
        versions={},
        routing=settings,
    )
    return Harness(held.doors, held.organization, held.world, parts, held.models)


def asked(model: Fake) -> list[str]:
    return [one.model for one in model.asked]


async def rows(held: Harness, run_id: Any, kind: str) -> list[Any]:
    return [one for one in await held.steps(run_id) if one["kind"] == kind]


def outcomes(row: dict[str, Any]) -> list[tuple[str, str]]:
    return [(one["model"] or one["provider"], one["outcome"]) for one in row["meta"]["attempts"]]


async def test_a_fallback_answers_and_the_journal_tells_what_was_tried(held: Harness) -> None:
    model = behind(held, large=ModelOverloaded("529", begun=False))
    await held.agent([], model=CHAIN)
    run_id = await held.start()
    run = await held.finish(run_id)
    assert run.status is RunStatus.COMPLETED
    assert asked(model) == ["large", "small"]
    (row,) = await rows(held, run_id, "model")
    assert outcomes(row) == [("large", ModelOverloaded.code), ("small", "ok")]
    assert [one["why"] for one in row["meta"]["attempts"]] == ["the version's own model: 529", "fallback 1"]
    assert row["meta"]["asked"] == "small"
    assert row["meta"]["cost"]["micros"] == 15
    series = held.parts.meter.registry.get_sample_value
    assert series(MODEL_FALLBACKS.name, {"provider": "claude", "to": "claude"}) == 1


async def test_the_log_tells_what_an_answer_cost_and_which_models_failed_and_nothing_of_what_was_said(
    held: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "log", fresh_log())
    behind(held, large=ModelRefusedKey("key sk-12 is wrong"))
    await held.agent([], model=CHAIN)
    run_id = await held.start()
    with capture_logs() as logged:
        await held.finish(run_id)
    failed, answered = (one for one in logged if one["event"].startswith("model_"))
    told = {"provider": "claude", "model": "large", "step": "t0", "code": "ERR_LLM_AUTH_FAILED"}
    assert failed == told | {"event": "model_failed", "log_level": "warning"}
    assert (answered["model"], answered["step"], answered["cost_cents"]) == ("small", "t0", 0.0015)
    assert (answered["event"], answered["log_level"]) == ("model_answered", "info")
    assert set(answered) - set(told) == {"event", "log_level", "seconds", "cost_cents"}


async def test_one_model_that_answers_leaves_the_row_that_it_always_left(held: Harness) -> None:
    behind(held)
    await held.agent([], model={"provider": "claude", "name": "large"})
    run_id = await held.start()
    await held.finish(run_id)
    (row,) = await rows(held, run_id, "model")
    assert set(row["meta"]) == {"provider", "model", "stop", "usage", "seconds", "cost"}


async def test_a_call_that_no_model_answers_is_a_row_and_the_run_waits(held: Harness) -> None:
    model = behind(held, large=ModelOverloaded("529"), small=ModelTimedOut("late"))
    await held.agent([], model=CHAIN | {"fallback": CHAIN["fallback"][:1]})
    run_id = await held.start()
    end = await held.segment(run_id)
    run = await held.run(run_id)
    assert (end.state, (run.waiting or {})["reason"]) == ("wait", Reason.MODEL)
    (row,) = await rows(held, run_id, "note")
    assert (row["key"], row["name"]) == ("t0!tried1", "model")
    assert outcomes(row) == [("large", ModelOverloaded.code), ("small", ModelTimedOut.code)]
    model.said = {}
    await held.segment(run_id, 2)
    assert (await held.run(run_id)).status is RunStatus.COMPLETED
    assert [one["key"] for one in await held.steps(run_id)] == ["t0!tried1", "t0"]


async def test_a_run_that_waits_for_long_tells_the_same_attempts_once(held: Harness) -> None:
    model = behind(held, large=ModelOverloaded("529: request 1"))
    await held.agent([], model={"provider": "claude", "name": "large"})
    run_id = await held.start()
    for number in range(1, 4):
        model.said = {"large": ModelOverloaded(f"529: request {number}")}
        await held.segment(run_id, number)
    model.said = {"large": ModelTimedOut("late")}
    await held.segment(run_id, 4)
    model.said = {"large": ModelOverloaded("529 again")}
    await held.segment(run_id, 5)
    assert [outcomes(one) for one in await rows(held, run_id, "note")] == [
        [("large", ModelOverloaded.code)],
        [("large", ModelTimedOut.code)],
    ]
    assert ((await held.run(run_id)).waiting or {})["tries"] == 5


async def test_the_time_of_a_call_that_failed_is_measured_and_a_model_that_is_not_configured_counts_as_no_call(
    held: Harness,
) -> None:
    behind(held, large=ModelTimedOut("late"), small=ModelNotConfigured("no key"))
    await held.agent([], model=CHAIN)
    run = await held.finish(await held.start())
    assert run.status is RunStatus.COMPLETED
    series, labels = held.parts.meter.registry.get_sample_value, {"provider": "claude"}
    assert series(f"{MODEL_SECONDS.name}_count", labels) == 1
    where = {"org": held.organization, "agent_id": "tester", "deployment": run.deployment_id}
    assert series(MODEL_CALLS.name, where | labels | {"status": ModelTimedOut.code}) == 1
    assert series(MODEL_CALLS.name, where | labels | {"status": ModelNotConfigured.code}) is None
    assert series(MODEL_SKIPS.name, labels | {"reason": "not_configured"}) == 1


async def test_a_costlier_fallback_is_not_asked_and_the_journal_says_why(held: Harness) -> None:
    model = behind(held, large=ModelOverloaded("529"))
    policy = CHAIN | {"fallback": [{"provider": "claude", "name": "huge"}]}
    await held.agent([], model=policy)
    run_id = await held.start()
    await held.segment(run_id)
    assert asked(model) == ["large"]
    (row,) = await rows(held, run_id, "note")
    assert outcomes(row) == [("huge", "skipped"), ("large", ModelOverloaded.code)]
    assert "costs more than claude/large" in row["meta"]["attempts"][0]["why"]


async def test_every_hop_reserves_anew_and_one_without_room_is_left_out(held: Harness) -> None:
    async with held.doors.open(held.organization) as work:
        await budgets.set_budget(work, "", Period.DAY, Limits(money=40_000), by="admin", at=now())
    # What broke off may be billed: its reserve stays, and beside it the second has no room.
    model = behind(held, large=ModelTimedOut("late"))
    policy = CHAIN | {"fallback": [{"provider": "claude", "name": "huge"}, CHAIN["fallback"][0]]}
    await held.agent([], model=policy | {"routing": {"costlier": "allowed"}})
    run_id = await held.start()
    run = await held.finish(run_id)
    assert run.status is RunStatus.COMPLETED
    assert asked(model) == ["large", "small"]
    (row,) = await rows(held, run_id, "model")
    assert outcomes(row) == [("large", ModelTimedOut.code), ("huge", "skipped"), ("small", "ok")]
    assert "no room" in row["meta"]["attempts"][1]["why"]
    async with held.doors.open(held.organization) as work:
        (day,) = [
            one for one in await budgets.used(work, on=None, at=now()) if one.period == "day" and not one.agent_id
        ]
    assert day.reserved_money == 0
    assert day.peak_money <= 40_000
    assert day.money > row["meta"]["cost"]["micros"]  # the reserve of the call that broke off is spent


async def test_a_first_model_without_room_ends_the_run_and_no_other_is_asked(held: Harness) -> None:
    async with held.doors.open(held.organization) as work:
        await budgets.set_budget(work, "", Period.DAY, Limits(money=5_000), by="admin", at=now())
    model = behind(held)
    await held.agent([], model=CHAIN)
    run_id = await held.start()
    run = await held.finish(run_id)
    assert (run.status, (run.problem or {})["code"]) == (RunStatus.BLOCKED, "budget_exhausted")
    assert not model.asked


async def test_a_denied_provider_is_passed_over_and_where_all_are_denied_the_run_is_held(held: Harness) -> None:
    model = behind(held)
    await held.agent([], model=CHAIN)
    await held.agent([], model=CHAIN | {"fallback": []}, name="alone")
    async with held.doors.open(held.organization) as work:
        await stops.order(work, Wanted(StopKind.DENY, StopScope.PROVIDER, "claude", "outage", ""), by="admin")
    run_id = await held.start()
    run = await held.finish(run_id)
    assert (run.status, run.output) == (RunStatus.COMPLETED, b'"done"')
    (row,) = await rows(held, run_id, "model")
    assert outcomes(row) == [("large", "skipped"), ("small", "skipped"), ("stub", "ok")]
    other = await held.start(name="alone")
    await held.segment(other)
    assert ((await held.run(other)).waiting or {})["reason"] == Reason.STOPPED
    assert not model.asked


async def test_a_rule_by_the_inputs_label_chooses_the_model(held: Harness) -> None:
    model = behind(held)
    rules = [{"when": {"task": "draft"}, "use": {"provider": "claude", "name": "small"}}]
    schema = {"type": "object", "properties": {"task": {"type": "string"}}}
    policy = {"provider": "claude", "name": "large", "mode": "rules", "routing": {"rules": rules}}
    await held.agent([], model=policy, input={"schema": schema})
    for given in ({"task": "draft"}, {"task": "other"}):
        await held.finish(await held.start(given))
    assert asked(model) == ["small", "large"]


async def test_an_order_breaks_off_a_fallback_under_way_and_what_was_tried_is_kept(held: Harness) -> None:
    began = asyncio.Event()

    async def hang() -> None:
        began.set()
        await asyncio.sleep(60)

    behind(held, large=ModelOverloaded("529"), small=[hang()])
    await held.agent([], model=CHAIN)
    run_id = await held.start()
    seen: list[Any] = []
    task = asyncio.create_task(held.segment(run_id, watch=seen.append))
    await began.wait()
    seen[0].interrupt.set()
    await asyncio.wait_for(task, 10)
    (row,) = await rows(held, run_id, "note")
    assert (row["status"], outcomes(row)) == ("interrupted", [("large", ModelOverloaded.code)])


async def test_a_model_that_misbehaves_alone_still_fails_the_run(held: Harness) -> None:
    behind(held, large=ModelMisbehaved("garbage"))
    await held.agent([], model={"provider": "claude", "name": "large"})
    run = await held.finish(await held.start())
    assert (run.status, (run.problem or {})["code"]) == (RunStatus.FAILED, ModelMisbehaved.code)


async def test_fallback_mode_asks_only_fallback_models(held: Harness) -> None:
    model = behind(held)
    await held.agent([], model=CHAIN)
    run = await (there := switched(held, fallback_mode=True)).finish(await there.start())
    assert run.status is RunStatus.COMPLETED
    assert asked(model) == ["small"]


async def test_a_forced_stub_answers_instead_and_its_effects_become_drafts(held: Harness) -> None:
    model = behind(held)
    policy = {"provider": "claude", "name": "large", "routing": {"stand_in": {"script": [calls(("note", 1)), DONE]}}}
    await held.agent([], model=policy)
    there = switched(held, force_stub_adapter=True)
    run_id = await there.start()
    run = await there.finish(run_id)
    assert run.status is RunStatus.COMPLETED
    assert not model.asked
    assert held.world.count("note") == 0
    (draft,) = await rows(held, run_id, "draft")
    assert (draft["status"], draft["meta"]["tier"]) == ("drafted", "L1")
    answered = await rows(held, run_id, "model")
    assert {(one["meta"]["provider"], one["meta"]["stands_in"]) for one in answered} == {("stub", True)}
    labels = {"org": held.organization, "agent_id": "tester", "deployment": run.deployment_id}
    value = there.parts.meter.registry.get_sample_value(MODEL_CALLS.name, labels | {"provider": "stub", "status": "ok"})
    assert value == 2


async def test_what_a_stand_in_asked_for_is_a_draft_also_where_the_switch_is_not_set(
    held: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    behind(held)
    policy = {"provider": "claude", "name": "large", "routing": {"stand_in": {"script": [calls(("note", 1)), DONE]}}}
    await held.agent([], model=policy)
    there = switched(held, force_stub_adapter=True)
    run_id = await there.start()
    # The process with the switch is lost after the answer was journaled, before the call was decided.
    end = asyncio.Event()

    async def lost(*_more: Any, **_named: Any) -> None:
        end.set()
        await asyncio.sleep(60)

    seen: list[Any] = []
    with monkeypatch.context() as patched:
        patched.setattr(performing, "perform", lost)
        task = asyncio.create_task(there.segment(run_id, watch=seen.append))
        await asyncio.wait_for(end.wait(), 10)
        await seen[0].journal.flush()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    run = await held.finish(run_id)
    assert run.status is RunStatus.COMPLETED
    assert held.world.count("note") == 0
    (draft,) = await rows(held, run_id, "draft")
    assert draft["meta"]["tier"] == "L1"


async def test_a_stub_without_a_script_stands_in_with_an_answer_that_fits_the_output_schema(held: Harness) -> None:
    behind(held)
    schema = {"type": "object", "properties": {"total": {"type": "integer"}}, "required": ["total"]}
    await held.agent([], model={"provider": "claude", "name": "large"}, output={"schema": schema})
    there = switched(held, force_stub_adapter=True)
    run = await there.finish(await there.start())
    assert (run.status, run.output) == (RunStatus.COMPLETED, b'{"total":0}')


async def test_a_stub_agent_keeps_its_tier_while_the_switches_are_set(held: Harness) -> None:
    behind(held)
    await held.agent([calls(("note", 1)), DONE])
    there = switched(held, force_stub_adapter=True, disable_live_adapters=True)
    run = await there.finish(await there.start())
    assert run.status is RunStatus.COMPLETED
    assert held.world.count("note") == 1


async def test_with_live_adapters_disabled_a_run_waits_and_goes_on_where_they_are_not(held: Harness) -> None:
    model = behind(held)
    await held.agent([], model={"provider": "claude", "name": "large"})
    there = switched(held, disable_live_adapters=True)
    run_id = await there.start()
    await there.segment(run_id)
    run = await held.run(run_id)
    assert (run.waiting or {})["reason"] == Reason.MODEL
    assert "DISABLE_LIVE_ADAPTERS" in (run.waiting or {})["detail"]
    assert not model.asked
    await held.segment(run_id, 2)
    assert (await held.run(run_id)).status is RunStatus.COMPLETED


async def test_effects_that_a_live_model_asked_for_before_become_drafts_under_a_switch(held: Harness) -> None:
    wants = Answer("", "claude", "large", Stop.CALLS, (Call("c1", "pay", {"n": 1}),), Usage(10, 5))
    behind(held, large=[wants])
    await held.agent([], model={"provider": "claude", "name": "large"}, skills=["pay"], tier="L3")
    run_id = await held.start()
    run = await held.finish(run_id)
    assert run.status is RunStatus.WAITING_APPROVAL
    there = switched(held, force_stub_adapter=True)
    run = await there.finish(run_id, 2)
    assert run.status is RunStatus.COMPLETED
    assert held.world.count("pay") == 0
    assert [one["status"] for one in await rows(held, run_id, "draft")] == ["drafted"]


@pytest.mark.parametrize("switch", ["force_stub_adapter", "disable_live_adapters"])
async def test_with_either_switch_not_one_packet_leaves(
    held: Harness, monkeypatch: pytest.MonkeyPatch, switch: str
) -> None:
    reached: list[int] = []
    loop = asyncio.get_running_loop()
    by_socket, by_loop = socket.socket.connect, type(loop).sock_connect

    def connects(one: socket.socket, address: Any) -> Any:
        reached.append(address[1])
        return by_socket(one, address)

    async def loop_connects(one: Any, sock: socket.socket, address: Any) -> Any:
        reached.append(address[1])
        return await by_loop(one, sock, address)

    monkeypatch.setattr(socket.socket, "connect", connects)
    monkeypatch.setattr(type(loop), "sock_connect", loop_connects)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "key")
    providers = held.parts.models = Providers(
        ClaudeSettings.read(base_url="http://127.0.0.1:9"), OpenAISettings.read(), lambda _name: ""
    )
    await held.agent([], model=CHAIN | {"fallback": CHAIN["fallback"][:1]})
    there = switched(held, **{switch: True})
    await there.segment(await there.start())
    await asyncio.sleep(0.05)
    assert set(reached) <= {make_url(os.environ["AGENTOS_TEST_DATABASE_URL"]).port}
    await held.segment(await held.start())
    assert 9 in reached, "without the switch the guard sees a packet"
    await providers.close()
