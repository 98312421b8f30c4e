"""A run's word on each hop of a model call, and what its journal keeps of models that did not answer."""

from __future__ import annotations

import json
import random
from collections.abc import Coroutine, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, TypeVar

from agentos.control.budgets.model import BudgetExhausted, ModelUnpriced, Standing
from agentos.control.stops.model import Stop
from agentos.kernel.clock import elapsed, now
from agentos.kernel.errors import AgentOSError, Exhausted, Unavailable
from agentos.kernel.telemetry.catalogue import MODEL_CALLS, MODEL_SECONDS
from agentos.runtime.inference import Model, Question
from agentos.runtime.inference.bounds import about_tokens
from agentos.runtime.inference.gate import Attempt, Gate, NotThis
from agentos.runtime.inference.plans import ANYWHERE, NONE, Circumstances
from agentos.runtime.inference.routing import Candidate, Route
from agentos.runtime.inference.service import prices_of
from agentos.runtime.runs import bills
from agentos.runtime.runs.journal import Entry
from agentos.runtime.runs.model import Reason, Waiting
from agentos.runtime.runs.segment import Held, Park, Segment

T = TypeVar("T")

FIRST_WAIT_SECONDS: Final = 1.0
LONGEST_WAIT_SECONDS: Final = 60.0  # a provider's outage lasts minutes; asking once a minute costs nothing
JITTER: Final = 0.1  # of a wait is added at most, so that runs which an outage parked do not come back together


class Hops(Gate):
    """The gate of one model call of a run: stops and interrupts, and a reserve for each model that is asked."""

    def __init__(self, segment: Segment, key: str) -> None:
        self.segment = segment
        self.key = key
        self.denied: Stop | None = None  # the last that kept a model from being asked

    def refuses(self, candidate: Candidate) -> str | None:
        """Why a stop denies the candidate's provider, if one does."""
        denied = self.segment.stops.denies_provider(candidate.provider)
        if denied is None:
            return None
        self.denied = denied
        return f"stop {denied.id} denies '{candidate.provider}'"

    async def opens(self, hop: int, model: Model, question: Question) -> None:
        """Reserve the most that the call can cost. After the first hop, look again whether one may begin at all.

        Raises what ``Segment.may_begin`` and ``bills.reserve`` raise; NotThis where a fallback has no room or no price.
        """
        if hop == 0:
            return await bills.reserve(self.segment, self.key, question, model.provider)
        await self.segment.may_begin(surely=not model.instant)
        denied = self.segment.stops.denies_provider(model.provider)
        if denied is not None:
            self.denied = denied
            raise NotThis(f"stop {denied.id} denies '{model.provider}'")
        try:
            return await bills.reserve(self.segment, self.key, question, model.provider)
        except (BudgetExhausted, ModelUnpriced) as refused:
            raise NotThis(refused.what) from None

    async def carry(self, model: Model, work: Coroutine[Any, Any, T]) -> T:
        """Await the model, or what comes before it; an order or a stop breaks it off. Raises Interrupted."""
        return await (work if model.instant else self.segment.interruptible(work))

    def released(self) -> None:
        """Let go of what was reserved for a call that surely cost nothing."""
        self.segment.spending.release()

    def failed(self, candidate: Candidate, error: AgentOSError, seconds: float) -> None:
        """Count a model that was asked and has no answer, and how long that took."""
        self.segment.count(MODEL_CALLS, provider=candidate.provider, status=error.code)
        self.segment.parts.meter.observe(MODEL_SECONDS, seconds, provider=candidate.provider)

    async def unanswered(self, error: AgentOSError | None, attempts: Sequence[Attempt]) -> Exception:
        """Journal a call that no model answered; what to raise: the run waits for a model or a lift, or ends."""
        code = "denied" if error is None else error.code
        await self.record(code, attempts)
        if error is None:
            assert self.denied is not None
            return Held(self.denied)
        if isinstance(error, (Unavailable, Exhausted)):
            return Park(_until_model_is_back(self.segment, self.key, error))
        return error

    async def record(self, status: str, attempts: Sequence[Attempt]) -> None:
        """Journal attempts that came to nothing, in a row of their own.

        A run may wait for days and try every minute: what a row of the step tells already is not told again.
        """
        number, meta = 1, {"attempts": [one.record() for one in attempts]}
        while (before := self.segment.journal.result(key := f"{self.key}!tried{number}")) is not None:
            if before.status == status and _outcomes(before.meta) == _outcomes(meta):
                return
            number += 1
        await self.segment.record(Entry(key, "result", "note", "model", status, meta))


def _outcomes(meta: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """What became of each model in a row of attempts. Seconds and a provider's words differ each time."""
    return [(one["provider"], one["model"], one["outcome"]) for one in meta["attempts"]]


async def circumstances(segment: Segment, route: Route, question: Question) -> Circumstances:
    """What the route of a question may depend on. Raises DatabaseUnavailable."""
    if route.plain and segment.parts.router.switches == NONE:
        return ANYWHERE
    run, definition = segment.claimed.run, segment.definition
    labels = _labels(run.input)

    async def standing() -> Standing:
        return await segment.parts.books.standing(segment.parts.database, run.organization)

    return Circumstances(
        agent=run.agent_id,
        category=run.category,
        task=labels["task"] or route.task,
        tools=tuple(segment.skills),
        private=labels["private"] or definition.prompts is not None,
        tokens=lru_cache(1)(lambda: about_tokens(question)),
        prices=await prices_of(route, standing, at=now()),
        schema=definition.output_schema,
    )


def seconds_left(segment: Segment) -> float:
    """How much of the run's time is left."""
    return segment.claimed.seconds_left - (elapsed() - segment.began)


def _labels(data: bytes) -> dict[str, Any]:
    """The labels for routing that a run's input has."""
    given = json.loads(data)
    labels = given if isinstance(given, dict) else {}
    task = labels.get("task")
    return {"task": task if isinstance(task, str) else "", "private": labels.get("private") is True}


def _until_model_is_back(segment: Segment, key: str, error: AgentOSError) -> Waiting:
    before = segment.claimed.run.waiting or {}
    tries = before.get("tries", 0) + 1 if before.get("step") == key else 1
    wait = min(FIRST_WAIT_SECONDS * 2 ** (tries - 1), LONGEST_WAIT_SECONDS)
    if error.retry_after is not None:
        wait = max(wait, error.retry_after.total_seconds())
    wait *= 1 + JITTER * random.random()  # noqa: S311  # no secret
    return Waiting(Reason.MODEL, f"model:{key}", wait, str(error), key, tries)
