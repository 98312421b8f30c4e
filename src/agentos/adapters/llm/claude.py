"""Models of the Anthropic Messages wire format.

An answer is whole or an error: it is read as a stream of server-sent events and counts only once ``message_stop`` came,
so neither a long silence of an intermediary nor a stream that broke off is taken for an answer. Nothing is tried again
here; the caller owns that. The key travels in one header and appears in no error, log or repr.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Final

import aiohttp
import msgspec

from agentos.adapters.http_dates import retry_after
from agentos.adapters.llm.claude_wire import Draft, Event, WireError, decode_event, decode_failure, encode, request
from agentos.adapters.llm.settings import ClaudeSettings
from agentos.kernel.errors import AgentOSError
from agentos.runtime.inference.model import (
    Answer,
    ModelMisbehaved,
    ModelNotConfigured,
    ModelRateLimited,
    ModelRefusedKey,
    ModelRejectedRequest,
    ModelUnavailable,
)
from agentos.runtime.inference.ports import Hear, Question

WIRE_VERSION: Final = "2023-06-01"

# What an error inside a stream means; the HTTP status was 200 by then. A type that is not named here is Unavailable.
ERROR_TYPES: Final[dict[str, type[AgentOSError]]] = {
    "authentication_error": ModelRefusedKey,
    "permission_error": ModelRefusedKey,
    "billing_error": ModelRefusedKey,
    "invalid_request_error": ModelRejectedRequest,
    "not_found_error": ModelRejectedRequest,
    "request_too_large": ModelRejectedRequest,
    "rate_limit_error": ModelRateLimited,
}
NEXT: Final[dict[type[AgentOSError], str]] = {
    ModelRefusedKey: "Check ANTHROPIC_API_KEY, what it may use, and the account's billing.",
    ModelRejectedRequest: "Check the version's model policy: the model's name, max_tokens and the length of the input.",
}

# The vendor's own words for not now. Other statuses of this kind may be those of something in between that gave up.
NOT_BEGUN: Final = frozenset({500, 503, 529})

# Most that is read of an error's body: the documented ones are below 1 kB, a gateway's page may be anything.
ERROR_BYTES: Final = 65_536


class Claude:
    """The models behind one key. Connections are kept between calls; ``close`` gives them back."""

    provider: str = "claude"
    instant: bool = False
    local: bool = False

    def __init__(self, settings: ClaudeSettings) -> None:
        self._settings = settings
        self._session: aiohttp.ClientSession | None = None

    async def ask(self, question: Question, *, hear: Hear | None = None) -> Answer:
        """Answer within ``question.timeout``, or raise as ``Model.ask`` says; a cut call is never half delivered."""
        key = self._key()
        if not key:
            raise ModelNotConfigured("there is no key for the claude models", then="Set ANTHROPIC_API_KEY.")
        if not (key.isascii() and key.isprintable()):
            raise ModelRefusedKey(
                "the key for the claude models holds characters that no key has", then=NEXT[ModelRefusedKey]
            )
        try:
            body = encode(request(question))
        except (UnicodeEncodeError, OverflowError, TypeError) as error:
            raise ModelRejectedRequest(f"the conversation has no JSON form: {str(error)[:200]}") from None
        try:
            async with asyncio.timeout(question.timeout.total_seconds()) as limit:
                return await self._ask(question, body)
        # Nothing is chained below: aiohttp's errors may carry the request, and the request carries the key.
        except TimeoutError as error:
            if limit.expired():
                seconds = question.timeout.total_seconds()
                raise ModelUnavailable(f"claude did not finish its answer within {seconds:g} s") from None
            waited = (
                "did not accept a connection" if isinstance(error, aiohttp.ConnectionTimeoutError) else "fell silent"
            )
            begun = not isinstance(error, aiohttp.ConnectionTimeoutError)
            raise ModelUnavailable(f"claude {waited} in time", begun=begun) from None
        except (aiohttp.ClientError, OSError) as error:
            raise ModelUnavailable(
                f"claude cannot be reached, or broke off: {type(error).__name__}",
                then="Check ANTHROPIC_BASE_URL and the network, or try again later.",
                begun=not isinstance(error, aiohttp.ClientConnectorError),
            ) from None

    async def close(self) -> None:
        """Give back connections. Asking again opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _key(self) -> str:
        return self._settings.api_key.get_secret_value().strip()

    async def _ask(self, question: Question, body: bytes) -> Answer:
        if self._session is None or self._session.closed:
            wait = aiohttp.ClientTimeout(
                total=None, sock_connect=self._settings.connect_seconds, sock_read=self._settings.silence_seconds
            )
            # limit=0: how many calls run at once is the caller's business. read_bufsize: one event with 100 kB of
            # arguments then needs a few reads, not hundreds; lines may be longer than that, they are split below.
            self._session = aiohttp.ClientSession(
                timeout=wait, connector=aiohttp.TCPConnector(limit=0), read_bufsize=2**18
            )
        headers = {
            "x-api-key": self._key(),
            "anthropic-version": WIRE_VERSION,
            "content-type": "application/json",
            "accept": "text/event-stream",
            "accept-encoding": "identity",  # a compressing intermediary would hold events back
        }
        address = self._settings.base_url.rstrip("/") + "/v1/messages"
        # No redirects: aiohttp would carry x-api-key to wherever they lead.
        async with self._session.post(address, data=body, headers=headers, allow_redirects=False) as response:
            if response.status != 200:
                raise await self._failed(response)
            # Text instead of events is a page that something in between made up (a login, a maintenance notice): that
            # passes, so it is Unavailable. JSON is an endpoint that ignores ``stream``: that does not pass.
            if response.content_type != "text/event-stream":
                kind = ModelUnavailable if response.content_type.startswith("text/") else ModelMisbehaved
                raise kind(
                    f"claude answered with {response.content_type[:60]} instead of a stream of events",
                    then="Check that ANTHROPIC_BASE_URL leads to the Messages API.",
                )
            draft = Draft(question.model)
            async with contextlib.aclosing(self._events(response)) as events:
                async for event in events:
                    if event.type == "error":
                        failure = event.error or WireError()
                        raise self._error(ERROR_TYPES.get(failure.type, ModelUnavailable), failure, response)
                    draft.take(event)
                    if event.type == "message_stop":
                        break
                else:
                    raise ModelUnavailable("claude's answer broke off before its end", where=_request_id(response))
            await _finish(response)
        return draft.answer()

    async def _events(self, response: aiohttp.ClientResponse) -> AsyncGenerator[Event, None]:
        """The events of the stream. Only ``data`` lines matter: every event names its type in its data as well."""
        pending, size = bytearray(), 0
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if size > self._settings.answer_bytes:
                raise ModelMisbehaved(
                    f"claude's answer is larger than {self._settings.answer_bytes} bytes",
                    then="Lower max_tokens, or raise AGENTOS_CLAUDE_ANSWER_BYTES.",
                )
            pending += chunk
            if b"\n" not in chunk:
                continue
            *lines, pending = pending.split(b"\n")
            for line in lines:
                if not line.startswith(b"data:"):
                    continue
                try:
                    yield decode_event(line[5:])
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    raise ModelMisbehaved(
                        f"claude sent an event that is not of its form: {str(error)[:200]}", where=_request_id(response)
                    ) from None

    async def _failed(self, response: aiohttp.ClientResponse) -> AgentOSError:
        if 300 <= response.status < 400:
            return ModelNotConfigured(
                f"the Messages API answered {response.status}, a redirect", then="Set ANTHROPIC_BASE_URL to its target."
            )
        body = bytearray()
        with contextlib.suppress(aiohttp.ClientError, OSError):  # the status says enough when the body does not come
            while len(body) < ERROR_BYTES and (chunk := await response.content.read(ERROR_BYTES)):
                body += chunk
        failure = WireError()
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
            failure = decode_failure(body).error
        error = self._error(kind_of(response.status), failure, response)
        if isinstance(error, ModelUnavailable):
            error.begun = response.status not in NOT_BEGUN
        return error

    def _error(self, kind: type[AgentOSError], failure: WireError, response: aiohttp.ClientResponse) -> AgentOSError:
        said = (failure.message or "no reason given").replace(self._key(), "[key]")[:300]  # a gateway may echo it
        name = failure.type[:40] or f"HTTP {response.status}"
        return kind(
            f"claude answered {name}: {said}",
            where=_request_id(response),
            then=NEXT.get(kind, ""),
            retry_after=retry_after(response.headers),
        )


def kind_of(status: int) -> type[AgentOSError]:
    """The kind of error that an HTTP status other than 200 means.

    408, 409 and 5xx (529: overloaded) pass, so say the vendor's own clients too; 402 needs a person, as a bad key does.
    """
    if status in (401, 402, 403):
        return ModelRefusedKey
    if status == 429:
        return ModelRateLimited
    if 400 <= status < 500 and status not in (408, 409):
        return ModelRejectedRequest
    return ModelUnavailable


async def _finish(response: aiohttp.ClientResponse) -> None:
    """Read the few bytes after the last event, so that the connection can be used again; the answer is whole by now."""
    with contextlib.suppress(aiohttp.ClientError, OSError):
        async with asyncio.timeout(0.2):  # they come with the last event or right behind it, or are not worth a wait
            while await response.content.read(ERROR_BYTES):
                pass


def _request_id(response: aiohttp.ClientResponse) -> str:
    found = response.headers.get("request-id", "")[:80]
    return f"request {found}" if found else ""
