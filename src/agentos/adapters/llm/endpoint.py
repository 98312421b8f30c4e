"""An address where models answer over HTTP with a stream of server-sent events, in one of the dialects.

An answer is whole or an error: it counts only once its dialect says that it ended, so neither a long silence of an
intermediary nor a stream that broke off is taken for an answer. Nothing is tried again here; the caller owns that. The
key travels in one header and appears in no error, log or repr.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

import aiohttp
import msgspec

from agentos.adapters.http_dates import retry_after
from agentos.adapters.llm.settings import ReachSettings
from agentos.kernel.errors import AgentOSError
from agentos.runtime.inference.model import (
    Answer,
    ContextTooLong,
    ModelMisbehaved,
    ModelNotConfigured,
    ModelOverloaded,
    ModelRateLimited,
    ModelRefusedKey,
    ModelRejectedRequest,
    ModelTimedOut,
    ModelUnavailable,
    ModelUnknown,
)
from agentos.runtime.inference.ports import Hear, Question
from agentos.runtime.inference.schemas import check_schemas

# The providers' own words for not now. Other statuses of this kind may be those of something between that gave up.
NOT_BEGUN: Final = frozenset({500, 503, 529})

# Most that is read of an error's body: the documented ones are below 1 kB, a gateway's page may be anything.
ERROR_BYTES: Final = 65_536
READ_BYTES: Final = 2**18  # one event with 100 kB of arguments then needs a few reads, not hundreds

REQUEST_IDS: Final = ("request-id", "x-request-id", "x-generation-id")


@dataclass(frozen=True, slots=True)
class Failure:
    """What a provider says went wrong: the kind that it is of, and the provider's own name and words for it."""

    kind: type[AgentOSError]
    name: str = ""
    said: str = ""
    begun: bool = True  # it may have begun to answer, and may bill for that


class Failed(Exception):
    """A provider told of a failure inside the stream of an answer."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.name)
        self.failure = failure


class Draft(Protocol):
    """An answer as far as it was streamed. ``whole``: it may end here."""

    @property
    def whole(self) -> bool: ...

    def take(self, data: bytes | bytearray) -> bool:
        """Add the data of one event; whether it was the last. Raises Failed, ModelMisbehaved or what msgspec raises."""
        ...

    def answer(self) -> Answer:
        """The answer, once it is whole. Raises ModelMisbehaved where it is not of the known form."""
        ...


class Dialect(Protocol):
    """A wire format: what is sent, and what it means that comes back. Nothing here waits for anything."""

    path: str

    def headers(self, key: str) -> dict[str, str]:
        """The headers that carry the key and name the format."""
        ...

    def body(self, question: Question) -> bytes:
        """The body of the call. Raises what has no JSON form, as ``encode`` does."""
        ...

    def draft(self, provider: str, question: Question, hear: Hear | None) -> Draft:
        """An empty answer to that question."""
        ...

    def failure(self, status: int, body: bytes) -> Failure | None:
        """What an answer says that is no stream; None where a 200 tells of no failure."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """Where models are, and by what names an operator knows what leads there."""

    provider: str
    address: str = field(repr=False)  # of the format, up to the dialect's path
    key: Callable[[], str] = field(repr=False)
    limits: ReachSettings = field(repr=False)
    key_from: str = ""  # the variable of the key
    address_from: str = ""
    local: bool = False


class Endpoint:
    """The models behind one address. Connections are kept between calls; ``close`` gives them back."""

    instant: bool = False

    def __init__(self, place: Place, dialect: Dialect) -> None:
        self.provider = place.provider
        self.local = place.local
        self._place = place
        self._dialect = dialect
        self._session: aiohttp.ClientSession | None = None

    @property
    def configured(self) -> bool:
        """Whether there is what a call needs: a key, or a machine of one's own that asks for none."""
        return self.local or bool(self._key())

    @property
    def key_from(self) -> str:
        """The variable that its key is read from."""
        return self._place.key_from

    async def ask(self, question: Question, *, hear: Hear | None = None) -> Answer:
        """Answer within ``question.timeout``, or raise as ``Model.ask`` says; a cut call is never half delivered."""
        key = self._key()
        if not key and not self.local:
            raise ModelNotConfigured(f"there is no key for the models of {self.provider}", then=f"Set {self.key_from}.")
        if not (key.isascii() and key.isprintable()):
            raise ModelRefusedKey(
                f"the key for the models of {self.provider} holds characters that no key has",
                then=self._next(ModelRefusedKey),
            )
        check_schemas(question)
        try:
            body = self._dialect.body(question)
        except (UnicodeEncodeError, OverflowError, TypeError) as error:
            raise ModelRejectedRequest(f"the conversation has no JSON form: {str(error)[:200]}") from None
        draft = self._dialect.draft(self.provider, question, hear)
        try:
            async with asyncio.timeout(question.timeout.total_seconds()) as limit:
                return await self._ask(key, body, draft)
        # Nothing is chained below: aiohttp's errors may carry the request, and the request carries the key.
        except TimeoutError as error:
            if limit.expired():
                seconds = question.timeout.total_seconds()
                raise ModelTimedOut(f"{self.provider} did not finish its answer within {seconds:g} s") from None
            begun = not isinstance(error, aiohttp.ConnectionTimeoutError)
            waited = "fell silent" if begun else "did not accept a connection"
            raise ModelTimedOut(f"{self.provider} {waited} in time", begun=begun) from None
        except (aiohttp.ClientError, OSError) as error:
            raise ModelUnavailable(
                f"{self.provider} cannot be reached, or broke off: {type(error).__name__}",
                then=f"Check {self._place.address_from} and the network, or try again later.",
                begun=not isinstance(error, aiohttp.ClientConnectorError),
            ) from None

    async def close(self) -> None:
        """Give back connections. Asking again opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _key(self) -> str:
        return self._place.key().strip()

    def _connections(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            limits = self._place.limits
            wait = aiohttp.ClientTimeout(
                total=None, sock_connect=limits.connect_seconds, sock_read=limits.silence_seconds
            )
            # limit=0: how many calls run at once is the caller's business.
            self._session = aiohttp.ClientSession(
                timeout=wait,
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                read_bufsize=READ_BYTES,
            )
        return self._session

    async def _ask(self, key: str, body: bytes, draft: Draft) -> Answer:
        headers = self._dialect.headers(key) | {
            "content-type": "application/json",
            "accept": "text/event-stream",
            "accept-encoding": "identity",  # a compressing intermediary would hold events back
        }
        address = self._place.address.rstrip("/") + self._dialect.path
        # No redirects: aiohttp would carry the key to wherever they lead.
        async with self._connections().post(address, data=body, headers=headers, allow_redirects=False) as response:
            if response.status != 200 or response.content_type != "text/event-stream":
                raise await self._no_stream(response, key)
            try:
                await self._read(response, draft)
            except Failed as failed:
                raise self._error(failed.failure, response.headers, key) from None
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise ModelMisbehaved(
                    f"{self.provider} sent an event that is not of its form: {str(error)[:200]}",
                    where=_request_id(response.headers),
                ) from None
            await _finish(response)
        return draft.answer()

    async def _read(self, response: aiohttp.ClientResponse, draft: Draft) -> None:
        """Give the draft what the stream brings, up to its end. Only ``data`` lines matter, in either dialect."""
        pending, size = bytearray(), 0
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if size > self._place.limits.answer_bytes:
                raise ModelMisbehaved(
                    f"{self.provider}'s answer is larger than {self._place.limits.answer_bytes} bytes",
                    then="Lower max_tokens, or raise the setting that ends in ANSWER_BYTES.",
                )
            pending += chunk
            if b"\n" not in chunk:
                continue
            *lines, pending = pending.split(b"\n")
            for line in lines:
                if line.startswith(b"data:") and draft.take(line[5:]):
                    return
        if not draft.whole:
            raise ModelUnavailable(
                f"{self.provider}'s answer broke off before its end", where=_request_id(response.headers)
            )

    async def _no_stream(self, response: aiohttp.ClientResponse, key: str) -> AgentOSError:
        """What an answer means that is not a stream of events."""
        status, kind = response.status, response.content_type
        if 300 <= status < 400:
            return ModelNotConfigured(
                f"{self.provider} answered {status}, a redirect", then=f"Set {self._place.address_from} to its target."
            )
        body = bytearray()
        with contextlib.suppress(aiohttp.ClientError, OSError):  # the status says enough when the body does not come
            while len(body) < ERROR_BYTES and (chunk := await response.content.read(ERROR_BYTES)):
                body += chunk
        failure = self._dialect.failure(status, bytes(body))
        if failure is not None:
            return self._error(failure, response.headers, key, status)
        # Text instead of events is a page that something in between made up (a login, a maintenance notice): that
        # passes, so it is Unavailable. JSON is an endpoint that ignores ``stream``: that does not pass.
        wrong = ModelUnavailable if kind.startswith("text/") else ModelMisbehaved
        return wrong(
            f"{self.provider} answered with {kind[:60]} instead of a stream of events",
            then=f"Check that {self._place.address_from} leads to its API.",
        )

    def _error(self, failure: Failure, headers: Mapping[str, str], key: str, status: int = 200) -> AgentOSError:
        said = failure.said or "no reason given"
        error = failure.kind(
            f"{self.provider} answered {failure.name[:40] or f'HTTP {status}'}: "
            + (said.replace(key, "[key]") if key else said)[:300],  # a gateway may echo it
            where=_request_id(headers),
            then=self._next(failure.kind),
            retry_after=retry_after(headers),
        )
        if isinstance(error, ModelUnavailable):
            error.begun = failure.begun
        return error

    def _next(self, kind: type[AgentOSError]) -> str:
        return {
            ModelRefusedKey: f"Check {self._place.key_from}, what it may use, and the account's billing.",
            ModelUnknown: "Check the model's name in the version's model policy, and what the key may use.",
            ContextTooLong: "Shorten the conversation or max_tokens, or name a model that reads more.",
            ModelRejectedRequest: "Check the version's model policy, and what it passes on to the provider.",
            ModelNotConfigured: f"Check {self._place.address_from}.",
        }.get(kind, "")


def kind_of(status: int) -> type[AgentOSError]:
    """The kind of error that an HTTP status other than 200 means, where the provider says no more.

    408, 409 and 5xx (529: overloaded) pass, so say the vendors' own clients too; 402 needs a person, as a bad key does.
    """
    if status in (401, 402, 403):
        return ModelRefusedKey
    if status in (408, 504, 524):  # 524: a well-known intermediary waited in vain
        return ModelTimedOut
    if status == 409:
        return ModelUnavailable
    if status == 413:
        return ContextTooLong
    if status == 429:
        return ModelRateLimited
    if 400 <= status < 500:
        return ModelRejectedRequest
    return ModelOverloaded if status >= 500 else ModelUnavailable


async def _finish(response: aiohttp.ClientResponse) -> None:
    """Read the few bytes after the last event, so that the connection can be used again; the answer is whole by now."""
    if response.content.at_eof():
        return
    with contextlib.suppress(aiohttp.ClientError, OSError):
        async with asyncio.timeout(0.2):  # they come with the last event or right behind it, or are not worth a wait
            while await response.content.read(ERROR_BYTES):
                pass


def _request_id(headers: Mapping[str, str]) -> str:
    found = next((headers[name] for name in REQUEST_IDS if name in headers), "")[:80]
    return f"request {found}" if found else ""
