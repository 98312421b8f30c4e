"""Events by webhook: CloudEvents in structured JSON, signed by Standard Webhooks, to public addresses over TLS.

The address is checked at every send, as ``webhook_send`` does it. Plain http goes only to hosts that the operator
allows.
"""

from __future__ import annotations

import asyncio
import binascii
import re
from collections.abc import Callable, Sequence
from typing import Final

import aiohttp
from standardwebhooks import Webhook
from standardwebhooks.webhooks import EmptyWebhookSecretError
from yarl import URL

from agentos import __version__
from agentos.adapters.http_dates import retry_after
from agentos.adapters.skills.targets import TargetForbidden, TargetUnresolved, allowed_host, connector, target
from agentos.adapters.skills.webhook_send import CONNECT_SECONDS, TOTAL
from agentos.evidence.subscriptions.model import Answer
from agentos.kernel import clock
from agentos.kernel.errors import AgentOSError, NotFound

ANSWER_BYTES: Final = 512  # of an answer are kept, to show a person what the receiver said
_BASE64: Final = re.compile(r"[A-Za-z0-9+/]{4,}={0,2}")


class Webhooks:
    """The receivers' port over HTTP. ``hosts`` may be reached although they are not public, and without TLS."""

    def __init__(self, secret: Callable[[str], str], hosts: Sequence[str]) -> None:
        self._secret = secret
        self._hosts = tuple(hosts)

    async def check(self, url: str) -> str:
        """The address in its plain form, when events may be sent there now.

        Raises TargetMalformed (Invalid), TargetForbidden (Forbidden), TargetUnresolved (Unavailable).
        """
        address = self._address(url)
        await (await self._reached(address)).close()
        return str(address)

    async def send(self, url: str, *, secret: str, webhook_id: str, body: str) -> Answer:
        """Send one event and say what became of it. Redirects are not followed."""
        try:
            headers = _signed(webhook_id, body, self._secret(secret.removeprefix("secret://")))
        except NotFound as error:
            return Answer(None, error.code, str(error), held=True)
        except (binascii.Error, ValueError, EmptyWebhookSecretError):
            return Answer(None, "webhook_secret_malformed", "the secret is not written as whsec_BASE64", held=True)
        wait = aiohttp.ClientTimeout(total=TOTAL.total_seconds(), sock_connect=CONNECT_SECONDS)
        try:
            address = self._address(url)
            async with (
                aiohttp.ClientSession(connector=await self._reached(address), timeout=wait) as session,
                session.post(address, data=body.encode(), headers=headers, allow_redirects=False) as response,
            ):
                said = await _beginning(response)
                code = "" if 200 <= response.status < 300 else f"http_{response.status}"
                return Answer(response.status, code, said, retry_after(response.headers))
        except AgentOSError as error:
            return Answer(None, error.code, error.what)
        except TimeoutError:
            return Answer(None, "receiver_timeout", f"no answer within {TOTAL.total_seconds():g} s")
        except (aiohttp.ClientError, OSError) as error:
            return Answer(None, "receiver_unreachable", type(error).__name__)

    async def _reached(self, address: URL) -> aiohttp.TCPConnector:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):  # a name server that hangs is the only wait without an end
                return await connector(address, self._hosts)
        except TimeoutError:
            raise TargetUnresolved(f"the address of '{address.host}' was not found in time") from None

    def _address(self, text: str) -> URL:
        url = target(text)
        if url.scheme != "https" and not allowed_host(url, self._hosts):
            raise TargetForbidden(
                f"events go to '{url.host}' over https only",
                where="url",
                then=f"Use https, or an operator may allow it: AGENTOS_WEBHOOK_ALLOW={url.host_port_subcomponent}",
            )
        return url


async def _beginning(response: aiohttp.ClientResponse) -> str:
    """The beginning of the answer. The receiver's word is its status: a body that breaks off changes nothing."""
    said = bytearray()
    try:
        while len(said) < ANSWER_BYTES and (chunk := await response.content.read(ANSWER_BYTES - len(said))):
            said += chunk
    except (aiohttp.ClientError, OSError, TimeoutError):
        pass
    return said.decode(errors="replace").replace("\0", "�")


def _signed(webhook_id: str, body: str, secret: str) -> dict[str, str]:
    if not _BASE64.fullmatch(secret.removeprefix("whsec_")):  # the library skips what is not base64
        raise ValueError
    at = clock.now()
    return {
        "content-type": "application/cloudevents+json; charset=utf-8",
        "user-agent": f"AgentOS/{__version__}",
        "accept-encoding": "identity",
        "webhook-id": webhook_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign(webhook_id, at, body),
    }
