"""What a caller of the router says about each hop, and what it is told of them."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from agentos.kernel.errors import AgentOSError
from agentos.runtime.inference.model import Answer
from agentos.runtime.inference.ports import Model, Question
from agentos.runtime.inference.routing import Candidate

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One model that was tried or left out: what came of it (``ok``, ``skipped`` or an error's code), and why."""

    provider: str
    model: str
    outcome: str
    seconds: float
    why: str

    def record(self) -> dict[str, Any]:
        """The attempt as the journal keeps it."""
        return {
            "provider": self.provider,
            "model": self.model,
            "outcome": self.outcome,
            "seconds": round(self.seconds, 4),
            "why": self.why,
        }


@dataclass(frozen=True, slots=True)
class Routed:
    """An answer, the question as its model was asked it, and the candidate that gave it.

    ``seconds``: from asking it to its answer, without any wait for a place or for room in a limit.
    """

    answer: Answer
    question: Question
    candidate: Candidate
    seconds: float


class Unanswered(Exception):  # told by its ``error``
    """No model answered. ``error`` is the one that says most; None: every model was left out on the caller's word."""

    def __init__(self, error: AgentOSError | None) -> None:
        super().__init__(str(error))
        self.error = error


class NotThis(Exception):  # a turn of the router, never an answer to a user
    """The caller's word that this candidate must not be asked, though another may."""


class Gate:
    """What a caller wants to say about each hop. This one lets everything pass."""

    def refuses(self, candidate: Candidate) -> str | None:  # noqa: ARG002
        """Why the candidate must not be asked, if so. Called before anything leaves."""
        return None

    async def opens(self, hop: int, model: Model, question: Question) -> None:
        """Return when this very question may be asked. Raises NotThis, or what is to end the call."""

    async def carry(self, model: Model, work: Coroutine[Any, Any, T]) -> T:  # noqa: ARG002
        """Await something that takes time; the caller may break it off."""
        return await work

    def released(self) -> None:
        """Take note that the hop that was opened last surely cost nothing: the model refused it, or was never asked."""

    def failed(self, candidate: Candidate, error: AgentOSError, seconds: float) -> None:
        """Take note of a model that was asked for so long and has no answer that counts."""


OPEN: Final = Gate()
