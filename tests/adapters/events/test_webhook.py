"""Where events may be sent, and what becomes of one try."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from agentos.adapters.events import webhook
from agentos.adapters.events.webhook import Webhooks
from agentos.adapters.secrets.environment import environment_secret
from agentos.adapters.skills.targets import TargetForbidden, TargetMalformed, TargetUnresolved
from tests.fakes.serving import serving

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def webhooks(*hosts: str, secret: str = SECRET) -> Webhooks:
    return Webhooks(lambda _: secret, hosts)


@pytest.fixture
async def slow() -> AsyncIterator[str]:
    """The address of a receiver that says yes at once and never ends its answer."""

    async def take(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(b"taken")
        await asyncio.Event().wait()
        return answer

    async with serving(web.post("/", take)) as port:
        yield f"http://127.0.0.1:{port}/"


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/hook",
        "https://localhost/hook",
        "https://[::1]/hook",
        "https://10.0.0.1/hook",
        "https://169.254.169.254/latest/meta-data/",
        "http://127.0.0.1/hook",
        "http://8.8.8.8/hook",  # public, and without TLS
    ],
)
async def test_only_public_addresses_over_tls_are_accepted(url: str) -> None:
    with pytest.raises(TargetForbidden, match="AGENTOS_WEBHOOK_ALLOW"):
        await webhooks().check(url)
    answer = await webhooks().send(url, secret="secret://hook", webhook_id="dlv_1", body="{}")
    assert (answer.status, answer.reason, answer.held) == (None, "target_forbidden", False)


@pytest.mark.parametrize("url", ["https://8.8.8.8/hook", "http://127.0.0.1:1/hook", "https://127.0.0.1:1/hook"])
async def test_public_addresses_and_allowed_hosts_are_accepted(url: str) -> None:
    assert await webhooks("127.0.0.1:1").check(url) == url


@pytest.mark.parametrize("url", ["ftp://example.com/", "example.com", "https://u:hidden@example.com/", "https://"])
async def test_what_is_no_plain_address_is_refused(url: str) -> None:
    with pytest.raises(TargetMalformed) as refused:
        await webhooks().check(url)
    assert "hidden" not in str(refused.value)


async def test_a_name_without_an_address_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(*_: Any, **__: Any) -> Any:
        raise OSError

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", nothing)
    with pytest.raises(TargetUnresolved):
        await webhooks().check("https://nowhere.example/")


async def test_a_name_server_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hanging(*_: Any, **__: Any) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", hanging)
    monkeypatch.setattr(webhook, "CONNECT_SECONDS", 0.05)
    url = "https://nowhere.example/"
    with pytest.raises(TargetUnresolved):
        await webhooks().check(url)
    answer = await webhooks().send(url, secret="secret://hook", webhook_id="dlv_1", body="{}")
    assert (answer.status, answer.reason) == (None, "target_unresolved")


async def test_an_answer_that_breaks_off_after_its_status_is_an_answer(
    slow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "TOTAL", webhook.TOTAL / 30)
    answer = await webhooks("127.0.0.1").send(slow, secret="secret://hook", webhook_id="dlv_1", body="{}")
    assert (answer.delivered, answer.said) == (True, "taken")


@pytest.mark.parametrize("broken", ["whsec_!hidden!", "whsec_", "whsec_hiddn", "whsec_ähidden"])
async def test_a_malformed_secret_holds_the_event_and_is_not_shown(broken: str) -> None:
    answer = await webhooks("127.0.0.1", secret=broken).send(
        "http://127.0.0.1:9/", secret="secret://hook", webhook_id="dlv_1", body="{}"
    )
    assert (answer.reason, answer.held) == ("webhook_secret_malformed", True)
    assert "hid" not in answer.said


async def test_a_secret_that_is_not_set_holds_the_event_and_says_what_to_set() -> None:
    answer = await Webhooks(environment_secret, ("127.0.0.1",)).send(
        "http://127.0.0.1:9/", secret="secret://nobody-set", webhook_id="dlv_1", body="{}"
    )
    assert (answer.reason, answer.held) == ("secret_missing", True)
    assert "AGENTOS_SECRET_NOBODY_SET" in answer.said
