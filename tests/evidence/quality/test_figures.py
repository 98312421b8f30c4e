"""Figures say how surely they are known, and a comparison finds a loss and lets equals pass."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest
from scipy import stats

from agentos.evidence.quality import figures, service
from agentos.evidence.quality.figures import METRICS, WHAT_IFS, Scored, figure, loss, metric
from agentos.evidence.quality.model import MOST_RUNS, Comparator, Feedback, Gate, MetricUnknown, Scope, Severity
from agentos.kernel.ids import GateId
from tests.evidence.quality.runs import AT, scored

COMPARISONS = 1000


def gate(metric: str = "success_rate", *, margin: float = 0.1, samples: int = 1) -> Gate:
    return Gate(
        GateId("gate_1"),
        Scope.ORGANIZATION,
        "",
        metric,
        Comparator.NO_WORSE,
        margin,
        timedelta(days=7),
        samples,
        Severity.BLOCKER,
        "ana",
        AT,
    )


def passes(rate: float, serving_rate: float, samples: int) -> int:
    """How many of so many comparisons a version passes whose runs complete at this rate."""
    good, bad = scored(), scored(ok=False)
    one = gate(samples=samples)

    def runs(rate: float, chance: random.Random) -> list[Scored]:
        hits = sum(chance.random() < rate for _ in range(samples))
        return [good] * hits + [bad] * (samples - hits)

    chance = random.Random(20261121)
    return sum(
        service.compared(one, runs(rate, chance), runs(serving_rate, chance)).passed is True for _ in range(COMPARISONS)
    )


@pytest.mark.parametrize("rate", [0.5, 0.8, 0.9, 0.95, 0.99])
def test_of_two_identical_versions_95_percent_of_comparisons_pass_at_the_documented_sample_size(rate: float) -> None:
    assert passes(rate, rate, figures.samples_for(0.1, rate)) >= 0.95 * COMPARISONS


@pytest.mark.parametrize("rate", [0.5, 0.8, 0.9, 0.95, 0.99])
def test_a_loss_of_ten_points_is_found_in_90_percent_of_comparisons_at_the_documented_sample_size(rate: float) -> None:
    assert passes(rate - 0.1, rate, figures.samples_for(0.1, rate)) <= 0.1 * COMPARISONS


def test_too_few_samples_never_pass_as_no_worse() -> None:
    assert service.compared(gate(samples=30), [scored()] * 29, [scored()] * 900).passed is None
    assert service.compared(gate(), [scored()] * 5, [scored()] * 900).passed is False


def test_nothing_serving_leaves_a_comparison_unknown() -> None:
    assert service.compared(gate(), [scored()] * 900, None).passed is None


def test_a_verdict_says_how_many_runs_would_show_that_a_version_is_as_good() -> None:
    serving = [scored()] * 810 + [scored(ok=False)] * 90
    few = service.compared(gate(), [scored()] * 27 + [scored(ok=False)] * 3, serving)
    assert few.passed is False
    assert few.enough == figures.samples_for(0.1, 0.9) > 30
    assert few.reason.endswith(f"with {few.enough} runs of each, a version that is as good passes 19 times of 20")
    assert few.document()["samples_enough"] == few.enough
    bad = service.compared(gate(), [scored(ok=False)] * 900, serving)
    assert bad.passed is False
    assert "as good" not in bad.reason
    assert service.compared(gate("cost_dollars"), [scored()] * 5, [scored()] * 5).enough is None


def test_a_few_runs_that_agree_do_not_pass_as_no_worse() -> None:
    for name in ("score", "clean_call_rate", "brier"):
        runs = [scored(score=1.0, parts={"calls": 1.0}, confidence=1.0, feedback=Feedback.ACCEPTED)] * 2
        assert service.compared(gate(name), runs, runs).passed is False, name
    runs = [scored(micros=1000)] * 29
    assert service.compared(gate("cost_dollars"), runs, runs).passed is None
    assert service.compared(gate("cost_dollars"), [*runs, runs[0]], [*runs, runs[0]]).passed is True
    assert figure(metric("cost_dollars"), runs[:2]).high is None
    high = figure(metric("brier"), [scored(confidence=1.0, feedback=Feedback.ACCEPTED)] * 2).high
    assert high is not None
    assert high > 0.5


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_mean_within_0_and_1_passes_among_equals_and_not_when_it_is_worse_by_the_margin(share: float) -> None:
    samples = figures.samples_for(0.1, 0.9 - 0.2 * share)
    one, chance = gate("score", samples=samples), random.Random(20261121)

    def runs(mean: float) -> list[Scored]:
        """Of scores that spread as hits do (share 0) up to hardly at all."""
        return [
            scored(score=min(1.0, max(0.0, mean + (1 - share) * ((chance.random() < mean) - mean))))
            for _ in range(samples)
        ]

    usual = 0.9 - 0.2 * share
    passed = [service.compared(one, runs(usual), runs(usual)).passed for _ in range(300)]
    worse = [service.compared(one, runs(usual - 0.1), runs(usual)).passed for _ in range(300)]
    assert sum(each is True for each in passed) >= 0.95 * 300
    assert sum(each is True for each in worse) <= 0.1 * 300


def test_the_loss_of_another_mean_has_the_interval_of_welch() -> None:
    micros = (500_000, 600_000, 700_000, 900_000, 400_000), (800_000, 850_000, 900_000, 800_000, 950_000, 700_000)
    theirs, ours = [[scored(micros=value) for value in each] for each in micros]
    found = loss(metric("cost_dollars"), ours, theirs)
    t = stats.ttest_ind([value / 1e6 for value in micros[1]], [value / 1e6 for value in micros[0]], equal_var=False)
    expected = t.confidence_interval(0.90)
    assert found.value == pytest.approx(5 / 6 - 0.62)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.01)
    assert found.samples == 5


def test_of_a_metric_that_should_be_low_more_is_a_loss() -> None:
    found = loss(metric("cost_dollars"), [scored(micros=200_000)] * 5, [scored(micros=100_000)] * 5)
    assert found.value == pytest.approx(0.1)


def test_every_figure_has_an_interval_and_its_samples() -> None:
    runs = [scored(ok=number % 10 != 0, seconds=number, feedback=Feedback.ACCEPTED, parts={"calls": 0.5 + number / 400})
            for number in range(200)]  # fmt: skip
    for name, one in METRICS.items():
        if one.kind == "drift":  # is of two sets of runs
            continue
        found = figure(one, runs)
        assert found.samples == 200, name
        assert found.value is not None, name
        assert found.low is not None, name
        assert found.high is not None, name
        assert found.low - 1e-9 <= found.value <= found.high + 1e-9, name


@pytest.mark.parametrize("scores", [(0.9, 0.2), (*[1.0] * 9, 0.7), (0.0, 0.1)])
def test_the_interval_of_a_mean_within_0_and_1_is_within_them(scores: tuple[float, ...]) -> None:
    found = figure(metric("score"), [scored(score=one) for one in scores])
    assert found.low is not None
    assert found.high is not None
    assert 0 <= found.low < found.high <= 1


def test_how_many_runs_there_are_beyond_those_that_are_read_is_unknown() -> None:
    found = figure(metric("runs"), [scored()] * MOST_RUNS)
    assert (found.value, found.low, found.high) == (MOST_RUNS, MOST_RUNS, None)


def test_what_is_not_known_of_a_run_is_no_sample() -> None:
    found = figure(metric("accepted_rate"), [scored(), scored(feedback=Feedback.EDITED)])
    assert (found.value, found.samples) == (0.0, 1)
    assert figure(metric("cost_dollars"), [scored(micros=None)]).value is None


def test_an_unknown_metric_is_refused_with_those_that_exist() -> None:
    with pytest.raises(MetricUnknown) as refused:
        metric("vibes")
    assert refused.value.extra["metrics"] == [*sorted(METRICS | WHAT_IFS), "eval:DATASET"]
