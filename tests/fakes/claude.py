"""A server that speaks the Anthropic Messages API on loopback, as far as a client can tell.

It checks requests as the real one does (key, version header, alternating sides, every call answered), streams answers
as server-sent events, and goes wrong on demand. What it says comes from a list of replies, or from a brain: a function
that is given the request's body and returns a reply, so that a whole agent can be run against it.

    async with FakeClaude(replies=[Reply("Hello")]) as fake: ...     # on the running loop
    with serving(FakeClaude(brain=think)) as fake: ...               # on a thread of its own, for other processes
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from aiohttp import web

KEY = "sk-ant-fake-0123456789"


class Fault(StrEnum):
    """Ways in which a call can go wrong. A fault is used up by one call."""

    RATE_LIMITED = "429 with retry-after in seconds"
    RATE_LIMITED_UNTIL = "429 with retry-after as a date"
    RATE_LIMITED_SILENTLY = "429 without retry-after"
    OVERLOADED = "529"
    BROKEN = "500"
    TIMED_OUT = "504"
    BAD_KEY = "401"
    FORBIDDEN = "403"
    UNPAID = "402"
    REJECTED = "400"
    NO_SUCH_MODEL = "404"
    TOO_LARGE = "413"
    CONFLICT = "409"
    BAD_GATEWAY_PAGE = "502 with a page in HTML"
    REDIRECT = "307 to another host"
    HANG = "no answer at all"
    HANG_UP = "the connection is closed before any answer"
    SLOW = "a pause before every event"
    SILENT = "the stream stops coming, the connection stays"
    CUT = "the connection breaks in the middle of the stream"
    CUT_CLEANLY = "the stream ends early, properly closed"
    CUT_IN_EVENT = "the stream ends in the middle of an event's JSON"
    GARBLED = "an event that is not JSON"
    STRAY_DELTA = "a delta for a block that was not begun"
    HTML = "200 with a page in HTML"
    JSON = "200 with plain JSON, the stream flag ignored"
    OVERLOADED_IN_STREAM = "an overloaded_error event after the first words"
    RATE_LIMITED_IN_STREAM = "a rate_limit_error event after the first words"
    REJECTED_IN_STREAM = "an invalid_request_error event after the first words"
    LINGERS = "a whole answer, and the connection stays open after it"


ERRORS: dict[Fault, tuple[int, str, str]] = {
    Fault.RATE_LIMITED: (429, "rate_limit_error", "This request would exceed your organization's rate limit."),
    Fault.RATE_LIMITED_UNTIL: (429, "rate_limit_error", "This request would exceed your organization's rate limit."),
    Fault.RATE_LIMITED_SILENTLY: (429, "rate_limit_error", "Number of request tokens has exceeded your limit."),
    Fault.OVERLOADED: (529, "overloaded_error", "Overloaded"),
    Fault.BROKEN: (500, "api_error", "Internal server error"),
    Fault.TIMED_OUT: (504, "timeout_error", "Request timed out"),
    Fault.BAD_KEY: (401, "authentication_error", "invalid x-api-key"),
    Fault.FORBIDDEN: (403, "permission_error", "Your API key does not have permission to use the specified resource."),
    Fault.UNPAID: (402, "billing_error", "There is an issue with your payment information."),
    Fault.REJECTED: (400, "invalid_request_error", "max_tokens: 999999 > 64000"),
    Fault.NO_SUCH_MODEL: (404, "not_found_error", "model: claude-none"),
    Fault.TOO_LARGE: (413, "request_too_large", "Request exceeds the maximum size"),
    Fault.CONFLICT: (409, "conflict_error", "The resource was modified concurrently."),
}

IN_STREAM: dict[Fault, tuple[str, str]] = {
    Fault.OVERLOADED_IN_STREAM: ("overloaded_error", "Overloaded"),
    Fault.RATE_LIMITED_IN_STREAM: ("rate_limit_error", "Number of request tokens has exceeded your limit."),
    Fault.REJECTED_IN_STREAM: ("invalid_request_error", "The prompt is too long."),
}


@dataclass(frozen=True)
class Reply:
    """What the model says: texts and calls in order, and how it ends (by itself: end_turn, or tool_use after calls)."""

    text: str = ""
    calls: Sequence[tuple[str, dict[str, Any]]] = ()
    stop: str = ""
    thinking: str = ""
    usage: dict[str, int] = field(default_factory=lambda: {"input_tokens": 25, "output_tokens": 15})
    cut_last_call: bool = False  # its arguments end in the middle, as when max_tokens is reached


Brain = Callable[[dict[str, Any]], Reply]


class FakeClaude:
    """The server. ``url`` is its base address; ``requests`` holds the bodies it took, ``headers`` what came along."""

    def __init__(self, *, replies: Sequence[Reply] = (), brain: Brain | None = None, key: str = KEY) -> None:
        self.key = key
        self.brain = brain
        self.replies = list(replies)
        self.faults: list[Fault | None] = []
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.connections: set[Any] = set()
        self.pause = 0.0  # seconds before each event when SLOW
        self.url = ""
        self._runner: web.AppRunner | None = None
        self._closing = asyncio.Event()
        self._made = 0

    def fail(self, *faults: Fault | None) -> None:
        """Let the next calls go wrong, one each; None is a call that goes well."""
        self.faults += faults

    async def __aenter__(self) -> FakeClaude:
        app = web.Application(client_max_size=32 * 1024 * 1024)
        app.router.add_post("/v1/messages", self._messages)
        self._closing = asyncio.Event()
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing.set()
        assert self._runner
        await self._runner.cleanup()

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        self.connections.add(request.transport)
        fault = self.faults.pop(0) if self.faults else None
        self._made += 1
        made = f"req_{self._made:06d}"
        if request.headers.get("x-api-key") != self.key:
            return _error(401, "authentication_error", "invalid x-api-key", made)
        if not request.headers.get("anthropic-version"):
            return _error(400, "invalid_request_error", "anthropic-version: header is required", made)
        try:
            body = await request.json()
        except ValueError:
            return _error(400, "invalid_request_error", "The request body is not valid JSON", made)
        if (wrong := faults_of(body)) is not None:
            return _error(400, "invalid_request_error", wrong, made)
        self.requests.append(body)
        if fault in ERRORS:
            return _error(*ERRORS[fault], made, fault)
        if fault is Fault.BAD_GATEWAY_PAGE:
            return web.Response(status=502, text="<html>Bad Gateway</html>", content_type="text/html")
        if fault is Fault.REDIRECT:
            return web.Response(status=307, headers={"location": "http://127.0.0.1:9/elsewhere"})
        if fault is Fault.HTML:
            return web.Response(text="<html>Please sign in</html>", content_type="text/html")
        if fault is Fault.JSON:
            return web.json_response({"type": "message", "role": "assistant", "content": []})
        if fault is Fault.HANG:
            await self._closing.wait()
        if fault in (Fault.HANG, Fault.HANG_UP):
            assert request.transport
            request.transport.close()
            return web.Response()
        reply = self.brain(body) if self.brain else self.replies.pop(0)
        return await self._stream(request, body["model"], reply, fault, made)

    async def _stream(
        self, request: web.Request, model: str, reply: Reply, fault: Fault | None, made: str
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8", "request-id": made})
        await response.prepare(request)
        assert request.transport
        with suppress(ConnectionResetError):
            for number, (name, data) in enumerate(events(model, reply, f"msg_{self._made:06d}", self._made)):
                if fault is Fault.SLOW:
                    await asyncio.sleep(self.pause)
                if number == 4 and fault is not None:  # after the first words
                    if fault is Fault.SILENT:
                        await self._closing.wait()
                        return response
                    if fault is Fault.CUT:
                        request.transport.close()
                        return response
                    if fault is Fault.CUT_CLEANLY:
                        break
                    if fault is Fault.CUT_IN_EVENT:
                        await response.write(f"event: {name}\ndata: {json.dumps(data)[:20]}".encode())
                        break
                    if fault is Fault.GARBLED:
                        await response.write(b'event: content_block_delta\ndata: {"type": "content_\n\n')
                    if fault is Fault.STRAY_DELTA:
                        stray = {
                            "type": "content_block_delta",
                            "index": 77,
                            "delta": {"type": "text_delta", "text": "?"},
                        }
                        await response.write(sse("content_block_delta", stray))
                    if fault in IN_STREAM:
                        kind, message = IN_STREAM[fault]
                        error = {"type": "error", "error": {"type": kind, "message": message}, "request_id": made}
                        await response.write(sse("error", error))
                        break
                await response.write(sse(name, data))
            if fault is Fault.LINGERS:
                await self._closing.wait()
            await response.write_eof()
        return response


@contextmanager
def serving(fake: FakeClaude) -> Iterator[FakeClaude]:
    """Run the server on a thread of its own, for a client in another process or in blocking code."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="fake-claude", daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(fake.__aenter__(), loop).result(10)
        yield fake
        asyncio.run_coroutine_threadsafe(fake.__aexit__(), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def sse(name: str, data: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


def events(model: str, reply: Reply, message_id: str, made: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """The events of a reply, in the order and the form of the real API."""

    def block(index: int, begun: dict[str, Any], deltas: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
        yield "content_block_start", {"type": "content_block_start", "index": index, "content_block": begun}
        if index == 0:
            yield "ping", {"type": "ping"}
        for delta in deltas:
            yield "content_block_delta", {"type": "content_block_delta", "index": index, "delta": delta}
        yield "content_block_stop", {"type": "content_block_stop", "index": index}

    started = reply.usage | {"output_tokens": 1}
    message = {
        "id": message_id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": started,
    }
    yield "message_start", {"type": "message_start", "message": message}
    index = 0
    if reply.thinking:
        deltas = [{"type": "thinking_delta", "thinking": part} for part in pieces(reply.thinking)]
        deltas.append({"type": "signature_delta", "signature": "EqQBCgIYAhIM"})
        yield from block(index, {"type": "thinking", "thinking": "", "signature": ""}, deltas)
        index += 1
    if reply.text:
        deltas = [{"type": "text_delta", "text": part} for part in pieces(reply.text)]
        yield from block(index, {"type": "text", "text": ""}, deltas)
        index += 1
    for number, (skill, arguments) in enumerate(reply.calls):
        written = json.dumps(arguments) if arguments else ""
        if reply.cut_last_call and number == len(reply.calls) - 1:
            written = written[: len(written) // 2]
        deltas = [{"type": "input_json_delta", "partial_json": part} for part in ["", *pieces(written)]]
        begun = {"type": "tool_use", "id": f"toolu_{made:06d}_{number}", "name": skill, "input": {}}
        yield from block(index, begun, deltas)
        index += 1
    stop = reply.stop or ("tool_use" if reply.calls else "end_turn")
    ended = {"stop_reason": stop, "stop_sequence": None}
    yield (
        "message_delta",
        {"type": "message_delta", "delta": ended, "usage": {"output_tokens": reply.usage["output_tokens"]}},
    )
    yield "message_stop", {"type": "message_stop"}


def pieces(text: str, size: int = 7) -> list[str]:
    """A text in the small pieces in which it is streamed; a long one in larger ones."""
    step = max(size, len(text) // 50)
    return [text[at : at + step] for at in range(0, len(text), step)]


def faults_of(body: dict[str, Any]) -> str | None:
    """Why the real API would refuse a request's body, or None."""
    if not isinstance(body.get("model"), str) or not body["model"]:
        return "model: Field required"
    if not isinstance(body.get("max_tokens"), int) or body["max_tokens"] < 1:
        return "max_tokens: Field required"
    if not body.get("stream"):
        return "the fake speaks only streams"
    messages = body.get("messages")
    if not messages:
        return "messages: at least one message is required"
    names = [tool["name"] for tool in body.get("tools", [])]
    for name in names:
        if not re.fullmatch(r"[a-zA-Z0-9_-]{1,128}", name):
            return "tools.0.custom.name: String should match pattern '^[a-zA-Z0-9_-]{1,128}$'"
    if any(tool["input_schema"].get("type") != "object" for tool in body.get("tools", [])):
        return "tools.0.custom.input_schema.type: Field required"
    awaited: set[str] = set()
    for number, message in enumerate(messages):
        if message["role"] not in ("user", "assistant"):
            return f"messages.{number}.role: Input should be 'user' or 'assistant'"
        if message["role"] != ("user", "assistant")[number % 2]:
            return 'messages: roles must alternate between "user" and "assistant"'
        content = message["content"]
        if not content:
            return f"messages.{number}: all messages must have non-empty content"
        if any(block["type"] == "text" and not block["text"].strip() for block in content):
            return "messages: text content blocks must contain non-whitespace text"
        answered = {block["tool_use_id"] for block in content if block["type"] == "tool_result"}
        if awaited - answered:
            return (
                f"messages.{number}: `tool_use` ids were found without `tool_result` blocks immediately after: "
                + ", ".join(sorted(awaited - answered))
            )
        if answered - awaited:
            return f"messages.{number}.content.0: unexpected `tool_use_id` found in `tool_result` blocks"
        awaited = {block["id"] for block in content if block["type"] == "tool_use"}
    return None


def _error(status: int, kind: str, message: str, made: str, fault: Fault | None = None) -> web.Response:
    headers = {"request-id": made}
    if fault is Fault.RATE_LIMITED:
        headers["retry-after"] = "7"
    if fault is Fault.RATE_LIMITED_UNTIL:
        headers |= {"date": "Wed, 21 Oct 2026 07:28:00 GMT", "retry-after": "Wed, 21 Oct 2026 07:28:30 GMT"}
    error = {"type": "error", "error": {"type": kind, "message": message}, "request_id": made}
    return web.json_response(error, status=status, headers=headers)
