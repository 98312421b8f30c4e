"""Drift is 0 while nothing changes, near 1 when everything does, and unknown without runs to compare."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from scipy import stats
from scipy.spatial.distance import jensenshannon

from agentos.evidence.quality.drift import (
    DIMENSIONS,
    LEAST,
    Sent,
    chi_square,
    jensen_shannon,
    kolmogorov,
    measure,
    share_of_one,
    split,
)
from agentos.evidence.quality.figures import Scored
from tests.evidence.quality.runs import scored


def some(times: int, seed: int, *, rate: float = 0.9, slow: float = 1.0, **more: object) -> list[Scored]:
    """Runs of one behaviour: so often completed, exponential seconds, three ways to use tools."""
    chance = random.Random(seed)
    return [
        scored(
            ok=chance.random() < rate,
            seconds=chance.expovariate(1 / slow),
            score=chance.random(),
            tools=chance.choice((["look"], ["look", "note"], ["note"])),
            output_bytes=chance.randrange(20, 200),
            micros=chance.randrange(1000),
            **more,  # type: ignore[arg-type]
        )
        for _ in range(times)
    ]


def test_the_distance_of_two_mixes_is_that_of_scipy() -> None:
    p, q = Counter(a=30, b=50, c=20), Counter(a=10, b=5, d=85)
    expected = jensenshannon([30, 50, 20, 0], [10, 5, 0, 85], base=2)
    assert jensen_shannon(p, q) == pytest.approx(expected, abs=1e-12)
    assert jensen_shannon(p, p) == 0
    assert jensen_shannon(Counter(a=3), Counter(b=9)) == 1


def test_the_distance_of_two_samples_is_that_of_scipy() -> None:
    chance = random.Random(1)
    one = [chance.gauss(0, 1) for _ in range(57)] + [0.0, 0.0]
    other = [chance.gauss(0.5, 2) for _ in range(133)] + [0.0]
    assert kolmogorov(one, other) == pytest.approx(stats.ks_2samp(one, other).statistic, abs=1e-12)
    assert kolmogorov([1, 2, 3], [4, 5]) == 1


@pytest.mark.parametrize("freedom", [1, 2, 5, 19])
@pytest.mark.parametrize("share", [0.95, 0.99, 1 - 0.05 / 7])
def test_quantiles_of_chi_squared_are_near_those_of_scipy(share: float, freedom: int) -> None:
    assert chi_square(share, freedom) == pytest.approx(stats.chi2.ppf(share, freedom), rel=0.03)


def test_drift_is_unknown_with_too_few_runs_and_says_which() -> None:
    found = measure(some(LEAST - 1, 1), some(500, 2))
    assert found.score is None
    assert found.dimensions == ()
    assert found.unknown == "29 of 30 runs in the window and 500 of 30 in its baseline"
    assert measure([], []).score is None


def test_runs_that_did_not_change_are_called_drifted_in_one_of_twenty_looks_at_most() -> None:
    looks = [measure(some(40, seed), some(80, seed + 10_000)).score for seed in range(200)]
    assert sum(score != 0 for score in looks) <= 10


def test_drift_is_near_one_when_every_run_is_another() -> None:
    found = measure(some(50, 1, output_shape="sha256:other"), some(200, 2))
    assert found.score == 1.0
    assert found.leading == "output_shape"
    assert found.low == 1.0


def test_a_collapse_of_the_success_rate_is_drift_and_its_interval_holds_it() -> None:
    found = measure(some(100, 1, rate=0.2), some(400, 2))
    assert found.leading == "success"
    assert found.score is not None
    assert found.low is not None
    assert found.high is not None
    assert 0.4 < found.low < found.score < found.high < 0.8
    (success,) = [one for one in found.dimensions if one.dimension == "success"]
    assert "not completed" in success.now


def test_an_interval_of_a_distance_holds_the_true_one_about_as_often_as_it_says() -> None:
    true = jensen_shannon(Counter(a=20, b=80), Counter(a=90, b=10))
    (success,) = [one for one in DIMENSIONS if one.name == "success"]
    hits = 0
    for seed in range(200):
        found = measure(some(150, seed, rate=0.2), some(150, seed + 5000, rate=0.9))
        (one,) = [each for each in found.dimensions if each.dimension == success.name]
        assert one.low is not None
        assert one.high is not None
        hits += one.low <= true <= one.high
    assert hits >= 180


def test_a_drift_that_came_with_a_version_is_explained_by_it_and_not_by_what_stayed() -> None:
    before = some(200, 1, version="v1")
    now = some(60, 2, version="v1") + some(100, 3, rate=0.1, version="v2")
    causes = {one.factor: one for one in measure(now, before).causes}
    assert causes["version"].explained is not None
    assert causes["version"].explained > 0.9
    assert causes["model"].explained == pytest.approx(0, abs=0.01)
    assert causes["model"].moved == 0
    assert causes["memory"].explained is None
    assert next(iter(causes)) == "version"


def test_a_drift_within_one_version_and_model_is_explained_by_the_inputs_that_changed() -> None:
    before = some(200, 1)
    now = some(100, 2) + some(100, 3, rate=0.1, input_shape="sha256:strange")
    causes = {one.factor: one for one in measure(now, before).causes}
    assert causes["input_mix"].explained is not None
    assert causes["input_mix"].explained > 0.8
    assert causes["version"].explained == pytest.approx(0, abs=0.01)


def test_where_every_input_has_a_form_of_its_own_nobody_says_that_inputs_explain_a_drift() -> None:
    def shaped(runs: list[Scored], of: str) -> list[Scored]:
        return [replace(run, features={**run.features, "input_shape": f"{of}{n}"}) for n, run in enumerate(runs)]

    found = measure(shaped(some(100, 1, rate=0.2), "now"), shaped(some(200, 2), "before"))
    causes = {one.factor: one for one in found.causes}
    assert found.leading == "success"
    assert (causes["input_mix"].explained, causes["input_mix"].moved) == (None, None)
    assert "so what it explains is unknown" in causes["input_mix"].note
    assert causes["version"].explained == pytest.approx(0, abs=0.01)


def test_inputs_that_became_strange_explain_a_drift_even_if_each_is_strange_in_its_own_way() -> None:
    now = [
        replace(run, features={**run.features, "input_shape": f"s{n}"}) for n, run in enumerate(some(100, 1, rate=0.2))
    ]
    causes = {one.factor: one for one in measure(now, some(200, 2)).causes}
    assert causes["input_mix"].explained == 1.0


def test_runs_of_a_kind_that_the_baseline_had_too_seldom_to_compare_explain_nothing() -> None:
    before = some(200, 2) + some(5, 3, input_shape="sha256:rare")
    now = some(60, 1, rate=0.2) + some(40, 4, rate=0.2, input_shape="sha256:rare")
    causes = {one.factor: one for one in measure(now, before).causes}
    assert causes["input_mix"].explained == pytest.approx(0, abs=0.1)


def test_of_a_window_one_caller_counts_for_half_or_for_what_it_always_was() -> None:
    usual = Sent(700, "nightly", 630)
    assert share_of_one(Sent(100, "ana", 50), Sent()) is None
    assert share_of_one(Sent(100, "ana", 51), Sent(100, "ben", 100)) == 0.5
    assert share_of_one(Sent(100, "nightly", 90), usual) is None
    assert share_of_one(Sent(100, "nightly", 97), usual) == 0.9
    assert share_of_one(Sent(100, "ana", 100), Sent(700, "ben", 700)) is None
    assert share_of_one(Sent(), usual) is None
    assert share_of_one(Sent(), Sent()) is None
    assert split(440, 400, 0.5) == (40, 40)
    assert split(10_000, 9_000, 0.5) == (1000, 1000)
    assert split(100, 97, 0.9) == (27, 3)
    assert split(100_000, 99_999, 0.9999) == (1999, 1)


def test_half_of_the_runs_all_alike_and_unlike_the_others_stay_below_the_threshold() -> None:
    assert jensen_shannon(Counter(a=100), Counter(a=50, b=50)) == pytest.approx(0.558, abs=0.001)


def test_a_drift_that_no_change_goes_with_is_explained_by_none() -> None:
    causes = measure(some(100, 1, rate=0.2), some(200, 2)).causes
    assert all(cause.explained == pytest.approx(0, abs=0.01) for cause in causes if cause.factor != "memory")


def test_a_dimension_without_values_is_left_out_and_not_counted_as_fine() -> None:
    found = measure(some(50, 1, output_shape=None), some(50, 2))
    (shape,) = [one for one in found.dimensions if one.dimension == "output_shape"]
    assert shape.value is None
    assert shape.samples == 0
