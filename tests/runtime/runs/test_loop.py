"""What the loop does with a script: decide, act, be told of errors, end."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from sqlalchemy import text

from agentos.kernel.errors import Invalid, Unavailable
from agentos.runtime.runs.model import InputRefused, RunStatus
from tests.runtime.runs.harness import DONE, Harness, calls, make_skill


async def test_a_run_asks_acts_and_ends_with_its_output(held: Harness) -> None:
    await held.agent([calls(("look", 1), ("note", 2)), DONE])
    run = await held.finish(await held.start())
    assert run.status is RunStatus.COMPLETED
    assert json.loads(run.output or b"") == "done"
    assert [skill for skill, _ in held.world.done] == ["look", "note"]
    steps = await held.steps(run.id)
    assert [(step["key"], step["phase"], step["status"]) for step in steps] == [
        ("t0", "result", "ok"),
        ("t0.c0", "result", "ok"),
        ("t0.c1~1", "intent", "sent"),
        ("t0.c1", "result", "ok"),
        ("t1", "result", "ok"),
    ]
    assert steps[0]["meta"]["provider"] == "stub"


async def test_reads_that_stand_together_run_at_the_same_time(held: Harness) -> None:
    both = asyncio.Barrier(2)

    async def meet(_given: dict[str, Any]) -> dict[str, Any]:
        async with asyncio.timeout(5):
            await both.wait()
        return {}

    held.world.next("look", meet, meet)
    await held.agent([calls(("look", 1), ("look", 2)), DONE])
    assert (await held.finish(await held.start())).status is RunStatus.COMPLETED


async def test_a_skill_that_the_version_does_not_name_is_denied(held: Harness) -> None:
    await held.agent([calls(("pay", 1)), DONE], ["look"])
    run = await held.finish(await held.start())
    assert run.status is RunStatus.COMPLETED
    denied = next(step for step in await held.steps(run.id) if step["status"] == "denied")
    assert denied["content"]["code"] == "skill_not_allowed"


async def test_a_denial_stops_the_run_where_the_version_says_so(held: Harness) -> None:
    await held.agent([calls(("pay", 1)), DONE], ["look"], onDenied="stop")
    run = await held.finish(await held.start())
    assert run.status is RunStatus.BLOCKED
    assert run.problem is not None
    assert run.problem["code"] == "run_denied"


async def test_a_skill_that_raises_is_told_to_the_agent_and_costs_nothing_else(held: Harness) -> None:
    def boom(_given: dict[str, Any]) -> Any:
        raise ValueError("bad luck")

    held.world.next("look", boom)
    await held.agent([calls(("look", 1)), DONE])
    run = await held.finish(await held.start())
    assert run.status is RunStatus.COMPLETED
    failed = next(step for step in await held.steps(run.id) if step["status"] == "error")
    assert failed["content"]["code"] == "skill_raised"
    assert "bad luck" in failed["content"]["message"]


async def test_a_skill_that_returns_what_its_schema_forbids_is_an_error(held: Harness) -> None:
    held.world.next("look", lambda _given: "text")
    await held.agent([calls(("look", 1)), DONE])
    run = await held.finish(await held.start())
    failed = next(step for step in await held.steps(run.id) if step["status"] == "error")
    assert failed["content"]["code"] == "skill_broke_schema"


async def test_a_read_that_never_ends_is_cut_off_and_tried_as_often_as_declared(held: Harness) -> None:
    async def never(_given: dict[str, Any]) -> Any:
        await asyncio.Event().wait()

    held.parts.registry.add(make_skill(held.world, "stare", "S0"))
    held.world.next("stare", never, never, never)
    await held.agent([calls(("stare", 1)), DONE], ["stare"])
    run = await held.finish(await held.start())
    assert run.status is RunStatus.COMPLETED
    assert held.world.count("stare") == 3
    failed = next(step for step in await held.steps(run.id) if step["status"] == "error")
    assert failed["content"]["code"] == "skill_timed_out"


async def test_an_unrepeatable_effect_that_times_out_waits_for_a_person(held: Harness) -> None:
    async def never(_given: dict[str, Any]) -> Any:
        await asyncio.Event().wait()

    held.world.next("send", never)
    await held.agent([calls(("send", 1)), DONE])
    run = await held.finish(await held.start())
    assert run.waiting is not None
    assert run.waiting["reason"] == "uncertain_effect"
    assert held.world.count("send") == 1


@pytest.mark.parametrize(("error", "tries"), [(Unavailable("later"), 3), (Invalid("never"), 1)])
async def test_errors_are_tried_again_by_their_kind(held: Harness, error: Exception, tries: int) -> None:
    def fail(_given: dict[str, Any]) -> Any:
        raise error

    held.world.next("note", fail, fail, fail, fail)
    await held.agent([calls(("note", 1)), DONE])
    run = await held.finish(await held.start())
    assert run.status is RunStatus.COMPLETED
    assert held.world.count("note") == tries
    assert len({key for _, key in held.world.done}) == 1


async def test_arguments_that_do_not_fit_are_refused_before_policy_and_people(held: Harness) -> None:
    await held.agent([{"calls": [{"skill": "pay", "arguments": {"n": "x", "y": 1}}]}, DONE], ["pay"], tier="L3")
    run = await held.finish(await held.start())
    assert run.status is RunStatus.COMPLETED
    refused = next(step for step in await held.steps(run.id) if step["status"] == "error")
    assert refused["content"]["code"] == "arguments_refused"


async def test_an_input_over_the_schemas_limit_is_refused_without_repeating_it(held: Harness) -> None:
    await held.agent([DONE])
    with pytest.raises(InputRefused, match="5001 characters, at most 5000"):
        await held.start({"task_description": "x" * 5001})


async def test_a_run_that_uses_up_its_turns_is_blocked_with_the_figure(held: Harness) -> None:
    await held.agent([calls(("look", 1))] * 5, budgets={"turns": 2})
    run = await held.finish(await held.start())
    assert run.status is RunStatus.BLOCKED
    assert run.problem is not None
    assert run.problem["code"] == "run_turns_used_up"


async def test_a_run_past_its_deadline_is_blocked(held: Harness) -> None:
    await held.agent([calls(("look", 1)), DONE])
    run_id = await held.start()
    async with held.doors.open(held.organization) as work:
        await work.run(text("UPDATE runs SET deadline = now() - interval '1 second'"))
    run = await held.finish(run_id)
    assert run.status is RunStatus.BLOCKED
    assert run.problem is not None
    assert run.problem["code"] == "run_timed_out"


async def test_an_answer_that_does_not_fit_the_output_schema_is_asked_for_again(held: Harness) -> None:
    schema = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
    await held.agent([{"text": "no json"}, {"text": '{"n": "x"}'}, {"text": '{"n": 3}'}], output={"schema": schema})
    run = await held.finish(await held.start())
    assert run.status is RunStatus.COMPLETED
    assert json.loads(run.output or b"") == {"n": 3}


async def test_a_model_that_is_not_configured_lets_the_run_wait_with_the_reason(held: Harness) -> None:
    await held.agent([DONE], model={"provider": "claude", "name": "claude-x"})
    run_id = await held.start()
    end = await held.segment(run_id, 1)
    run = await held.run(run_id)
    assert end.state == "wait"
    assert run.waiting is not None
    assert run.waiting["reason"] == "model"
    assert "ANTHROPIC_API_KEY" in run.waiting["detail"]


async def test_a_run_whose_skill_is_withheld_waits_and_goes_on_where_it_is_served(held: Harness) -> None:
    await held.agent([calls(("note", 1)), DONE])
    run_id = await held.start()
    held.parts.registry.withhold({("note", "1"): "it was changed without a new version"})
    await held.segment(run_id)
    waits = await held.run(run_id)
    assert waits.waiting is not None
    assert "is not served here: it was changed without a new version" in waits.waiting["detail"]
    assert held.world.done == []
    held.parts.registry.withhold({})
    assert (await held.finish(run_id, 2)).status is RunStatus.COMPLETED
    assert [skill for skill, _ in held.world.done] == ["note"]
