"""What a run's model calls cost: reserved just before a model is asked, settled with the journal row of its answer."""

from __future__ import annotations

from typing import Any

from agentos.control.agents.model import Definition
from agentos.control.budgets.model import Cost, Totals
from agentos.control.budgets.spending import Spending
from agentos.kernel.clock import elapsed, now
from agentos.kernel.epochs import ORGANIZATION
from agentos.kernel.telemetry.catalogue import (
    BUDGET_OVERSHOTS,
    BUDGET_REFUSALS,
    MODEL_COST,
    MODEL_COST_UNKNOWN,
)
from agentos.kernel.units import MICROS
from agentos.runtime.inference import Answer, Question
from agentos.runtime.inference.bounds import most_tokens
from agentos.runtime.runs.journal import Entry, Journal
from agentos.runtime.runs.model import Claimed
from agentos.runtime.runs.ports import Parts
from agentos.runtime.runs.segment import Segment


def spending(parts: Parts, claimed: Claimed, definition: Definition, journal: Journal) -> Spending:
    """The spending of a run that was just claimed, as far as its journal tells."""
    run, began = claimed.run, elapsed()
    parts.books.seen(run.organization, claimed.epochs.get(ORGANIZATION, 0))

    def seconds() -> int:  # since the run was accepted, by the database's clock up to the claim
        return max(0, int(definition.budgets.seconds - claimed.seconds_left + elapsed() - began))

    totals = Totals()
    for entry in journal.recorded.values():
        if entry.kind == "model":
            totals.add(_recorded(entry))
    allowed = (definition.budgets.money, definition.budgets.tokens)
    token = (run.token.segment, run.token.attempt)
    return Spending(
        parts.database, parts.books, run.organization, run.id, run.agent_id, token, allowed, totals, seconds
    )


async def reserve(segment: Segment, key: str, question: Question, provider: str) -> None:
    """Reserve the most that a call can cost. Raises BudgetExhausted (Exhausted) with the cap that has no room, and what
    ``Spending.reserve`` raises."""
    known = segment.counted_input
    same = known is not None and known[:2] == (provider, question.model)
    full = await segment.spending.reserve(
        key,
        provider,
        question.model,
        lambda: most_tokens(question, known[2:] if known is not None and same else None),
        question.max_tokens,
        at=now(),
    )
    if full is not None:
        segment.count(BUDGET_REFUSALS, cap=full.of, period=full.period.value, resource=full.resource)
        raise full.error(segment.claimed.run.agent_id)


def next_step(segment: Segment) -> str:
    """The key of the first model call that has no answer yet: they are asked one after the other."""
    return f"t{segment.spending.totals.calls}"


async def settle(segment: Segment, question: Question, answer: Answer) -> dict[str, Any]:
    """What the answer cost, for its journal row; what is reserved for it is settled in the transaction of that row."""
    usage = answer.usage
    reserved = segment.spending.reserved
    cost, bill = await segment.spending.settle(usage.tokens(), answer.model, len(answer.calls), at=now())
    segment.journal.bill = bill
    counted_input(segment, question.model, len(question.messages), answer)
    segment.parts.meter.count(MODEL_COST, cost.money / MICROS, **segment.labels, provider=answer.provider)
    if cost.unknown:
        segment.count(MODEL_COST_UNKNOWN, provider=answer.provider)
    told: dict[str, Any] = {"micros": cost.money, "tokens": cost.tokens, "steps": cost.steps, "unknown": cost.unknown}
    if reserved is None:
        return told
    if cost.money > reserved[0] or cost.tokens > reserved[1]:
        segment.count(BUDGET_OVERSHOTS, provider=answer.provider)
    return told | {"reserved_micros": reserved[0], "reserved_tokens": reserved[1]}


def counted_input(segment: Segment, model: str, messages: int, answer: Answer) -> None:
    """Keep what the provider counted for the conversation so far: it makes the next bound a close one."""
    if answer.usage.input is not None:
        segment.counted_input = (answer.provider, model, messages, answer.usage.input)


def _recorded(entry: Entry) -> Cost:
    """The cost that a row of the journal tells; rows of releases that kept none tell their tokens."""
    said = entry.meta.get("cost")
    if said is not None:
        return Cost(said["micros"], said["tokens"], said["unknown"], said["steps"])
    usage = entry.meta.get("usage") or {}
    tokens = [usage.get(direction) for direction in ("input", "output")]
    calls = (entry.content or {}).get("calls") or ()
    return Cost(0, sum(one or 0 for one in tokens), unknown=True, steps=len(calls))
