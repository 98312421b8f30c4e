"""A real mail server on loopback that keeps what it takes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session


@dataclass
class MailServer:
    """What came, and what it says instead of taking it: a whole answer, first to recipients, else to bodies."""

    port: int = 0
    taken: list[EmailMessage] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    refuses: list[str] = field(default_factory=list)  # of the next recipients
    drops: int = 0  # so many of the next bodies are kept, and then the connection is cut before the answer
    hangs: bool = False

    async def handle_RCPT(
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if self.hangs:
            await asyncio.sleep(3600)
        if self.refuses:
            return self.refuses.pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, _session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        self.taken.append(message_from_bytes(envelope.content, policy=policy.default))
        self.recipients += envelope.rcpt_tos
        if self.drops:
            self.drops -= 1
            assert isinstance(server.transport, asyncio.Transport)
            server.transport.abort()
        return "250 taken"

    def to(self, address: str) -> list[EmailMessage]:
        return [one for one in self.taken if one["To"] == address]


@asynccontextmanager
async def mail_server(**given: Any) -> AsyncIterator[MailServer]:
    """A mail server on a port of its own."""
    one = MailServer(**given)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(one, hostname="localhost", loop=loop), "127.0.0.1", 0)
    one.port = server.sockets[0].getsockname()[1]
    yield one
    server.close()
