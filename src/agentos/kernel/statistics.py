"""What samples say, and how surely: intervals, tests of two, calibration, and how many samples a comparison needs.

Pure functions without numpy. A level is the share of intervals that hold the true value: 0.95 unless told. What cannot
be said of the samples that there are is None, never a guess.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, comb, exp, fsum, isnan, lgamma, log, log1p, sqrt
from statistics import NormalDist
from typing import Final

LEVEL: Final = 0.95
POWER: Final = 0.9

_NORMAL: Final = NormalDist()
_TINY: Final = 1e-300
_EXACT: Final = 1e-15  # a continued fraction is at its end when a step changes less
_STEPS: Final = 10_000  # of a continued fraction; it takes about the root of its greater parameter
_HALVINGS: Final = 200  # of a bracket: more than a double has bits


@dataclass(frozen=True, slots=True)
class Interval:
    """From low to high, both within."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Paired:
    """What paired samples say of their difference: its mean, where it surely lies, and how likely chance made it."""

    mean: float
    interval: Interval | None  # None: fewer than two samples
    p: float | None  # None: unknown


def wilson(hits: float, samples: int, *, level: float = LEVEL) -> Interval | None:
    """Wilson's score interval of a rate; None without samples.

    ``hits`` may be a sum of scores within 0…1: they vary no more than hits and misses of the same mean, so the
    interval is never too narrow, and of few samples that all agree it is not empty. Raises ValueError.
    """
    if samples == 0:
        return None
    if not 0 <= hits <= samples:
        raise ValueError(f"{hits} hits in {samples} samples")
    z, rate = _z(level), hits / samples
    middle = (rate + z * z / (2 * samples)) / (1 + z * z / samples)
    half = z / (1 + z * z / samples) * sqrt(rate * (1 - rate) / samples + z * z / (4 * samples * samples))
    return Interval(
        0.0 if hits == 0 else max(0.0, middle - half),
        1.0 if hits == samples else min(1.0, middle + half),
    )


def newcombe(
    hits: float, samples: int, other_hits: float, other_samples: int, *, level: float = LEVEL
) -> Interval | None:
    """Newcombe's hybrid score interval of the first rate minus the other, of samples that are not paired.

    None where either has no samples (Newcombe 1998, Statistics in Medicine 17:873, method 10).
    """
    one = wilson(hits, samples, level=level)
    other = wilson(other_hits, other_samples, level=level)
    if one is None or other is None:
        return None
    rate, other_rate = hits / samples, other_hits / other_samples
    difference = rate - other_rate
    return Interval(
        difference - sqrt((rate - one.low) ** 2 + (other.high - other_rate) ** 2),
        difference + sqrt((one.high - rate) ** 2 + (other_rate - other.low) ** 2),
    )


def mcnemar(only_first: int, only_other: int) -> float:
    """The exact two-sided p of McNemar's test: how likely chance alone parts so many pairs so unevenly."""
    parted = only_first + only_other
    if parted == 0:
        return 1.0
    return min(1.0, 2 * binomial(min(only_first, only_other), parted, 0.5))


def paired_rates(differences: Sequence[float], *, level: float = LEVEL) -> Paired:
    """What paired outcomes say of their difference; each is within -1…1, of hits and misses -1, 0 or 1.

    The interval is that of Bonett and Price (2012, Journal of Educational and Behavioral Statistics 37:479): one pair
    is added to each side, so that samples which all agree do not seem sure. p is McNemar's where all are hits and
    misses, else Student's.
    """
    if not differences:
        return Paired(0.0, None, None)
    samples, total = len(differences), fsum(differences)
    if any(isnan(one) or not -1 <= one <= 1 for one in differences):
        raise ValueError("a difference of scores is within -1…1")
    interval = None
    if samples > 1:
        mean = total / (samples + 2)
        spread = (fsum(one * one for one in differences) + 2) / (samples + 2) - mean * mean
        half = _z(level) * sqrt(spread / (samples + 2))
        interval = Interval(max(-1.0, mean - half), min(1.0, mean + half))
    if all(one in (-1, 0, 1) for one in differences):
        p: float | None = mcnemar(sum(one == 1 for one in differences), sum(one == -1 for one in differences))
    else:
        p = paired_t(differences, level=level).p
    return Paired(total / samples, interval, p)


def paired_t(differences: Sequence[float], *, level: float = LEVEL) -> Paired:
    """Student's paired test of differences of any size, and the interval of their mean.

    Of differences that are all the same the interval is that value, and p is 1 for zero and 0 for any other.
    """
    samples = len(differences)
    if samples == 0:
        return Paired(0.0, None, None)
    mean = fsum(differences) / samples
    if samples == 1:
        return Paired(mean, None, None)
    error = sqrt(fsum((one - mean) ** 2 for one in differences) / (samples - 1) / samples)
    if error == 0:
        return Paired(mean, Interval(mean, mean), 1.0 if mean == 0 else 0.0)
    half = student_quantile(1 - (1 - level) / 2, samples - 1) * error
    return Paired(mean, Interval(mean - half, mean + half), student_tails(mean / error, samples - 1))


def brier(pairs: Sequence[tuple[float, bool]]) -> float | None:
    """The mean squared distance of a stated probability from what happened: 0 is perfect; None without samples."""
    if not pairs:
        return None
    return fsum((stated - happened) ** 2 for stated, happened in pairs) / len(pairs)


def calibration_error(pairs: Sequence[tuple[float, bool]], *, bins: int = 10) -> float | None:
    """The expected calibration error: how far what was stated is from how often it happened, by bins of equal width.

    A probability on the edge of two bins counts in the upper one. None without samples.
    """
    if not pairs:
        return None
    found: dict[int, list[tuple[float, bool]]] = {}
    for stated, happened in pairs:
        found.setdefault(min(bins - 1, int(stated * bins)), []).append((stated, happened))
    gaps = (abs(fsum(stated for stated, _ in one) - sum(happened for _, happened in one)) for one in found.values())
    return fsum(gaps) / len(pairs)


def samples_needed(rate: float, other_rate: float, *, level: float = LEVEL, power: float = POWER) -> int:
    """Samples on each side that find the difference of two rates with this power, in a two-sided test at this level.

    Fleiss's formula without correction for continuity (Statistical Methods for Rates and Proportions, 3rd edition,
    section 4.2). Raises ValueError for equal rates.
    """
    if rate == other_rate:
        raise ValueError("no number of samples tells equal rates apart")
    middle = (rate + other_rate) / 2
    chance = _z(level) * sqrt(2 * middle * (1 - middle))
    missed = _NORMAL.inv_cdf(power) * sqrt(rate * (1 - rate) + other_rate * (1 - other_rate))
    return ceil(((chance + missed) / (rate - other_rate)) ** 2)


def quantile(values: Sequence[float], share: float) -> float | None:
    """The value below which that share of the samples lies, between neighbours in proportion; None without samples."""
    if not values:
        return None
    ranked = sorted(values)
    place = share * (len(ranked) - 1)
    below = int(place)
    above = min(below + 1, len(ranked) - 1)
    return ranked[below] + (ranked[above] - ranked[below]) * (place - below)


def quantile_interval(values: Sequence[float], share: float, *, level: float = LEVEL) -> Interval | None:
    """Two samples that the true quantile lies between, whatever the distribution; None where too few say so.

    By order statistics (Conover, Practical Nonparametric Statistics, 3rd edition, section 3.2).
    """
    ranked, samples, tail = sorted(values), len(values), (1 - level) / 2
    low = _first(lambda count: binomial(count, samples, share) > tail, samples)
    high = _first(lambda count: binomial(count, samples, share) >= 1 - tail, samples)
    if low == 0 or high >= samples:
        return None
    return Interval(ranked[low - 1], ranked[high])


def mean_interval(values: Sequence[float], *, level: float = LEVEL) -> Interval | None:
    """Student's interval of a mean of values of any size; None of fewer than two."""
    return paired_t(values, level=level).interval


def binomial(hits: int, samples: int, rate: float) -> float:
    """How likely at most so many hits are."""
    if hits < 0:
        return 0.0
    if hits >= samples:
        return 1.0
    if samples <= 60:  # exact, where the terms are few
        return fsum(comb(samples, one) * rate**one * (1 - rate) ** (samples - one) for one in range(hits + 1))
    return _beta(samples - hits, hits + 1, 1 - rate)


def student_tails(t: float, freedom: int) -> float:
    """How likely Student's t is at least this far from zero, on either side."""
    return _beta(freedom / 2, 0.5, freedom / (freedom + t * t))


def student_quantile(share: float, freedom: int) -> float:
    """The value that Student's t is below with this probability."""
    if share < 0.5:
        return -student_quantile(1 - share, freedom)
    tails, low, high = 2 * (1 - share), 0.0, 1.0
    while student_tails(high, freedom) > tails and high < 1e12:
        low, high = high, high * 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if student_tails(middle, freedom) > tails else (low, middle)
    return (low + high) / 2


def _z(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"a level of {level} is not between 0 and 1")
    return _NORMAL.inv_cdf(1 - (1 - level) / 2)


def _first(holds: Callable[[int], bool], most: int) -> int:
    """The least count up to ``most`` for which it holds, of what holds from some count on."""
    low, high = 0, most
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


def _beta(a: float, b: float, x: float) -> float:
    """The regularized incomplete beta function, by its continued fraction in Lentz's way (DLMF 8.17.22)."""
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    if x > (a + 1) / (a + b + 2):
        return 1 - _beta(b, a, 1 - x)
    front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x)) / a
    fraction, c, d = 1.0, 1.0, 0.0
    for step in range(_STEPS):
        half = step // 2
        if step == 0:
            term = 1.0
        elif step % 2 == 0:
            term = half * (b - half) * x / ((a + 2 * half - 1) * (a + 2 * half))
        else:
            term = -(a + half) * (a + b + half) * x / ((a + 2 * half) * (a + 2 * half + 1))
        d = 1 / _away(1 + term * d)
        c = _away(1 + term / c)
        fraction *= c * d
        if step and abs(1 - c * d) < _EXACT:
            break
    return front * (fraction - 1)


def _away(value: float) -> float:
    """Not quite zero, so that it can be divided by."""
    return value if abs(value) > _TINY else _TINY
