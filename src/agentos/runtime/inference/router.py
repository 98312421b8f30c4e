"""Ask the models of a plan in order, until one answers.

    for each candidate: may it be asked? → breaker closed? → a place, and room in its limit → the caller's budget → ask
        answered          → done
        it is at fault    → the next one, at once
        the question is   → that error: another model would say the same

What was tried and what was left out is told in order, each with its reason. Without a limit on the provider and for a
model that is not away, a hop adds some ten microseconds to what the model takes.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final

from agentos.kernel.clock import elapsed
from agentos.kernel.errors import AgentOSError, Bug, Unavailable, retryable
from agentos.kernel.telemetry import Meter
from agentos.kernel.telemetry.catalogue import MODEL_FALLBACKS, MODEL_LIMIT_SECONDS, MODEL_SKIPS
from agentos.runtime.inference import plans
from agentos.runtime.inference.bounds import most_tokens
from agentos.runtime.inference.gate import OPEN, Attempt, Gate, NotThis, Routed, Unanswered
from agentos.runtime.inference.model import (
    Answer,
    ContentBlocked,
    ContextTooLong,
    ModelMisbehaved,
    ModelOverloaded,
    ModelRateLimited,
    ModelRefusedKey,
    ModelTimedOut,
    ModelUnavailable,
    ModelUnknown,
    Stop,
)
from agentos.runtime.inference.plans import Circumstances, Plan
from agentos.runtime.inference.ports import Grant, Hear, Limiter, Model, Models, Question
from agentos.runtime.inference.routing import Candidate, Route
from agentos.runtime.inference.settings import RouterSettings
from agentos.runtime.inference.standings import Board
from agentos.runtime.inference.watch import Watch, timed

# The model or its provider is at fault, or our standing with it: another model may answer.
ANOTHER_MAY: Final = (Unavailable, ModelRateLimited, ModelMisbehaved, ModelRefusedKey, ModelUnknown)
WORTH_SECONDS: Final = 0.01  # a wait shorter than this changes no timeout
JITTER: Final = 0.5  # of a pause is added at most, so that callers that failed together do not come back together


@dataclass(slots=True)
class _Call:
    """One call under way."""

    plan: Plan
    question: Question
    gate: Gate
    hear: Hear | None
    tried: list[Attempt]
    until: float | None
    errors: list[AgentOSError] = field(default_factory=list)  # of the present round
    too_long: Candidate | None = None  # of the candidates that the question was too long for, the last

    def tell(self, candidate: Candidate, outcome: str, seconds: float, why: str) -> None:
        """Take note of what became of a candidate."""
        self.tried.append(Attempt(candidate.provider, candidate.name, outcome, seconds, why))


class Router:
    """Asks models. One for each process: it knows how they did. It needs no database but for shared limits."""

    def __init__(
        self,
        models: Models,
        settings: RouterSettings | None = None,
        meter: Meter | None = None,
        limiter: Limiter | None = None,
        board: Board | None = None,
        *,
        clock: Callable[[], float] = elapsed,
        luck: Callable[[], float] = random.random,
    ) -> None:
        self.models = models
        self.settings = settings or RouterSettings.read()
        self.switches = self.settings.switches
        self.watch = Watch(self.settings, meter, limiter, board, clock)
        self._meter = meter
        self._limiter = limiter
        self._clock = clock
        self._luck = luck
        self._slots: dict[str, asyncio.Semaphore] = {}

    @property
    def timeout(self) -> timedelta:
        """How long one call may take."""
        return timedelta(milliseconds=self.settings.api_timeout)

    def plan(self, route: Route, here: Circumstances = plans.ANYWHERE) -> Plan:
        """The models that may answer in these circumstances, under this process's switches."""
        return plans.plan(route, here, self.switches, local=self._local)

    def instant(self, candidate: Candidate) -> bool:
        """Whether asking it, or finding out that it cannot be asked, leaves the process for nothing."""
        found = self._found(candidate)
        return isinstance(found, AgentOSError) or found.instant

    def missing(self, candidate: Candidate) -> str | None:
        """Why this process could not ask it, if so."""
        found = self._found(candidate)
        return found.what if isinstance(found, AgentOSError) else None

    async def ask(
        self,
        plan: Plan,
        question: Question,
        *,
        gate: Gate = OPEN,
        hear: Hear | None = None,
        attempts: list[Attempt] | None = None,
        within: float | None = None,
        patience: float = 0.0,
    ) -> Routed:
        """Ask until one answers. Raises Unanswered, and whatever the gate raises.

        ``attempts`` is told what was tried as it happens. ``within``: seconds that all of it may take. ``patience``:
        seconds in which models that all failed for now are asked again; a provider's retry-after is honoured or, where
        it is longer than that, told in the error. What ``hear`` was told before a failure counts for nothing.
        """
        tried = [] if attempts is None else attempts
        tried += [Attempt(one.provider, one.name, "skipped", 0.0, one.why) for one in plan.skipped]
        began = self._clock()
        if plan.deadline is not None:
            longest = plan.deadline.total_seconds()
            within = longest if within is None else min(within, longest)
        call = _Call(plan, question, gate, hear, tried, None if within is None else began + within)
        rounds = 0
        while True:
            for hop, candidate in enumerate(plan.candidates):
                routed = await self._hop(call, hop, candidate)
                if routed is not None:
                    return routed
            error = _kindest(call.errors)
            pause = self._pause(rounds, error)
            ends = began + (patience if within is None else min(patience, within))
            if pause is None or self._clock() + pause > ends:
                raise Unanswered(error if call.errors or plan.candidates else _nobody(plan))
            await asyncio.sleep(pause)
            call.errors.clear()
            rounds += 1

    async def _hop(self, call: _Call, hop: int, candidate: Candidate) -> Routed | None:
        """Ask one candidate. None when another may be asked instead; raises Unanswered when none may."""
        began, gate = self._clock(), call.gate
        why = gate.refuses(candidate)
        if why is None and call.too_long is not None:
            why = plans.reads_more(candidate, call.too_long)
        if why is not None:
            self._skip(call, candidate, "not_allowed", why)
            return None
        model = self._found(candidate)
        if isinstance(model, AgentOSError):
            self._failed(call, candidate, model, began)
            return None
        away = None if model.instant else self.watch.away(candidate, model, began)
        if away is not None:
            call.errors.append(away)
            self._skip(call, candidate, "away", away.what)
            return None
        asked = self._asked(call, candidate, began)
        if asked is None:
            self._failed(call, candidate, ModelTimedOut("the time for this step is up", begun=False), began)
            return None
        opened, grant, slot, answer, used = False, None, None, None, None
        try:
            if not model.instant:
                slot = await self._enter(gate, model, asked)
                if self._limiter is not None and self._limiter.limits(model.provider):
                    grant = await self._turn(gate, model, asked, waits=candidate is call.plan.candidates[-1])
                asked = self._in_time_left(asked, began)
            await gate.opens(hop, model, asked)
            opened = True
            answer = await gate.carry(model, timed(model, asked, call.hear))
            used = _used(answer)
            if (
                answer.stop is Stop.REFUSAL
                and call.plan.blocked_falls_back
                and candidate is not call.plan.candidates[-1]
            ):
                raise ContentBlocked("the model declined to answer")
        except NotThis as refused:
            self._skip(call, candidate, "not_allowed", str(refused))
            return None
        except AgentOSError as error:
            if not opened and not isinstance(error, (ModelOverloaded, ModelRateLimited)):
                raise  # the gate's own, or the database's
            if answer is None and not _begun(error):
                used = 0
            self._failed(call, candidate, error, began, opened=opened, answered=answer is not None)
            return None
        finally:
            if slot is not None:
                slot.release()
            if grant is not None:
                grant.settle(used if opened else 0)
        if not model.instant:
            self.watch.answered(candidate)
        call.tell(candidate, "ok", self._clock() - began, candidate.why)
        if hop and self._meter is not None:
            self._meter.count(MODEL_FALLBACKS, provider=call.plan.candidates[0].provider, to=candidate.provider)
        return Routed(answer, asked, candidate)

    def _skip(self, call: _Call, candidate: Candidate, reason: str, why: str) -> None:
        call.tell(candidate, "skipped", 0.0, why)
        if self._meter is not None:
            self._meter.count(MODEL_SKIPS, provider=candidate.provider, reason=reason)

    def _failed(
        self,
        call: _Call,
        candidate: Candidate,
        error: AgentOSError,
        began: float,
        *,
        opened: bool = False,
        answered: bool = False,
    ) -> None:
        """Take note of a hop that failed. Raises Unanswered when no other model is to be asked."""
        at = self._clock()
        call.tell(candidate, error.code, at - began, f"{candidate.why}: {error.what[:300]}")
        call.gate.failed(candidate, error, opened=opened, answered=answered)
        call.errors.append(error)
        if opened:
            self.watch.failed(candidate, error)
        if isinstance(error, ContextTooLong):
            call.too_long = candidate
        elif not isinstance(error, ANOTHER_MAY) and not (
            isinstance(error, ContentBlocked) and call.plan.blocked_falls_back
        ):
            raise Unanswered(error)

    def _found(self, candidate: Candidate) -> Model | AgentOSError:
        try:
            return self.models.for_policy(dict(candidate.policy))
        except AgentOSError as error:
            return error

    def _local(self, candidate: Candidate) -> bool:
        found = self._found(candidate)
        return not isinstance(found, AgentOSError) and found.local

    def _asked(self, call: _Call, candidate: Candidate, at: float) -> Question | None:
        """The question as this candidate is asked it; None when there is no time left."""
        question, policy = call.question, candidate.policy
        seconds = min(question.timeout.total_seconds(), self.settings.api_timeout / 1000)
        if call.until is not None:
            seconds = min(seconds, call.until - at)
        if seconds <= 0:
            return None
        return replace(
            question,
            model=candidate.name,
            max_tokens=int(policy.get("max_tokens", question.max_tokens)),
            timeout=timedelta(seconds=seconds),
            schema=(question.schema or call.plan.schema) if candidate.stands_in else question.schema,
            options=dict(policy),
        )

    def _in_time_left(self, question: Question, began: float) -> Question:
        """The question with what is left of its time, where waiting took some. Raises ModelOverloaded."""
        waited = self._clock() - began
        if waited < WORTH_SECONDS:
            return question
        left = question.timeout - timedelta(seconds=waited)
        if left <= timedelta(0):
            raise ModelOverloaded("the time for the call went by while it waited for its turn", begun=False)
        return replace(question, timeout=left)

    async def _enter(self, gate: Gate, model: Model, question: Question) -> asyncio.Semaphore:
        """A place among the calls to a provider. Raises ModelOverloaded."""
        slot = self._slots.get(model.provider)
        if slot is None:
            slot = self._slots[model.provider] = asyncio.Semaphore(self.settings.concurrency)
        if not slot.locked():
            await slot.acquire()
            return slot
        try:
            async with asyncio.timeout(question.timeout.total_seconds()):
                await gate.carry(model, slot.acquire())
        except TimeoutError:
            raise ModelOverloaded(
                f"{self.settings.concurrency} calls to {model.provider} are under way in this process, and none ended",
                then="Raise AGENTOS_ROUTER_CONCURRENCY, or start more workers.",
                begun=False,
            ) from None
        return slot

    async def _turn(self, gate: Gate, model: Model, question: Question, *, waits: bool) -> Grant:
        """Room in the provider's limit, which all processes share. Raises ModelRateLimited, DatabaseUnavailable.

        Only the last model of a plan is waited for: a provider's own 429 would lead to the next one at once, too.
        """
        assert self._limiter is not None
        began = self._clock()
        tokens = most_tokens(question) + question.max_tokens
        taking = self._limiter.take(model.provider, tokens, within=question.timeout.total_seconds() if waits else 0)
        try:
            return await gate.carry(model, taking)
        finally:
            if self._meter is not None:
                self._meter.observe(MODEL_LIMIT_SECONDS, self._clock() - began, provider=model.provider)

    def _pause(self, rounds: int, error: AgentOSError | None) -> float | None:
        """Seconds before all are asked again; None when that would not help."""
        if error is None or not retryable(error):
            return None
        pause = self.settings.pause_seconds * 2.0 ** min(rounds, 16)
        asked = 0.0 if error.retry_after is None else error.retry_after.total_seconds()
        return max(asked, pause) * (1 + JITTER * self._luck())


def _kindest(errors: Sequence[AgentOSError]) -> AgentOSError | None:
    """The error that lets the caller go on soonest: one that passes before one that does not."""
    passing = [one for one in errors if retryable(one)]
    if passing:
        return min(passing, key=lambda one: one.retry_after or timedelta(0))
    return errors[0] if errors else None


def _nobody(plan: Plan) -> ModelUnavailable:
    reasons = "; ".join(f"{one.provider}/{one.name}: {one.why}" for one in plan.skipped)
    return ModelUnavailable(
        f"no model may be asked: {reasons or 'the policy names none'}"[:1000],
        then="See 'agentos models route --explain'.",
        begun=False,
    )


def _begun(error: AgentOSError) -> bool:
    """Whether the provider may have worked on a call that has no answer."""
    return error.begun if isinstance(error, ModelUnavailable) else isinstance(error, Bug)


def _used(answer: Answer) -> int | None:
    """The tokens that a call used; None where nobody knows."""
    if answer.usage.input is None or answer.usage.output is None:
        return None
    return answer.usage.input + answer.usage.output
