"""What a run needs from a model's vendor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


class Models(Protocol):
    """The models that a process can ask."""

    def for_policy(self, policy: dict[str, Any]) -> Model:
        """The model that a policy names. Raises ModelNotConfigured (Unavailable)."""
        ...


@dataclass(frozen=True, slots=True)
class Listed:
    """A provider as a process knows it. ``configured``: it has what it needs to be asked, such as a key; ``then`` says
    what to do where it has not."""

    name: str
    instant: bool
    local: bool
    configured: bool
    then: str = ""


class Listing(Models, Protocol):
    """The same, and what can be told of them without asking one."""

    def listing(self) -> Sequence[Listed]:
        """Every provider there is, configured or not, by name."""
        ...


class Checked(Listing, Protocol):
    """The same, and whether a policy names a model that could be asked."""

    def check(self, policy: dict[str, Any]) -> None:
        """Refuse a model policy that no process could serve. Raises Invalid."""
        ...


class Grant(Protocol):
    """Room in a provider's limit."""

    def settle(self, tokens: int | None) -> None:
        """Say how many tokens the call used, or None where nobody knows. Returns at once."""
        ...

    def give_back(self) -> None:
        """Say that nothing was sent: it is as if the room had never been given. Returns at once."""
        ...


class Limiter(Protocol):
    """What all processes together may ask of a provider."""

    def limits(self, provider: str) -> bool:
        """Whether the provider has a limit."""
        ...

    async def take(self, provider: str, tokens: int, *, within: float) -> Grant:
        """Room for a request of at most so many tokens, once it is this caller's turn.

        Raises ModelRateLimited (Exhausted) when it is not within so many seconds, DatabaseUnavailable.
        """
        ...
