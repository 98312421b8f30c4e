"""What a wire form is to the routes: pure functions from bytes to what is wanted, and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from agentos.kernel.errors import AgentOSError
from agentos.runtime.gateway.model import Opening, Said, Wanted


class Events(Protocol):
    """One answer as a stream of events. What it returns is sent as it is."""

    def begin(self, opening: Opening) -> bytes:
        """The events before anything is said."""
        ...

    def text(self, piece: str) -> bytes:
        """Some more of the text."""
        ...

    def end(self, said: Said) -> bytes:
        """What was not told yet, and that the answer is whole."""
        ...

    def broke(self, error: AgentOSError, request_id: str) -> bytes:
        """That the answer ends here and is not whole."""
        ...


@dataclass(frozen=True, slots=True)
class Form:
    """One interface. ``read`` raises RequestNotUnderstood or NotOffered; ``refusal`` gives a status and a body."""

    read: Callable[[bytes], Wanted]
    shown: Callable[[Said, datetime], dict[str, Any]]
    events: Callable[[Wanted], Events]
    refusal: Callable[[AgentOSError, str], tuple[int, dict[str, Any]]]
