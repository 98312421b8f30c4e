"""What a run needs from a model's vendor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol

from agentos.runtime.inference.model import Answer, Message, Tool

Hear = Callable[[str], None]  # is told each piece of an answer's text as it arrives


@dataclass(frozen=True, slots=True)
class Question:
    """One call to a model: all it is told, and the limits of the answer."""

    model: str
    system: str
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    max_tokens: int = 4096
    timeout: timedelta = timedelta(seconds=120)
    schema: dict[str, Any] | None = None  # of the JSON that the answer's text is to be; None: any text
    options: dict[str, Any] = field(default_factory=dict)  # the version's model policy as written, for the adapter


class Model(Protocol):
    """A vendor's models.

    ``instant``: it answers without leaving the process, so a short run may wait for it inline. ``local``: what it is
    told stays on machines of the operator's own.
    """

    provider: str
    instant: bool
    local: bool

    async def ask(self, question: Question, *, hear: Hear | None = None) -> Answer:
        """Answer, or raise one of the errors of ``inference.model``. Never tries again by itself.

        An answer is whole or an error; what ``hear`` was told of one that broke off counts for nothing.
        """
        ...

    async def close(self) -> None:
        """Give back connections."""
        ...
