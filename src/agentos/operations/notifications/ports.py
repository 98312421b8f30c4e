"""What notifications need from outside: ways to people."""

from __future__ import annotations

from typing import Protocol

from agentos.operations.notifications.model import Answer, Letter


class Way(Protocol):
    """A channel that messages are sent by."""

    async def send(self, letter: Letter) -> Answer:
        """Send one message and say what became of it. Whoever calls ends a try that takes too long."""
        ...
