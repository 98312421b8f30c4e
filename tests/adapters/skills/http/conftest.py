"""A web server that answers as it is told, and the two skills that ask it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from tests.adapters.skills.conftest import Use
from tests.fakes.serving import serving

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
    async with serving(web.route("*", "/{path:.*}", one.take)) as one.port:
        yield one


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
