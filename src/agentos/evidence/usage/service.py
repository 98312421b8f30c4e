"""Count what was used, once; tell it; and tell how fast budgets are used up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta

from agentos.control.budgets import service as budgets
from agentos.control.budgets.model import ReserveLost
from agentos.evidence.evals.model import EvalAsked
from agentos.evidence.replay.model import ReplayAsked
from agentos.evidence.usage import model, store, tally
from agentos.evidence.usage.model import MOST_DAYS, WINDOWS, BadUsageQuestion, Burn, Question, Source, Usage
from agentos.kernel.facts import Fact
from agentos.kernel.unit_of_work import UnitOfWork
from agentos.runtime.gateway.model import ModelAsked
from agentos.runtime.runs.model import RunEnded


async def count(work: UnitOfWork, facts: Sequence[tuple[Fact, datetime]]) -> None:
    """Count what facts tell was used, each with its time. The same fact again adds nothing."""
    run_ids = [fact.run_id for fact, _ in facts if isinstance(fact, RunEnded)]
    runs = await store.ended(work, run_ids) if run_ids else {}
    rows = await store.rows(work, list(runs)) if runs else {}
    tallies = {run_id: tally.of_run(run, rows.get(run_id, ())) for run_id, run in runs.items()}
    for fact, at in facts:
        match fact:
            case ModelAsked():
                tallies[fact.ask_id] = tally.of_ask(fact, at)
            case ReplayAsked():
                tallies[fact.ask_id] = tally.of_replay(fact, at)
            case EvalAsked():
                tallies[fact.ask_id] = tally.of_eval(fact, at)
            case ReserveLost():
                version = await store.version_of(work, fact.run_id)
                tallies[f"{fact.run_id}~{fact.of_run}"] = tally.of_lost(fact, version)
    if tallies:
        await store.count(work, tallies)


async def usage(work: UnitOfWork, question: Question, *, in_order: bool = False, most: int) -> Usage:
    """What was used, the most first or by name, with the sum of all of it. Raises BadUsageQuestion (Invalid)."""
    if question.since > question.until:
        raise BadUsageQuestion("the days end before they begin", where="from", then="Give an earlier day.")
    if question.until - question.since >= timedelta(days=MOST_DAYS):
        raise BadUsageQuestion(f"over {MOST_DAYS} days are not summed at once", where="from", then="Ask for fewer.")
    if len(set(question.by)) < len(question.by):
        raise BadUsageQuestion("a dimension is named twice", where="by", then="Name each once.")
    (whole,), _ = await store.lines(work, replace(question, by=()), in_order=in_order, most=1)
    lines, there = ([], 0) if not question.by else await store.lines(work, question, in_order=in_order, most=most)
    of_runs = question.source in (None, "", Source.RUN)  # nothing else is counted at its end
    waiting = await store.open_runs(work, question, _end(question.until)) if of_runs else 0
    return Usage(tuple(lines), max(0, there - len(lines)), whole.counts, waiting)


async def burn(work: UnitOfWork, *, at: datetime) -> list[Burn]:
    """Each cap for a day or a month: what is used and reserved of it, and when it runs out at the rates of now."""
    caps, used = await budgets.list_budgets(work), await budgets.used(work, on=None, at=at)
    spent = {window: await store.spent(work, at - length, at) for window, length in WINDOWS.items()}
    return model.burns(caps, used, spent, at)


def _end(day: date) -> datetime:
    return datetime.combine(day, time.max, UTC)
