"""http_get and http_request: only listed hosts, only the very address that was checked, within limits."""

from __future__ import annotations

import asyncio
import base64
import gzip
import html
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from aiohttp import web

from agentos.adapters.skills import targets
from agentos.adapters.skills.fetching import (
    EgressForbidden,
    HttpHeaderRefused,
    HttpNotReached,
    HttpRedirectRefused,
    HttpUnavailable,
    SecretNotSent,
)
from agentos.adapters.skills.http_get import HttpRateLimited
from agentos.adapters.skills.http_request import HttpBodyRefused
from agentos.adapters.skills.settings import HttpSettings
from agentos.adapters.skills.targets import TargetForbidden, TargetMalformed, TargetUnresolved
from agentos.kernel.errors import AgentOSError
from agentos.runtime.skills.model import ArgumentsRefused
from tests.adapters.skills.conftest import Use

METADATA = "http://169.254.169.254/latest/meta-data/"
LOCAL = {"with_egress": ("127.0.0.1",), "with_hosts": ("127.0.0.1",)}

Call = Callable[..., Awaitable[Any]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Host:
    """A web server that answers as it is told, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self.answers: dict[str, Handler] = {}
        self.port = 0

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def says(self, path: str, **response: Any) -> str:
        async def answer(_request: web.Request) -> web.StreamResponse:
            return web.Response(**response)

        self.answers[path] = answer
        return self.url(path)

    async def take(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.asked.append((request.method, request.path_qs, headers, await request.read()))
        answer = self.answers.get(request.path)
        return await answer(request) if answer else web.json_response({"path": request.path})


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    one = Host()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", one.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    one.port = runner.addresses[0][1]
    yield one
    await runner.cleanup()


@pytest.fixture
def get(use: Use) -> Call:
    async def call(url: str, **given: Any) -> Any:
        return await use("http_get", url=url, **LOCAL | given)

    return call


@pytest.fixture
def send(use: Use) -> Call:
    async def call(method: str, url: str, **given: Any) -> Any:
        return await use("http_request", method=method, url=url, **LOCAL | given)

    return call


async def test_an_answer_says_what_it_is(get: Call, host: Host) -> None:
    found = await get(host.url("/orders?page=2"))
    assert (found["status"], json.loads(found["body"]), found["encoding"]) == (200, {"path": "/orders"}, "text")
    assert (found["truncated"], found["redirects"], found["bytes"]) == (False, 0, len(found["body"]))
    assert found["headers"]["content-type"] == "application/json; charset=utf-8"
    method, path, headers, body = host.asked[0]
    assert (method, path, body) == ("GET", "/orders?page=2", b"")
    assert headers["accept-encoding"] == "identity"


async def test_no_host_is_asked_that_is_not_listed(get: Call, send: Call, host: Host) -> None:
    for call in (lambda **given: get(host.url(), **given), lambda **given: send("POST", host.url(), **given)):
        for egress in ((), ("127.0.0.2",), (f"127.0.0.1:{host.port + 1}",), ("*.0.0.1",)):
            with pytest.raises(EgressForbidden, match="AGENTOS_HTTP_ALLOW=127"):
                await call(with_egress=egress)
    assert host.asked == []


@pytest.mark.parametrize("egress", [("*",), ("127.0.0.1",), ("*.example.com", "127.0.0.1")])
async def test_a_listed_host_with_an_address_that_is_not_public_is_not_asked(
    get: Call, host: Host, egress: tuple[str, ...]
) -> None:
    with pytest.raises(TargetForbidden, match="is not a public address"):
        await get(host.url(), with_egress=egress, with_hosts=())
    assert host.asked == []


@pytest.mark.parametrize(
    ("listed", "name", "is_listed"),
    [
        ("api.example.com", "api.example.com", True),
        ("api.example.com", "API.example.com", True),
        ("api.example.com", "api.example.com.evil.example", False),
        ("*.example.com", "api.example.com", True),
        ("*.example.com", "a.b.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "evilexample.com", False),
        ("api.example.com:8443", "api.example.com", False),
        ("example.com", "api.example.com", False),
    ],
)
async def test_a_list_means_just_the_hosts_that_it_names(
    get: Call, monkeypatch: pytest.MonkeyPatch, listed: str, name: str, is_listed: bool
) -> None:
    answering(monkeypatch, ["10.0.0.1"])
    allow = HttpSettings.read(allow=f" {listed.upper()} ,").hosts
    with pytest.raises(TargetForbidden if is_listed else EgressForbidden):
        await get(f"https://{name}/", with_egress=allow, with_hosts=())


@pytest.mark.parametrize(
    "name",
    [
        *(
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "224.0.0.1",
        ),
        *(
            "[::1]",
            "[::]",
            "[fe80::1]",
            "[fd00::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:a9fe:a9fe]",
            "[64:ff9b::a9fe:a9fe]",
        ),
        *("2130706433", "0x7f000001", "017700000001", "0177.0.0.1", "127.1", "0", "localhost", "[2002:7f00:1::]"),
    ],
)
async def test_no_way_of_writing_a_private_address_is_asked(get: Call, send: Call, name: str) -> None:
    with pytest.raises((TargetForbidden, TargetMalformed, TargetUnresolved)):
        await get(f"http://{name}/", with_egress=("*",), with_hosts=())
    with pytest.raises((TargetForbidden, TargetMalformed, HttpNotReached)):
        await send("POST", f"http://{name}/", with_egress=("*",), with_hosts=())


@pytest.mark.parametrize(
    "url",
    [
        *(
            "file:///etc/passwd",
            "gopher://127.0.0.1/",
            "ftp://127.0.0.1/",
            "//127.0.0.1/",
            "127.0.0.1",
            "http://",
            "http:///x",
        ),
        *(
            "http://user:word@127.0.0.1/",
            "http://user@127.0.0.1/",
            "http://127.0.0.1:0/",
            "http://127.0.0.1:99999/",
            "a b",
        ),
        *("javascript:alert(1)", "data:text/plain,x", "http://[::1", "unix:///run/docker.sock"),
    ],
)
async def test_what_is_no_plain_address_is_refused(get: Call, url: str) -> None:
    with pytest.raises(TargetMalformed):
        await get(url, with_egress=("*",))


def answering(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Every name has the addresses of the first answer, then those of the next …; the last stays. What was asked."""
    asked: list[str] = []
    left = list(answers)

    async def resolved(_self: Any, name: str, port: int, **_given: Any) -> Any:
        asked.append(name)
        now = left.pop(0) if len(left) > 1 else left[0]
        kinds = [(socket.AF_INET6 if ":" in one else socket.AF_INET, one) for one in now]
        return [(kind, socket.SOCK_STREAM, 6, "", (one, port)) for kind, one in kinds]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", resolved)
    return asked


async def test_the_connection_goes_to_the_address_that_was_checked(
    get: Call, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is public when it is checked and private when it is connected to (DNS rebinding) gains nothing."""
    connected: list[str] = []
    asked = answering(monkeypatch, ["8.8.8.8"], ["127.0.0.1"])

    async def connect(**given: Any) -> socket.socket:
        connected.extend(info[4][0] for info in given["addr_infos"])
        raise OSError("not in a test")

    monkeypatch.setattr("aiohappyeyeballs.start_connection", connect)
    with pytest.raises(HttpUnavailable):
        await get(f"http://rebinding.example:{host.port}/", with_egress=("*",), with_hosts=())
    assert asked == ["rebinding.example"]
    assert connected == ["8.8.8.8"]
    assert host.asked == []


async def test_a_name_with_one_private_address_among_public_ones_is_refused(
    get: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, ["8.8.8.8", "::ffff:10.0.0.1"])
    with pytest.raises(TargetForbidden):
        await get("http://mixed.example/", with_egress=("*",), with_hosts=())


async def test_a_redirect_within_the_host_is_followed_and_checked_again(
    get: Call, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    real = targets.connector

    async def looking(url: Any, allowed: Any) -> Any:
        looked.append(url.path)
        return await real(url, allowed)

    monkeypatch.setattr("agentos.adapters.skills.fetching.connector", looking)
    host.says("/a", status=302, headers={"location": "/b"})
    host.says("/b", status=307, headers={"location": host.url("/c")})
    found = await get(host.url("/a"))
    assert (found["url"], found["redirects"], found["status"]) == (host.url("/c"), 2, 200)
    assert looked == ["/a", "/b", "/b", "/c", "/c"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_to_the_metadata_address_is_refused(get: Call, host: Host, status: int) -> None:
    url = host.says("/a", status=status, headers={"location": METADATA})
    with pytest.raises(EgressForbidden, match=r"169\.254\.169\.254"):
        await get(url)
    with pytest.raises(TargetForbidden, match=r"169\.254\.169\.254"):
        await get(url, with_egress=("*",))
    assert [path for _, path, *_ in host.asked] == ["/a", "/a"]


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "http://user:word@127.0.0.1/", "http://[::1", "gopher://x/"]
)
async def test_a_redirect_to_what_is_no_plain_address_is_refused(get: Call, host: Host, location: str) -> None:
    with pytest.raises((TargetMalformed, HttpRedirectRefused)):
        await get(host.says("/a", status=302, headers={"location": location}))


async def test_a_redirect_whose_name_became_private_is_refused(
    get: Call, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = host.says("/a", status=302, headers={"location": "http://turned.example/"})
    real = asyncio.BaseEventLoop.getaddrinfo

    async def resolved(self: Any, name: str, port: int, **given: Any) -> Any:
        return await real(self, "10.0.0.7" if name == "turned.example" else name, port, **given)

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", resolved)
    with pytest.raises(TargetForbidden, match=r"turned\.example"):
        await get(url, with_egress=("*",))


async def test_a_redirect_to_another_allowed_host_is_the_answer_and_takes_no_secret_along(
    get: Call, host: Host
) -> None:
    other = f"http://localhost:{host.port}/b"
    allowed = ("127.0.0.1", "localhost")
    found = await get(
        host.says("/a", status=302, headers={"location": other}),
        headers={"authorization": "Bearer secret://api"},
        with_secret=lambda _name: "s3cr3t",
        with_egress=allowed,
        with_hosts=allowed,
    )
    assert (found["status"], found["headers"]["location"], found["redirects"]) == (302, other, 0)
    assert [path for _, path, *_ in host.asked] == ["/a"]


async def test_a_circle_of_redirects_ends(get: Call, host: Host) -> None:
    url = host.says("/a", status=302, headers={"location": "/a"})
    with pytest.raises(HttpRedirectRefused, match="more than 5 times"):
        await get(url)
    assert len(host.asked) == 6


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


async def test_a_secret_is_sent_and_never_told(get: Call, host: Host) -> None:
    async def echo(request: web.Request) -> web.StreamResponse:
        said = request.headers["authorization"]
        return web.Response(text=f"you said {said}", headers={"link": said})

    host.answers["/echo"] = echo
    given = {"headers": {"Authorization": "Bearer secret://api"}, "with_secret": lambda _name: "s3cr3t"}
    found = await get(host.url("/echo"), **given)
    assert host.asked[0][2]["authorization"] == "Bearer s3cr3t"
    assert found["body"] == "you said Bearer secret://api"
    assert "s3cr3t" not in json.dumps(found)


HELD = 'pa"ss/wörd & more+1'


@pytest.mark.parametrize("name", ["json", "json ascii", "percent", "form", "html", "hex", "base64", "basic", "url64"])
async def test_a_secret_that_comes_back_in_another_form_is_not_told(get: Call, host: Host, name: str) -> None:
    basic = base64.b64encode(f"user:{HELD}".encode()).decode()
    said = {
        "json": json.dumps({"a": HELD}, ensure_ascii=False),
        "json ascii": json.dumps({"a": HELD}).replace("/", "\\/"),
        "percent": quote(HELD, safe="").lower(),
        "form": quote_plus(HELD),
        "html": html.escape(HELD),
        "hex": HELD.encode().hex(),
        "base64": base64.b64encode(HELD.encode()).decode(),
        "basic": basic,
        "url64": base64.urlsafe_b64encode(b"x:" + HELD.encode()).decode(),
    }[name]
    given = {"headers": {"x-key": "secret://api"}, "with_secret": lambda _name: HELD}
    url = host.says("/x", text=f"<{said}>", headers={"link": quote(HELD)})
    found = await get(url, **given)
    assert "secret://api" in found["body"]
    assert said not in found["body"]
    assert found["headers"]["link"] == "secret://api"


async def test_a_secret_in_an_answer_that_is_no_text_or_compressed_is_not_told(get: Call, host: Host) -> None:
    given: dict[str, Any] = {"headers": {"x-key": "secret://api"}, "with_secret": lambda _name: "s3cr3t-token"}
    for data in (b"\0\1s3cr3t-token\2", b"\0" + "s3cr3t-token".encode("utf-16-le")):
        found = await get(host.says("/x", body=data, content_type="application/octet-stream"), **given)
        assert found["encoding"] == "base64"
        assert b"secret://api" in base64.b64decode(found["body"])
        assert b"token" not in base64.b64decode(found["body"]).replace(b"\0", b"")
    packed = host.says("/z", body=gzip.compress(b"s3cr3t-token"), headers={"content-encoding": "gzip"})
    found = await get(packed, **given)
    assert (found["body"], found["encoding"]) == ("", "withheld")
    assert (await get(packed))["encoding"] == "base64"


@pytest.mark.parametrize("most", range(9, 22))
async def test_a_secret_that_the_end_of_an_answer_cuts_is_not_told(get: Call, host: Host, most: int) -> None:
    given: dict[str, Any] = {"headers": {"x-key": "secret://api"}, "with_secret": lambda _name: "s3cr3t-token"}
    found = await get(host.says("/x", text="you said s3cr3t-token, did you"), max_bytes=most, **given)
    assert "s3cr" not in found["body"]
    binary = host.says("/b", body=b"\0you said s3cr3t-token, did you", content_type="application/octet-stream")
    assert b"s3cr" not in base64.b64decode((await get(binary, max_bytes=most + 1, **given))["body"])


async def test_a_secret_in_the_address_of_a_redirect_is_not_told(get: Call, host: Host) -> None:
    given: dict[str, Any] = {"headers": {"x-key": "secret://api"}, "with_secret": lambda _name: "s3cr3t-token"}
    host.says("/b", text="")
    found = await get(host.says("/a", status=302, headers={"location": "/b?t=s3cr3t-token"}), **given)
    assert found["url"].endswith("/b?t=secret://api")
    with pytest.raises(EgressForbidden) as refused:
        await get(host.says("/c", status=302, headers={"location": "http://s3cr3t-token.example/"}), **given)
    assert "s3cr3t" not in str(refused.value)


async def test_a_secret_goes_only_to_hosts_that_are_listed_by_name_and_only_encrypted(
    get: Call, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {"headers": {"x-key": "secret://api"}, "with_secret": lambda _name: "s3cr3t"}
    with pytest.raises(SecretNotSent, match="listed by name"):
        await get(host.url(), with_egress=("*",), **given)
    answering(monkeypatch, ["8.8.8.8"])
    with pytest.raises(SecretNotSent, match="encrypted only"):
        await get("http://api.example/", with_egress=("api.example",), with_hosts=(), **given)
    assert host.asked == []


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


async def test_a_secret_cannot_smuggle_a_header(get: Call, host: Host) -> None:
    with pytest.raises(HttpHeaderRefused) as told:
        await get(host.url(), headers={"x": "secret://api"}, with_secret=lambda _name: "a\r\nhost: evil")
    assert "evil" not in str(told.value)


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
        await asyncio.sleep(60)
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
