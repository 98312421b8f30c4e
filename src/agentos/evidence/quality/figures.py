"""Every figure that gates and listings may name: what it is made of, and how surely it is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import ceil, fsum, sqrt
from statistics import NormalDist
from typing import Any, Final, Literal

from agentos.evidence.quality.model import MOST_RUNS, Feedback, Figure, MetricUnknown
from agentos.kernel import ids
from agentos.kernel.statistics import (
    LEVEL,
    Interval,
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
AGREED: Final = 30  # values of any size that are all the same tell nothing of their variance below so many
EVAL: Final = "eval:"  # before the name of a data set
WHAT_IF: Final = "what_if:"  # before what recorded runs would have come to
MOST_TRIED: Final = 100  # samples that a gate on recorded runs can ask for: twice as many are executed again
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

    A drift is of two sets of runs and is measured by ``drift``, an eval is of cases, and recorded runs are executed
    again by who promotes: none of them is measured here.
    """

    name: str
    kind: Literal["rate", "mean", "p95", "count", "gap", "drift", "eval", "what_if"]
    unit: str
    better: Literal["higher", "lower"]
    formula: str
    of: Callable[[Scored], float | None]

    @property
    def bounded(self) -> bool:
        """Whether what a run adds to it lies within 0…1."""
        return self.kind == "rate" or self.unit in ("share", "0 to 1")

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
        Metric(
            "runs",
            "count",
            "runs",
            "higher",
            "runs that were counted; of so many as are read at most, high is unknown",
            lambda _run: 1.0,
        ),
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


WHAT_IFS: Final[dict[str, Metric]] = {
    one.name: one
    for one in (
        Metric(
            f"{WHAT_IF}{name}", "what_if", unit, "lower", f"{formula}, had the version served then", lambda _run: None
        )
        for name, unit, formula in (
            ("changed", "share", "recorded runs that would have ended otherwise ÷ those whose outcome is known"),
            ("diverged", "share", "recorded runs that would have done anything else ÷ those of which it is known"),
            ("dollars_more", "US dollars", "mean of what a recorded run's model calls would have cost more"),
        )
    )
}


def metric(name: str) -> Metric:
    """The metric of that name; ``eval:`` and a data set's name: that version's last eval on it.

    Raises MetricUnknown (Invalid) with the names that exist, MalformedId (Invalid).
    """
    if name.startswith(EVAL):
        ids.checked_name(dataset_of(name), what="data set")
        formula = "share of the data set's cases that passed every scorer, in the version's last eval"
        return Metric(name, "eval", "share", "higher", formula, lambda _run: None)
    found = METRICS.get(name) or WHAT_IFS.get(name)
    if found is None:
        known = [*sorted(METRICS | WHAT_IFS), f"{EVAL}DATASET"]
        raise MetricUnknown(
            f"no metric is called '{name[:64]}'", where="metric", then=f"There are: {', '.join(known)}.", metrics=known
        )
    return found


def dataset_of(name: str) -> str:
    """The data set that a metric of the form ``eval:DATASET`` names."""
    return name.removeprefix(EVAL)


def samples(one: Metric, runs: Sequence[Scored]) -> list[float]:
    """What each run adds to the figure, runs left out of which that is not known."""
    return [value for run in runs if (value := one.of(run)) is not None]


def figure(one: Metric, runs: Sequence[Scored], *, level: float = LEVEL) -> Figure:
    """The figure over these runs with its interval, of 95 % unless told (of a gap always); unknown without samples."""
    values = samples(one, runs)
    count = len(values)
    if one.kind == "count":
        most = float(count) if count < MOST_RUNS else None  # no more were read
        return Figure(float(count), float(count), most, count)
    if not values:
        return Figure(None, None, None, 0)
    if one.kind == "rate":
        value: float | None = fsum(values) / count
        interval = wilson(_sum(values), count, level=level)
    elif one.kind == "mean":
        value = fsum(values) / count
        interval = _mean(one, values, level)
    elif one.kind == "gap":
        return calibration(runs).gap
    else:
        value, interval = quantile(values, 0.95), quantile_interval(values, 0.95, level=level)
    return Figure(value, interval.low if interval else None, interval.high if interval else None, count)


def rate(hits: int, count: int) -> Figure:
    """How often something was so, with Wilson's interval; unknown without samples."""
    interval = wilson(hits, count)
    return Figure(None, None, None, 0) if interval is None else Figure(hits / count, interval.low, interval.high, count)


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


def loss(one: Metric, candidate: Sequence[Scored], serving: Sequence[Scored], *, level: float = LOSS_LEVEL) -> Figure:
    """By how much the candidate is worse, with its interval, of 90 % unless told.

    Of whatever lies within 0…1 it is Newcombe's on the sums, which is never too narrow for it and of a few runs that
    agree is wide; of other means Welch's. ``samples`` is the smaller of the two counts. Unknown where either has none,
    or such a mean fewer than two, or fewer than AGREED that all agree: those show no variance, not that there is none.
    """
    ours, theirs = samples(one, candidate), samples(one, serving)
    count = min(len(ours), len(theirs))
    if count == 0:
        return Figure(None, None, None, 0)
    sign = 1.0 if one.better == "higher" else -1.0
    lost = sign * (fsum(theirs) / len(theirs) - fsum(ours) / len(ours))
    ends = _rates(ours, theirs, sign, level) if one.bounded else _means(ours, theirs, lost, level)
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


def shown(figure: Figure) -> dict[str, Any]:
    """A figure as it is shown and kept."""
    return {"value": figure.value, "low": figure.low, "high": figure.high, "samples": figure.samples}


def _mean(one: Metric, values: Sequence[float], level: float) -> Interval | None:
    """Student's interval of a mean; of values that all agree Wilson's within 0…1, else none below AGREED."""
    if min(values) == max(values):
        if one.bounded:
            return wilson(_sum(values), len(values), level=level)
        if len(values) < AGREED:
            return None
    found = mean_interval(values, level=level)
    if found is None or not one.bounded:
        return found
    return Interval(max(0.0, found.low), min(1.0, found.high))  # Student knows no bounds


def _rates(ours: Sequence[float], theirs: Sequence[float], sign: float, level: float) -> tuple[float, float] | None:
    better, worse = (theirs, ours) if sign > 0 else (ours, theirs)
    found = newcombe(_sum(better), len(better), _sum(worse), len(worse), level=level)
    return None if found is None else (found.low, found.high)


def _sum(values: Sequence[float]) -> float:
    """The sum of values within 0…1, which rounding has not brought above their number."""
    return min(fsum(values), float(len(values)))


def _means(ours: Sequence[float], theirs: Sequence[float], lost: float, level: float) -> tuple[float, float] | None:
    """Welch's interval (Welch 1947, Biometrika 34:28), its degrees of freedom rounded down."""
    if min(len(ours), len(theirs)) < 2:
        return None
    parts = [_variance(values) / len(values) for values in (ours, theirs)]
    error = sum(parts)
    if error == 0:
        return (lost, lost) if min(len(ours), len(theirs)) >= AGREED else None
    freedom = error**2 / sum(part**2 / (len(values) - 1) for part, values in zip(parts, (ours, theirs), strict=True))
    half = student_quantile(1 - (1 - level) / 2, max(1, int(freedom))) * sqrt(error)
    return lost - half, lost + half


def _variance(values: Sequence[float]) -> float:
    mean = fsum(values) / len(values)
    return fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
