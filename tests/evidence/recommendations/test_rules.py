"""Each rule recommends from figures that are sure enough, and cites them."""

from __future__ import annotations

from agentos.evidence.quality.drift import Cause, Drift
from agentos.evidence.quality.figures import calibration
from agentos.evidence.quality.model import Feedback
from agentos.evidence.recommendations.model import Kind
from agentos.evidence.recommendations.rules import advise
from agentos.kernel.statistics import wilson
from tests.evidence.quality.runs import scored

CALM = Drift(0.0, 0.0, 0.2, 100, 700, (), "", (), "")
GOOD, BAD = scored(feedback=Feedback.ACCEPTED), scored(feedback=Feedback.REJECTED)


def test_runs_that_are_well_call_for_nothing() -> None:
    assert advise([GOOD] * 100, CALM) == []
    assert advise([], CALM) == []


def test_a_prompt_is_to_be_looked_at_when_people_surely_accept_too_few() -> None:
    (found,) = advise([GOOD] * 20 + [BAD] * 20, CALM)
    assert found.kind is Kind.PROMPT
    assert found.evidence["accepted_rate"]["samples"] == 40
    assert found.evidence["feedback"] == {"accepted": 20, "rejected": 20}
    assert advise([GOOD] * 9 + [BAD] * 10, CALM) == []  # too few judged
    assert advise([GOOD] * 18 + [BAD] * 7, CALM) == []  # 72 %, which may be 86 %


def test_reading_is_to_be_a_condition_when_runs_that_read_nothing_are_surely_accepted_less() -> None:
    blind = scored(feedback=Feedback.REJECTED, reads=0)
    (found,) = advise([GOOD] * 80 + [blind] * 12, CALM)
    assert found.kind is Kind.EVIDENCE_POLICY
    interval = wilson(0, 12)
    assert interval is not None
    rate = {"value": 0.0, "low": interval.low, "high": interval.high, "samples": 12}
    assert found.evidence["accepted_rate_without_reads"] == rate
    assert advise([GOOD] * 80 + [blind] * 9, CALM) == []


def test_a_skill_whose_calls_surely_fail_too_often_is_named() -> None:
    (found,) = advise([scored(calls={"pay": [1, 2], "look": [5, 5]})] * 30, CALM)
    assert found.kind is Kind.TOOLING
    assert "'pay' 50%" in found.text
    assert list(found.evidence["calls_that_end_well"]) == ["pay"]


def test_drift_over_the_runbooks_threshold_calls_for_offline_evals_and_names_its_cause() -> None:
    drifted = Drift(0.85, 0.7, 0.9, 100, 700, (), "tools", (Cause("model", 1.0, 0.97, ""),), "")
    (found,) = advise([GOOD] * 50, drifted)
    assert found.kind is Kind.EVAL_DRIFT
    assert "97% of it goes with model" in found.text
    unknown = Drift(None, None, None, 3, 700, (), "", (), "3 of 30 runs")
    assert advise([GOOD] * 50, unknown) == []


def test_calibration_is_unknown_without_feedback_and_right_with_it() -> None:
    none = calibration([scored()] * 50)
    assert (none.brier.value, none.gap.value, none.bins) == (None, None, ())
    said = calibration(
        [scored(confidence=0.9, feedback=one) for one in [Feedback.ACCEPTED] * 45 + [Feedback.EDITED] * 5]
    )
    assert said.gap.value is not None
    assert said.gap.value < 1e-9
    assert said.brier.value is not None
    assert abs(said.brier.value - 0.09) < 1e-9
    (only,) = said.bins
    assert only.accepted.samples == 50
