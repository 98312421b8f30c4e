"""What an answer is to an agent: cut at its limits, an error where asking again may help, else a result."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import socket
from datetime import timedelta

import pytest
from aiohttp import web

from agentos.adapters.skills.fetching import HttpHeaderRefused, HttpNotReached, HttpUnavailable
from agentos.adapters.skills.http_get import HttpRateLimited
from agentos.adapters.skills.http_request import HttpBodyRefused
from agentos.kernel.errors import AgentOSError
from agentos.runtime.skills.model import ArgumentsRefused
from tests.adapters.skills.conftest import Use
from tests.adapters.skills.http.conftest import LOCAL, METADATA, Call, Host


async def test_an_answer_says_what_it_is(get: Call, host: Host) -> None:
    found = await get(host.url("/orders?page=2"))
    assert (found["status"], json.loads(found["body"]), found["encoding"]) == (200, {"path": "/orders"}, "text")
    assert (found["truncated"], found["redirects"], found["bytes"]) == (False, 0, len(found["body"]))
    assert found["headers"]["content-type"] == "application/json; charset=utf-8"
    method, path, headers, body = host.asked[0]
    assert (method, path, body) == ("GET", "/orders?page=2", b"")
    assert headers["accept-encoding"] == "identity"


async def test_a_huge_body_is_cut_with_a_mark(get: Call, host: Host) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/plain"})
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65536)

    host.answers["/endless"] = endless
    found = await get(host.url("/endless"), max_bytes=100_000)
    assert (found["bytes"], found["truncated"], found["body"]) == (100_000, True, "x" * 100_000)
    exact = await get(host.says("/exact", body=b"y" * 10, content_type="text/plain"), max_bytes=10)
    assert (exact["bytes"], exact["truncated"]) == (10, False)


async def test_a_slow_body_ends_the_call(get: Call, host: Host) -> None:
    async def slow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(1000):
            await response.write(b"x")
            await asyncio.sleep(0.05)
        return response

    host.answers["/slow"] = slow
    with pytest.raises(HttpUnavailable, match=r"did not answer within 0\.1 s"):
        await get(host.url("/slow"), with_timeout=timedelta(seconds=0.5))


async def test_a_compressed_bomb_is_not_unpacked(get: Call, host: Host) -> None:
    bomb = gzip.compress(b"0" * 50_000_000)
    headers = {"content-encoding": "gzip", "content-type": "text/plain"}
    found = await get(host.says("/bomb", body=bomb, headers=headers), max_bytes=4_000_000)
    assert (found["encoding"], found["bytes"]) == ("base64", len(bomb))
    assert base64.b64decode(found["body"]) == bomb
    assert found["headers"]["content-encoding"] == "gzip"


@pytest.mark.parametrize("status", ["99999", "abc"])
async def test_what_is_no_http_is_an_outage(get: Call, status: str) -> None:
    async def garbage(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {status} x\r\n\r\n".encode() + b"\0" * 100)
        writer.close()

    server = await asyncio.start_server(garbage, "127.0.0.1", 0)
    with pytest.raises(HttpUnavailable):
        await get(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    server.close()


async def test_too_long_headers_are_not_read(get: Call, host: Host) -> None:
    with pytest.raises(HttpUnavailable):
        await get(host.says("/long", headers={"x-long": "x" * 20_000}))


@pytest.mark.parametrize(
    ("body", "kind", "encoding"),
    [
        (b"\x89PNG\x00\xff", "image/png", "base64"),
        (b"a\x00b", "text/plain", "base64"),
        ("Grüße".encode("latin-1"), "text/plain; charset=iso-8859-1", "text"),
        (b"xn--" + b"a" * 99, "text/plain; charset=punycode", "base64"),
        (b"\xff\xfe broken", "application/json", "text"),
        (b"{}", "application/problem+json", "text"),
    ],
)
async def test_text_comes_as_text_and_all_else_as_base64(
    get: Call, host: Host, body: bytes, kind: str, encoding: str
) -> None:
    found = await get(host.says("/x", body=body, headers={"content-type": kind}))
    assert found["encoding"] == encoding
    if "iso" in kind:
        assert found["body"] == "Grüße"
    if encoding == "base64":
        assert base64.b64decode(found["body"]) == body


@pytest.mark.parametrize(
    ("status", "kind"), [(429, HttpRateLimited), (500, HttpUnavailable), (503, HttpUnavailable), (408, HttpUnavailable)]
)
async def test_a_read_that_may_pass_later_is_an_error_that_says_when(
    get: Call, host: Host, status: int, kind: type[AgentOSError]
) -> None:
    with pytest.raises(kind) as told:
        await get(host.says("/x", status=status, headers={"retry-after": "7"}))
    assert told.value.retry_after == timedelta(seconds=7)


@pytest.mark.parametrize("status", [204, 400, 401, 404, 418])
async def test_every_other_answer_is_a_result(get: Call, host: Host, status: int) -> None:
    assert (await get(host.says("/x", status=status)))["status"] == status


@pytest.mark.parametrize(
    "headers",
    [
        *({"Host": "evil.example"}, {"content-length": "5"}, {"Transfer-Encoding": "chunked"}, {"a b": "c"}, {"": "x"}),
        *({"x": "a\r\nhost: evil.example"}, {"x": "a\nb"}, {"x\r\ny": "z"}, {"Idempotency-Key": "1"}, {"x": "\0"}),
    ],
)
async def test_headers_that_would_change_the_exchange_are_refused(
    get: Call, host: Host, headers: dict[str, str]
) -> None:
    with pytest.raises(HttpHeaderRefused):
        await get(host.url(), headers=headers)
    assert host.asked == []


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_a_request_carries_its_key_and_its_body(send: Call, host: Host, method: str) -> None:
    found = await send(method, host.url("/orders"), payload={"n": 1, "who": "Jürgen"}, with_key="key-7")
    asked, path, headers, body = host.asked[0]
    assert (asked, path, json.loads(body)) == (method, "/orders", {"n": 1, "who": "Jürgen"})
    assert (headers["idempotency-key"], headers["content-type"]) == ("key-7", "application/json")
    assert found["status"] == 200


@pytest.mark.parametrize("status", [400, 409, 429, 500, 503])
async def test_every_answer_to_a_request_is_its_result(send: Call, host: Host, status: int) -> None:
    assert (await send("POST", host.says("/x", status=status, text="no")))["status"] == status


async def test_a_request_does_not_follow_redirects(send: Call, host: Host) -> None:
    found = await send("POST", host.says("/a", status=307, headers={"location": METADATA}), payload={})
    assert (found["status"], found["headers"]["location"]) == (307, METADATA)
    assert len(host.asked) == 1


async def test_without_an_answer_nobody_knows_and_without_a_connection_nothing_was_sent(send: Call, host: Host) -> None:
    async def never(_request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(60)  # hangs: it is given up on long before
        return web.Response()

    host.answers["/never"] = never
    with pytest.raises(HttpUnavailable):
        await send("POST", host.url("/never"), with_timeout=timedelta(seconds=0.3))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(HttpNotReached, match="nothing was sent"):
        await send("POST", f"http://127.0.0.1:{port}/")


async def test_a_body_is_one_and_not_too_large(send: Call, host: Host) -> None:
    with pytest.raises(HttpBodyRefused, match="at once"):
        await send("POST", host.url(), payload={}, text="x")
    with pytest.raises(HttpBodyRefused, match="larger"):
        await send("POST", host.url(), text="x" * 300_000)
    await send("POST", host.url(), text="a,b\n", headers={"Content-Type": "text/csv"})
    assert (host.asked[0][2]["content-type"], host.asked[0][3]) == ("text/csv", b"a,b\n")


@pytest.mark.parametrize(("skill", "method"), [("http_get", "POST"), ("http_request", "GET"), ("http_get", "TRACE")])
async def test_a_read_only_reads_and_a_request_is_never_a_read(use: Use, host: Host, skill: str, method: str) -> None:
    with pytest.raises(ArgumentsRefused):
        await use(skill, method=method, url=host.url(), **LOCAL)
