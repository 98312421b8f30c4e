"""What the figures advise: one rule for each kind of recommendation, each with the figures that it was made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agentos.evidence.quality import figures
from agentos.evidence.quality.drift import Drift
from agentos.evidence.quality.figures import Scored, shown
from agentos.evidence.quality.model import Feedback
from agentos.evidence.recommendations.model import Kind
from agentos.kernel.statistics import newcombe, wilson

ACCEPTED: Final = 0.8  # a prompt is to be looked at when surely fewer than so many runs are accepted as they are
JUDGED: Final = 20  # runs with feedback at least
READS: Final = 10  # judged runs at least, of those that read and of those that did not
CALLS_WELL: Final = 0.9  # a tool is to be looked at when surely fewer of its calls end well
CALLS: Final = 20
DRIFT: Final = 0.8  # the threshold of runbook 1


@dataclass(frozen=True, slots=True)
class Advice:
    """What to look at, and the figures that say so."""

    kind: Kind
    text: str
    evidence: dict[str, Any]


def prompt(runs: Sequence[Scored], _drift: Drift) -> Advice | None:
    """People surely accept fewer than 80 % of the runs that they judged."""
    found = figures.figure(figures.metric("accepted_rate"), runs)
    if found.samples < JUDGED or found.high is None or found.high >= ACCEPTED:
        return None
    said = Counter(run.feedback.value for run in runs if run.feedback is not None)
    text = (
        f"People accept {_percent(found.value)} of the runs as they are (at most {_percent(found.high)}, "
        f"{found.samples} judged). Look at what they changed or rejected, and at the instructions."
    )
    return Advice(Kind.PROMPT, text, {"accepted_rate": shown(found), "feedback": dict(said)})


def evidence_policy(runs: Sequence[Scored], _drift: Drift) -> Advice | None:
    """Runs that read nothing are surely accepted less often than runs that did."""
    judged = [run for run in runs if run.feedback is not None and "reads" in run.features]
    sides = {reads: [run for run in judged if bool(run.features["reads"]) is reads] for reads in (True, False)}
    if min(len(side) for side in sides.values()) < READS:
        return None
    hits = {reads: sum(run.feedback is Feedback.ACCEPTED for run in side) for reads, side in sides.items()}
    rates = {reads: figures.rate(hits[reads], len(side)) for reads, side in sides.items()}
    gap = newcombe(hits[True], len(sides[True]), hits[False], len(sides[False]))
    if gap is None or gap.low <= 0:
        return None
    text = (
        f"People accept {_percent(rates[True].value)} of the runs that read something first and "
        f"{_percent(rates[False].value)} of those that read nothing ({rates[True].samples} and {rates[False].samples} "
        "judged). Make reading a condition of the answer."
    )
    evidence = {
        "accepted_rate_with_reads": shown(rates[True]),
        "accepted_rate_without_reads": shown(rates[False]),
        "difference": {"low": gap.low, "high": gap.high},
    }
    return Advice(Kind.EVIDENCE_POLICY, text, evidence)


def tooling(runs: Sequence[Scored], _drift: Drift) -> Advice | None:
    """Of a skill's calls, surely fewer than 90 % end well; the worst one is named."""
    well, times = Counter[str](), Counter[str]()
    for run in runs:
        for name, (good, all_of_them) in run.features.get("calls", {}).items():
            well[name] += good
            times[name] += all_of_them
    bad = []
    for name, count in times.items():
        interval = wilson(well[name], count)
        if count >= CALLS and interval is not None and interval.high < CALLS_WELL:
            bad.append((well[name] / count, name, count, interval))
    if not bad:
        return None
    value, name, count, interval = min(bad)
    text = (
        f"Of '{name}' {_percent(value)} of the calls end well (at most {_percent(interval.high)}, {count} calls). Look "
        "at its failures and denials in the journals, or take it from the agents."
    )
    named = {one: {"value": rate, "low": range_.low, "high": range_.high, "samples": n} for rate, one, n, range_ in bad}
    return Advice(Kind.TOOLING, text, {"calls_that_end_well": named})


def eval_drift(_runs: Sequence[Scored], drift: Drift) -> Advice | None:
    """The drift is at least 0.8."""
    if drift.score is None or drift.score < DRIFT:
        return None
    cause = drift.causes[0]
    because = (
        f"{cause.explained:.0%} of it goes with {cause.factor}"
        if cause.explained
        else "none of the changes that are measured goes with it"
    )
    text = (
        f"Drift is {drift.score:.2f}, most of it in {drift.leading}; {because}. Freeze promotions and run the offline "
        "evals of these agents before they go on."
    )
    evidence = {
        "drift": {"value": drift.score, "low": drift.low, "high": drift.high, "samples": drift.samples},
        "baseline_samples": drift.baseline_samples,
        "leading": drift.leading,
        "causes": {one.factor: one.explained for one in drift.causes},
    }
    return Advice(Kind.EVAL_DRIFT, text, evidence)


RULES: Final[tuple[Callable[[Sequence[Scored], Drift], Advice | None], ...]] = (
    prompt,
    evidence_policy,
    tooling,
    eval_drift,
)


def advise(runs: Sequence[Scored], drift: Drift) -> list[Advice]:
    """What the rules say of these runs; at most one recommendation of each kind."""
    return [found for rule in RULES if (found := rule(runs, drift)) is not None]


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.0%}"
