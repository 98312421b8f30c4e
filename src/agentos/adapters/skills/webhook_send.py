"""Send a JSON document to a URL, signed by the Standard Webhooks specification.

``webhook-id`` and ``Idempotency-Key`` carry the key of the call, the same for every attempt at it; only the timestamp,
and with it the signature, is of the attempt. The skill therefore promises ``idempotent``: a receiver that follows the
specification and ignores an id it has seen gets every document once. A receiver that looks at neither header may get a
document twice after a crash on the wire. For such receivers write a skill of your own, without that promise.
"""

from __future__ import annotations

import binascii
import re
from datetime import timedelta
from typing import Annotated, Any, Final

import aiohttp
from pydantic import Field
from standardwebhooks import Webhook
from standardwebhooks.webhooks import EmptyWebhookSecretError
from typing_extensions import TypedDict

from agentos import __version__
from agentos.adapters.http_dates import retry_after
from agentos.adapters.skills.targets import connector, target
from agentos.kernel import clock
from agentos.kernel.canonical import canonical
from agentos.kernel.errors import AgentOSError, Conflict, Exhausted, Forbidden, Invalid, NotFound, Unavailable
from agentos.runtime.skills import SkillContext, skill

MOST_BYTES: Final = 256 * 1024  # the specification advises 20 kB; receivers commonly take 256 kB
ANSWER_BYTES: Final = 4096
TOTAL: Final = timedelta(seconds=15)  # the least that the specification advises (15 to 30 s): settling waits for it
CONNECT_SECONDS: Final = 5.0
_BASE64: Final = re.compile(r"[A-Za-z0-9+/]{4,}={0,2}")
MARGIN_SECONDS: Final = 1.0  # the call's own timeout must not cut off an answer that is being judged


class WebhookTooLarge(Invalid):
    """The document is larger than receivers take."""

    code = "webhook_too_large"


class WebhookSecretMalformed(Invalid):
    """The secret for signing is not base64."""

    code = "webhook_secret_malformed"


class WebhookRefused(Invalid):
    """The receiver calls the document wrong; sending it again cannot help."""

    code = "webhook_refused"


class WebhookForbidden(Forbidden):
    """The receiver does not accept our signature or us."""

    code = "webhook_forbidden"


class WebhookGone(NotFound):
    """There is no receiver at the address."""

    code = "webhook_gone"


class WebhookConflict(Conflict):
    """The receiver says that its state forbids the document now."""

    code = "webhook_conflict"


class WebhookRateLimited(Exhausted):
    """The receiver takes no more for now."""

    code = "webhook_rate_limited"


class WebhookUnavailable(Unavailable):
    """The receiver cannot be reached, fails, or did not answer in time."""

    code = "webhook_unavailable"


class Delivered(TypedDict):
    """What the receiver answered. ``answer`` is the beginning of its body."""

    webhook_id: str
    status: int
    answer: str


# S3: what was sent is out of our hands.
@skill(version="1", effect="S3", reversibility="irreversible", idempotent=True, timeout="16s")
async def webhook_send(
    context: SkillContext,
    url: Annotated[str, Field(max_length=2048, description="Where to send, http or https.")],
    payload: Annotated[dict[str, Any], Field(description="The document, 256 KiB of JSON at most.")],
    secret: Annotated[
        str,
        Field(
            pattern=r"^secret://[A-Za-z0-9_-]{1,64}$",
            description="The secret that signs, by reference: secret://NAME.",
        ),
    ],
) -> Delivered:
    """Send a JSON document to a URL by POST, signed (Standard Webhooks). Redirects are not followed."""
    address = target(url)
    body = canonical(payload)
    if len(body) > MOST_BYTES:
        raise WebhookTooLarge(f"the document is larger than {MOST_BYTES} bytes", then="Send a part, or a link.")
    headers = _signed(context.key, body, context.secret(secret.removeprefix("secret://")))
    total = min(TOTAL.total_seconds(), max(0.1, context.timeout.total_seconds() - MARGIN_SECONDS))
    wait = aiohttp.ClientTimeout(total=total, sock_connect=CONNECT_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(connector=await connector(address, context.hosts), timeout=wait) as session,
            session.post(address, data=body, headers=headers, allow_redirects=False) as response,
        ):
            said = bytearray()
            while len(said) < ANSWER_BYTES and (chunk := await response.content.read(ANSWER_BYTES - len(said))):
                said += chunk
            status, answered = response.status, response.headers.copy()
    except TimeoutError:
        raise WebhookUnavailable(f"{address.host} did not answer within {total:g} s") from None
    except (aiohttp.ClientError, OSError) as error:
        raise WebhookUnavailable(f"{address.host} cannot be reached, or broke off: {type(error).__name__}") from None
    if 200 <= status < 300:
        return {"webhook_id": context.key, "status": status, "answer": said.decode(errors="replace")}
    kind = kind_of(status)
    raise kind(f"{address.host} answered {status}", where=address.path[:200], retry_after=retry_after(answered))


def _signed(key: str, body: bytes, secret: str) -> dict[str, str]:
    try:
        if not _BASE64.fullmatch(secret.removeprefix("whsec_")):  # the library skips what is not base64
            raise ValueError
        sign = Webhook(secret).sign
    except (binascii.Error, ValueError, EmptyWebhookSecretError):
        raise WebhookSecretMalformed("the secret for signing is not base64", then="Write it as whsec_BASE64.") from None
    at = clock.now()
    return {
        "content-type": "application/json",
        "user-agent": f"AgentOS/{__version__}",
        "accept-encoding": "identity",
        "webhook-id": key,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": sign(key, at, body.decode()),
        "idempotency-key": key,
    }


def kind_of(status: int) -> type[AgentOSError]:
    """The kind of error that a receiver's status other than 2xx means. Redirects are refused: unchecked targets."""
    if status in (401, 403):
        return WebhookForbidden
    if status in (404, 410):
        return WebhookGone
    if status == 409:
        return WebhookConflict
    if status == 429:
        return WebhookRateLimited
    if 300 <= status < 500 and status not in (408, 425):
        return WebhookRefused
    return WebhookUnavailable
