"""http_get and http_request ask only listed hosts, at the very address that was checked, also after a redirect."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from agentos.adapters.skills import targets
from agentos.adapters.skills.fetching import EgressForbidden, HttpNotReached, HttpRedirectRefused, HttpUnavailable
from agentos.adapters.skills.settings import HttpSettings
from agentos.adapters.skills.targets import TargetForbidden, TargetMalformed, TargetUnresolved
from tests.adapters.skills.http.conftest import METADATA, Call, Host, answering


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
