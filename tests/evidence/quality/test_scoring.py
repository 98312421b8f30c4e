"""A run's score is made of the parts that are known; what is not known is left out and never counted as fine."""

from __future__ import annotations

from typing import Any

import pytest

from agentos.evidence.quality.model import Feedback
from agentos.evidence.quality.scoring import (
    LEAST_HISTORY,
    PRIOR,
    Grounds,
    Observed,
    confidence,
    features,
    last_word,
    parts,
    score,
    shape,
    unjudged,
)


def step(key: str, kind: str = "skill", *, status: str = "ok", phase: str = "result", **meta: Any) -> dict[str, Any]:
    return {"key": key, "phase": phase, "kind": kind, "name": meta.pop("name", "look"), "status": status, "effect": 0,
            "meta": meta}  # fmt: skip


def run(**given: Any) -> Observed:
    usual: dict[str, Any] = {
        "status": "completed",
        "seconds": 1.0,
        "steps": [],
        "approvals": {},
        "drafts": {},
        "input": {"a": 1},
        "output": "done",
        "definition": {"skills": [], "output_schema": None},
        "trigger": False,
        "history": [],
    }
    return Observed(**usual | given)


@pytest.mark.parametrize(
    ("pattern", "output", "fits"),
    [
        (r"^\p{L}+$", "done", 1.0),  # of the patterns that manifests may have and Python's do not know
        (r"^\p{L}+$", "7", 0.0),
        (r"^(a+)+$", "a" * 60 + "!", 0.0),  # backtracking would not end
    ],
)
def test_an_output_is_held_against_its_schema_as_the_run_holds_it(pattern: str, output: str, fits: float) -> None:
    definition = {"skills": [], "output_schema": {"type": "string", "pattern": pattern}}
    assert parts(run(output=output, definition=definition))["output"] == fits


def test_of_a_bare_run_only_its_end_is_known() -> None:
    assert parts(run()) == {"completed": 1.0}
    assert parts(run(status="failed")) == {"completed": 0.0}
    assert score(parts(run())) == 1.0


def test_a_score_of_nothing_is_unknown() -> None:
    assert score({}) is None
    assert confidence(None) is None


def test_a_part_that_is_unknown_takes_its_weight_with_it() -> None:
    assert score({"completed": 1.0, "calls": 0.0}) == pytest.approx(4 / 6)
    assert score({"completed": 1.0, "calls": 0.0, "feedback": 0.0}) == pytest.approx(4 / 10)
    assert unjudged({"completed": 1.0, "feedback": 0.0}) == 1.0


def test_denied_failed_and_uncertain_calls_did_not_end_well() -> None:
    steps = [
        step("t0.c0"),
        step("t0.c1", status="denied"),
        step("t0.c2", status="error"),
        step("t0.c3"),
        step("t0.c3~1!settled", "skill"),
    ]
    assert parts(run(steps=steps))["calls"] == 0.25


def test_further_attempts_at_skills_and_models_lower_the_score() -> None:
    sends = [step("t0.c0~1", phase="intent"), step("t0.c0~2", phase="intent"), step("t0.c0")]
    assert parts(run(steps=sends))["retries"] == 0.5
    assert parts(run(steps=[step("t0.c0", tries=3)]))["retries"] == pytest.approx(1 / 3)
    assert parts(run(steps=[step("t0", "model", attempts=[1, 2])]))["retries"] == 0.5
    assert parts(run(steps=[step("t0", "model")]))["retries"] == 1.0


def test_a_call_that_cost_more_than_its_reserve_is_an_overshoot_and_without_a_reserve_nobody_knows() -> None:
    held = {"micros": 5, "tokens": 5, "steps": 0, "unknown": False, "reserved_micros": 10, "reserved_tokens": 10}
    assert parts(run(steps=[step("t0", "model", cost=held)]))["overshoot"] == 1.0
    over = step("t1", "model", cost=held | {"tokens": 11})
    assert parts(run(steps=[over]))["overshoot"] == 0.0
    unsaid = step("t0", "model", cost=held | {"micros": 10, "tokens": 10, "unknown": True})  # it counts as its reserve
    assert "overshoot" not in parts(run(steps=[unsaid]))
    assert parts(run(steps=[unsaid, over]))["overshoot"] == 0.0
    free = {"micros": 5, "tokens": 5, "steps": 0, "unknown": False}
    assert "overshoot" not in parts(run(steps=[step("t0", "model", cost=free)]))


def test_an_output_counts_where_the_version_has_a_schema() -> None:
    schema = {"type": "object", "required": ["n"]}
    fits = {"skills": [], "output_schema": schema}
    assert parts(run(definition=fits, output={"n": 1}))["output"] == 1.0
    assert parts(run(definition=fits, output={}))["output"] == 0.0
    assert parts(run(definition=fits, output=None, status="failed"))["output"] == 0.0
    assert "output" not in parts(run())


def test_answers_of_people_and_drafts_count_once_they_are_decided() -> None:
    assert parts(run(approvals={"approved": 1, "denied": 1, "expired": 2}))["approvals"] == 0.25
    assert "approvals" not in parts(run(approvals={"pending": 1}))
    assert parts(run(drafts={"submitted": 1, "discarded": 3, "open": 5}))["drafts"] == 0.25
    assert "drafts" not in parts(run(drafts={"open": 5}))


def test_latency_is_held_against_the_versions_own_history_once_there_is_enough() -> None:
    usual = [1.0] * LEAST_HISTORY
    assert "latency" not in parts(run(history=usual[1:]))
    assert parts(run(history=usual))["latency"] == 1.0
    assert parts(run(history=usual, seconds=2.0))["latency"] == pytest.approx(0.5)
    assert parts(run(history=usual, seconds=9.0))["latency"] == 0.0


def test_the_last_word_on_a_run_counts_else_the_worst_on_its_drafts() -> None:
    assert last_word({}) is None
    assert last_word({"draft_1": Feedback.ACCEPTED, "draft_2": Feedback.EDITED}) is Feedback.EDITED
    assert last_word({"": Feedback.ACCEPTED, "draft_2": Feedback.REJECTED}) is Feedback.ACCEPTED
    assert parts(run(feedback=Feedback.EDITED))["feedback"] == 0.7


def test_confidence_moves_from_the_parts_mean_to_what_people_said_of_like_runs() -> None:
    assert confidence(Grounds(0.9, 0, 0)) == pytest.approx(0.9)
    assert confidence(Grounds(0.9, PRIOR, 0)) == pytest.approx(0.45)
    assert confidence(Grounds(0.9, 990, 0)) == pytest.approx(0.009)


def test_features_are_names_digests_and_counts_and_never_content() -> None:
    cost = {"micros": 7, "tokens": 3, "steps": 0, "unknown": False}
    steps = [
        step("t0", "model", name="opus", provider="claude", cost=cost, policy="sha256:p"),
        step("t0.c0", name="pay", status="error"),
        step("t0.c1", name="look"),
    ]
    found = features(run(steps=steps, input={"secret": "hunter2"}, output="hunter2"))
    assert "hunter2" not in str(found)
    assert (found["models"], found["tools"], found["policies"]) == (["claude:opus"], ["look", "pay"], ["sha256:p"])
    assert found["calls"] == {"pay": [0, 1], "look": [1, 1]}
    assert (found["micros"], found["reads"]) == (7, 1)


def test_a_cost_that_no_provider_told_is_unknown() -> None:
    unknown = {"micros": 7, "tokens": 3, "steps": 0, "unknown": True}
    assert features(run(steps=[step("t0", "model", cost=unknown)]))["micros"] is None


def test_the_shape_of_data_is_that_of_its_keys_and_kinds() -> None:
    assert shape({"a": 1, "b": ["x"]}) == shape({"b": ["y", "z"], "a": 2})
    assert shape({"a": 1}) != shape({"a": "1"})
