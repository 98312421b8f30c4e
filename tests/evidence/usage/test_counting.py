"""What runs used is counted once, by whoever and whatever used it, and agrees with what budgets hold."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from agentos.apps.worker import __main__ as worker
from agentos.control.budgets import service as budgets
from agentos.evidence.usage.counting import KEPT
from agentos.evidence.usage.model import BadUsageQuestion, Counts, Dimension, Source
from agentos.kernel import outbox
from agentos.kernel.clock import now
from agentos.kernel.database import Database
from agentos.kernel.ids import OrgId
from agentos.kernel.retention import forget
from agentos.kernel.units import MICROS
from agentos.runtime.inference import Answer, Call, Stop, Usage
from agentos.runtime.inference.model import ModelOverloaded, ModelTimedOut
from tests.evidence.usage.fleet import MODEL, count, fleet, lines, usage
from tests.runtime.runs.harness import DONE, Harness, calls


def answer(question: Any, used: Usage, *wanted: str) -> Answer:
    made = tuple(Call(f"c{number}", name, {"n": number}) for number, name in enumerate(wanted))
    stop = Stop.CALLS if made else Stop.END
    return Answer("said", "claude", question.model, stop, made, used)


async def spend(held: Harness, **more: Any) -> None:
    await held.agent([], model=MODEL, **more)
    await held.finish(await held.start())


async def test_a_run_is_counted_by_agent_version_model_skill_and_day(database: Database, organization: OrgId) -> None:
    turns = [
        lambda question: answer(question, Usage(100, 10, 40, 20, 5), "look", "note"),
        lambda question: answer(question, Usage(200, 20)),
    ]
    held = await fleet(database, organization, lambda question: turns.pop(0)(question))
    await spend(held)
    await count(held)
    found = await usage(held)
    whole = found.total
    assert (whole.runs, whole.calls, whole.input_tokens, whole.output_tokens) == (1, 2, 300, 30)
    assert (whole.cache_read_tokens, whole.cache_write_tokens, whole.reasoning_tokens) == (40, 20, 5)
    assert (whole.money, whole.unknown_money, whole.unpriced_calls) == (3300, 0, 0)
    assert (whole.skill_calls, whole.untimed_skills, whole.untimed_calls) == (2, 0, 0)
    assert whole.model_seconds > 0
    assert whole.run_seconds > whole.model_seconds
    assert whole.said() == []
    assert found.open_runs == 0
    models, skills = await lines(held, Dimension.MODEL), await lines(held, Dimension.SKILL)
    assert {name: one.money for name, one in models.items()} == {"claude/large": 3300}
    assert {name: one.skill_calls for name, one in skills.items()} == {"look": 1, "note": 1}
    assert sum(one.skill_seconds for one in skills.values()) == pytest.approx(whole.skill_seconds)
    for dimension in (Dimension.AGENT, Dimension.VERSION, Dimension.DAY, Dimension.SOURCE):
        assert list((await lines(held, dimension)).values()) == [whole]
    assert list(await lines(held, Dimension.AGENT)) == ["tester"]
    (version,) = await lines(held, Dimension.VERSION)
    assert (await usage(held, version=version[:15])).total == whole
    for nothing in ({"agent": "other"}, {"version": "sha256:00"}, {"source": Source.ASK}, {"model": "claude/small"}):
        assert (await usage(held, **nothing)).total == Counts()


async def test_that_it_was_counted_is_forgotten_after_its_time_and_the_sums_are_not(
    database: Database, organization: OrgId
) -> None:
    held = await fleet(database, organization, lambda question: answer(question, Usage(1, 1)))
    await spend(held)
    await count(held)
    whole = (await usage(held)).total
    assert await forget(database, KEPT, at=now() + KEPT.kept - timedelta(minutes=5)) == 0
    await count(held)
    assert (await usage(held)).total == whole, "meanwhile the same facts count nothing"
    assert await forget(database, KEPT, at=now() + KEPT.kept + timedelta(minutes=5)) > 0
    async with held.doors.open(organization) as work:
        assert not await work.all(text("SELECT subject FROM usage_counted"))
    assert (await usage(held)).total == whole
    assert KEPT in worker.KEPT and KEPT.kept > outbox.KEPT.kept, "no fact that may come again counts twice"


async def test_a_run_that_is_not_over_is_said_to_be_missing(database: Database, organization: OrgId) -> None:
    held = await fleet(database, organization, lambda question: answer(question, Usage(1, 1)))
    await held.agent([], model=MODEL)
    await held.start()
    await count(held)
    found = await usage(held)
    assert (found.total, found.open_runs) == (Counts(), 1)


async def test_what_a_provider_does_not_say_is_unknown_and_never_nothing(
    database: Database, organization: OrgId
) -> None:
    held = await fleet(database, organization, lambda question: answer(question, Usage(None, None)), money=MICROS)
    await spend(held)
    await count(held)
    whole = (await usage(held)).total
    assert (whole.calls, whole.untold_calls, whole.unpriced_calls) == (1, 1, 1)
    assert (whole.money, whole.input_tokens, whole.cache_read_tokens) == (0, 0, None)
    assert whole.unknown_money > 0
    assert whole.unknown_tokens > 0
    assert whole.said()[0].startswith("1 call did not say what they used; budgets count 0.")


async def test_a_fallback_and_what_had_no_answer_are_told_apart(database: Database, organization: OrgId) -> None:
    def says(question: Any) -> Any:
        return ModelTimedOut("late") if question.model == "large" else answer(question, Usage(10, 10))

    held = await fleet(database, organization, says)
    await spend(held)
    await count(held)
    models = await lines(held, Dimension.MODEL)
    assert (models["claude/large"].calls, models["claude/large"].failed_calls) == (0, 1)
    assert (models["claude/small"].calls, models["claude/small"].fallback_calls) == (1, 1)
    assert models["claude/large"].said() == ["1 call had no answer; a provider may bill what it began"]


async def test_a_stub_is_counted_under_its_own_name(database: Database, organization: OrgId) -> None:
    held = await fleet(database, organization, lambda _: None)
    await held.agent([calls(("look", 1)), DONE])
    await held.finish(await held.start())
    await count(held)
    ((name, stub),) = (await lines(held, Dimension.MODEL)).items()
    assert name.startswith("stub")
    assert (stub.calls, stub.money) == (2, 0)


@pytest.mark.parametrize("seed", range(4))
async def test_sums_equal_what_budgets_hold(database: Database, organization: OrgId, seed: int) -> None:
    """Of random runs, whose models answer, keep silent of what they used, break off, or lose their worker."""
    chance = random.Random(seed)

    def says(question: Any) -> Any:
        kind = chance.random()
        if kind < 0.15:
            return ModelTimedOut("late") if chance.random() < 0.5 else ModelOverloaded("529", begun=False)
        if kind < 0.25:
            return asyncio.CancelledError()
        known = Usage(chance.randrange(1, 200), chance.randrange(1, 90), chance.choice([None, 0, 1]))
        used = chance.choice([known, known, known, Usage(None, None), Usage(5, None)])
        return answer(question, used, *chance.choice([(), (), ("look",), ("note", "look")]))

    held = await fleet(database, organization, says, money=10**6 * MICROS)
    for name in ("first", "second"):
        await held.agent([], model=MODEL, name=name, budgets={"turns": 6})
    for number in range(10):
        run_id = await held.start(name=("first", "second")[number % 2])
        for segment in range(1, 40):
            try:
                end = await held.segment(run_id, segment)
            except asyncio.CancelledError:
                end = await _again(held, run_id, segment)
            if (await held.run(run_id)).status.terminal:
                break
        assert (await held.run(run_id)).status.terminal, end
    await count(held)
    async with held.doors.open(organization) as work:
        spent = {
            one.agent_id: one for one in await budgets.used(work, on=None, at=now()) if one.period.value == "month"
        }
    agents = await lines(held, Dimension.AGENT)
    for name, counts in {"": (await usage(held)).total, **agents}.items():
        one = spent[name]
        assert counts.money + counts.unknown_money == one.money
        assert counts.input_tokens + counts.output_tokens + counts.unknown_tokens == one.tokens
        assert counts.calls + counts.lost_calls == one.calls
        assert counts.unpriced_calls + counts.lost_calls == one.unknown_calls
        assert one.reserved_money == 0
    assert set(agents) == {"first", "second"}
    for dimension in (Dimension.MODEL, Dimension.DAY, Dimension.VERSION):
        summed = Counts()
        for counts in (await lines(held, dimension)).values():
            summed.add(counts)
        whole = (await usage(held)).total
        assert (summed.money, summed.unknown_money, summed.calls) == (whole.money, whole.unknown_money, whole.calls)


async def _again(held: Harness, run_id: Any, segment: int) -> Any:
    while True:
        try:
            return await held.segment(run_id, segment)
        except asyncio.CancelledError:
            continue


async def test_a_question_without_an_answer_is_refused(database: Database, organization: OrgId) -> None:
    held = await fleet(database, organization, lambda _: None)
    with pytest.raises(BadUsageQuestion):
        await usage(held, Dimension.DAY, Dimension.DAY)
