"""Models that do what a test tells them, and a clock that a test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from agentos.runtime.inference import Answer, Message, Model, Question, Usage
from agentos.runtime.inference.model import ModelNotConfigured
from agentos.runtime.inference.ports import Hear

Said = Answer | BaseException | Callable[[Question], Any]
QUESTION = Question(model="", system="Be brief.", messages=(Message("user", "hello"),))


@dataclass
class Fake:
    """A model that says what stands in ``next``, then ``else_``: an answer, an error, or a function of the question."""

    provider: str
    instant: bool = False
    local: bool = False
    next: list[Said] = field(default_factory=list)
    else_: Said | None = None
    asked: list[Question] = field(default_factory=list)

    async def ask(self, question: Question, *, hear: Hear | None = None) -> Answer:
        self.asked.append(question)
        said = self.next.pop(0) if self.next else self.else_
        if callable(said):
            said = said(question)
            if asyncio.iscoroutine(said):
                said = await said
        if isinstance(said, BaseException):
            raise said
        if said is not None:
            assert isinstance(said, Answer)
            return said
        return Answer(f"{self.provider} says so", self.provider, question.model, usage=Usage(10, 5))

    async def close(self) -> None:
        pass


class Fakes:
    """Some of them, as a process knows its models."""

    def __init__(self, *models: Fake) -> None:
        self.by_name = {one.provider: one for one in models}

    def for_policy(self, policy: dict[str, Any]) -> Model:
        found = self.by_name.get(str(policy.get("provider")))
        if found is None:
            raise ModelNotConfigured(f"the model provider '{policy.get('provider')}' is not configured")
        return found


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


def chain(*providers: str, **more: Any) -> dict[str, Any]:
    """A policy whose own model is the first of these and whose fallback are the others, which may cost what they do."""
    own, *others = providers
    routing = {"costlier": "allowed", **more.pop("routing", {})}
    fallback = [{"provider": one, "name": f"{one}-1"} for one in others]
    return {"provider": own, "name": f"{own}-1", "fallback": fallback, "routing": routing, **more}


__all__ = ["QUESTION", "Clock", "Fake", "Fakes", "chain"]
