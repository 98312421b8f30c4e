"""What of a journal's rows and of facts is counted, and on which day."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from agentos.control.budgets.model import ReserveLost
from agentos.evidence.evals.model import EvalAsked
from agentos.evidence.replay.model import ReplayAsked
from agentos.evidence.usage.model import Counts, Place, Source
from agentos.evidence.usage.tally import Ended, Row, of_ask, of_eval, of_lost, of_replay, of_run
from agentos.runtime.gateway.model import ModelAsked

NIGHT = datetime(2026, 11, 20, 23, 59, tzinfo=UTC)
RUN = Ended("tester", "v1", NIGHT, NIGHT + timedelta(minutes=2))
COST = {"micros": 70, "tokens": 30, "unknown": False, "steps": 0}


def row(key: str, kind: str, name: str, at: datetime = NIGHT, phase: str = "result", **meta: Any) -> Row:
    return Row(key, phase, kind, name, "ok", at, meta)


def test_a_step_counts_on_the_day_of_its_row_and_the_run_on_the_day_of_its_end() -> None:
    answer = row("t0", "model", "m", provider="p", usage={"input": 20, "output": 10}, cost=COST, seconds=0.5)
    later = replace(answer, key="t1", at=NIGHT + timedelta(minutes=2))
    tally = of_run(RUN, [answer, later])
    one = Place(date(2026, 11, 20), Source.RUN, "tester", "v1", "p", "m")
    assert tally[one].money == 70
    assert tally[replace(one, day=date(2026, 11, 21))] == tally[one]
    assert tally[Place(date(2026, 11, 21), Source.RUN, "tester", "v1")] == Counts(runs=1, run_seconds=120.0)


def test_a_row_of_a_release_that_kept_no_cost_is_unpriced_and_untimed() -> None:
    old = row("t0", "model", "m", provider="p", usage={"input": 20, "output": None})
    (counts,) = (one for place, one in of_run(RUN, [old]).items() if place.model)
    assert (counts.unpriced_calls, counts.untold_calls, counts.untimed_calls, counts.unknown_tokens) == (1, 1, 1, 20)


def test_answers_of_an_eval_count_as_those_of_a_run_do() -> None:
    said = {"provider": "p", "usage": {"input": 20, "output": 10}, "cost": COST, "seconds": 0.5}
    tried = [{"provider": "q", "model": "n", "outcome": "late"}, {"provider": "p", "model": "m", "outcome": "ok"}]
    answers = [{**said, "model": "m", "attempts": None}, {**said, "model": "m", "attempts": tried}]
    tally = of_eval(EvalAsked("eval_1.candidate.0.0.t0~1", "eval_1", "tester", "v1", answers), NIGHT)
    place = Place(NIGHT.date(), Source.EVAL, "tester", "v1", "p", "m")
    assert (tally[place].money, tally[place].calls, tally[place].fallback_calls) == (140, 2, 1)
    assert tally[replace(place, provider="q", model="n")].failed_calls == 1


def test_a_ceiling_is_no_price_though_the_tokens_are_known() -> None:
    said = {"provider": "p", "usage": {"input": 20, "output": 10}, "cost": COST | {"unknown": True}}
    (counts,) = (one for place, one in of_run(RUN, [row("t0", "model", "m", **said)]).items() if place.model)
    assert (counts.unpriced_calls, counts.untold_calls, counts.money, counts.unknown_money) == (1, 0, 0, 70)
    assert (counts.input_tokens, counts.unknown_tokens) == (20, 0)


def test_only_skills_that_were_called_count_also_when_nobody_knows_their_end() -> None:
    rows = [
        row("t0.c0", "skill", "look", tries=2, seconds=0.25),
        row("t0.c1", "skill", "note", sends=0),  # refused before it was sent
        row("t0.c2", "skill", "note"),  # denied
        row("t0.c3~1", "skill", "send", phase="intent"),
        row("t0.c3~2", "skill", "send", phase="intent"),
        row("t0.c4~1", "skill", "note", phase="intent"),
        row("t0.c4", "skill", "note", sends=1, seconds=0.5),
    ]
    skills = {place.skill: counts for place, counts in of_run(RUN, rows).items() if place.skill}
    assert skills == {
        "look": Counts(skill_calls=1, skill_seconds=0.25),
        "note": Counts(skill_calls=1, skill_seconds=0.5),
        "send": Counts(skill_calls=1, untimed_skills=1),
    }


ASKED = ModelAsked("ask_1", "ann", "r", "p", "m", "ok", 20, 10, 70, ["p/m: ok"], seconds=0.5, counted_micros=70)


def test_a_question_is_counted_with_its_fallback_and_what_failed_before() -> None:
    fact = replace(ASKED, attempts=["q/large: model_overloaded", "r/none: skipped", "p/m: ok"])
    tally = of_ask(fact, NIGHT)
    answered = tally[Place(date(2026, 11, 20), Source.ASK, provider="p", model="m")]
    assert (answered.calls, answered.fallback_calls, answered.money, answered.untimed_calls) == (1, 1, 70, 0)
    assert tally[Place(date(2026, 11, 20), Source.ASK, provider="q", model="large")] == Counts(failed_calls=1)
    assert len(tally) == 2


@pytest.mark.parametrize(("outcome", "calls"), [("cancelled", 1), ("lost", 1), ("asking_stopped", 0)])
def test_a_question_without_an_answer_is_a_failed_call_where_one_was_made(outcome: str, calls: int) -> None:
    fact = replace(ASKED, outcome=outcome, attempts=[], input_tokens=None, output_tokens=None, micros=None)
    assert sum(one.failed_calls for one in of_ask(fact, NIGHT).values()) == calls


def test_a_replay_is_counted_under_the_agent_and_the_version_that_is_tried() -> None:
    fact = ReplayAsked("run_9.1", "tester", "v2", "p", "m", None, None, None, None, None, 80, 40)
    ((place, counts),) = of_replay(fact, NIGHT).items()
    assert place == Place(date(2026, 11, 20), Source.REPLAY, "tester", "v2", "p", "m")
    assert (counts.untold_calls, counts.unknown_money, counts.unknown_tokens) == (1, 80, 40)


@pytest.mark.parametrize(
    ("run_id", "version", "source"),
    [("run_1", "v1", Source.RUN), ("ask_1", None, Source.ASK), ("run_2", None, Source.REPLAY)],
)
def test_a_lost_call_is_counted_at_its_reserve_on_its_day(run_id: str, version: str | None, source: Source) -> None:
    fact = ReserveLost(run_id, "t0", "tester", 60, 30, 30, "2026-11-19")
    ((place, counts),) = of_lost(fact, version).items()
    assert place == Place(date(2026, 11, 19), source, "tester", version or "")
    assert counts == Counts(lost_calls=1, unknown_money=60, unknown_tokens=30)
    assert counts.said()[0].startswith("1 call did not say what they used")


def test_unknown_and_unknown_stay_unknown() -> None:
    counts = Counts()
    counts.add(Counts())
    assert counts.cache_read_tokens is None
    counts.add(Counts(cache_read_tokens=3))
    counts.add(Counts())
    assert counts.cache_read_tokens == 3
