"""Ask the models of a plan in order, until one answers.

    for each candidate: may it be asked? → breaker closed? → a place → the caller's budget → room in its limit → ask
        answered          → done
        it is at fault    → the next one, at once
        the question is   → that error: another model would say the same
    none answered, and one is being probed → wait for the probe, and ask it where that was answered

What was tried and what was left out is told in order, each with its reason. Without a limit on the provider and for a
model that is not away, a hop adds some ten microseconds to what the model takes.
"""

from __future__ import annotations

import asyncio
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
    ModelNotConfigured,
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


@dataclass(slots=True)
class _Call:
    """One call under way."""

    plan: Plan
    question: Question
    gate: Gate
    hear: Hear | None
    tried: list[Attempt]
    until: float | None
    errors: list[AgentOSError] = field(default_factory=list)
    probed: list[tuple[int, Candidate, Model]] = field(default_factory=list)  # left out, while a probe is under way
    too_long: Candidate | None = None  # of the candidates that the question was too long for, the last

    def tell(self, candidate: Candidate, outcome: str, seconds: float, why: str) -> None:
        """Take note of what became of a candidate."""
        self.tried.append(Attempt(candidate.provider, candidate.name, outcome, seconds, why))


@dataclass(slots=True)
class _Holding:
    """What one hop holds: a place among the calls to a provider, and room in its limit.

    Each is put here in the very step that acquires it, so none is lost; what comes after the hop's end is given back.
    """

    slot: asyncio.Semaphore | None = None
    grant: Grant | None = None
    over: bool = False

    async def enter(self, slot: asyncio.Semaphore) -> None:
        """Take a place."""
        await slot.acquire()
        if self.over:
            slot.release()
        else:
            self.slot = slot

    async def turn(self, limiter: Limiter, provider: str, tokens: int, within: float) -> None:
        """Take room. Raises as ``Limiter.take`` does."""
        grant = await limiter.take(provider, tokens, within=within)
        if self.over:
            grant.give_back()
        else:
            self.grant = grant

    def end(self, used: int | None, *, sent: bool) -> None:
        """Give back the place, and of the room what was not used."""
        self.over = True
        if self.slot is not None:
            self.slot.release()
        if self.grant is not None and sent:
            self.grant.settle(used)
        elif self.grant is not None:
            self.grant.give_back()


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
    ) -> None:
        self.models = models
        self.settings = settings or RouterSettings.read()
        self.switches = self.settings.switches
        self.watch = Watch(self.settings, meter, limiter, board, clock)
        self._meter = meter
        self._limiter = limiter
        self._clock = clock
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
    ) -> Routed:
        """Ask until one answers. Raises Unanswered, and whatever the gate raises.

        ``attempts`` is told what was tried as it happens. ``within``: seconds that all of it may take. What ``hear``
        was told before a failure counts for nothing. Models that failed are not asked again; the error says when to.
        """
        tried = [] if attempts is None else attempts
        tried += [Attempt(one.provider, one.name, "skipped", 0.0, one.why) for one in plan.skipped]
        began = self._clock()
        if plan.deadline is not None:
            longest = plan.deadline.total_seconds()
            within = longest if within is None else min(within, longest)
        call = _Call(plan, question, gate, hear, tried, None if within is None else began + within)
        for hop, candidate in enumerate(plan.candidates):
            routed = await self._hop(call, hop, candidate)
            if routed is not None:
                return routed
        for hop, candidate, model in tuple(call.probed):
            routed = await self._after_probe(call, hop, candidate, model)
            if routed is not None:
                return routed
        raise Unanswered(_kindest(call.errors) if call.errors or plan.candidates else _nobody(plan))

    async def _after_probe(self, call: _Call, hop: int, candidate: Candidate, model: Model) -> Routed | None:
        """Ask a candidate that was away, once the probe under way was answered: there is no other one left."""
        asked = self._asked(call, candidate, self._clock())
        if asked is None:
            return None
        answered = await call.gate.carry(model, self.watch.probed(candidate, asked.timeout.total_seconds()))
        return await self._hop(call, hop, candidate) if answered else None

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
            if self.watch.probes(candidate):
                call.probed.append((hop, candidate, model))
            self._skip(call, candidate, "away", away.what)
            return None
        asked = self._asked(call, candidate, began)
        if asked is None:
            self._failed(call, candidate, ModelTimedOut("the time for this step is up", begun=False), began)
            return None
        held, opened, sent, answer, used, free = _Holding(), False, None, None, None, True
        try:
            if not model.instant:
                await self._enter(held, gate, model, asked)
                asked = self._in_time_left(call, asked)
            await gate.opens(hop, model, asked)
            opened = True
            if self._limiter is not None and not model.instant and self._limiter.limits(model.provider):
                await self._turn(held, gate, model, asked, waits=candidate is call.plan.candidates[-1])
                asked = self._in_time_left(call, asked)
            sent, free = self._clock(), False
            answer = await gate.carry(model, timed(model, asked, call.hear))
            seconds, used = self._clock() - sent, _used(answer)
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
            if sent is None and not isinstance(error, (ModelOverloaded, ModelRateLimited)):
                raise  # the gate's own, or the database's
            if sent is not None and answer is None and not _begun(error):
                used, free = 0, True
            self._failed(call, candidate, error, began, sent=sent, asked=asked)
            return None
        finally:
            held.end(used, sent=sent is not None)
            if opened and free:
                gate.released()
        if not model.instant:
            self.watch.answered(candidate)
        call.tell(candidate, "ok", self._clock() - began, candidate.why)
        if hop and self._meter is not None:
            self._meter.count(MODEL_FALLBACKS, provider=call.plan.candidates[0].provider, to=candidate.provider)
        return Routed(answer, asked, candidate, seconds)

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
        sent: float | None = None,
        asked: Question | None = None,
    ) -> None:
        """Take note of a hop that failed. Raises Unanswered when no other model is to be asked.

        ``sent``: when the model was asked, if it was, and ``asked`` how.
        """
        at = self._clock()
        call.tell(candidate, error.code, at - began, f"{candidate.why}: {error.what[:300]}")
        call.errors.append(error)
        if sent is None or isinstance(error, ModelNotConfigured):
            if self._meter is not None:
                reason = "not_configured" if isinstance(error, ModelNotConfigured) else "no_room"
                self._meter.count(MODEL_SKIPS, provider=candidate.provider, reason=reason)
        else:
            call.gate.failed(candidate, error, at - sent)
            if asked is None or not self._hurried(error, asked, at - sent):
                self.watch.failed(candidate, error)
        if isinstance(error, ContextTooLong):
            call.too_long = candidate
        elif not isinstance(error, ANOTHER_MAY) and not (
            isinstance(error, ContentBlocked) and call.plan.blocked_falls_back
        ):
            raise Unanswered(error)

    def _hurried(self, error: AgentOSError, asked: Question, seconds: float) -> bool:
        """Whether it was the caller's own short time that ended a call; that says nothing of the model."""
        if not isinstance(error, ModelTimedOut) or asked.timeout >= self.timeout:
            return False
        return seconds + WORTH_SECONDS >= asked.timeout.total_seconds()

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

    def _in_time_left(self, call: _Call, question: Question) -> Question:
        """The question with what is left of the caller's time, where waiting took some. Raises ModelOverloaded.

        A wait takes nothing from the time that the model itself has: else a model that hangs would seem hurried.
        """
        if call.until is None:
            return question
        left = call.until - self._clock()
        if left <= 0:
            raise ModelOverloaded("the time for the call went by while it waited for its turn", begun=False)
        if question.timeout.total_seconds() - left < WORTH_SECONDS:
            return question
        return replace(question, timeout=timedelta(seconds=left))

    async def _enter(self, held: _Holding, gate: Gate, model: Model, question: Question) -> None:
        """A place among the calls to a provider. Raises ModelOverloaded."""
        slot = self._slots.get(model.provider)
        if slot is None:
            slot = self._slots[model.provider] = asyncio.Semaphore(self.settings.concurrency)
        if not slot.locked():
            return await held.enter(slot)
        try:
            async with asyncio.timeout(question.timeout.total_seconds()):
                await gate.carry(model, held.enter(slot))
        except TimeoutError:
            raise ModelOverloaded(
                f"{self.settings.concurrency} calls to {model.provider} are under way in this process, and none ended",
                then="Raise AGENTOS_ROUTER_CONCURRENCY, or start more workers.",
                begun=False,
            ) from None

    async def _turn(self, held: _Holding, gate: Gate, model: Model, question: Question, *, waits: bool) -> None:
        """Room in the provider's limit, which all processes share. Raises ModelRateLimited, DatabaseUnavailable.

        Only the last model of a plan is waited for: a provider's own 429 would lead to the next one at once, too. It
        is the last thing before the model is asked, so that the call arrives in the window that it was granted in.
        """
        assert self._limiter is not None
        began = self._clock()
        tokens = most_tokens(question) + question.max_tokens
        within = question.timeout.total_seconds() if waits else 0.0
        try:
            await gate.carry(model, held.turn(self._limiter, model.provider, tokens, within))
        finally:
            if self._meter is not None:
                self._meter.observe(MODEL_LIMIT_SECONDS, self._clock() - began, provider=model.provider)


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
