"""Evals on a real database, without Temporal: the loop executes cases, and says what a version came to."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import pytest

from agentos.adapters.llm.stub import behaviour
from agentos.evidence.evals import examining, service
from agentos.evidence.evals.model import (
    BadEval,
    DatasetUnknown,
    EvalStatus,
    EvalTooLarge,
    TooManyEvals,
)
from agentos.kernel.clock import now
from agentos.kernel.errors import Bug
from agentos.runtime.inference.ports import Question
from tests.evidence.evals.examination import (
    DATA,
    NUMBER,
    SPEC,
    STUB,
    add,
    begin,
    case,
    examined,
    outcomes,
    rows,
)
from tests.runtime.runs.harness import DONE, Harness, calls

_turns: Counter[int] = Counter()


@behaviour("evals.flips")
def flips(question: Question) -> str:
    """Right for odd numbers, and for even ones every other time."""
    n = json.loads(question.messages[0].text)["n"]
    _turns[n] += 1
    return "right" if n % 2 or _turns[n] % 2 else "wrong"


async def test_a_version_is_examined_on_every_case(held: Harness) -> None:
    await held.agent([], [], model=STUB, **SPEC)
    await add(held, [case(n) for n in range(20)])
    found = await examined(held)
    assert (found.status, found.done, found.total) == (EvalStatus.COMPLETED, 20, 20)
    assert found.report is not None
    said = found.report["candidate"]
    assert (said["scores"]["exact"]["mean"], said["scores"]["exact"]["samples"]) == (0.95, 20)
    assert said["asked"] == 20 and said["tokens"] > 0 and said["micros"] == 0
    each = await outcomes(held, found.id)
    assert [name for name, one in each.items() if not one.passed] == ["c13"]
    assert (each["c3"].output, each["c3"].status) == ({"n": 6}, "completed")
    assert not await rows(held, "eval_answers")


async def test_reads_are_answered_by_fixtures_and_effects_become_drafts_of_nobody(held: Harness) -> None:
    await held.agent([calls(("look", 1)), calls(("note", 2), ("wipe", 3)), DONE], ["look", "note", "wipe"])
    fixtures = [{"skill": "look", "arguments": {"n": 1}, "answer": {"n": 77}}]
    wanted = [{"skill": "look", "status": "ok"}, {"skill": "note", "status": "drafted"}]
    scored = [{"kind": "subset", "of": "calls"}, {"kind": "regex", "pattern": "^done$"}]
    task = {"task_description": "go"}
    await add(held, [{"id": "a", "input": task, "expected": wanted, "scorers": scored, "fixtures": fixtures}])
    found = await examined(held)
    (one,) = (await outcomes(held, found.id)).values()
    assert one.passed, one
    assert [(made["skill"], made["status"]) for made in one.calls] == [
        ("look", "ok"),
        ("note", "drafted"),
        ("wipe", "drafted"),
    ]
    assert not held.world.done
    for table in ("drafts", "approvals", "runs", "journal"):
        assert not await rows(held, table), table


async def test_a_read_without_a_fixture_leaves_the_case_and_says_nothing_of_the_version(held: Harness) -> None:
    await held.agent([calls(("look", 1)), DONE], ["look"])
    task = {"task_description": "go"}
    base = {"input": task, "expected": "done", "scorer": "exact"}
    given = [{"skill": "look", "error": "it is away"}]
    await add(held, [{"id": "a", **base}, {"id": "b", **base, "fixtures": given}])
    found = await examined(held)
    each = await outcomes(held, found.id)
    assert each["a"].status == "left" and "no fixture answers 'look' with {\"n\":1}" in each["a"].why
    assert each["b"].passed and each["b"].calls[0]["status"] == "error"
    assert found.report is not None
    assert found.report["candidate"]["left"]["cases"] == 1
    assert found.report["candidate"]["scores"]["exact"]["samples"] == 1


async def test_an_input_that_the_version_does_not_take_leaves_the_case(held: Harness) -> None:
    word = {"type": "string", "pattern": r"^\p{L}+$"}  # as a run takes it
    schema = {**NUMBER, "properties": {**NUMBER["properties"], "word": word}}
    await held.agent([], [], model=STUB, **SPEC | {"input": {"schema": schema}})
    await add(held, [case(1, input={"n": 1, "word": "Grüße"}), case(2, input={"n": "two"})])
    each = await outcomes(held, (await examined(held)).id)
    assert each["c1"].passed
    assert each["c2"].why == "the case's input does not fit the version's input schema"


async def test_a_run_that_would_fail_scores_nothing(held: Harness) -> None:
    await held.agent([calls(("note", 1))], ["note"], budgets={"turns": 2})
    await add(held, [{"id": "a", "input": {"task_description": "go"}, "expected": "x", "scorer": "exact"}])
    (one,) = (await outcomes(held, (await examined(held)).id)).values()
    assert one.status in ("failed", "blocked") and one.code
    assert not one.passed and one.scores["exact"].value == 0


async def test_two_versions_are_compared_on_the_same_cases(held: Harness) -> None:
    await held.agent([], [], model=STUB, **SPEC)
    always = {"provider": "stub", "script": [{"text": '{"n": 26}'}]}
    await held.agent([], [], model=always, **SPEC)
    await add(held, [case(n) for n in range(12, 15)])
    found = await examined(held, version="1", against="2", repeats=2)
    assert found.total == 12 and found.report is not None
    said = found.report["comparison"]
    assert (said["pairs"], said["won"], said["lost"]) == (3, 2, 1)
    assert {one["case"] for one in said["differences"]} == {"c12", "c13", "c14"}
    assert said["scores"]["exact"]["difference"] == pytest.approx(1 / 3)


async def test_cases_that_differ_between_repeats_are_set_apart(held: Harness) -> None:
    await held.agent([], [], model={"provider": "stub", "behaviour": "evals.flips"}, input={"schema": NUMBER})
    await add(held, [case(n, expected="right") for n in range(4)])
    found = await examined(held, repeats=6, concurrency=1)
    assert found.report is not None
    assert found.report["candidate"]["flaky"]["ids"] == ["c0", "c2"]
    assert found.report["candidate"]["scores"]["exact"]["samples"] == 2


async def test_an_eval_is_refused_that_says_nothing_or_is_too_large(held: Harness) -> None:
    await held.agent([], [], model=STUB, **SPEC)
    with pytest.raises(DatasetUnknown):
        await begin(held)
    await add(held, [case(n) for n in range(6000)])
    with pytest.raises(BadEval, match="not compared with itself"):
        await begin(held, against="1")
    with pytest.raises(EvalTooLarge, match="120000 executions"):
        await begin(held, repeats=20)
    with pytest.raises(DatasetUnknown, match="with the hash 0000"):
        await begin(held, hashed="0000")
    added = await add(held, [case(1)])
    for _ in range(20):
        await begin(held, hashed=added.hash.removeprefix("sha256:")[:12])
    with pytest.raises(TooManyEvals):
        await begin(held)


async def test_a_data_set_is_named_by_its_content_and_its_newest_counts(held: Harness) -> None:
    first = await add(held, [case(1)])
    assert await add(held, [case(1)]) == first
    second = await add(held, [case(1), case(2), "{"])
    assert [(one.line, one.reason[:14]) for one in second.broken] == [(3, "it is not JSON")]
    async with held.doors.open(held.organization) as work:
        assert (await service.get_dataset(work, DATA)).hash == second.hash
        assert (await service.get_dataset(work, DATA, first.hash[:20])).hash == first.hash
        assert [one.hash for one in await service.list_datasets(work)] == [second.hash]
    await add(held, [case(1)])
    async with held.doors.open(held.organization) as work:
        assert (await service.get_dataset(work, DATA)).hash == first.hash


async def test_gates_read_the_last_completed_eval_over_the_newest_content_without_broken_lines(held: Harness) -> None:
    await held.agent([], [], model=STUB, **SPEC)
    await add(held, [case(n) for n in range(10)])

    async def latest(version: str) -> Any:
        async with held.doors.open(held.organization) as work:
            return await service.latest(work, "tester", version, DATA)

    found = await examined(held)
    said = await latest(found.version)
    assert (said.value, said.samples, said.eval_id) == (1.0, 10, found.id)
    assert await latest("sha256:other") is None
    await add(held, [case(n) for n in range(11)])
    assert await latest(found.version) is None
    await add(held, [*(case(n) for n in range(11)), "broken"])
    await examined(held)
    assert await latest(found.version) is None
    await add(held, [case(n) for n in range(10)])
    assert await latest(found.version) == said


async def test_a_gate_asks_for_the_content_that_it_names_whatever_is_added_later(held: Harness) -> None:
    await held.agent([], [], model=STUB, **SPEC)
    first = await add(held, [case(n) for n in range(10)])
    found = await examined(held)
    await add(held, [case(n) for n in range(2)])
    async with held.doors.open(held.organization) as work:
        assert await service.latest(work, "tester", found.version, DATA) is None
        said = await service.latest(work, "tester", found.version, DATA, hashed=first.hash)
    assert said is not None
    assert said.samples == 10


async def test_no_more_evals_are_under_way_than_may_be_also_where_they_begin_at_once_or_go_on(
    held: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await held.agent([], [], model=STUB, **SPEC)
    await add(held, [case(1)])
    monkeypatch.setattr(service, "MOST_UNFINISHED", 1)
    done = await asyncio.gather(*(begin(held) for _ in range(4)), return_exceptions=True)
    first, *others = sorted(done, key=lambda one: isinstance(one, Exception))
    assert isinstance(first, str) and all(isinstance(one, TooManyEvals) for one in others)
    async with held.doors.open(held.organization) as work:
        found, lost = await service.get(work, first), Bug("a fault of ours")
        assert await examining.ended(work, held.parts, found, EvalStatus.FAILED, error=lost, attempt=0)
    await begin(held)
    async with held.doors.open(held.organization) as work:
        with pytest.raises(TooManyEvals):
            await service.resume(work, first, by="author", at=now())
