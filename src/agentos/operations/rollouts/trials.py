"""A version tried on recorded runs before it may serve: as its order asks for it, and as gates always do.

The runs are executed again with no transaction open: they are read first, and the order is judged afterwards, in the
state of the deployment in which they were chosen or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from agentos.control.agents import service as agents
from agentos.control.deployments import service as deployments
from agentos.evidence.quality import service as quality
from agentos.evidence.quality.figures import AGREED, WHAT_IFS, rate
from agentos.evidence.quality.model import Figure
from agentos.evidence.replay import what_if
from agentos.evidence.replay.what_if import Instead, Prepared, Result
from agentos.kernel.errors import Conflict, NotFound
from agentos.kernel.statistics import mean_interval
from agentos.kernel.unit_of_work import UnitOfWork
from agentos.kernel.units import MICROS
from agentos.operations.rollouts.judging import Order, asks_nothing
from agentos.operations.rollouts.model import Allowance, Trials, Tried
from agentos.runtime.runs.ports import Parts

TWICE: Final = 2  # as many runs as a gate asks samples for: the outcome of some of them is unknown


@dataclass(frozen=True, slots=True)
class Trial:
    """Recorded runs with what it takes to try a version on them, and who asks for which of them."""

    prepared: Prepared
    etag: int  # of the deployment when they were chosen
    allowed: Allowance | None  # what the order asks for
    asked: tuple[str, ...]  # runs, for the order
    gates: Mapping[str, tuple[str, ...]]  # runs, by the id of the gate


async def prepare(
    work: UnitOfWork,
    parts: Parts,
    deployment_id: str,
    order: Order,
    allowed: Allowance | None,
    *,
    live: bool,
    at: datetime,
) -> Trial | None:
    """Read what it takes to try a version as its order and the gates want it; None where neither does.

    It is tried on runs of the version that serves: a canary's own say nothing of it. A run that cannot be executed
    again is missing in what gates ask for. ``live``: other models than the stub may be asked. Raises SkillUnknown,
    SkillChanged or SkillWithheld of the version's own skills, and what ``what_if.prepare`` does of the order's runs.
    """
    found = await deployments.get(work, deployment_id)
    version = await agents.get_version(work, found.agent_id, order.version)
    serving, by_gate = found.version or "", dict[str, tuple[str, ...]]()
    if not (order.finds_out or asks_nothing(order, found.canary, version)):
        for gate in await quality.gates_of(work, found, version.hash):
            if gate.metric in WHAT_IFS:
                most, since = TWICE * gate.samples, at - gate.lookback
                runs = await what_if.chosen(work, [], found.id, most, version=serving, since=since)
                by_gate[gate.id] = tuple(runs)
    if allowed is None and not by_gate:
        return None
    for ref in version.definition.skills:  # or every run would be missing, and nobody would read why
        parts.registry.pinned(ref.name, ref.version, ref.digest)
    asked = [] if allowed is None else await what_if.chosen(work, [], found.id, allowed.runs, version=serving)
    instead = Instead(version=version.hash)
    prepared = await what_if.prepare(work, parts, asked, instead, live=live, at=at)
    more = dict.fromkeys(run for runs in by_gate.values() for run in runs if run not in asked)
    for run in more:
        try:
            one = await what_if.prepare(work, parts, [run], instead, live=live, at=at)
        except (NotFound, Conflict):  # a skill of then that is not loaded now: nobody can tell, and a gate says so
            continue
        prepared = replace(prepared, plans=prepared.plans + one.plans)
    return Trial(prepared, found.etag, allowed, tuple(asked), by_gate)


async def execute(trial: Trial) -> Trials:
    """Execute the runs under the version, and say what the order and each gate asked for."""
    results = {one.run_id: one for one in (await what_if.compare(trial.prepared)).results}
    by_gate = {gate: figures_of([results[run] for run in runs if run in results]) for gate, runs in trial.gates.items()}
    asked = [results[run] for run in trial.asked]
    return Trials(trial.etag, None if trial.allowed is None else tried(trial.allowed, asked), by_gate)


def tried(allowed: Allowance, results: Sequence[Result]) -> Tried:
    """What became of runs under a version, beside what is allowed."""
    known, told = [one for one in results if one.whole], _told(results)
    more = [one.micros_more for one in known if one.micros_more is not None]
    return Tried(
        allowed,
        len(results),
        len(known),
        sum(1 for one in known if one.outcome_changed),
        sum(1 for one in told if one.divergence is not None),
        len(told),
        sum(one.recorded.micros for one in known),
        sum(more) if more else None,
        figures_of(results),
    )


def figures_of(results: Sequence[Result]) -> dict[str, Figure]:
    """The figures that gates name, each with its 95 % interval and the runs that it is of."""
    known, told = [one for one in results if one.whole], _told(results)
    more = [one.micros_more / MICROS for one in known if one.micros_more is not None]
    agree = len(set(more)) == 1 and len(more) < AGREED  # they show no variance, not that there is none
    interval = None if agree else mean_interval(more)
    low, high = (interval.low, interval.high) if interval else (None, None)
    return {
        "what_if:changed": rate(sum(1 for one in known if one.outcome_changed), len(known)),
        "what_if:diverged": rate(sum(1 for one in told if one.divergence is not None), len(told)),
        "what_if:dollars_more": Figure(sum(more) / len(more) if more else None, low, high, len(more)),
    }


def _told(results: Sequence[Result]) -> list[Result]:
    """Those of which it is known whether they do something else: one that ended before it could is none of them."""
    return [one for one in results if one.whole or one.divergence is not None]
