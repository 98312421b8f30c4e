"""What a run needs from a model's vendor."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol

from agentos.runtime.inference.model import Answer, Message, Tool


@dataclass(frozen=True, slots=True)
class Question:
    """One call to a model: all it is told, and the limits of the answer."""

    model: str
    system: str
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    max_tokens: int = 4096
    timeout: timedelta = timedelta(seconds=120)
    options: dict[str, Any] = field(default_factory=dict)  # the version's model policy as written, for the adapter


class Model(Protocol):
    """A vendor's models. ``instant``: it answers without leaving the process, so a short run may wait for it inline."""

    provider: str
    instant: bool

    async def ask(self, question: Question) -> Answer:
        """Answer, or raise one of the Model… errors of ``inference.model``. Never tries again by itself."""
        ...

    async def close(self) -> None:
        """Give back connections."""
        ...
