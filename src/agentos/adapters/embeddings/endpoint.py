"""Vectors made at an endpoint that speaks OpenAI's format of embeddings.

The key travels in one header and appears in no error, log or repr. Nothing is tried again here. An endpoint that failed
is left alone for a while, so that only who asked first has waited for it; then a probe asks it, for whom nobody waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

import aiohttp
import msgspec
import structlog

from agentos.adapters.embeddings.settings import EmbeddingSettings
from agentos.evidence.artifacts.model import EmbeddingsRefused, EmbeddingsUnavailable
from agentos.kernel.clock import elapsed
from agentos.kernel.errors import AgentOSError, Bug, NotFound
from agentos.runtime.inference.breaker import Breaker, State

log = structlog.get_logger(__name__)

MOST_BYTES: Final = 32 * 1024 * 1024  # of an answer: 64 vectors of 4,000 numbers are some 5 MB
MOST: Final = 60_000  # of a number: vectors are kept with half precision
BATCH: Final = 64  # texts of one call: what the smallest servers take
# How long it is left alone after a failure, and at most while probes fail: see docs/evidence.md.
FIRST_WAIT: Final = 5.0  # seconds
LONGEST_WAIT: Final = 60.0
PROBE: Final = "probe"
_REFUSED: Final = frozenset({400, 413, 422})  # too long a text, or one that is filtered
_AWAY: Final = frozenset({408, 429})  # and 500 and more; other answers are about what was asked


class EmbeddingsMisbehaved(Bug):
    """What came back of a call for embeddings is not of the form that the format promises."""

    code = "embeddings_misbehaved"


class _Datum(msgspec.Struct):
    index: int
    embedding: list[float]


class _Answer(msgspec.Struct):
    data: list[_Datum]


_read: Final = msgspec.json.Decoder(_Answer).decode


class EndpointEmbeddings:
    """Embeddings of one model behind one address. ``live``: whether it may be asked at all."""

    local: bool = False

    def __init__(self, settings: EmbeddingSettings, secret: Callable[[str], str], *, live: bool = True) -> None:
        self._settings = settings
        self._secret = secret
        self._live = live
        self._session: aiohttp.ClientSession | None = None
        self._breaker = Breaker(1, FIRST_WAIT, LONGEST_WAIT)
        self._probing: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """The model and its length: vectors of another are of another space."""
        return f"{self._settings.model}/{self._settings.dimensions or 'own'}"

    @property
    def floor(self) -> float:
        """As the operator set it."""
        return self._settings.floor

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """A vector of each text. Raises EmbeddingsUnavailable, EmbeddingsRefused, EmbeddingsMisbehaved (Bug)."""
        if not self._live:
            raise EmbeddingsUnavailable("DISABLE_LIVE_ADAPTERS: nothing outside is asked", then="Unset the switch.")
        if self._breaker.state is not State.CLOSED:
            if self._breaker.probe_due(elapsed()):
                self._probing = asyncio.create_task(self._probe())
            raise EmbeddingsUnavailable(
                "the endpoint of embeddings failed and is left alone for a while",
                then=f"It is asked again within {LONGEST_WAIT:g} s; check AGENTOS_EMBEDDINGS_URL.",
            )
        found: list[list[float]] = []
        for start in range(0, len(texts), BATCH):
            found += await self._batch(list(texts[start : start + BATCH]))
        return found

    async def close(self) -> None:
        """Give back connections. Asking again opens new ones."""
        if self._probing is not None:
            self._probing.cancel()
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _probe(self) -> None:
        """Ask for what nobody waits for. An answer closes the breaker."""
        try:
            await self._batch([PROBE])
        except AgentOSError as error:
            log.info("embeddings_still_away", code=error.code)
        finally:
            self._breaker.probed(elapsed(), answered=False)  # which an answer has closed already

    async def _batch(self, texts: list[str]) -> list[list[float]]:
        body: dict[str, Any] = {"model": self._settings.model, "input": texts, "encoding_format": "float"}
        if self._settings.dimensions:
            body["dimensions"] = self._settings.dimensions
        data = await self._post(msgspec.json.encode(body))
        try:
            answer = sorted(_read(data).data, key=lambda one: one.index)
        except msgspec.MsgspecError as error:
            raise EmbeddingsMisbehaved(f"the endpoint's answer is not of the format: {str(error)[:200]}") from None
        vectors = [one.embedding for one in answer]
        if any(abs(number) > MOST for one in vectors for number in one):
            raise EmbeddingsMisbehaved(f"the endpoint's vectors hold numbers over {MOST}")
        if [one.index for one in answer] != list(range(len(texts))) or len({len(one) for one in vectors}) != 1:
            raise EmbeddingsMisbehaved("the endpoint's answer has not one vector of one length for each text")
        return vectors

    async def _post(self, body: bytes) -> bytes:
        headers = {"content-type": "application/json"}
        if self._settings.key:
            try:
                headers["authorization"] = f"Bearer {self._secret(self._settings.key.removeprefix('secret://'))}"
            except NotFound:
                raise _away("its key is not set", "Set the secret that AGENTOS_EMBEDDINGS_KEY names.") from None
        if self._session is None or self._session.closed:
            limit = aiohttp.ClientTimeout(total=self._settings.seconds)
            self._session = aiohttp.ClientSession(timeout=limit, cookie_jar=aiohttp.DummyCookieJar())
        try:
            address = f"{self._settings.url.rstrip('/')}/embeddings"
            async with self._session.post(address, data=body, headers=headers, allow_redirects=False) as answer:
                if answer.status != 200:
                    if answer.status in _AWAY or answer.status >= 500:
                        self._breaker.failed(elapsed())
                    if answer.status in _REFUSED:
                        raise EmbeddingsRefused(
                            f"the endpoint of embeddings answered {answer.status}",
                            then="Words find what has no embedding; where every text is refused, check _MODEL.",
                        )
                    raise _away(f"it answered {answer.status}", "Check AGENTOS_EMBEDDINGS_URL, _MODEL and _KEY.")
                data = bytearray()
                async for piece in answer.content.iter_chunked(2**16):
                    data += piece
                    if len(data) > MOST_BYTES:
                        raise EmbeddingsMisbehaved(f"the endpoint's answer is over {MOST_BYTES} bytes")
                self._breaker.answered()
                return bytes(data)
        # Nothing is chained: aiohttp's errors may carry the request, and the request carries the key.
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            self._breaker.failed(elapsed())
            raise _away(type(error).__name__, "Check AGENTOS_EMBEDDINGS_URL and the network.") from None


def _away(what: str, then: str) -> EmbeddingsUnavailable:
    return EmbeddingsUnavailable(f"the endpoint of embeddings gives none: {what}", then=then)
