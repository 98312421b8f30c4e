"""webhook_send: signed, once per key, and only to where an agent may send."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import traceback
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web
from standardwebhooks import Webhook

from agentos.adapters.secrets.environment import environment_secret
from agentos.adapters.skills.settings import WebhookSettings
from agentos.adapters.skills.targets import TargetForbidden, TargetMalformed, TargetUnresolved, public
from agentos.adapters.skills.webhook_send import (
    WebhookConflict,
    WebhookForbidden,
    WebhookGone,
    WebhookRateLimited,
    WebhookRefused,
    WebhookSecretMalformed,
    WebhookTooLarge,
    WebhookUnavailable,
)
from agentos.kernel.errors import AgentOSError, NotFound
from agentos.runtime.skills.model import ArgumentsRefused
from tests.adapters.skills.conftest import Use
from tests.fakes.serving import serving

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Receiver:
    """Keeps what it is sent and answers what it is told to."""

    def __init__(self) -> None:
        self.received: list[tuple[dict[str, str], bytes]] = []
        self.answer: Callable[[], web.StreamResponse] = lambda: web.json_response({"taken": True})
        self.pause = 0.0
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def take(self, request: web.Request) -> web.StreamResponse:
        self.received.append(({k.lower(): v for k, v in request.headers.items()}, await request.read()))
        await asyncio.sleep(self.pause)
        return self.answer()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    one = Receiver()
    async with serving(web.route("*", "/{path:.*}", one.take)) as one.port:
        yield one


@pytest.fixture
def send(use: Use, receiver: Receiver) -> Callable[..., Any]:
    async def call(**given: Any) -> Any:
        arguments: dict[str, Any] = {"url": receiver.url, "payload": {"n": 1}, "secret": "secret://hook"}
        context: dict[str, Any] = {"with_hosts": ("127.0.0.1",), "with_secret": lambda _: SECRET}
        return await use("webhook_send", **arguments | context | given)

    return call


async def test_a_receiver_can_verify_what_it_gets(send: Callable[..., Any], receiver: Receiver) -> None:
    payload = {"type": "notes.published", "data": {"title": "Grüße", "n": 1.5}}
    assert await send(payload=payload, with_key="key-7") == {
        "webhook_id": "key-7",
        "status": 200,
        "answer": '{"taken": true}',
    }
    headers, body = receiver.received[0]
    assert Webhook(SECRET).verify(body, headers) == payload
    assert (headers["webhook-id"], headers["idempotency-key"]) == ("key-7", "key-7")
    assert headers["content-type"] == "application/json"
    with pytest.raises(Exception, match="No matching signature"):
        Webhook(SECRET).verify(body.replace(b"1.5", b"2.5"), headers)


async def test_every_attempt_carries_the_same_id_and_body(send: Callable[..., Any], receiver: Receiver) -> None:
    await send(payload={"b": 1, "a": 2})
    await send(payload={"a": 2, "b": 1})
    (first, first_body), (second, second_body) = receiver.received
    assert (first["webhook-id"], first_body) == (second["webhook-id"], second_body)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, WebhookRefused),
        (401, WebhookForbidden),
        (403, WebhookForbidden),
        (404, WebhookGone),
        (408, WebhookUnavailable),
        (409, WebhookConflict),
        (410, WebhookGone),
        (413, WebhookRefused),
        (422, WebhookRefused),
        (425, WebhookUnavailable),
        (429, WebhookRateLimited),
        (500, WebhookUnavailable),
        (503, WebhookUnavailable),
    ],
)
async def test_every_refusal_has_its_kind_and_is_not_tried_again(
    send: Callable[..., Any], receiver: Receiver, status: int, kind: type[AgentOSError]
) -> None:
    receiver.answer = lambda: web.Response(status=status, headers={"retry-after": "12"})
    with pytest.raises(AgentOSError) as caught:
        await send()
    assert type(caught.value) is kind
    assert caught.value.retry_after == timedelta(seconds=12)
    assert len(receiver.received) == 1


async def test_a_redirect_is_not_followed(send: Callable[..., Any], receiver: Receiver) -> None:
    receiver.answer = lambda: web.Response(status=307, headers={"location": f"{receiver.url}/elsewhere"})
    with pytest.raises(WebhookRefused, match="307"):
        await send()
    assert len(receiver.received) == 1


async def test_a_long_answer_is_cut(send: Callable[..., Any], receiver: Receiver) -> None:
    receiver.answer = lambda: web.Response(body=b"x" * 1_000_000)
    assert len((await send())["answer"]) == 4096


async def test_a_slow_receiver_is_unavailable(send: Callable[..., Any], receiver: Receiver) -> None:
    receiver.pause = 5
    with pytest.raises(WebhookUnavailable, match=r"within 0\.3 s"):
        await send(with_timeout=timedelta(seconds=1.3))


async def test_nobody_listening_is_unavailable(send: Callable[..., Any]) -> None:
    with pytest.raises(WebhookUnavailable, match="cannot be reached"):
        await send(url="http://127.0.0.1:9/hook")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/",
        "http://localhost:{port}/",
        "http://[::1]:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://2130706433:{port}/",
        "http://0x7f000001:{port}/",
        "http://127.1:{port}/",
        "http://0.0.0.0:{port}/",
        "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1/",
    ],
)
async def test_no_address_inside_is_reached_unless_allowed(
    send: Callable[..., Any], receiver: Receiver, url: str
) -> None:
    with pytest.raises(TargetForbidden, match="AGENTOS_WEBHOOK_ALLOW"):
        await send(url=url.format(port=receiver.port), with_hosts=())
    assert receiver.received == []


@pytest.mark.parametrize(("allowed", "reached"), [("{host}", True), ("{host}:{port}", True), ("{host}:1", False)])
async def test_a_host_is_allowed_as_a_whole_or_by_its_port(
    send: Callable[..., Any], receiver: Receiver, allowed: str, reached: bool
) -> None:
    hosts = WebhookSettings.read(allow=f"other.example, {allowed.format(host='LOCALHOST', port=receiver.port)}").hosts
    if reached:
        await send(url=f"http://localhost:{receiver.port}/", with_hosts=hosts)
    else:
        with pytest.raises(TargetForbidden):
            await send(url=f"http://localhost:{receiver.port}/", with_hosts=hosts)
    assert len(receiver.received) == reached


async def test_a_name_is_resolved_once_and_the_checked_address_is_the_one_reached(
    send: Callable[..., Any], receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, checked = [], []

    async def rebinding(host: str, port: int, **given: Any) -> Any:
        asked.append(host)
        return [(2, 1, 6, "", ("127.0.0.1" if len(asked) == 1 else "10.0.0.1", port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", rebinding)
    monkeypatch.setattr("agentos.adapters.skills.targets.public", lambda address: not checked.append(str(address)))
    await send(url=f"http://rebinding.example:{receiver.port}/", with_hosts=())
    assert asked == ["rebinding.example"]
    assert checked == ["127.0.0.1"]
    assert receiver.received[0][0]["host"] == f"rebinding.example:{receiver.port}"


async def test_one_private_address_among_public_ones_is_enough_to_refuse(
    send: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def mixed(host: str, port: int, **given: Any) -> Any:
        return [(2, 1, 6, "", ("8.8.8.8", port)), (2, 1, 6, "", ("10.0.0.1", port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", mixed)
    with pytest.raises(TargetForbidden):
        await send(url="https://mixed.example/", with_hosts=())


@pytest.mark.parametrize(
    ("address", "is_public"),
    [
        ("8.8.8.8", True),
        ("2001:4860:4860::8888", True),
        ("::ffff:8.8.8.8", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("192.0.2.1", False),
        ("224.0.0.251", False),
        ("239.255.255.250", False),
        ("255.255.255.255", False),
        ("0.0.0.0", False),
        ("::", False),
        ("::1", False),
        ("fe80::1", False),
        ("fd00::1", False),
        ("ff02::1", False),
        ("::ffff:10.0.0.1", False),
        ("2002:7f00:1::", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::808:808", True),
    ],
)
def test_public_is_what_the_internet_reaches(address: str, is_public: bool) -> None:
    assert public(ipaddress.ip_address(address)) is is_public


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/",
        "file:///etc/passwd",
        "example.com",
        "http://",
        "http://user:pw@example.com/",
        "http://h:99999/",
    ],
)
async def test_only_plain_http_addresses_are_called(send: Callable[..., Any], url: str) -> None:
    with pytest.raises(TargetMalformed) as caught:
        await send(url=url)
    assert "pw" not in str(caught.value)


async def test_a_name_without_an_address_is_unavailable(
    send: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(*_: Any, **__: Any) -> Any:
        raise OSError

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", nothing)
    with pytest.raises(TargetUnresolved):
        await send(url="https://nowhere.example/")


async def test_a_document_that_is_too_large_is_not_sent(send: Callable[..., Any], receiver: Receiver) -> None:
    with pytest.raises(WebhookTooLarge):
        await send(payload={"x": "y" * 300_000})
    assert receiver.received == []


async def test_the_secret_comes_by_reference_and_never_shows(
    send: Callable[..., Any], receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTOS_SECRET_BILLING_HOOK", SECRET)
    await send(secret="secret://billing-hook", with_secret=environment_secret)
    headers, body = receiver.received[0]
    assert Webhook(SECRET).verify(body, headers) == {"n": 1}
    assert SECRET not in json.dumps([headers, body.decode()])
    with pytest.raises(NotFound, match="AGENTOS_SECRET_OTHER"):
        await send(secret="secret://other", with_secret=environment_secret)
    with pytest.raises(ArgumentsRefused) as refused:
        await send(secret=SECRET)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("broken", ["whsec_!hidden!", "whsec_", "whsec_ähidden", "whsec_hiddn"])
async def test_a_malformed_secret_is_refused_without_being_shown(
    send: Callable[..., Any], receiver: Receiver, broken: str
) -> None:
    with pytest.raises(WebhookSecretMalformed) as caught:
        await send(with_secret=lambda _: broken)
    assert broken.removeprefix("whsec_") not in str(caught.value) or broken == "whsec_"
    assert "hidd" not in "".join(traceback.format_exception(caught.value))
    assert receiver.received == []
