"""Every figure against scipy, or against figures that were published."""

from __future__ import annotations

import random

import pytest
from scipy import stats

from agentos.kernel import statistics
from agentos.kernel.statistics import Interval

RATES = [(0, 1), (0, 10), (1, 1), (3, 10), (10, 10), (81, 263), (29, 30), (500, 1000), (99_999, 100_000)]


@pytest.mark.parametrize(("hits", "samples"), RATES)
@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_the_interval_of_a_rate_is_that_of_scipy(hits: int, samples: int, level: float) -> None:
    ours = statistics.wilson(hits, samples, level=level)
    theirs = stats.binomtest(hits, samples).proportion_ci(level, method="wilson")
    assert ours is not None
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_the_interval_of_scores_is_never_narrower_than_that_of_student() -> None:
    scores = [0.2, 0.9, 0.7, 0.65, 0.4, 1.0, 0.0, 0.5, 0.85, 0.33] * 5
    ours, theirs = statistics.wilson(sum(scores), len(scores)), statistics.mean_interval(scores)
    assert ours is not None and theirs is not None
    assert ours.high - ours.low > theirs.high - theirs.low


def test_without_samples_nothing_is_said() -> None:
    assert statistics.wilson(0, 0) is None
    assert statistics.newcombe(0, 0, 1, 2) is None
    assert statistics.brier([]) is None
    assert statistics.calibration_error([]) is None
    assert statistics.quantile([], 0.5) is None
    assert statistics.quantile_interval([], 0.5) is None
    assert statistics.paired_t([]).p is None
    assert statistics.paired_rates([]).interval is None
    assert statistics.mean_interval([1.0]) is None


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    # Newcombe 1998, Statistics in Medicine 17:873, table II, method 10
    [
        ((56, 70, 48, 80), 0.0524, 0.3339),
        ((9, 10, 3, 10), 0.1705, 0.8090),
        ((6, 7, 2, 7), 0.0582, 0.8062),
        ((5, 56, 0, 29), -0.0381, 0.1926),
        ((0, 10, 0, 20), -0.1611, 0.2775),
        ((0, 10, 0, 10), -0.2775, 0.2775),
        ((10, 10, 0, 20), 0.6791, 1.0),
        ((10, 10, 0, 10), 0.6075, 1.0),
    ],
)
def test_the_interval_of_a_difference_is_the_published_one(
    counts: tuple[int, int, int, int], low: float, high: float
) -> None:
    found = statistics.newcombe(*counts)
    assert found is not None
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)


@pytest.mark.parametrize(("first", "other"), [(0, 0), (1, 0), (5, 5), (2, 11), (30, 12), (400, 350), (0, 70)])
def test_the_exact_test_of_pairs_is_that_of_scipy(first: int, other: int) -> None:
    theirs = stats.binomtest(first, first + other).pvalue if first + other else 1.0
    assert statistics.mcnemar(first, other) == pytest.approx(theirs, rel=1e-9)


def test_the_interval_of_pairs_is_the_published_one() -> None:
    # Fagerland, Lydersen, Laake 2014, Statistics in Medicine 33:2850: 21 pairs, 1 lost and 7 won
    differences = [1.0] * 1 + [-1.0] * 7 + [0.0] * 13
    found = statistics.paired_rates(differences)
    assert found.mean == pytest.approx(-0.286, abs=0.001)
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == pytest.approx((-0.508, -0.014), abs=0.001)
    assert found.p == pytest.approx(0.0703, abs=0.0001)


def test_pairs_that_all_agree_do_not_seem_sure() -> None:
    found = statistics.paired_rates([0.0] * 5)
    assert found.mean == 0
    assert found.p == 1
    assert found.interval is not None and found.interval.low < -0.3 and found.interval.high > 0.3


@pytest.mark.parametrize("samples", [2, 5, 30, 1000])
def test_the_test_of_paired_scores_is_that_of_scipy(samples: int) -> None:
    dice = random.Random(samples)
    one = [dice.random() for _ in range(samples)]
    other = [dice.random() ** 1.2 for _ in range(samples)]
    found = statistics.paired_t([a - b for a, b in zip(one, other, strict=True)])
    theirs = stats.ttest_rel(one, other)
    within = theirs.confidence_interval(0.95)
    assert found.p == pytest.approx(theirs.pvalue, rel=1e-9)
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == pytest.approx((within.low, within.high), rel=1e-9)


@pytest.mark.parametrize("freedom", [1, 2, 7, 100, 100_000])
@pytest.mark.parametrize("share", [0.001, 0.3, 0.5, 0.9, 0.975, 0.9995])
def test_the_quantiles_of_student_are_those_of_scipy(freedom: int, share: float) -> None:
    assert statistics.student_quantile(share, freedom) == pytest.approx(stats.t.ppf(share, freedom), rel=1e-8, abs=1e-9)


@pytest.mark.parametrize("samples", [1, 59, 61, 5000])
@pytest.mark.parametrize("rate", [0.01, 0.5, 0.95])
def test_the_binomial_is_that_of_scipy(samples: int, rate: float) -> None:
    for hits in (0, samples // 3, samples // 2, int(samples * rate), samples - 1, samples):
        theirs = stats.binom.cdf(hits, samples, rate)
        assert statistics.binomial(hits, samples, rate) == pytest.approx(theirs, rel=1e-8, abs=1e-14)


def test_the_brier_score_is_the_mean_squared_distance() -> None:
    said = [(0.7, False), (0.9, True), (0.8, True), (0.4, True), (0.2, False), (0.0, False), (0.0, False), (0.0, False)]
    assert statistics.brier(said) == pytest.approx((0.49 + 0.01 + 0.04 + 0.36 + 0.04) / 8)
    assert statistics.brier([(1.0, True), (0.0, False)]) == 0


def test_the_calibration_error_is_the_weighted_gap_of_the_bins() -> None:
    sure = [(0.95, True)] * 9 + [(0.95, False)]  # said 0.95, was 0.9
    unsure = [(0.35, True)] * 5 + [(0.35, False)] * 5  # said 0.35, was 0.5
    assert statistics.calibration_error(sure + unsure) == pytest.approx((0.05 * 10 + 0.15 * 10) / 20)
    assert statistics.calibration_error([(1.0, True), (0.0, False)]) == 0


@pytest.mark.parametrize(
    ("rates", "power", "needed"),
    # as R's power.prop.test gives them; the second is the example of its manual (n = 76.7)
    [((0.9, 0.8), 0.9, 266), ((0.5, 0.75), 0.9, 77), ((0.1, 0.2), 0.8, 199), ((0.95, 0.85), 0.9, 188)],
)
def test_the_samples_that_a_difference_needs_are_the_published_ones(
    rates: tuple[float, float], power: float, needed: int
) -> None:
    assert statistics.samples_needed(*rates, power=power) == needed


def test_no_number_of_samples_tells_equal_rates_apart() -> None:
    with pytest.raises(ValueError, match="equal rates"):
        statistics.samples_needed(0.5, 0.5)


@pytest.mark.parametrize("samples", [8, 20, 61, 1000])
@pytest.mark.parametrize("share", [0.5, 0.9, 0.95])
def test_the_interval_of_a_quantile_is_that_of_scipy(samples: int, share: float) -> None:
    dice = random.Random(samples)
    values = [dice.lognormvariate(0, 1) for _ in range(samples)]
    theirs = stats.quantile_test(values, q=0, p=share).confidence_interval(0.95)
    ours = statistics.quantile_interval(values, share)
    if ours is None:
        assert not (theirs.low > float("-inf") and theirs.high < float("inf"))
    else:
        assert ours == Interval(theirs.low, theirs.high)


def test_a_quantile_lies_between_its_neighbours() -> None:
    assert statistics.quantile([4, 1, 3, 2], 0.5) == 2.5
    assert statistics.quantile([1, 2, 3], 1.0) == 3


def test_two_identical_versions_are_told_apart_as_rarely_as_the_level_says() -> None:
    dice, told = random.Random(20), 0
    for _ in range(1000):
        one, other = (sum(dice.random() < 0.9 for _ in range(266)) for _ in range(2))
        found = statistics.newcombe(one, 266, other, 266)
        assert found is not None
        told += found.low > 0 or found.high < 0
    assert told <= 60  # of 1,000 at a level of 0.95; 60 leaves one and a half deviations of the simulation


def test_a_loss_of_ten_points_is_found_at_the_documented_size() -> None:
    size = statistics.samples_needed(0.9, 0.8)
    dice, found = random.Random(21), 0
    for _ in range(1000):
        one, other = (sum(dice.random() < rate for _ in range(size)) for rate in (0.9, 0.8))
        interval = statistics.newcombe(one, size, other, size)
        assert interval is not None
        found += interval.low > 0
    assert found >= 880  # of 1,000 at a power of 0.9; 880 leaves two deviations of the simulation
