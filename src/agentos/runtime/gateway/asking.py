"""One direct question to models for a client: stops, a reserve for each hop, and a fact of what came of it.

    stops → plan → for each hop: a reserve → ask → settle, and the fact ModelAsked, in one transaction
                                                 → cancelled: what was reserved counts as spent where it was asked

What was reserved by a process that was lost in between is settled by ``asks_forget``, which workers call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from functools import lru_cache
from typing import Any, Final

import structlog

from agentos.control.budgets.model import BudgetExhausted, Cost, ModelUnpriced, Standing, Totals
from agentos.control.budgets.spending import FIRST, Spending
from agentos.control.stops import service as stops
from agentos.control.stops.model import InForce, Subject
from agentos.control.stops.model import Stop as StopOrder
from agentos.kernel.clock import elapsed, now
from agentos.kernel.errors import AgentOSError
from agentos.kernel.ids import OrgId
from agentos.kernel.retention import Retention
from agentos.kernel.telemetry.catalogue import (
    BUDGET_OVERSHOTS,
    BUDGET_REFUSALS,
    MODEL_CALLS,
    MODEL_COST,
    MODEL_COST_UNKNOWN,
    MODEL_SECONDS,
    MODEL_TOKENS,
)
from agentos.kernel.units import MICROS
from agentos.runtime.gateway.model import Asker, AskingStopped, ModelAsked, Said, Wanted, named
from agentos.runtime.inference import Model, Question, Usage
from agentos.runtime.inference.bounds import about_tokens, most_tokens
from agentos.runtime.inference.gate import Attempt, Gate, NotThis, Unanswered
from agentos.runtime.inference.plans import Circumstances
from agentos.runtime.inference.routing import Candidate, Route
from agentos.runtime.inference.service import prices_of
from agentos.runtime.runs.ports import Parts

log = structlog.get_logger(__name__)

STEP: Final = "ask"
NOBODYS: Final = Subject("", "", "")  # no deployment: what concerns the organization, everybody, or a provider is left
CANCELLED: Final = "cancelled"
# An ask lasts an hour at most (AGENTOS_GATEWAY_SECONDS): what is reserved for an older one was lost with its process.
KEPT: Final = Retention("asks_forget", timedelta(hours=2))

Began = Callable[[Candidate], None]  # is told which model is about to answer


class Asking(Gate):
    """The gate of one ask."""

    def __init__(self, parts: Parts, asker: Asker, spending: Spending, began: Began) -> None:
        self.parts = parts
        self.asker = asker
        self.spending = spending
        self.stops = InForce()
        self.began = began
        self.told = False  # the client has heard a part of an answer, which no other model can go on with
        self.refused: AgentOSError | None = None  # why the last model that was left out must not be asked
        self.candidate: Candidate | None = None

    def refuses(self, candidate: Candidate) -> str | None:
        """Why a candidate must not be asked: a stop, or that another has begun to answer."""
        if self.told:
            return "a part of another model's answer was told already"
        self.candidate = candidate
        denied = self.stops.denies_provider(candidate.provider)
        if denied is None:
            return None
        self.refused = stopped(denied)
        return self.refused.what

    async def opens(self, hop: int, model: Model, question: Question) -> None:
        """Reserve the most that the call can cost; after the first hop, look at the stops again.

        Raises AskingStopped, BudgetExhausted, ModelUnpriced; NotThis where another model may do.
        """
        if hop:
            self.stops = await in_force(self.parts, self.asker.organization)
            denied = self.stops.denies_provider(model.provider)
            if denied is not None:
                self.refused = stopped(denied)
                raise NotThis(self.refused.what)
        try:
            await self._reserve(model, question)
        except (BudgetExhausted, ModelUnpriced) as error:
            if not hop:
                raise
            self.refused = error
            raise NotThis(error.what) from None
        if self.candidate is not None:
            self.began(self.candidate)

    async def _reserve(self, model: Model, question: Question) -> None:
        full = await self.spending.reserve(
            STEP, model.provider, question.model, lambda: most_tokens(question), question.max_tokens, at=now()
        )
        if full is not None:
            labels = {"cap": full.of, "period": full.period.value, "resource": full.resource}
            self.parts.meter.count(BUDGET_REFUSALS, 1, **where(self.asker), **labels)
            raise full.error("")

    def released(self) -> None:
        """Let go of what was reserved for a call that surely cost nothing."""
        self.spending.release()

    def failed(self, candidate: Candidate, error: AgentOSError, seconds: float) -> None:
        """Count a model that was asked and has no answer, and how long that took."""
        meter, provider = self.parts.meter, candidate.provider
        meter.count(MODEL_CALLS, 1, **where(self.asker), provider=provider, status=error.code)
        meter.observe(MODEL_SECONDS, seconds, provider=provider)


async def ask(
    parts: Parts,
    asker: Asker,
    ask_id: str,
    wanted: Wanted,
    route: Route,
    *,
    within: float,
    hear: Callable[[str], None] | None,
    began: Began,
    attempts: list[Attempt] | None = None,
) -> Said:
    """A model's answer. ``hear`` is told pieces of it as they come, and ``began`` which model they are of; without
    ``hear`` a model that breaks off can still be followed by another. ``attempts`` is told what was tried.

    Raises AskingStopped, BudgetExhausted, ModelUnpriced, DatabaseUnavailable, and the errors of models. However it
    ends, what it cost is counted and the fact is published; when it is cancelled, too.
    """
    organization, start = OrgId(asker.organization), elapsed()

    def seconds() -> int:
        return int(elapsed() - start)

    spending = Spending(parts.database, parts.books, organization, ask_id, "", FIRST, (None, None), Totals(), seconds)
    gate = Asking(parts, asker, spending, began)
    attempts = [] if attempts is None else attempts

    def heard(piece: str) -> None:
        assert hear is not None
        gate.told = True
        hear(piece)

    question = _question(wanted, route, parts.router.timeout)
    try:
        gate.stops = await in_force(parts, asker.organization)
        plan = parts.router.plan(route, await _circumstances(parts, organization, route, question, wanted))
        routed = await parts.router.ask(
            plan, question, gate=gate, hear=heard if hear else None, attempts=attempts, within=within
        )
    except Unanswered as none:
        error = none.error or gate.refused
        assert error is not None, "a model that is left out is left out for a reason"
        await _surely(_keep(gate, ask_id, route.own.key, error.code, attempts))
        raise error from None
    except asyncio.CancelledError:
        await _surely(_keep(gate, ask_id, (gate.candidate or route.own).key, CANCELLED, attempts))
        raise
    except AgentOSError as error:
        await _surely(_keep(gate, ask_id, route.own.key, error.code, attempts))
        raise
    answer = routed.answer
    reserved = spending.reserved
    cost, _bill = await spending.settle(answer.usage.tokens(), answer.model, 0, at=now())
    _measure(parts, asker, routed.seconds, answer.provider, answer.usage, cost, reserved)
    model = (answer.provider, answer.model)
    await _surely(_keep(gate, ask_id, model, "ok", attempts, answer.usage, cost))
    return Said.of(ask_id, answer)


def _question(wanted: Wanted, route: Route, timeout: timedelta) -> Question:
    return Question(
        model=route.own.name,
        system=wanted.system,
        messages=wanted.messages,
        tools=wanted.tools,
        max_tokens=int(route.own.policy["max_tokens"]),
        timeout=timeout,
        schema=wanted.schema,
        options=dict(route.own.policy),
    )


async def in_force(parts: Parts, organization: str) -> InForce:
    """The stops that concern direct questions. Raises AskingStopped (Forbidden) where one withholds them all."""
    async with parts.doors.open(OrgId(organization)) as work:
        found = await stops.in_force(work, NOBODYS)
    if found.held is not None:
        raise stopped(found.held)
    return found


def stopped(stop: StopOrder) -> AskingStopped:
    """The error that cites a stop."""
    about = f" of the {stop.scope}" + (f" '{stop.target}'" if stop.target else "")
    return AskingStopped(
        f"stop {stop.id}, a {stop.kind}{about}, withholds models",
        where=stop.id,
        then=f"See 'agentos stops show {stop.id}'.",
    )


def where(asker: Asker) -> dict[str, str]:
    """Where measurements of direct questions belong: to no agent."""
    return {"org": asker.organization, "agent_id": "", "deployment": ""}


async def _circumstances(
    parts: Parts, organization: OrgId, route: Route, question: Question, wanted: Wanted
) -> Circumstances:
    async def standing() -> Standing:
        return await parts.books.standing(parts.database, organization)

    return Circumstances(
        tools=tuple(one.name for one in wanted.tools),
        tokens=lru_cache(1)(lambda: about_tokens(question)),
        prices=await prices_of(route, standing, at=now()),
        schema=wanted.schema,
    )


async def _keep(
    gate: Asking,
    ask_id: str,
    model: tuple[str, str],
    outcome: str,
    attempts: list[Attempt],
    usage: Usage | None = None,
    cost: Cost | None = None,
) -> None:
    """Count what it cost and publish what came of it, in one transaction."""
    asker, used = gate.asker, usage or Usage()
    fact = ModelAsked(
        ask_id=ask_id,
        by=asker.handle,
        request_id=asker.request_id,
        provider=model[0],
        model=model[1],
        outcome=outcome,
        input_tokens=used.input,
        output_tokens=used.output,
        micros=None if cost is None or cost.unknown else cost.money,
        attempts=[f"{named(one.provider, one.model)}: {one.outcome}" for one in attempts],
        cache_read_tokens=used.cache_read,
        cache_write_tokens=used.cache_write,
        reasoning_tokens=used.reasoning,
        seconds=round(attempts[-1].seconds, 4) if outcome == "ok" else None,
        counted_micros=None if cost is None else cost.money,
        counted_tokens=None if cost is None else cost.tokens,
    )
    async with gate.parts.doors.open(OrgId(asker.organization)) as work:
        await gate.spending.finish(work, "" if outcome == "ok" else STEP)
        await work.publish(fact)
    log.debug("model_asked", ask_id=ask_id, provider=model[0], model=model[1], outcome=outcome)


def _measure(
    parts: Parts,
    asker: Asker,
    seconds: float,
    provider: str,
    usage: Usage,
    cost: Cost,
    reserved: tuple[int, int] | None,
) -> None:
    meter, labels = parts.meter, where(asker)
    meter.observe(MODEL_SECONDS, seconds, provider=provider)
    meter.count(MODEL_CALLS, 1, **labels, provider=provider, status="ok")
    for direction, tokens in (("input", usage.input), ("output", usage.output)):
        if tokens:
            meter.count(MODEL_TOKENS, tokens, **labels, provider=provider, direction=direction)
    meter.count(MODEL_COST, cost.money / MICROS, **labels, provider=provider)
    if cost.unknown:
        meter.count(MODEL_COST_UNKNOWN, 1, **labels, provider=provider)
    if reserved is not None and (cost.money > reserved[0] or cost.tokens > reserved[1]):
        meter.count(BUDGET_OVERSHOTS, 1, **labels, provider=provider)


async def _surely(work: Coroutine[Any, Any, None]) -> None:
    """Await it to its end, also when the ask is cancelled meanwhile."""
    keeping = asyncio.create_task(work)
    try:
        await asyncio.shield(keeping)
    except asyncio.CancelledError:
        await keeping
        raise
