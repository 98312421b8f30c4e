"""What was paid is never asked again, and costs once, however often an eval is left and goes on."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from agentos.adapters.llm.stub import Stub
from agentos.control.budgets import service as budgets
from agentos.control.budgets.model import Limits, Period
from agentos.control.stops import service as stops
from agentos.control.stops.model import StopKind, StopScope, Wanted
from agentos.evidence.evals import cases, examining, service, store
from agentos.evidence.evals.model import (
    MOST_LOST,
    EvalEndedAlready,
    EvalStatus,
    EvalWaits,
)
from agentos.evidence.usage.model import Dimension
from agentos.kernel.clock import now
from agentos.kernel.retention import forget
from agentos.runtime.inference import Answer, Question
from agentos.runtime.inference.model import ModelUnavailable
from tests.evidence.evals.examination import (
    NUMBER,
    PAID,
    SPEC,
    STUB,
    add,
    begin,
    case,
    examined,
    outcomes,
    prepare,
    rows,
    show,
)
from tests.evidence.usage.fleet import count, lines
from tests.fakes.models import FakeModels
from tests.fakes.replies import Fault, Reply
from tests.runtime.runs.harness import Harness


async def test_of_tasks_that_are_done_neither_answers_nor_calls_are_read_again(held: Harness) -> None:
    await held.agent([], [], model=STUB, **SPEC)
    await add(held, [case(n) for n in range(2)])
    eval_id = await begin(held)
    body = {"case": "c0", "code": "", "why": "", "scores": {}, "calls": [{"skill": "look"}], "tokens": 0, "micros": 0}
    values = {"org": held.organization, "id": eval_id, "body": json.dumps(body | {"asked": 1, "seconds": 0.1})}
    async with held.doors.open(held.organization) as work:
        await work.run(
            text(
                "INSERT INTO eval_outcomes (org, eval_id, side, number, repeat, status, body) "
                "VALUES (:org, :id, 'candidate', 0, 0, 'completed', CAST(:body AS jsonb))"
            ),
            values,
        )
        for talk in ("candidate.0.0", "candidate.0.0.exact", "candidate.1.0", "candidate.1.0.exact"):
            await work.run(
                text(
                    "INSERT INTO eval_answers (org, eval_id, talk, key, name, meta, content) "
                    "VALUES (:org, :id, :talk, 't0', 'stub', '{}', '1')"
                ),
                {"org": held.organization, "id": eval_id, "talk": talk},
            )
        assert set(await store.answers(work, eval_id)) == {"candidate.1.0", "candidate.1.0.exact"}
        ((_, outcome),) = await store.outcomes(work, eval_id)
    assert outcome.calls == []


def asked_about(vendor: FakeModels) -> list[int]:
    return sorted(json.loads(one["messages"][0]["content"][0]["text"])["n"] for one in vendor.requests)


async def spent(held: Harness) -> int:
    async with held.doors.open(held.organization) as work:
        used = await budgets.used(work, on=None, at=now())
    return next((one.money for one in used if one.agent_id == "" and one.period is Period.DAY), 0)


async def test_an_attempt_after_a_lost_one_repeats_no_paid_call(paid: Harness, vendor: FakeModels) -> None:
    await prepare(paid, 12)
    eval_id = await begin(paid, concurrency=3)
    vendor.fail(*[None] * 7, *[Fault.HANG] * 3)
    lost = asyncio.create_task(examining.examine(paid.parts, paid.organization, eval_id))
    async with asyncio.timeout(20):
        while (await show(paid, eval_id)).done < 7 or len(vendor.headers) < 10:
            await asyncio.sleep(0.02)
    lost.cancel()
    with pytest.raises(EvalWaits, match="shuts down"):
        await lost
    answered = len(vendor.requests) - 3
    assert answered == 7
    await examining.examine(paid.parts, paid.organization, eval_id)
    found = await show(paid, eval_id)
    assert (found.status, found.done) == (EvalStatus.COMPLETED, 12)
    assert found.report is not None and found.report["candidate"]["scores"]["exact"]["mean"] == 1
    assert len(vendor.requests) - 3 == 12
    assert found.report["candidate"]["micros"] > 0
    assert (found.lost, found.asked_again) == (1, 3)  # what hung is what was asked again
    await count(paid)
    counts = (await lines(paid, Dimension.SOURCE))["eval"]
    assert counts.money + counts.unknown_money == await spent(paid)
    assert counts.money >= found.report["candidate"]["micros"] > 0
    assert counts.calls == 12
    (agent,) = await lines(paid, Dimension.AGENT)
    assert agent == "tester"


async def test_an_attempt_that_leaves_keeps_what_was_under_way_and_nothing_is_asked_again(
    paid: Harness, vendor: FakeModels
) -> None:
    await prepare(paid, 12)
    eval_id = await begin(paid, concurrency=3)
    vendor.pause = 0.1
    vendor.fail(*[None] * 4, *[Fault.SLOW] * 3)
    leaving = asyncio.Event()
    left = asyncio.create_task(examining.examine(paid.parts, paid.organization, eval_id, leaving=leaving))
    async with asyncio.timeout(20):
        while len(vendor.requests) < 7:
            await asyncio.sleep(0.01)
        leaving.set()
        with pytest.raises(EvalWaits, match="shuts down"):
            await left
    assert (len(vendor.requests), (await show(paid, eval_id)).done) == (7, 7)
    await examining.examine(paid.parts, paid.organization, eval_id)
    found = await show(paid, eval_id)
    assert (found.status, found.done, found.lost) == (EvalStatus.COMPLETED, 12, 0)
    assert asked_about(vendor) == list(range(12))


async def test_an_attempt_that_leaves_in_the_middle_of_a_case_keeps_its_answer_and_asks_no_more(
    paid: Harness, vendor: FakeModels
) -> None:
    await paid.agent([], ["look"], model=PAID, input={"schema": NUMBER})
    vendor.brain = None
    vendor.replies = [Reply(calls=[("look", {"n": 1})]), Reply("seen")]
    await add(paid, [case(1, expected="seen", fixtures=[{"skill": "look", "answer": {"n": 5}}])])
    eval_id = await begin(paid)
    vendor.pause = 0.1
    vendor.fail(Fault.SLOW)
    leaving = asyncio.Event()
    left = asyncio.create_task(examining.examine(paid.parts, paid.organization, eval_id, leaving=leaving))
    async with asyncio.timeout(20):
        while not vendor.requests:
            await asyncio.sleep(0.01)
        leaving.set()
        with pytest.raises(EvalWaits, match="shuts down"):
            await left
    assert [one.key for one in await rows(paid, "eval_answers")] == ["t0"]
    await examining.examine(paid.parts, paid.organization, eval_id)
    (one,) = (await outcomes(paid, eval_id)).values()
    assert (one.passed, one.asked, len(vendor.requests)) == (True, 2, 2)


async def test_answers_that_were_committed_in_the_middle_of_a_case_are_not_asked_again(
    paid: Harness, vendor: FakeModels
) -> None:
    await paid.agent([], ["look"], model=PAID, input={"schema": NUMBER})
    vendor.brain = None
    vendor.replies = [Reply(calls=[("look", {"n": 1})]), Reply("never heard"), Reply("seen")]
    await add(paid, [case(1, expected="seen", fixtures=[{"skill": "look", "answer": {"n": 5}}])])
    eval_id = await begin(paid)
    vendor.fail(None, Fault.HANG)
    lost = asyncio.create_task(examining.examine(paid.parts, paid.organization, eval_id))
    async with asyncio.timeout(20):
        while len(vendor.headers) < 2:
            await asyncio.sleep(0.02)
    lost.cancel()
    with pytest.raises(EvalWaits):
        await lost
    assert [one.key for one in await rows(paid, "eval_answers")] == ["t0"]
    vendor.replies = [Reply("seen")]
    await examining.examine(paid.parts, paid.organization, eval_id)
    (one,) = (await outcomes(paid, eval_id)).values()
    assert one.passed and one.asked == 2
    assert len(vendor.requests) == 3  # the first answer, what hung, and the second answer


async def test_what_cases_and_judges_cost_is_counted_once_in_the_budgets(paid: Harness, vendor: FakeModels) -> None:
    await paid.agent([], [], model=PAID, **SPEC)

    def think(body: dict[str, Any]) -> Reply:
        text_ = body["messages"][0]["content"][0]["text"]
        if "answer" in text_:
            return Reply('{"grade": 4, "reason": "right"}')
        return Reply(json.dumps({"n": json.loads(text_)["n"] * 2}))

    vendor.brain = think
    judge = {"kind": "judge", "rubric": "Is it twice as much?", "model": PAID}
    await add(paid, [case(n, scorer=judge) for n in range(4)])
    found = await examined(paid)
    assert found.report is not None
    assert found.report["candidate"]["scores"]["judge"]["mean"] == 1
    assert found.report["candidate"]["asked"] == 8
    assert await spent(paid) == found.report["candidate"]["micros"] > 0


async def test_what_a_case_cost_that_was_left_is_counted_too(paid: Harness, vendor: FakeModels) -> None:
    await paid.agent([], ["look"], model=PAID, input={"schema": NUMBER})
    vendor.brain = lambda _body: Reply(calls=[("look", {"n": 1})])
    await add(paid, [case(1)])
    found = await examined(paid)
    (one,) = (await outcomes(paid, found.id)).values()
    assert (one.status, one.asked) == ("left", 1)
    assert await spent(paid) == one.micros > 0


async def test_a_cap_without_room_ends_the_eval_for_now_and_it_goes_on_when_there_is_room(
    paid: Harness, vendor: FakeModels
) -> None:
    await prepare(paid, 6)
    async with paid.doors.open(paid.organization) as work:
        await budgets.set_budget(work, "", Period.DAY, Limits(money=600), by="admin", at=now())
    found = await examined(paid, concurrency=1)
    assert (found.status, found.problem and found.problem["code"]) == (EvalStatus.FAILED, "budget_exhausted")
    before = len(vendor.requests)
    assert found.done == before < 6
    async with paid.doors.open(paid.organization) as work:
        await budgets.set_budget(work, "", Period.DAY, Limits(money=10**9), by="admin", at=now())
        assert (await service.resume(work, found.id, by="author", at=now())).status is EvalStatus.RUNNING
    paid.parts.books.read.clear()
    await examining.examine(paid.parts, paid.organization, found.id)
    found = await show(paid, found.id)
    assert (found.status, found.done, len(vendor.requests)) == (EvalStatus.COMPLETED, 6, 6)
    assert found.report is not None and await spent(paid) == found.report["candidate"]["micros"]
    assert not [one for one in await rows(paid, "budget_runs") if one.step is not None]


async def test_an_eval_is_forgotten_with_its_cases_and_bills_and_one_that_can_go_on_keeps_its_bills_till_then(
    paid: Harness, vendor: FakeModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    await prepare(paid, 3)
    async with paid.doors.open(paid.organization) as work:
        await budgets.set_budget(work, "", Period.DAY, Limits(money=10**9), by="admin", at=now())
    over, later = await examined(paid), await begin(paid, concurrency=1)
    vendor.fail(None, *[Fault.UNAVAILABLE] * 20)
    monkeypatch.setattr(examining, "PATIENCE", timedelta())
    await examining.examine(paid.parts, paid.organization, later)
    assert (await show(paid, later)).status is EvalStatus.FAILED
    soon = now() + service.BILLS_KEPT.kept + timedelta(minutes=5)
    await forget(paid.doors.database, service.BILLS_KEPT, at=soon - timedelta(minutes=10))
    assert [one for one in await rows(paid, "budget_runs") if one.run_id.startswith(over.id)]
    assert await forget(paid.doors.database, service.BILLS_KEPT, at=soon) >= 3
    left = [one.run_id for one in await rows(paid, "budget_runs")]
    assert left and all(one.startswith(later) for one in left)
    assert (await show(paid, over.id)).done == 3

    late = now() + service.KEPT.kept + timedelta(minutes=5)
    await forget(paid.doors.database, service.KEPT, at=late - timedelta(minutes=10))
    assert (await show(paid, over.id)).done == 3
    assert await forget(paid.doors.database, service.KEPT, at=late) > 3
    for table in ("evals", "eval_outcomes", "eval_answers", "budget_runs"):
        assert not await rows(paid, table), table


async def test_a_model_that_is_away_lets_the_eval_wait_and_then_fail(
    paid: Harness, vendor: FakeModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    await prepare(paid, 3)
    vendor.fail(*[Fault.UNAVAILABLE] * 20)
    eval_id = await begin(paid)
    with pytest.raises(EvalWaits):
        await examining.examine(paid.parts, paid.organization, eval_id)
    assert (await show(paid, eval_id)).status is EvalStatus.RUNNING
    monkeypatch.setattr(examining, "PATIENCE", now() - now())
    await examining.examine(paid.parts, paid.organization, eval_id)
    found = await show(paid, eval_id)
    assert found.status is EvalStatus.FAILED and found.problem is not None


async def test_a_stop_of_the_agent_ends_the_eval_for_now(held: Harness) -> None:
    await held.agent([], [], model=STUB, **SPEC)
    await add(held, [case(1)])
    async with held.doors.open(held.organization) as work:
        await stops.order(work, Wanted(StopKind.KILL, StopScope.AGENT, "tester"), by="admin")
    found = await examined(held)
    assert (found.status, found.problem and found.problem["code"]) == (EvalStatus.FAILED, "eval_held")


async def test_an_eval_that_loses_worker_after_worker_fails_before_it_asks_again_and_can_be_resumed(
    paid: Harness, vendor: FakeModels
) -> None:
    await paid.agent([], [], model=PAID, **SPEC)
    await add(paid, [case(1)])
    eval_id = await begin(paid)

    async def lose(times: int) -> None:
        for _ in range(times):
            async with paid.doors.open(paid.organization) as work:
                await store.claim(work, eval_id)  # and the worker is killed

    await lose(MOST_LOST)
    await examining.examine(paid.parts, paid.organization, eval_id)
    found = await show(paid, eval_id)
    assert (found.status, found.problem and found.problem["code"]) == (EvalStatus.FAILED, "eval_loses_workers")
    assert (found.lost, vendor.requests) == (MOST_LOST, [])
    async with paid.doors.open(paid.organization) as work:
        await service.resume(work, eval_id, by="author", at=now())
    await lose(MOST_LOST - 1)
    await examining.examine(paid.parts, paid.organization, eval_id)
    assert (await show(paid, eval_id)).status is EvalStatus.COMPLETED
    assert len(vendor.requests) == 1


async def test_an_earlier_attempt_writes_nothing_more(held: Harness) -> None:
    await held.agent([], [], model=STUB, **SPEC)
    await add(held, [case(1)])
    eval_id = await begin(held)
    async with held.doors.open(held.organization) as work:
        first = await store.claim(work, eval_id)
    async with held.doors.open(held.organization) as work:
        second = await store.claim(work, eval_id)
    assert first is not None and second is not None and second.attempt == first.attempt + 1
    async with held.doors.open(held.organization) as work:
        assert not await examining.ended(work, held.parts, first, EvalStatus.COMPLETED)
    assert (await show(held, eval_id)).status is EvalStatus.RUNNING


async def test_a_cancelled_eval_writes_nothing_more_and_cannot_go_on(held: Harness) -> None:
    await held.agent([], [], model=STUB, **SPEC)
    await add(held, [case(n) for n in range(50)])
    eval_id = await begin(held)
    async with held.doors.open(held.organization) as work:
        await service.cancel(work, held.parts, eval_id, by="ada")
    await examining.examine(held.parts, held.organization, eval_id)
    found = await show(held, eval_id)
    assert (found.status, found.done) == (EvalStatus.CANCELLED, 0)
    async with held.doors.open(held.organization) as work:
        assert (await service.cancel(work, held.parts, eval_id, by="ada")).status is EvalStatus.CANCELLED
        rows = await work.all(
            text("SELECT body FROM outbox WHERE name = 'EvalCancelled' AND key = :id"), {"id": eval_id}
        )
        assert [row.body["by"] for row in rows] == ["ada"]
        with pytest.raises(EvalEndedAlready):
            await service.resume(work, eval_id, by="author", at=now())


async def test_an_answer_that_comes_after_the_eval_was_cancelled_costs_what_it_cost_and_no_more(
    paid: Harness, vendor: FakeModels
) -> None:
    await prepare(paid, 1)
    async with paid.doors.open(paid.organization) as work:
        await budgets.set_budget(work, "", Period.DAY, Limits(money=10**9), by="admin", at=now())
    eval_id = await begin(paid)
    vendor.pause = 0.2
    vendor.fail(Fault.SLOW)
    working = asyncio.create_task(examining.examine(paid.parts, paid.organization, eval_id))
    async with asyncio.timeout(20):
        while not vendor.headers:
            await asyncio.sleep(0.01)
    async with paid.doors.open(paid.organization) as work:
        await service.cancel(work, paid.parts, eval_id, by="ann")
    await working
    await count(paid)
    counts = (await lines(paid, Dimension.SOURCE))["eval"]
    assert (counts.calls, counts.lost_calls, counts.unknown_money) == (1, 0, 0)
    assert await spent(paid) == counts.money > 0
    assert not [one for one in await rows(paid, "budget_runs") if one.step is not None]


async def test_a_call_of_a_cancelled_eval_whose_worker_is_lost_counts_as_reserved(
    paid: Harness, vendor: FakeModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    await prepare(paid, 1)
    async with paid.doors.open(paid.organization) as work:
        await budgets.set_budget(work, "", Period.DAY, Limits(money=10**9), by="admin", at=now())
    eval_id = await begin(paid)
    vendor.fail(Fault.HANG)

    async def lost(_segment: Any) -> None:
        """The process ends before this."""

    monkeypatch.setattr(cases, "_close", lost)
    working = asyncio.create_task(examining.examine(paid.parts, paid.organization, eval_id))
    async with asyncio.timeout(20):
        while not vendor.headers:
            await asyncio.sleep(0.01)
    async with paid.doors.open(paid.organization) as work:
        await service.cancel(work, paid.parts, eval_id, by="ann")
    working.cancel()
    with pytest.raises(EvalWaits):
        await working
    assert await spent(paid) == 0
    await examining.examine(paid.parts, paid.organization, eval_id)  # the engine tries it again elsewhere
    await examining.examine(paid.parts, paid.organization, eval_id)
    await count(paid)
    counts = (await lines(paid, Dimension.SOURCE))["eval"]
    assert (counts.calls, counts.lost_calls) == (0, 1)
    assert await spent(paid) == counts.unknown_money > 0
    assert not [one for one in await rows(paid, "budget_runs") if one.step is not None]


async def test_an_eval_ends_whatever_characters_its_error_is_told_in(
    held: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Odd(Stub):
        provider = "claude"
        instant = False

        async def ask(self, question: Question, **_more: Any) -> Answer:
            raise ModelUnavailable(f"{question.model} said \x00 and \ud800")

    monkeypatch.setattr(held.models, "for_policy", lambda _policy: Odd())
    monkeypatch.setattr(examining, "PATIENCE", timedelta())
    await prepare(held, 1)
    found = await examined(held)
    assert (found.status, found.problem and found.problem["code"]) == (EvalStatus.FAILED, "eval_waits")
