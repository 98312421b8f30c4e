"""A router over fakes, and what came of asking it."""

from __future__ import annotations

from typing import Any

import pytest

from agentos.kernel.errors import AgentOSError
from agentos.kernel.telemetry import Meter
from agentos.runtime.inference import Model, Question
from agentos.runtime.inference.gate import Attempt, Gate, NotThis, Routed, Unanswered
from agentos.runtime.inference.router import Router
from agentos.runtime.inference.routing import Candidate, read
from agentos.runtime.inference.settings import RouterSettings
from tests.runtime.inference.fakes import QUESTION, Fake, Fakes


def router(*models: Fake, clock: Any = None, **settings: Any) -> Router:
    more = {} if clock is None else {"clock": clock}
    return Router(Fakes(*models), RouterSettings.read(**settings), Meter(), **more)


async def ask(
    held: Router, policy: dict[str, Any], question: Question = QUESTION, **more: Any
) -> tuple[Routed, list[Attempt]]:
    attempts: list[Attempt] = []
    return await held.ask(held.plan(read(policy)), question, attempts=attempts, **more), attempts


async def refused(held: Router, policy: dict[str, Any], **more: Any) -> AgentOSError:
    with pytest.raises(Unanswered) as caught:
        await ask(held, policy, **more)
    assert caught.value.error is not None
    return caught.value.error


class Keeper(Gate):
    """A gate that refuses what it is told to, and keeps what it is told."""

    def __init__(self, *, refuse: str = "", shut: str = "", raises: AgentOSError | None = None) -> None:
        self.refuse, self.shut, self.raises = refuse, shut, raises
        self.opened: list[tuple[int, str]] = []
        self.free = 0
        self.ended: list[tuple[str, str, float]] = []

    def refuses(self, candidate: Candidate) -> str | None:
        return "denied by a stop" if candidate.provider == self.refuse else None

    async def opens(self, hop: int, model: Model, question: Question) -> None:
        if self.raises is not None:
            raise self.raises
        if model.provider == self.shut:
            raise NotThis("the budget has no room for it")
        self.opened.append((hop, question.model))

    def released(self) -> None:
        self.free += 1

    def failed(self, candidate: Candidate, error: AgentOSError, seconds: float) -> None:
        self.ended.append((candidate.provider, error.code, seconds))
