"""Whether a canary is shown to be worse: by gates that its own runs fail, by the version beside it, by runs that hang.

What is unknown is no breach. A canary is looked at hundreds of times, so gates and the comparison of success ask for
99.9 %, that of durations for intervals that do not touch.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from agentos.control.deployments.model import Deployment
from agentos.evidence.quality import service as quality
from agentos.evidence.quality.figures import METRICS, Metric, Scored, figure, loss, samples
from agentos.evidence.quality.model import Comparator, Figure, Gate, Severity
from agentos.kernel.statistics import binomial, newcombe
from agentos.kernel.unit_of_work import UnitOfWork
from agentos.operations.rollouts import figures, store
from agentos.operations.rollouts.figures import in_words
from agentos.operations.rollouts.model import CanaryRecord
from agentos.operations.rollouts.settings import RolloutSettings

LEVEL: Final = 0.999  # of what ends a canary: looked at 360 times, 3 in 10 would be wrong at 95 %
BESIDE: Final = timedelta(days=1)  # before a canary: what it is compared with while the other has too few runs since
USUAL: Final = 3  # times the usual p95 before a run is called late: beyond what the comparison of p95 tells by itself


async def breached(
    work: UnitOfWork, deployment: Deployment, one: CanaryRecord, settings: RolloutSettings, *, at: datetime
) -> tuple[str, ...]:
    """Why a canary is to be rolled back, with figures; empty while nothing is shown against it.

    Everything is of runs in its own deployment since it began, of the version beside it also of the time before.
    """
    ours = await figures.runs_of(work, one.deployment_id, one.revision, one.version, since=one.started_at, until=at)
    theirs = Beside(work, one, at)
    found = []
    for gate in await quality.gates_of(work, deployment, one.version):
        if gate.severity is Severity.BLOCKER and (why := await fails(gate, one, ours, theirs, at)):
            found.append(why)
    least = settings.canary_samples
    success, seconds = METRICS["success_rate"], METRICS["run_seconds_p95"]
    beside = await theirs.runs(success, BESIDE, least)
    since = one.started_at - (timedelta(0) if beside is await theirs.runs(success, timedelta(0), 0) else BESIDE)
    if min(len(ours), len(beside)) >= least:
        lost = loss(success, ours, beside, level=LEVEL)
        if lost.low is not None and lost.low > 0:
            found.append(_worse(success, ours, beside))
        slow, usual = figure(seconds, ours), figure(seconds, beside)
        if slow.low is not None and usual.high is not None and slow.low > usual.high:
            found.append(_worse(seconds, ours, beside))
    if why := await hangs(work, one, ours, beside, settings, since=since, at=at):
        found.append(why)
    return tuple(found)


async def hangs(
    work: UnitOfWork,
    one: CanaryRecord,
    ours: Sequence[Scored],
    beside: Sequence[Scored],
    settings: RolloutSettings,
    *,
    since: datetime,
    at: datetime,
) -> str:
    """Why a canary's runs that do not come to an end stand against it: more of them than beside it take too long.

    ``since``: from when on the runs beside it are looked at, ended and open ones alike.

    A run takes too long beyond ``USUAL`` times the p95 of the version beside, and beyond the setting, whether it ended
    or is open. What waits for people, a pause or a stop is left out, and what took as long and had asked people. Only
    runs that were admitted so long ago count.
    """
    usual = figure(METRICS["run_seconds_p95"], beside).value
    if usual is None:
        return ""
    limit = timedelta(seconds=max(settings.canary_hang_seconds, USUAL * usual))
    mine, theirs = await store.unmoved(work, one, since=since, before=at - limit)
    slow = [run.run_id for run in (*ours, *beside) if timedelta(seconds=run.seconds) > limit]
    asked = await store.asked_people(work, slow)
    late, of = _late(ours, limit, at, asked)
    other_late, other_of = _late(beside, limit, at, asked)
    if min(of + mine, other_of + theirs) < settings.canary_samples:
        return ""
    more = newcombe(late + mine, of + mine, other_late + theirs, other_of + theirs, level=LEVEL)
    if more is None or more.low <= 0:
        return ""
    return (
        f"{late + mine} of {of + mine} runs of the canary take longer than {limit.total_seconds():.0f} s "
        f"({mine} are open), of the version beside it {other_late + theirs} of {other_of + theirs}: "
        f"{more.low:.3g} to {more.high:.3g} more"
    )


async def compared(work: UnitOfWork, one: CanaryRecord, metric: str, *, at: datetime) -> tuple[Figure, Figure]:
    """A figure of the canary and of the version beside it, in this deployment since the canary began."""
    since, until = one.started_at, one.ended_at or at
    ours = await figures.runs_of(work, one.deployment_id, one.revision, one.version, since=since, until=until)
    theirs = await quality.measured(work, one.deployment_id, one.beside, metric, since=since, until=until)
    return figure(METRICS[metric], ours), theirs


@dataclass
class Beside:
    """The runs of the version beside a canary, each lookback read once."""

    work: UnitOfWork
    one: CanaryRecord
    at: datetime
    known: dict[timedelta, list[Scored]] = field(default_factory=dict)

    async def runs(self, metric: Metric, lookback: timedelta, least: int) -> list[Scored]:
        """Those since the canary began; with too few of them those of the lookback before as well."""
        since = await self._read(timedelta(0))
        return since if len(samples(metric, since)) >= least else await self._read(lookback)

    async def _read(self, before: timedelta) -> list[Scored]:
        if before not in self.known:
            of, since = self.one, self.one.started_at - before
            self.known[before] = await quality.runs_of(
                self.work, of.deployment_id, of.beside, since=since, until=self.at
            )
        return self.known[before]


async def fails(gate: Gate, one: CanaryRecord, ours: Sequence[Scored], theirs: Beside, at: datetime) -> str:
    """Why a gate ends the canary: its 99.9 % interval lies beyond what the gate asks for.

    What failed before it began was overridden then, and counts anew since. A count only grows, a gap has no interval of
    that level, a drift is of the whole scope, and an eval was judged before the canary began: those end none.
    """
    if gate.metric not in METRICS or METRICS[gate.metric].kind not in ("rate", "mean", "p95"):
        return ""
    metric = METRICS[gate.metric]
    mine = [run for run in ours if run.ended_at >= at - gate.lookback]
    if gate.comparator is Comparator.NO_WORSE:
        if any(gate.said in said for said in one.overridden):
            return ""
        beside = await theirs.runs(metric, gate.lookback, gate.samples)
        lost = loss(metric, mine, beside, level=LEVEL)
        if lost.samples < gate.samples or lost.low is None or lost.low <= gate.threshold:
            return ""
        return f"{gate.said}: failed, worse by {in_words(lost)}; {_worse(metric, mine, beside)}"
    known = figure(metric, mine, level=LEVEL)
    upper = gate.comparator in (Comparator.AT_MOST, Comparator.BELOW)
    if metric.kind == "p95" and upper:  # by order statistics: too many runs beyond, whatever its upper end is
        within = sum(gate.comparator.holds(value, gate.threshold) for value in samples(metric, mine))
        is_shown = known.samples >= gate.samples and binomial(within, known.samples, 0.95) <= (1 - LEVEL) / 2
        return f"{gate.said}: failed with {in_words(known)}, {within} runs within it" if is_shown else ""
    best = known.low if upper else known.high
    if known.samples < gate.samples or best is None or gate.comparator.holds(best, gate.threshold):
        return ""
    return f"{gate.said}: failed with {in_words(known)}"


def _late(runs: Sequence[Scored], limit: timedelta, at: datetime, besides: Container[str]) -> tuple[int, int]:
    """How many runs took longer, of how many that were admitted so long ago; ``besides``: those that are left out."""
    told = [run for run in runs if run.run_id not in besides]
    seconds = [run.seconds for run in told if run.ended_at - timedelta(seconds=run.seconds) < at - limit]
    return sum(timedelta(seconds=one) > limit for one in seconds), len(seconds)


def _worse(metric: Metric, ours: Sequence[Scored], theirs: Sequence[Scored]) -> str:
    mine, others = figure(metric, ours), figure(metric, theirs)
    return f"{metric.name} of the canary {in_words(mine)}, of the version beside it {in_words(others)}"
