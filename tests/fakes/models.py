"""A server on loopback that speaks the Anthropic Messages API and OpenAI's chat completions, as far as a client
can tell.

It checks requests as the real ones do (key, version header, every call answered), streams answers as server-sent
events, and goes wrong on demand. What it says comes from a list of replies, or from a brain: a function that is given
the request's body and returns a reply or a fault, so that a whole agent, or a benchmark, can be run against it.

    async with FakeModels(replies=[Reply("Hello")]) as fake: ...     # on the running loop
    with serving(FakeModels(brain=think)) as fake: ...               # on a thread of its own, for other processes
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from aiohttp import web

from tests.fakes.claude_form import ClaudeForm
from tests.fakes.openai_form import OpenAIForm
from tests.fakes.replies import Fault, Form, Reply

__all__ = ["KEY", "FakeModels", "Fault", "Reply", "serving"]

KEY = "sk-ant-fake-0123456789"
AFTER_THE_FIRST_WORDS = 4

Brain = Callable[[dict[str, Any]], Reply | Fault]


class FakeModels:
    """The server. ``url`` is its address; ``requests`` holds the bodies it took, ``headers`` what came along.

    ``keep=False``: nothing is held, and a reply without calls is put together once, for thousands of requests a second.
    """

    def __init__(
        self, *, replies: Sequence[Reply] = (), brain: Brain | None = None, key: str = KEY, keep: bool = True
    ) -> None:
        self.key = key
        self.keep = keep
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
        self._known: dict[tuple[str, str, int], tuple[Reply, bytes]] = {}

    def fail(self, *faults: Fault | None) -> None:
        """Let the next calls go wrong, one each; None is a call that goes well."""
        self.faults += faults

    async def __aenter__(self) -> FakeModels:
        app = web.Application(client_max_size=32 * 1024 * 1024)
        for form in (ClaudeForm(), OpenAIForm()):
            app.router.add_post(form.path, self._handler(form))
        self._closing = asyncio.Event()
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, backlog=1024)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing.set()
        assert self._runner
        await self._runner.cleanup()

    def _handler(self, form: Form) -> Callable[[web.Request], Any]:
        async def handle(request: web.Request) -> web.StreamResponse:
            return await self._answer(form, request)

        return handle

    async def _answer(self, form: Form, request: web.Request) -> web.StreamResponse:
        if self.keep:
            self.headers.append({name.lower(): value for name, value in request.headers.items()})
            self.connections.add(request.transport)
        fault = self.faults.pop(0) if self.faults else None
        self._made += 1
        headers = {"request-id": f"req_{self._made:06d}"}
        key = form.key(request.headers)
        if key != self.key:
            status, said = form.error(Fault.BAD_KEY)
            return _json(said, status, headers, key)
        try:
            body = json.loads(await request.read())
        except ValueError:
            return _json(form.rejection("The request body is not valid JSON"), 400, headers)
        if (wrong := form.refused(request.headers, body)) is not None:
            return _json(form.rejection(wrong), 400, headers)
        if self.keep:
            self.requests.append(body)
        reply = None
        if fault is None or fault not in _WITHOUT_WORDS:
            said = self.brain(body) if self.brain else self.replies.pop(0)
            reply, fault = (None, said) if isinstance(said, Fault) else (said, fault)
        if fault in _WITHOUT_WORDS:
            return await self._wordless(form, request, fault, headers)
        reply = reply or Reply("Some words before it goes wrong.")
        if fault is None and not self.keep:
            return await self._at_once(form, request, body["model"], reply, headers)
        return await self._stream(form, request, body["model"], reply, fault, headers)

    async def _wordless(
        self, form: Form, request: web.Request, fault: Fault, headers: dict[str, str]
    ) -> web.StreamResponse:
        if fault is Fault.NO_SUCH_ADDRESS:
            return web.Response(status=404, text="404: Not Found", headers=headers)
        if fault is Fault.BAD_GATEWAY_PAGE:
            return web.Response(status=502, text="<html>Bad Gateway</html>", content_type="text/html")
        if fault is Fault.REDIRECT:
            return web.Response(status=307, headers={"location": "http://127.0.0.1:9/elsewhere"})
        if fault is Fault.HTML:
            return web.Response(text="<html>Please sign in</html>", content_type="text/html")
        if fault is Fault.JSON:
            return web.json_response({"type": "message", "role": "assistant", "content": [], "choices": []})
        if fault is Fault.BYTES:
            events = form.events("m", Reply("Hello"), self._made)
            return web.Response(body=b"".join(events), content_type="application/octet-stream")
        if fault in (Fault.HANG, Fault.HANG_UP):
            if fault is Fault.HANG:
                await self._closing.wait()
            assert request.transport
            request.transport.close()
            return web.Response()
        status, said = form.error(fault)
        if fault is Fault.RATE_LIMITED:
            headers["retry-after"] = "7"
        if fault is Fault.RATE_LIMITED_UNTIL:
            headers |= {"date": "Wed, 21 Oct 2026 07:28:00 GMT", "retry-after": "Wed, 21 Oct 2026 07:28:30 GMT"}
        return _json(said, status, headers)

    async def _at_once(
        self, form: Form, request: web.Request, model: str, reply: Reply, headers: dict[str, str]
    ) -> web.StreamResponse:
        known = self._known.get((form.path, model, id(reply)))
        if known is None:
            known = reply, b"".join(form.events(model, reply, self._made))
            if not reply.calls and len(self._known) < 1000:  # calls have ids of their own each time
                self._known[form.path, model, id(reply)] = known
        response = web.Response(body=known[1], headers=headers, content_type="text/event-stream")
        response.enable_chunked_encoding()
        return response

    async def _stream(
        self, form: Form, request: web.Request, model: str, reply: Reply, fault: Fault | None, headers: dict[str, str]
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers=headers | {"content-type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        assert request.transport
        with suppress(ConnectionResetError):
            for number, event in enumerate(form.events(model, reply, self._made)):
                if fault is Fault.SLOW:
                    await asyncio.sleep(self.pause)
                if number == AFTER_THE_FIRST_WORDS and fault is not None:
                    if fault is Fault.SILENT:
                        await self._closing.wait()
                        return response
                    if fault is Fault.CUT:
                        request.transport.close()
                        return response
                    if fault is Fault.CUT_CLEANLY:
                        break
                    if fault is Fault.CUT_IN_EVENT:
                        await response.write(event[: len(event) // 2])
                        break
                    if fault is Fault.GARBLED:
                        await response.write(form.garbled)
                    if fault is Fault.STRAY_DELTA:
                        await response.write(form.stray)
                    if fault in form.in_stream:
                        await response.write(form.in_stream[fault])
                        break
                await response.write(event)
            if fault is Fault.LINGERS:
                await self._closing.wait()
            await response.write_eof()
        return response


# Faults of an answer that has no words at all; the brain is not even asked.
_WITHOUT_WORDS = frozenset(Fault) - {
    Fault.SLOW,
    Fault.SILENT,
    Fault.CUT,
    Fault.CUT_CLEANLY,
    Fault.CUT_IN_EVENT,
    Fault.GARBLED,
    Fault.STRAY_DELTA,
    Fault.OVERLOADED_IN_STREAM,
    Fault.RATE_LIMITED_IN_STREAM,
    Fault.REJECTED_IN_STREAM,
    Fault.LINGERS,
}


def _json(said: dict[str, Any], status: int, headers: dict[str, str], key: str = "") -> web.Response:
    return web.json_response(text=json.dumps(said).replace("{key}", key), status=status, headers=headers)


@contextmanager
def serving(fake: FakeModels) -> Iterator[FakeModels]:
    """Run the server on a thread of its own, for a client in another process or in blocking code."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="fake-models", daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(fake.__aenter__(), loop).result(10)
        yield fake
        asyncio.run_coroutine_threadsafe(fake.__aexit__(), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
