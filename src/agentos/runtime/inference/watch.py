"""How the models of a process do: a breaker for each, the rest a provider asked for, and probes of what is away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import structlog

from agentos.kernel.errors import AgentOSError
from agentos.kernel.telemetry import Meter
from agentos.kernel.telemetry.catalogue import MODEL_BREAKERS
from agentos.runtime.inference.bounds import most_tokens
from agentos.runtime.inference.breaker import Breaker, State
from agentos.runtime.inference.model import (
    Answer,
    ContentBlocked,
    Message,
    ModelMisbehaved,
    ModelOverloaded,
    ModelRateLimited,
    ModelRefusedKey,
    ModelRejectedRequest,
    ModelTimedOut,
    ModelUnavailable,
)
from agentos.runtime.inference.ports import Hear, Limiter, Model, Question
from agentos.runtime.inference.routing import STUB, Candidate
from agentos.runtime.inference.settings import RouterSettings
from agentos.runtime.inference.standings import MOST_MODELS, Board

log = structlog.get_logger(__name__)

OUTAGES: Final = (ModelUnavailable, ModelMisbehaved, ModelRefusedKey)  # what a breaker counts

# An adapter keeps the time itself and says what it waited for; this bounds one that does not.
GRACE_SECONDS: Final = 0.1
PING: Final = "ping"
UNTOLD: Final = ""  # of a probe that was broken off


@dataclass(frozen=True, slots=True)
class Standing:
    """How a model does, as this process has seen it."""

    provider: str
    model: str
    state: State
    outcome: str  # ok, or the code of the last error
    at: float  # when that was, by the router's clock


class Watch:
    """What one process knows of how models do."""

    def __init__(
        self,
        settings: RouterSettings,
        meter: Meter | None,
        limiter: Limiter | None,
        board: Board | None,
        clock: Callable[[], float],
    ) -> None:
        self.settings = settings
        self.board = board
        self._meter = meter
        self._limiter = limiter
        self._clock = clock
        self._breakers: dict[tuple[str, str], Breaker] = {}
        self._outcomes: dict[tuple[str, str], tuple[str, float]] = {}
        self._probes: dict[tuple[str, str], asyncio.Task[None]] = {}

    def standings(self) -> list[Standing]:
        """How each model does that was asked."""
        closed = Breaker(self.settings.breaker_failures, 0, 0)
        return [
            Standing(*key, self._breakers.get(key, closed).state, outcome, at)
            for key, (outcome, at) in sorted(self._outcomes.items())
        ]

    def away(self, candidate: Candidate, model: Model, at: float) -> AgentOSError | None:
        """Why a model is not asked now. Begins a probe when one is due."""
        breaker = self._breakers.get(candidate.key)
        if breaker is None:
            return None
        if breaker.probe_due(at):
            self._show(candidate, breaker)
            probe = asyncio.create_task(self._probe(candidate, model, breaker))
            self._probes[candidate.key] = probe
            probe.add_done_callback(lambda _ended: self._probes.pop(candidate.key, None))
        if breaker.state is not State.CLOSED:
            return ModelUnavailable(
                f"the breaker of {candidate.written()} is {breaker.state}",
                then="It is probed, and asked again once it answers.",
                begun=False,
                retry_after=timedelta(seconds=self._decided_in(breaker, at)),
            )
        if at < breaker.rests_until:
            left = timedelta(seconds=breaker.rests_until - at)
            return ModelRateLimited(f"{candidate.written()} asked to be left alone for now", retry_after=left)
        return None

    def _decided_in(self, breaker: Breaker, at: float) -> float:
        """Seconds until a breaker that is not closed is probed, or until the probe under way has surely ended."""
        return breaker.until - at if breaker.state is State.OPEN else self.settings.probe_seconds

    def probes(self, candidate: Candidate) -> bool:
        """Whether a probe of the model is under way."""
        return candidate.key in self._probes

    async def probed(self, candidate: Candidate, seconds: float) -> bool:
        """Wait for the probe under way, for so many seconds at most; whether the model may be asked then."""
        probe = self._probes.get(candidate.key)
        if probe is not None:
            await asyncio.wait((probe,), timeout=seconds)
        breaker = self._breakers.get(candidate.key)
        return breaker is None or breaker.state is State.CLOSED

    async def _probe(self, candidate: Candidate, model: Model, breaker: Breaker) -> None:
        """Ask a model whose breaker is open for one token, and let the answer decide."""
        answered, outcome = False, UNTOLD
        question = Question(
            model=candidate.name,
            system="",
            messages=(Message("user", PING),),
            max_tokens=1,
            timeout=timedelta(seconds=self.settings.probe_seconds),
            options={"provider": candidate.provider, "name": candidate.name},
        )
        try:
            if self._limiter is not None and self._limiter.limits(model.provider):
                await self._limiter.take(model.provider, most_tokens(question) + 1, within=0)
            await timed(model, question, None)
            answered, outcome = True, "ok"
        except (ModelRejectedRequest, ContentBlocked):  # whoever says no is there
            answered, outcome = True, "ok"
        except AgentOSError as error:
            outcome = error.code
        finally:
            breaker.probed(self._clock(), answered=answered)
            self._show(candidate, breaker)
            if outcome != UNTOLD:
                self._note(candidate, outcome, self._clock())

    def answered(self, candidate: Candidate) -> None:
        """Take note of an answer."""
        breaker = self._breakers.get(candidate.key)
        if breaker is not None and breaker.failures and breaker.answered():
            self._show(candidate, breaker)
        self._note(candidate, "ok", self._clock())

    def _note(self, candidate: Candidate, outcome: str, at: float) -> None:
        self._outcomes.pop(candidate.key, None)
        self._outcomes[candidate.key] = (outcome, at)
        if len(self._outcomes) > MOST_MODELS:
            oldest = next(iter(self._outcomes))
            del self._outcomes[oldest]
            self._breakers.pop(oldest, None)
        if self.board is not None:
            breaker = self._breakers.get(candidate.key)
            self.board.tell(*candidate.key, State.CLOSED if breaker is None else breaker.state, outcome)

    def failed(self, candidate: Candidate, error: AgentOSError) -> None:
        """Take note of a call that has no answer: it may open the breaker, or begin a rest."""
        at = self._clock()
        self._count(candidate, error, at)
        self._note(candidate, error.code, at)

    def _count(self, candidate: Candidate, error: AgentOSError, at: float) -> None:
        if not isinstance(error, (*OUTAGES, ModelRateLimited)) or candidate.provider == STUB:
            return
        breaker = self._breakers.get(candidate.key)
        if breaker is None:
            settings = self.settings
            breaker = Breaker(settings.breaker_failures, settings.breaker_seconds, settings.breaker_most_seconds)
            self._breakers[candidate.key] = breaker
        if error.retry_after is not None and isinstance(error, (ModelRateLimited, ModelOverloaded)):
            breaker.rest(at, min(error.retry_after.total_seconds(), self.settings.rest_most_seconds))
        if isinstance(error, OUTAGES) and breaker.failed(at):
            log.warning("model_breaker_opened", provider=candidate.provider, model=candidate.name, code=error.code)
            self._show(candidate, breaker)

    def _show(self, candidate: Candidate, breaker: Breaker) -> None:
        if self._meter is not None:
            value = (State.CLOSED, State.HALF_OPEN, State.OPEN).index(breaker.state)
            self._meter.set(MODEL_BREAKERS, value, provider=candidate.provider, model=candidate.name)

    async def close(self) -> None:
        """Let no probe go on."""
        probes = list(self._probes.values())
        for probe in probes:
            probe.cancel()
        await asyncio.gather(*probes, return_exceptions=True)


async def timed(model: Model, question: Question, hear: Hear | None) -> Answer:
    """The model's answer in time, also from one that does not keep the time itself."""
    if model.instant:
        return await _plainly(model, question, hear)
    seconds = question.timeout.total_seconds()
    try:
        async with asyncio.timeout(seconds + GRACE_SECONDS) as limit:
            return await _plainly(model, question, hear)
    except TimeoutError:
        if not limit.expired():
            raise
        raise ModelTimedOut(f"{model.provider} did not answer within {seconds:g} s") from None


def _plainly(model: Model, question: Question, hear: Hear | None) -> Coroutine[Any, Any, Answer]:
    return model.ask(question) if hear is None else model.ask(question, hear=hear)
