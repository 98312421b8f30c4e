"""Every answer in JSON to a caller without the right to see personal data is looked through, whatever route made it."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

from starlette.datastructures import MutableHeaders, State
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agentos.control.privacy.model import AnswerTooLarge, told
from agentos.control.privacy.routes import Sight, look
from agentos.intake.identity.model import Caller, Permission
from agentos.kernel import http
from agentos.kernel.errors import AgentOSError

HEADER: Final = "X-Redacted"  # what was kept back, by kind and number: EMAIL=2, CARD=1
MOST_BYTES: Final = 8 * 1024 * 1024  # of an answer that is looked through; seconds of work

# Whoever makes a key for themselves is told its secret, once.
# What a model says to its caller is the caller's own conversation; an agent's output is masked by the route.
WHOLE: Final = frozenset(
    {
        ("POST", "/api/v1/keys/{key_id}/rotate"),
        ("POST", "/api/v1/keys"),
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/messages"),
    }
)


class Masking:
    """Around the API. A stream of events is left to its route, which masks each of them."""

    def __init__(self, app: ASGIApp, state: State) -> None:
        self.app = app
        self.state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun: Message | None = None
        body = bytearray()
        passing = False

        async def sending(message: Message) -> None:
            nonlocal begun, passing
            if passing:
                await send(message)
            elif message["type"] == "http.response.start":
                if self._concerns(scope, message):
                    begun = message
                else:
                    passing = True
                    await send(message)
            else:
                body.extend(message.get("body", b""))
                if not message.get("more_body", False):
                    assert begun is not None
                    await self._masked(scope, receive, send, begun, bytes(body))

        await self.app(scope, receive, sending)

    def _concerns(self, scope: Scope, begun: Message) -> bool:
        caller: Caller | None = scope.get("state", {}).get("caller")
        if caller is None or Permission.SEE_PERSONAL_DATA in caller.permissions:
            return False
        route = getattr(scope.get("route"), "path", "")
        kind = dict(begun["headers"]).get(b"content-type", b"")
        return (scope["method"], route) not in WHOLE and b"json" in kind

    async def _masked(self, scope: Scope, receive: Receive, send: Send, begun: Message, body: bytes) -> None:
        state: dict[str, Any] = scope["state"]
        try:
            if len(body) > MOST_BYTES:
                raise AnswerTooLarge(
                    f"the answer has {len(body)} bytes, and {MOST_BYTES} at most are looked through for personal data",
                    then="Ask for fewer entries, or for the right to see personal data.",
                )
            sight: Sight = state.get("sight") or await look(state["caller"], self.state.doors, self.state.privacy)
            value = await asyncio.to_thread(json.loads, body) if len(body) > http.MOST_BODY_BYTES else json.loads(body)
            shown = await sight.of(value)
        except AgentOSError as error:
            await http.answer(error)(scope, receive, send)
            return
        data = json.dumps(shown, ensure_ascii=False, separators=(",", ":")).encode() if sight.counts else body
        headers = MutableHeaders(raw=list(begun["headers"]))
        headers["content-length"] = str(len(data))
        headers[HEADER] = ", ".join(f"{kind}={number}" for kind, number in told(sight.counts).items()) or "0"
        await send({**begun, "headers": headers.raw})
        await send({"type": "http.response.body", "body": data})
