"""What subscriptions need from outside: a way to the receivers."""

from __future__ import annotations

from typing import Protocol

from agentos.evidence.subscriptions.model import Answer


class Receivers(Protocol):
    """Where events are sent. Each call checks the address anew: what a name stands for changes."""

    async def check(self, url: str) -> str:
        """The address in its plain form, when events may be sent there now; sends nothing.

        Raises an Invalid, a Forbidden, or an Unavailable when the host has no address.
        """
        ...

    async def send(self, url: str, *, secret: str, webhook_id: str, body: str) -> Answer:
        """Send one event, signed with the secret of that reference, and say what became of it. Never raises."""
        ...
