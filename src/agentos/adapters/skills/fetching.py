"""One exchange over HTTP with a host that is listed: what http_get and http_request share.

Before anything is sent the host must be on the operator's list (``SkillContext.egress``), and every address that its
name has now must be public, or the host allowed besides (``SkillContext.hosts``); the connection goes to those very
addresses (``targets``). Each hop of a redirect is checked in the same way, as an address of its own.

Answers are asked for uncompressed, and what comes compressed all the same is handed on as it came: a few kilobytes can
hold gigabytes. What a host sends back of a secret that it was sent is not told (``echoes``).
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Final

import aiohttp
from pydantic import Field
from typing_extensions import TypedDict
from yarl import URL

from agentos import __version__
from agentos.adapters.skills.echoes import Echoes
from agentos.adapters.skills.targets import allowed_host, connector, target
from agentos.kernel.errors import AgentOSError, Forbidden, Invalid, NotFound, Unavailable
from agentos.runtime.skills import SkillContext

CONNECT_SECONDS: Final = 5.0
MARGIN_SECONDS: Final = 1.0  # the call's own timeout must not cut off an answer that is being read
DEFAULT_BYTES: Final = 256 * 1024
MOST_BYTES: Final = 4 * 1024 * 1024
MOST_HOPS: Final = 5
HEADER_BYTES: Final = 8190  # of one line of an answer's headers, and of each of ours

# Of an answer's headers, those that say what it is or what to do next; the rest is noise, or somebody's cookie.
_TOLD: Final = (
    *("content-type", "content-encoding", "content-language", "content-range", "last-modified", "etag", "location"),
    *("link", "date", "retry-after", "allow", "x-total-count", "x-request-id"),
)
# What the exchange itself depends on.
_OURS: Final = frozenset(
    {
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "upgrade",
        "te",
        "trailer",
        "expect",
        "accept-encoding",
    }
    | {"proxy-authorization", "proxy-connection", "keep-alive", "idempotency-key", "user-agent"}
)
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\uffff]*")
_SECRET: Final = re.compile(r"secret://([A-Za-z0-9_-]{1,64})")
_TEXTUAL: Final = re.compile(r"text/|application/(?:[\w.+-]*\+)?(?:json|xml|x-ndjson|javascript|x-www-form-urlencoded)")

# Others are handed on as they came; some of Python's take a minute for a megabyte.
_CHARSETS: Final = frozenset(
    {"utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "iso-8859-15", "windows-1252", "utf-16"}
)

Link = Annotated[str, Field(max_length=4096, description="The address, http or https, without credentials.")]
Headers = Annotated[
    dict[str, Annotated[str, Field(max_length=HEADER_BYTES)]],
    Field(
        max_length=32,
        description="Headers to send. A secret stands in a value by reference, such as 'Bearer secret://NAME'.",
    ),
]
MostBytes = Annotated[
    int, Field(ge=1, le=MOST_BYTES, description="Largest body that is read; a larger one is cut and marked.")
]


class EgressForbidden(Forbidden):
    """A host that is not on the operator's list of hosts that may be asked."""

    code = "egress_forbidden"


class HttpHeaderRefused(Invalid):
    """A header that the exchange itself depends on, or that is none."""

    code = "http_header_refused"


class SecretNotSent(Forbidden):
    """A secret is sent only to a host that is listed by name, and only encrypted unless the host is allowed."""

    code = "secret_not_sent"


class HttpRedirectRefused(Invalid):
    """A redirect leads nowhere, or in a circle."""

    code = "http_redirect_refused"


class HttpUnavailable(Unavailable):
    """The host cannot be reached, broke off, did not answer in time, or answered what is no HTTP."""

    code = "http_unavailable"


class HttpNotReached(NotFound):
    """Nobody took the connection, so nothing was sent."""

    code = "http_not_reached"


class Answer(TypedDict):
    """What a host answered. ``bytes`` is how much of the body was read.

    ``encoding`` says what ``body`` is: text; base64 where it is no text; withheld (and empty) where it came compressed
    in answer to a secret, so that nobody can see whether it holds that.
    """

    url: str
    status: int
    headers: dict[str, str]
    body: str
    encoding: str
    bytes: int
    truncated: bool
    redirects: int


@dataclass(frozen=True, slots=True)
class Ask:
    """What to send."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None = None
    most: int = DEFAULT_BYTES
    follows: bool = False  # redirects within the host
    key: str = ""  # for receivers that honour an Idempotency-Key


async def fetch(context: SkillContext, ask: Ask, total: timedelta) -> tuple[Answer, Mapping[str, str]]:
    """The answer, and all of its headers. A redirect to another host is not followed: it is the answer.

    Raises EgressForbidden, TargetForbidden, SecretNotSent (Forbidden), TargetMalformed, HttpHeaderRefused,
    HttpRedirectRefused (Invalid), HttpNotReached (NotFound), TargetUnresolved or HttpUnavailable (Unavailable).
    """
    url, hops = target(ask.url), 0
    permitted(url, context)
    headers, secrets = _resolved(ask.headers, url, context)
    echoes = Echoes(secrets)
    headers |= {"idempotency-key": ask.key} if ask.key else {}
    seconds = min(total.total_seconds(), max(0.1, context.timeout.total_seconds() - MARGIN_SECONDS))
    wait = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
    try:
        async with asyncio.timeout(seconds):
            while True:
                async with (
                    aiohttp.ClientSession(
                        connector=await connector(url, context.hosts),
                        timeout=wait,
                        cookie_jar=aiohttp.DummyCookieJar(),
                        auto_decompress=False,
                        max_line_size=HEADER_BYTES,
                        max_field_size=HEADER_BYTES,
                    ) as session,
                    session.request(ask.method, url, headers=headers, data=ask.body, allow_redirects=False) as response,
                ):
                    onward = await _onward(response, url, context) if ask.follows else None
                    if onward is None or not _within(url, onward):
                        return await _answer(response, ask, echoes, hops), response.headers.copy()
                url, hops = onward, hops + 1
                if hops > MOST_HOPS:
                    raise HttpRedirectRefused(f"{url.host} redirects more than {MOST_HOPS} times", where=url.path[:200])
    except AgentOSError as error:  # it may name where a host sends us, which is the host's word
        error.what, error.where, error.then = map(echoes.masked, (error.what, error.where, error.then))
        error.args = (error.what,)
        raise
    except aiohttp.ClientConnectorError:
        raise HttpNotReached(f"nobody takes connections at {url.host}:{url.port}; nothing was sent") from None
    except TimeoutError:
        raise HttpUnavailable(f"{url.host} did not answer within {seconds:g} s") from None
    except (aiohttp.ClientError, OSError) as error:
        raise HttpUnavailable(f"{url.host} cannot be reached, or broke off: {type(error).__name__}") from None


def permitted(url: URL, context: SkillContext) -> None:
    """Return when the URL's host is listed. Raises EgressForbidden (Forbidden)."""
    if not (_named(url, context.egress) or "*" in context.egress):
        raise EgressForbidden(
            f"'{url.host}' is not a host that agents may ask",
            then=f"An operator may list it: AGENTOS_HTTP_ALLOW={url.raw_host}",
        )


def _named(url: URL, listed: Sequence[str]) -> bool:
    host = (url.raw_host or "").lower().rstrip(".")
    is_name = not host.rpartition(".")[2].isdigit()  # a domain has names under it, an address has none
    under = is_name and any(one.startswith("*.") and host.endswith(one[1:]) and len(host) >= len(one) for one in listed)
    return allowed_host(url, listed) or under


def _resolved(given: Mapping[str, str], url: URL, context: SkillContext) -> tuple[dict[str, str], dict[str, str]]:
    """The headers as they are sent, and the reference of each secret in them by its value."""
    headers, secrets = {"user-agent": f"AgentOS/{__version__}", "accept-encoding": "identity"}, {}
    for name, value in given.items():
        if not _HEADER.fullmatch(name) or name.lower() in _OURS:
            raise HttpHeaderRefused(f"header '{name[:80]}' is not for agents to send", then="Leave it out.")
        for reference in _SECRET.findall(value):
            if not _named(url, context.egress):
                raise SecretNotSent(
                    f"secrets are sent only to hosts that are listed by name, and '{url.host}' is not",
                    then=f"An operator may list it: AGENTOS_HTTP_ALLOW={url.raw_host}",
                )
            if url.scheme != "https" and not allowed_host(url, context.hosts):
                raise SecretNotSent(f"secrets are sent encrypted only, and '{url.host}' is asked by http")
            secrets[context.secret(reference)] = f"secret://{reference}"
        sent = _SECRET.sub(lambda found: context.secret(found[1]), value)
        if not _VALUE.fullmatch(sent):
            raise HttpHeaderRefused(f"header '{name[:80]}' has a value that no header can have", then="Mend it.")
        headers[name.lower()] = sent
    return headers, secrets


async def _onward(response: aiohttp.ClientResponse, url: URL, context: SkillContext) -> URL | None:
    """Where an answer redirects to, once that may be asked at all; None when it redirects nowhere."""
    if response.status not in (301, 302, 303, 307, 308) or "location" not in response.headers:
        return None
    try:
        onward = target(str(url.join(URL(response.headers["location"]))))
    except ValueError:
        raise HttpRedirectRefused(f"{url.host} redirects to what is no URL", where=url.path[:200]) from None
    permitted(onward, context)
    await (await connector(onward, context.hosts)).close()  # refuses what is not public
    return onward


def _within(url: URL, onward: URL) -> bool:
    """Whether a redirect stays with whom policy was asked about: the same host and port, or the same host encrypted."""
    if (url.raw_host or "").lower() != (onward.raw_host or "").lower():
        return False
    upgraded = (url.scheme, url.port, onward.scheme, onward.port) == ("http", 80, "https", 443)
    return upgraded or (url.scheme, url.port) == (onward.scheme, onward.port)


async def _answer(response: aiohttp.ClientResponse, ask: Ask, echoes: Echoes, hops: int) -> Answer:
    data = bytearray()
    while len(data) <= ask.most and (chunk := await response.content.read(ask.most + 1 - len(data))):
        data += chunk
    read = min(len(data), ask.most)
    cut = len(data) > ask.most
    kept = echoes.masked_bytes(bytes(data[:read]), cut=cut)
    body, encoding = _decoded(kept, response)
    headers = {name: echoes.masked(response.headers[name]) for name in _TOLD if name in response.headers}
    if encoding == "text":
        body = echoes.masked(body, cut=cut)
    elif echoes and _packed(response):
        body, encoding = "", "withheld"
    return {
        "url": echoes.masked(str(response.url)),
        "status": response.status,
        "headers": headers,
        "body": body,
        "encoding": encoding,
        "bytes": read,
        "truncated": cut,
        "redirects": hops,
    }


def _decoded(data: bytes, response: aiohttp.ClientResponse) -> tuple[str, str]:
    packed = _packed(response)
    charset = (response.charset or "utf-8").lower()
    if not data or (not packed and charset in _CHARSETS and _TEXTUAL.match(response.content_type)):
        text = data.decode(charset if data else "utf-8", errors="replace")
        if "\0" not in text:
            return text, "text"
    return base64.b64encode(data).decode(), "base64"


def _packed(response: aiohttp.ClientResponse) -> bool:
    return response.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity")
