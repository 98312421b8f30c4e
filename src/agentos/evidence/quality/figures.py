"""Every figure that gates and listings may name: what it is made of, and how surely it is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import ceil, fsum, sqrt
from statistics import NormalDist
from typing import Any, Final, Literal

from agentos.evidence.quality.model import Feedback, Figure, MetricUnknown
from agentos.kernel.statistics import (
    brier,
    calibration_error,
    mean_interval,
    newcombe,
    quantile,
    quantile_interval,
    student_quantile,
    wilson,
)
from agentos.kernel.units import MICROS

# The interval of a loss: its upper end is what one-sided tests at 5 % ask for.
LOSS_LEVEL: Final = 0.90
BINS: Final = 10  # of confidence
# How surely two equal versions pass at the documented sample size. Above the 95 % that is promised, because Newcombe's
# interval is a little wider than the formula supposes.
EQUALS_PASS: Final = 0.97


@dataclass(frozen=True, slots=True)
class Scored:
    """A run that ended, as figures are made of it."""

    run_id: str
    deployment_id: str
    agent_id: str
    category: str
    version: str
    status: str
    ended_at: datetime
    seconds: float
    score: float | None
    confidence: float | None
    parts: Mapping[str, float]
    features: Mapping[str, Any]
    feedback: Feedback | None


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure by name. ``of`` is what one run adds to it; None where that is not known of the run.

    A drift is of two sets of runs and is measured by ``drift``, not here.
    """

    name: str
    kind: Literal["rate", "mean", "p95", "count", "gap", "drift"]
    unit: str
    better: Literal["higher", "lower"]
    formula: str
    of: Callable[[Scored], float | None]

    @property
    def comparable(self) -> bool:
        """Whether two versions can be compared by it, with an interval of the difference."""
        return self.kind in ("rate", "mean")


def _cost(run: Scored) -> float | None:
    micros = run.features.get("micros")
    return None if micros is None else micros / MICROS


def _accepted(run: Scored) -> float | None:
    return None if run.feedback is None else float(run.feedback is Feedback.ACCEPTED)


def _missed(run: Scored) -> float | None:
    if run.feedback is None or run.confidence is None:
        return None
    return brier([(run.confidence, run.feedback is Feedback.ACCEPTED)])


METRICS: Final[dict[str, Metric]] = {
    one.name: one
    for one in (
        Metric("runs", "count", "runs", "higher", "runs that were counted", lambda _run: 1.0),
        Metric(
            "success_rate",
            "rate",
            "share",
            "higher",
            "completed runs ÷ runs that were counted",
            lambda run: float(run.status == "completed"),
        ),
        Metric(
            "run_seconds_p95",
            "p95",
            "seconds",
            "lower",
            "95th percentile of the seconds from acceptance to end",
            lambda run: run.seconds,
        ),
        Metric("score", "mean", "0 to 1", "higher", "mean of the runs' scores", lambda run: run.score),
        Metric(
            "accepted_rate",
            "rate",
            "share",
            "higher",
            "runs whose last feedback is accepted ÷ runs with feedback",
            _accepted,
        ),
        Metric(
            "clean_call_rate",
            "mean",
            "share",
            "higher",
            "mean share of a run's skill calls that were not denied, failed or uncertain",
            lambda run: run.parts.get("calls"),
        ),
        Metric("cost_dollars", "mean", "US dollars", "lower", "mean cost of a run's model calls", _cost),
        Metric(
            "brier",
            "mean",
            "0 to 1",
            "lower",
            "mean of (confidence − 1 if accepted, else 0)² over runs with feedback",
            _missed,
        ),
        Metric(
            "calibration_gap",
            "gap",
            "0 to 1",
            "lower",
            "Σ over ten bins of confidence: share of runs × |mean confidence − accepted rate|, over runs with feedback",
            _missed,
        ),
        Metric(
            "drift",
            "drift",
            "0 to 1",
            "lower",
            "greatest distance of a dimension between the runs of the lookback and those of the seven times as long "
            "before, beyond chance; of the gate's scope, whatever the version",
            lambda _run: None,
        ),
    )
}


def metric(name: str) -> Metric:
    """The metric of that name. Raises MetricUnknown (Invalid) with the names that exist."""
    found = METRICS.get(name)
    if found is None:
        raise MetricUnknown(
            f"no metric is called '{name[:64]}'",
            where="metric",
            then=f"There are: {', '.join(sorted(METRICS))}.",
            metrics=sorted(METRICS),
        )
    return found


def samples(one: Metric, runs: Sequence[Scored]) -> list[float]:
    """What each run adds to the figure, runs left out of which that is not known."""
    return [value for run in runs if (value := one.of(run)) is not None]


def figure(one: Metric, runs: Sequence[Scored]) -> Figure:
    """The figure over these runs with its 95 % interval; unknown without samples."""
    values = samples(one, runs)
    count = len(values)
    if one.kind == "count":
        return Figure(float(count), float(count), float(count), count)
    if not values:
        return Figure(None, None, None, 0)
    if one.kind == "rate":
        value: float | None = fsum(values) / count
        interval = wilson(fsum(values), count)
    elif one.kind == "mean":
        value, interval = fsum(values) / count, mean_interval(values)
    elif one.kind == "gap":
        return calibration(runs).gap
    else:
        value, interval = quantile(values, 0.95), quantile_interval(values, 0.95)
    return Figure(value, interval.low if interval else None, interval.high if interval else None, count)


@dataclass(frozen=True, slots=True)
class Bin:
    """Runs of a like confidence, and how many of them people accepted."""

    low: float
    high: float
    confidence: float  # their mean
    accepted: Figure


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far confidence is from what people said: both are unknown without feedback."""

    brier: Figure
    gap: Figure
    bins: tuple[Bin, ...]  # those that hold a run


def calibration(runs: Sequence[Scored]) -> Calibration:
    """Confidence against feedback. The gap's interval adds up those of its bins, so it is rather too wide."""
    pairs = [
        (run.confidence, run.feedback is Feedback.ACCEPTED)
        for run in runs
        if run.confidence is not None and run.feedback is not None
    ]
    found: dict[int, list[tuple[float, bool]]] = {}
    for pair in pairs:
        found.setdefault(min(BINS - 1, int(pair[0] * BINS)), []).append(pair)
    bins, low, high = [], 0.0, 0.0
    for number, inside in sorted(found.items()):
        count, hits = len(inside), sum(accepted for _, accepted in inside)
        stated, interval = fsum(confidence for confidence, _ in inside) / count, wilson(hits, count)
        assert interval is not None
        bins.append(Bin(number / BINS, (number + 1) / BINS, stated, Figure(hits / count, interval.low, interval.high,
                                                                           count)))  # fmt: skip
        share = count / len(pairs)
        low += share * max(0.0, stated - interval.high, interval.low - stated)
        high += share * max(abs(stated - interval.high), abs(stated - interval.low))
    gap = calibration_error(pairs, bins=BINS)
    known = Figure(None, None, None, 0) if gap is None else Figure(gap, low, min(1.0, high), len(pairs))
    return Calibration(figure(METRICS["brier"], runs), known, tuple(bins))


def loss(one: Metric, candidate: Sequence[Scored], serving: Sequence[Scored]) -> Figure:
    """By how much the candidate is worse, with its 90 % interval: of rates Newcombe's, of means Welch's.

    ``samples`` is the smaller of the two counts. Unknown where either has none, or a mean fewer than two.
    """
    ours, theirs = samples(one, candidate), samples(one, serving)
    count = min(len(ours), len(theirs))
    if count == 0:
        return Figure(None, None, None, 0)
    sign = 1.0 if one.better == "higher" else -1.0
    lost = sign * (fsum(theirs) / len(theirs) - fsum(ours) / len(ours))
    ends = _rates(ours, theirs, sign) if one.kind == "rate" else _means(ours, theirs, lost)
    return Figure(lost, ends[0] if ends else None, ends[1] if ends else None, count)


def samples_for(margin: float, rate: float) -> int:
    """Runs of each version at which equals of this rate pass a ``no_worse`` gate with this margin, 19 times of 20.

    A version that is worse by the whole margin fails then 19 times of 20 (Blackwelder 1982, Controlled Clinical
    Trials 3:345, equation 4). The formula takes misses to be normal; of rates so near 1 that they are not, it is taken
    at the margin from 1.
    """
    normal = NormalDist()
    sure = normal.inv_cdf(1 - (1 - LOSS_LEVEL) / 2) + normal.inv_cdf(EQUALS_PASS)
    usual = min(max(rate, margin), 1 - margin)
    return ceil(sure * sure * 2 * usual * (1 - usual) / (margin * margin))


def _rates(ours: Sequence[float], theirs: Sequence[float], sign: float) -> tuple[float, float] | None:
    better, worse = (theirs, ours) if sign > 0 else (ours, theirs)
    found = newcombe(fsum(better), len(better), fsum(worse), len(worse), level=LOSS_LEVEL)
    return None if found is None else (found.low, found.high)


def _means(ours: Sequence[float], theirs: Sequence[float], lost: float) -> tuple[float, float] | None:
    """Welch's interval (Welch 1947, Biometrika 34:28), its degrees of freedom rounded down."""
    if min(len(ours), len(theirs)) < 2:
        return None
    parts = [_variance(values) / len(values) for values in (ours, theirs)]
    error = sum(parts)
    if error == 0:
        return lost, lost
    freedom = error**2 / sum(part**2 / (len(values) - 1) for part, values in zip(parts, (ours, theirs), strict=True))
    half = student_quantile(1 - (1 - LOSS_LEVEL) / 2, max(1, int(freedom))) * sqrt(error)
    return lost - half, lost + half


def _variance(values: Sequence[float]) -> float:
    mean = fsum(values) / len(values)
    return fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
