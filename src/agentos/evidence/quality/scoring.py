"""One run's score and confidence, from what its journal and its rows say of it.

Every part is 0 (bad) to 1 (good). A part that is not known of a run is left out and its weight with it; it is never
counted as fine. The score is the weighted mean of the parts that are known.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from typing import Any, Final

from agentos.evidence.quality.model import Feedback
from agentos.kernel import schemas
from agentos.kernel.canonical import digest
from agentos.kernel.statistics import quantile

FORMULA: Final = 2  # of score and confidence: raised with every change of what follows


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a score: its weight, and how it is computed, in words."""

    name: str
    weight: float
    formula: str


# Whether the work was done, and what a person said of it, weigh as much as all that hints at it: the hints were chosen
# by reason and not fitted, and calibration (docs/quality.md) tells how far they can be trusted.
PARTS: Final = (
    Part("completed", 4, "1 when the run completed, else 0"),
    Part("feedback", 4, "accepted 1, edited 0.7, needs_review 0.3, rejected 0; unknown until somebody says"),
    Part("calls", 2, "skill calls that ended well ÷ those that ended; denied, failed and uncertain ones did not"),
    Part("output", 2, "1 when the output fits the version's schema, else 0; unknown without a schema"),
    Part("approvals", 1, "approved ÷ decided or expired questions to people, without those that fell away; unknown "
         "when none was"),
    Part("drafts", 1, "submitted ÷ submitted or discarded drafts; unknown while all are open"),
    Part("retries", 1, "1 ÷ (1 + further attempts at models and skills ÷ their calls); unknown without calls"),
    Part("overshoot", 1, "0 when a model call cost more than was reserved for it, else 1; unknown without a reserve or "
         "a cost"),
    Part("latency", 1, "1 up to the p95 of the version's last 100 runs before it, 0 at three times that; "
         "unknown with fewer than 20"),
)  # fmt: skip
WEIGHTS: Final = {one.name: one.weight for one in PARTS}
SAID: Final = {Feedback.ACCEPTED: 1.0, Feedback.EDITED: 0.7, Feedback.NEEDS_REVIEW: 0.3, Feedback.REJECTED: 0.0}

HISTORY: Final = 100  # runs that a latency is held against
LEAST_HISTORY: Final = 20  # below, a 95th percentile is the slowest run or near it
MOST_SHAPE: Final = 200  # places of an output whose kinds make its shape

# Confidence: the parts' own mean counts like so many judgements of people, beside those that runs of the agent with a
# like mean (within NEAR) were given.
PRIOR: Final = 10
NEAR: Final = 0.1


@dataclass(frozen=True, slots=True)
class Observed:
    """What is known of a run that ended."""

    status: str
    seconds: float
    steps: Sequence[Mapping[str, Any]]  # its journal: key, phase, kind, name, status, effect, meta
    approvals: Mapping[str, int]  # status → how many
    drafts: Mapping[str, int]
    input: Any
    output: Any  # None: there is none
    definition: Mapping[str, Any]
    trigger: bool  # whether one started it
    history: Sequence[float]  # seconds of the version's runs before
    feedback: Feedback | None = None


def last_word(words: Mapping[str, Feedback]) -> Feedback | None:
    """What counts of the last words on a run (``""``) and its drafts: that on the run, else the worst on a draft."""
    if "" in words:
        return words[""]
    return min(words.values(), key=lambda one: SAID[one], default=None)


def parts(run: Observed) -> dict[str, float]:
    """The parts of a run's score that are known."""
    schema = run.definition.get("output_schema")
    found = {
        "completed": float(run.status == "completed"),
        "feedback": None if run.feedback is None else SAID[run.feedback],
        "calls": _calls(run.steps),
        "output": None
        if schema is None
        else float(run.output is not None and schemas.misfit(schema, run.output) is None),
        "approvals": _share(run.approvals, "approved", "denied", "expired"),
        "drafts": _share(run.drafts, "submitted", "discarded"),
        "retries": _retries(run.steps),
        "overshoot": _overshoot(run.steps),
        "latency": _latency(run.seconds, run.history),
    }
    return {name: value for name, value in found.items() if value is not None}


def score(found: Mapping[str, float]) -> float | None:
    """The weighted mean of the parts that are known; None when none is."""
    weight = sum(WEIGHTS[name] for name in found)
    return fsum(WEIGHTS[name] * value for name, value in found.items()) / weight if weight else None


def unjudged(found: Mapping[str, float]) -> float | None:
    """The score without what people said: what was known before they did."""
    return score({name: value for name, value in found.items() if name != "feedback"})


@dataclass(frozen=True, slots=True)
class Grounds:
    """What a confidence is made of, all of it known before anybody judged the run."""

    mean: float  # of the parts without feedback; counts like PRIOR judgements
    judged: int  # other runs of the agent with a like mean that people judged
    accepted: int  # of those


GROUNDS: Final = (  # what each is, in words
    ("mean", f"the weighted mean of the run's other parts; it counts like {PRIOR} judgements"),
    ("judged", f"other runs of the agent in the last 90 days, their mean within {NEAR:g} of it, that people judged"),
    ("accepted", "how many of those people accepted"),
)


def confidence(grounds: Grounds | None) -> float | None:
    """How likely a person accepts the run, of what was known before anybody said so; None when nothing is known."""
    return None if grounds is None else (PRIOR * grounds.mean + grounds.accepted) / (PRIOR + grounds.judged)


def features(run: Observed) -> dict[str, Any]:
    """What drift compares, and what it is explained by: names, digests and counts, never content."""
    answered = [one for one in run.steps if one["kind"] == "model" and one["status"] == "ok"]
    costs = [one["meta"]["cost"] for one in answered if "cost" in one["meta"]]
    known = len(costs) == len(answered) and not any(cost["unknown"] for cost in costs)
    results = _results(run.steps)
    policies = {one["meta"]["policy"] for one in run.steps if one["meta"].get("policy")}
    return {
        "calls": {
            name: [sum(one["status"] == "ok" for one in results if one["name"] == name), times]
            for name, times in Counter(one["name"] for one in results).items()
        },
        "reads": len([one for one in results if one["effect"] == 0 and one["status"] == "ok"]),
        "tools": sorted({one["name"] for one in run.steps if one["kind"] in ("skill", "draft")}),
        "models": sorted({f"{one['meta'].get('provider', '')}:{one['name']}" for one in answered}),
        "skills": digest(run.definition.get("skills", [])),
        "policies": sorted(policies),
        "source": "trigger" if run.trigger else "manual",
        "input_shape": shape(run.input),
        "input_bytes": len(json.dumps(run.input)),
        "output_shape": None if run.output is None else shape(run.output),
        "output_bytes": None if run.output is None else len(json.dumps(run.output)),
        "micros": sum(cost["micros"] for cost in costs) if known else None,
        "tokens": sum(cost["tokens"] for cost in costs) if known else None,
    }


def shape(value: Any) -> str:
    """The form of JSON data without its content: which keys there are and of which kind, as a digest."""
    places: set[str] = set()
    left: list[tuple[str, Any]] = [("", value)]
    while left and len(places) < MOST_SHAPE:
        path, one = left.pop()
        if isinstance(one, dict):
            places.add(f"{path} object")
            left += [(f"{path}.{key}", inner) for key, inner in sorted(one.items())]
        elif isinstance(one, list):
            places.add(f"{path} list")
            left += [(f"{path}[]", inner) for inner in one]
        else:
            places.add(f"{path} {type(one).__name__}")
    return digest(sorted(places))


def _results(steps: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [
        one for one in steps if one["kind"] == "skill" and one["phase"] == "result" and "!settled" not in one["key"]
    ]


def _calls(steps: Sequence[Mapping[str, Any]]) -> float | None:
    ended = _results(steps)
    if not ended:
        return None
    asked = {one["key"].partition("~")[0] for one in steps if one["key"].endswith("!settled")}
    return len([one for one in ended if one["status"] == "ok" and one["key"] not in asked]) / len(ended)


def _retries(steps: Sequence[Mapping[str, Any]]) -> float | None:
    sends = Counter(one["key"].partition("~")[0] for one in steps if one["phase"] == "intent")
    more = sum(count - 1 for count in sends.values())
    results = _results(steps)
    more += sum(max(0, int(one["meta"].get("tries", 1)) - 1) for one in results)
    answered = [one for one in steps if one["kind"] == "model"]
    more += sum(max(0, len(one["meta"].get("attempts") or [0]) - 1) for one in answered)
    calls = len(results) + len(answered)
    return None if calls == 0 else 1 / (1 + more / calls)


def _overshoot(steps: Sequence[Mapping[str, Any]]) -> float | None:
    costs = [one["meta"].get("cost") or {} for one in steps if one["kind"] == "model"]
    held = [cost for cost in costs if "reserved_micros" in cost]
    if any(cost["micros"] > cost["reserved_micros"] or cost["tokens"] > cost["reserved_tokens"] for cost in held):
        return 0.0
    if not held or any(cost["unknown"] for cost in held):  # that counts as its reserve, which says nothing
        return None
    return 1.0


def _latency(seconds: float, history: Sequence[float]) -> float | None:
    usual = quantile(history, 0.95) if len(history) >= LEAST_HISTORY else None
    if not usual:
        return None
    return min(1.0, max(0.0, 1 - (seconds - usual) / (2 * usual)))


def _share(counts: Mapping[str, int], good: str, *bad: str) -> float | None:
    settled = sum(counts.get(status, 0) for status in (good, *bad))
    return counts.get(good, 0) / settled if settled else None
