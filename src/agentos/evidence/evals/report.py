"""What the outcomes of an eval say, with samples and intervals on every figure.

A sample is a case: its repeats are not independent of each other. A case whose outcome differs between its repeats is
flaky; it is set apart, and neither counts in the means nor in the comparison. A case that could not be executed says
nothing and is told by its reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from typing import Any, Final

from agentos.evidence.evals.model import EVERY, MOST_DIFFERENCES, Latest, Outcome, Side
from agentos.kernel.statistics import POWER, Paired, paired_rates, samples_needed, wilson

MOST_LEFT: Final = 0.05  # of the cases may say nothing before an eval says nothing to a gate
MOST_FLAKY: Final = 200  # cases that are named
LOSS: Final = 0.1  # of the share of cases that pass: the loss that a report says how many cases would find


@dataclass(frozen=True, slots=True)
class _Sample:
    """One case of one version: the mean of its repeats by scorer, and what of it differs between them."""

    case: str
    values: dict[str, float]
    passed: dict[str, bool]
    flaky: tuple[str, ...]


def of(outcomes: Iterable[tuple[str, Outcome]]) -> dict[str, Any]:
    """The report as JSON data: one entry for each version, and the comparison where there are two."""
    by_side: dict[Side, dict[str, list[Outcome]]] = {}
    for case, one in outcomes:
        by_side.setdefault(one.task.side, {}).setdefault(case, []).append(one)
    samples = {side: _samples(cases) for side, cases in by_side.items()}
    found: dict[str, Any] = {side.value: _version(by_side[side], samples[side]) for side in by_side}
    if Side.AGAINST in samples and Side.CANDIDATE in samples:
        found["comparison"] = _comparison(samples[Side.CANDIDATE], samples[Side.AGAINST])
    return found


def latest(report: Mapping[str, Any], eval_id: str, ended_at: Any) -> Latest | None:
    """The candidate's share of cases that passed every scorer, each time; None where too many cases were left.

    A flaky case did not pass: who repeats cases until they differ sets none apart from a gate.
    """
    told = report.get(Side.CANDIDATE.value, {})
    figure = told.get("scores", {}).get(EVERY)
    steady = 0 if figure is None else figure["samples"]
    samples = steady + told.get("flaky", {}).get("cases", 0)
    left = told.get("left", {}).get("cases", 0)
    if not samples or left > MOST_LEFT * (samples + left):
        return None
    hits = 0.0 if figure is None else figure["mean"] * steady
    interval = wilson(min(max(hits, 0.0), float(samples)), samples)
    assert interval is not None, "there are samples"
    return Latest(hits / samples, interval.low, interval.high, samples, eval_id, ended_at)


def means(report: Mapping[str, Any]) -> dict[str, float | None]:
    """The candidate's mean by scorer."""
    scores = report.get(Side.CANDIDATE.value, {}).get("scores", {})
    return {name: figure["mean"] for name, figure in scores.items()}


def _samples(cases: Mapping[str, Sequence[Outcome]]) -> dict[str, _Sample]:
    """The cases that say something, by id."""
    found = {}
    for case, repeats in cases.items():
        told = [one for one in repeats if one.scored]
        if not told:
            continue
        names = list(told[0].scores)
        values = {name: fsum(one.scores[name].value for one in told) / len(told) for name in names}
        passed = {name: told[0].scores[name].passed for name in names}
        flaky = tuple(name for name in names if len({one.scores[name].passed for one in told}) > 1)
        values[EVERY] = sum(one.passed for one in told) / len(told)
        passed[EVERY] = told[0].passed
        found[case] = _Sample(case, values, passed, flaky)
    return found


def _version(cases: Mapping[str, Sequence[Outcome]], samples: Mapping[str, _Sample]) -> dict[str, Any]:
    every = [one for repeats in cases.values() for one in repeats]
    flaky = [one for one in samples.values() if one.flaky]
    steady = [one for one in samples.values() if not one.flaky]
    left = Counter(one.why for one in every if not one.scored)
    return {
        "cases": len(cases),
        "scores": _figures(steady),
        "to_find_a_loss": _needed(steady),
        "flaky": {
            "cases": len(flaky),
            "scores": _figures(flaky),
            "ids": [one.case for one in flaky[:MOST_FLAKY]],
        },
        "left": {
            "cases": len(cases) - len(samples),
            "reasons": [{"why": why, "times": times} for why, times in left.most_common(20)],
        },
        "statuses": dict(Counter(one.status for one in every)),
        "asked": sum(one.asked for one in every),
        "tokens": sum(one.tokens for one in every),
        "micros": sum(one.micros for one in every),
        "seconds": round(fsum(one.seconds for one in every), 3),
    }


def _means(samples: Sequence[_Sample]) -> dict[str, tuple[float, int]]:
    """Mean and samples by scorer, in the order in which they come; the share that passed all comes last."""
    names = list(dict.fromkeys(name for one in samples for name in one.values if name != EVERY))
    found = {}
    for name in [*names, EVERY] if samples else []:
        values = [one.values[name] for one in samples if name in one.values]
        found[name] = fsum(values) / len(values), len(values)
    return found


def _figures(samples: Sequence[_Sample]) -> dict[str, Any]:
    found = {}
    for name, (mean, size) in _means(samples).items():
        interval = wilson(min(max(mean * size, 0), size), size)
        found[name] = {
            "mean": mean,
            "low": None if interval is None else interval.low,
            "high": None if interval is None else interval.high,
            "samples": size,
        }
    return found


def _needed(samples: Sequence[_Sample]) -> dict[str, Any] | None:
    """Cases on each side that find a loss from this share of passes; None where none passes that could be lost.

    Of other cases on each side: on the same cases fewer do, how many depends on which of them differ.
    """
    rate = _means(samples)[EVERY][0] if samples else 0.0
    if rate == 0:
        return None
    loss = min(LOSS, rate)
    return {"loss": loss, "power": POWER, "cases": samples_needed(rate, rate - loss)}


def _comparison(candidate: Mapping[str, _Sample], against: Mapping[str, _Sample]) -> dict[str, Any]:
    """The candidate less the other, on the cases that both have and that are flaky for neither."""
    pairs = [
        (one, against[case])
        for case, one in candidate.items()
        if case in against and not one.flaky and not against[case].flaky
    ]
    names = list(dict.fromkeys(name for one, _ in pairs for name in one.values))
    scores = {}
    for name in names:
        both = [(one, other) for one, other in pairs if name in one.values and name in other.values]
        scores[name] = _paired(paired_rates([one.values[name] - other.values[name] for one, other in both]), len(both))
    differences = [
        {"case": one.case, "candidate": one.values, "against": other.values}
        for one, other in pairs
        if one.values != other.values
    ]
    return {
        "pairs": len(pairs),
        "set_apart": len(set(candidate) | set(against)) - len(pairs),
        "won": sum(one.values[EVERY] > other.values[EVERY] for one, other in pairs),
        "lost": sum(one.values[EVERY] < other.values[EVERY] for one, other in pairs),
        "scores": scores,
        "differing": len(differences),
        "differences": differences[:MOST_DIFFERENCES],
    }


def _paired(found: Paired, samples: int) -> dict[str, Any]:
    interval = found.interval
    return {
        "difference": found.mean if samples else None,
        "low": None if interval is None else interval.low,
        "high": None if interval is None else interval.high,
        "p": found.p,
        "samples": samples,
    }
