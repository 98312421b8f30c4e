"""How far runs of now are from runs of before, 0 to 1, and which change explains it.

Categories are compared by the Jensen–Shannon distance in bits (Lin 1991, IEEE Transactions on Information Theory
37:145), numbers by the statistic of Kolmogorov and Smirnov: both are 0 for equal distributions and 1 for ones that have
nothing in common, and neither needs bins of somebody's choice. A dimension counts only where its distance is beyond
what chance alone gives in 19 of 20 looks at all dimensions; the drift is the greatest that counts, because a mean would
dilute one that collapsed among six that stand.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from math import fsum, log, log2, pi, sqrt
from statistics import NormalDist
from typing import Any, Final

from agentos.evidence.quality.figures import Scored
from agentos.kernel.units import MICROS

LEAST: Final = 30  # runs in each window: with fewer, chance alone gives distances of 0.4
CHANCE: Final = 0.05  # that runs which did not change are called drifted, over all dimensions
STRATUM: Final = 10  # runs of a stratum in each window, to be compared within it
# Of a window's runs at most, that one caller sent: half of them, all alike and unlike the others, make a drift of 0.56,
# so no caller alone brings it to the threshold of runbook 1, which is 0.8.
SHARE_OF_ONE: Final = 0.5
MOST: Final = 2000  # runs of a window that are looked at: chance alone is below 0.07 then
SIZES: Final = (256, 1024, 4096, 16384, 65536)  # bytes: what an input's size is told by
_NORMAL: Final = NormalDist()
_SHOWN: Final = 5  # values of a category that are shown


@dataclass(frozen=True, slots=True)
class Dimension:
    """What is compared; ``of`` is a run's value, None where it has none."""

    name: str
    kind: str  # category | number
    what: str
    of: Callable[[Scored], Any]


def _money(run: Scored) -> float | None:
    micros = run.features.get("micros")
    return None if micros is None else micros / MICROS


DIMENSIONS: Final = (
    Dimension("success", "category", "whether the run completed", lambda run: run.status == "completed"),
    Dimension("score", "number", "the run's score", lambda run: run.score),
    Dimension("latency", "number", "seconds from acceptance to end", lambda run: run.seconds),
    Dimension("tools", "category", "the set of skills that it called", lambda run: tuple(run.features["tools"])),
    Dimension("output_shape", "category", "keys and kinds of its output", lambda run: run.features["output_shape"]),
    Dimension("output_length", "number", "bytes of its output", lambda run: run.features["output_bytes"]),
    Dimension("cost", "number", "dollars for its model calls", _money),
)


def _input(run: Scored) -> Hashable:
    size = bisect_right(SIZES, run.features["input_bytes"])
    return run.features["input_shape"], size, run.features["source"]


# What may explain a drift. Memory is named by the runbooks too; see MEMORY. Of inputs it is their form, size and source
# that are compared: what they mean is in no feature.
FACTORS: Final[tuple[tuple[str, Callable[[Scored], Hashable]], ...]] = (
    ("model", lambda run: tuple(run.features["models"])),
    ("version", lambda run: run.version),
    ("skill_schema", lambda run: run.features["skills"]),
    ("input_mix", _input),
    ("policy", lambda run: tuple(run.features["policies"])),
)
MEMORY: Final = "agents have no memory yet that a run could say it read, so what it explains is unknown"


@dataclass(frozen=True, slots=True)
class Distance:
    """How far one dimension moved. Up to ``chance`` it may be chance alone, and does not count."""

    dimension: str
    value: float | None  # None: too few runs have a value
    low: float | None
    high: float | None
    chance: float | None
    samples: int
    baseline_samples: int
    now: str
    before: str

    @property
    def counted(self) -> float:
        """What it adds to the drift."""
        if self.value is None or self.chance is None or self.value <= self.chance:
            return 0.0
        return self.value


@dataclass(frozen=True, slots=True)
class Cause:
    """What one change explains of the dimension that moved most."""

    factor: str
    moved: float | None  # how far the mix of the factor's values moved, 0 to 1
    explained: float | None  # share of the drift that is gone among runs that are alike in it; None: unknown
    note: str


@dataclass(frozen=True, slots=True)
class Sent:
    """Who sent the runs of a window."""

    runs: int = 0
    who: str = ""  # the caller who sent most of them
    most: int = 0  # so many


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What of a window was not looked at, so that no caller sways the drift alone, and that a look stays cheap."""

    window: str  # now | baseline
    runs: int  # of the window
    sampled: int  # of them, that were looked at
    requester: str  # who sent more than one caller may; empty: nobody did
    sent: int  # runs of that caller
    share: float  # of those looked at, that may be that caller's


@dataclass(frozen=True, slots=True)
class Drift:
    """How far the runs of a window are from those of its baseline; ``score`` is None where that is unknown."""

    score: float | None
    low: float | None
    high: float | None
    samples: int
    baseline_samples: int
    dimensions: tuple[Distance, ...]
    leading: str  # the dimension that moved most; empty: none did
    causes: tuple[Cause, ...]
    unknown: str  # why there is no score
    left_out: tuple[LeftOut, ...] = ()


def measure(now: Sequence[Scored], before: Sequence[Scored], *, least: int = LEAST) -> Drift:
    """The drift of these runs from those, with its causes; unknown with fewer than ``least`` runs on either side."""
    if len(now) < least or len(before) < least:
        why = f"{len(now)} of {least} runs in the window and {len(before)} of {least} in its baseline"
        return Drift(None, None, None, len(now), len(before), (), "", (), why)
    level = CHANCE / len(DIMENSIONS)
    found = tuple(distance(one, now, before, least=least, chance=level) for one in DIMENSIONS)
    most = max(found, key=lambda one: one.counted)
    leading = most.dimension if most.counted else ""
    low, high = (most.low, most.high) if most.counted else (0.0, max(one.chance or 0.0 for one in found))
    causes = _causes(next(one for one in DIMENSIONS if one.name == leading), now, before) if leading else ()
    return Drift(most.counted, low, high, len(now), len(before), found, leading, causes, "")


def share_of_one(sent: Sent, sent_before: Sent) -> float | None:
    """The share of a window's runs that is left to who sent most of them; None where nobody sent more than may be.

    It is SHARE_OF_ONE or, where that is more, the caller's share of the other window: who always sent nearly all runs
    of an agent is what the agent does, and is measured. So is a window that only one caller sent.
    """
    usual = sent_before.most / sent_before.runs if sent_before.who == sent.who and sent_before.runs else 0.0
    share = max(SHARE_OF_ONE, usual)  # who sent more than SHARE_OF_ONE of a window sent most of it
    return share if share * sent.runs < sent.most < sent.runs else None


def split(runs: int, sent: int, share: float, *, most: int = MOST) -> tuple[int, int]:
    """How many runs are taken of a caller who sent so many of a window's, and how many of all others: one at least."""
    others = min(runs - sent, max(1, int(most * (1 - share))))
    return min(sent, most - others, int(others * share / (1 - share))), others


def distance(
    one: Dimension, now: Sequence[Scored], before: Sequence[Scored], *, least: int = LEAST, chance: float = CHANCE
) -> Distance:
    """How far a dimension moved, with its 95 % interval."""
    ours, theirs = _values(one, now), _values(one, before)
    n, m = len(ours), len(theirs)
    if n < least or m < least:
        return Distance(one.name, None, None, None, None, n, m, "", "")
    if one.kind == "number":
        value = kolmogorov(ours, theirs)
        # Of each side Massart's band (1990, Annals of Probability 18:1269), together at 95 %.
        half = sqrt(log(2 / 0.025) / 2) * (1 / sqrt(n) + 1 / sqrt(m))
        low, high = max(0.0, value - half), min(1.0, value + half)
        by_chance = sqrt(-log(chance / 2) / 2 * (n + m) / (n * m))
        return Distance(one.name, value, low, high, by_chance, n, m, _median(ours), _median(theirs))
    p, q = Counter(ours), Counter(theirs)
    value = jensen_shannon(p, q)
    low, high = _interval(p, q)
    kinds = len(p.keys() | q.keys())
    by_chance = sqrt(min(1.0, chi_square(1 - chance, kinds - 1) * (1 / n + 1 / m) / (8 * log(2)))) if kinds > 1 else 0.0
    return Distance(one.name, value, low, high, by_chance, n, m, _mix(p), _mix(q))


def kolmogorov(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The greatest difference of the two distribution functions."""
    one, other = sorted(ours), sorted(theirs)
    return max(
        abs(bisect_right(one, value) / len(one) - bisect_right(other, value) / len(other)) for value in {*one, *other}
    )


def jensen_shannon(p: Counter[Any], q: Counter[Any]) -> float:
    """The Jensen–Shannon distance of two mixes: the root of their divergence in bits."""
    return sqrt(max(0.0, _divergence(p, q)))


def chi_square(share: float, freedom: int) -> float:
    """The quantile of chi-squared, by Wilson and Hilferty's cube root (1931, PNAS 17:684), 3 % off at most."""
    part = 2 / (9 * freedom)
    return freedom * (1 - part + _NORMAL.inv_cdf(share) * sqrt(part)) ** 3


def _divergence(p: Counter[Any], q: Counter[Any]) -> float:
    n, m = p.total(), q.total()
    terms = []
    for key in p.keys() | q.keys():
        ours, theirs = p[key] / n, q[key] / m
        middle = (ours + theirs) / 2
        terms += [share / 2 * log2(share / middle) for share in (ours, theirs) if share]
    return fsum(terms)


def _interval(p: Counter[Any], q: Counter[Any]) -> tuple[float, float]:
    """Of the distance at 95 %, by the delta method on the divergence."""
    value, error = _divergence(p, q), 0.0
    for one, other in ((p, q), (q, p)):
        count = one.total()
        slopes = [
            (share, log2(share / ((share + other[key] / other.total()) / 2)) / 2)
            for key in one
            if (share := one[key] / count)
        ]
        mean = fsum(share * slope for share, slope in slopes)
        error += (fsum(share * slope * slope for share, slope in slopes) - mean * mean) / count
    half = _NORMAL.inv_cdf(0.975) * sqrt(max(0.0, error))
    return sqrt(min(1.0, max(0.0, value - half))), sqrt(min(1.0, max(0.0, value + half)))


def _causes(one: Dimension, now: Sequence[Scored], before: Sequence[Scored]) -> tuple[Cause, ...]:
    total = _beyond(one, now, before)
    found = [_cause(name, of, one, total, now, before) for name, of in FACTORS]
    found.sort(key=lambda cause: -(cause.explained or 0.0))
    return (*found, Cause("memory", None, None, MEMORY))


def _cause(
    name: str,
    of: Callable[[Scored], Hashable],
    one: Dimension,
    total: float,
    now: Sequence[Scored],
    before: Sequence[Scored],
) -> Cause:
    """What a factor explains: what is gone among runs that are alike in it.

    Runs with a value that the baseline had, but too seldom to compare, are taken to have moved like all: they explain
    nothing. Where most runs on both sides have a value that is as good as their own, nothing can be said.
    """
    ours, theirs = _groups(of, now), _groups(of, before)
    rare, rare_before = (
        sum(len(runs) for runs in groups.values() if len(runs) < STRATUM) / len(of_all)
        for groups, of_all in ((ours, now), (theirs, before))
    )
    if min(rare, rare_before) > 0.5:
        note = f"{rare:.0%} of the runs, and {rare_before:.0%} of the baseline's, are like fewer than {STRATUM} others"
        return Cause(name, None, None, f"{note} in it, so what it explains is unknown")
    known = ours.keys() & theirs.keys()
    strata = [value for value in known if min(len(ours[value]), len(theirs[value])) >= STRATUM]
    alike = sum(len(ours[value]) for value in strata)
    seldom = sum(len(ours[value]) for value in known) - alike
    within = fsum(len(ours[value]) * _beyond(one, ours[value], theirs[value]) for value in strata) + seldom * total
    explained = None if total == 0 else min(1.0, max(0.0, 1 - within / len(now) / total))
    moved = jensen_shannon(_sizes(ours), _sizes(theirs))
    return Cause(name, moved, explained, f"{alike} of {len(now)} runs are like runs of the baseline in it")


def _groups(of: Callable[[Scored], Hashable], runs: Iterable[Scored]) -> dict[Hashable, list[Scored]]:
    found: dict[Hashable, list[Scored]] = {}
    for run in runs:
        found.setdefault(of(run), []).append(run)
    return found


def _sizes(groups: dict[Hashable, list[Scored]]) -> Counter[Hashable]:
    return Counter({value: len(runs) for value, runs in groups.items()})


def _beyond(one: Dimension, now: Sequence[Scored], before: Sequence[Scored]) -> float:
    """How far a dimension moved, less what is expected of chance alone with so few runs."""
    ours, theirs = _values(one, now), _values(one, before)
    n, m = len(ours), len(theirs)
    if not n or not m:
        return 0.0
    if one.kind == "number":  # the mean of Kolmogorov's distribution is √(π/2)·ln 2
        return max(0.0, kolmogorov(ours, theirs) - sqrt(pi / 2) * log(2) * sqrt((n + m) / (n * m)))
    p, q = Counter(ours), Counter(theirs)
    expected = (len(p.keys() | q.keys()) - 1) * (1 / n + 1 / m) / (8 * log(2))
    return sqrt(max(0.0, _divergence(p, q) - expected))


def _values(one: Dimension, runs: Iterable[Scored]) -> list[Any]:
    return [value for run in runs if (value := one.of(run)) is not None]


def _median(values: Sequence[float]) -> str:
    ranked = sorted(values)
    return f"median {ranked[len(ranked) // 2]:.4g}"


def _mix(counts: Counter[Any]) -> str:
    shown = [f"{_name(key)} {count / counts.total():.0%}" for key, count in counts.most_common(_SHOWN)]
    return ", ".join(shown)


def _name(key: Any) -> str:
    if isinstance(key, bool):
        return "completed" if key else "not completed"
    if isinstance(key, tuple):
        return "+".join(map(str, key)) or "none"
    return str(key)[:19]
