"""Vectors of letters are the same everywhere and near for near spellings; an endpoint's are taken only when whole."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from agentos.adapters.embeddings import embeddings, endpoint
from agentos.adapters.embeddings.endpoint import BATCH, EmbeddingsMisbehaved, EndpointEmbeddings
from agentos.adapters.embeddings.lexical import DIMENSIONS, FLOOR, LexicalEmbeddings, vector
from agentos.adapters.embeddings.settings import EmbeddingSettings
from agentos.adapters.secrets.environment import SecretMissing
from agentos.evidence.artifacts.model import EmbeddingsRefused, EmbeddingsUnavailable


def likeness(one: str, other: str) -> float:
    return sum(a * b for a, b in zip(vector(one), vector(other), strict=True))


def test_a_vector_is_of_length_one_and_the_same_for_the_same_text() -> None:
    assert vector("The crane") == vector("the  CRANE!")
    assert math.isclose(sum(one * one for one in vector("the crane at the harbour")), 1.0)
    places = {place: round(one, 6) for place, one in enumerate(vector("the crane")) if one}
    assert (len(places), places[59], places[331], places[735]) == (16, -0.426401, 0.426401, 0.213201)
    assert vector("?") == [0.0] * DIMENSIONS


@pytest.mark.parametrize(
    ("one", "other"),
    [("deployments were postponed", "postpone the deployment"), ("quarterly report", "qaurterly reprot")],
)
def test_near_spellings_are_alike_and_others_are_not(one: str, other: str) -> None:
    assert likeness(one, other) > FLOOR > likeness(one, "zxqwv kjhgf mnbvc")


@dataclass
class Server:
    """An endpoint of embeddings."""

    address: str = ""
    asked: list[tuple[dict[str, Any], str]] = field(default_factory=list)
    answers: Callable[[list[str]], web.Response] = lambda texts: web.json_response(
        {"data": [{"index": n, "embedding": [float(len(one)), 1.0]} for n, one in reversed(list(enumerate(texts)))]}
    )

    hangs: Callable[[web.Request], Awaitable[web.Response]] | None = None

    async def answer(self, request: web.Request) -> web.Response:
        if self.hangs is not None:
            return await self.hangs(request)
        body = json.loads(await request.read())
        self.asked.append((body, request.headers.get("authorization", "")))
        return self.answers(body["input"])


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    one = Server()
    app = web.Application()
    app.router.add_post("/v1/embeddings", one.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    one.address = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    yield one
    await runner.cleanup()


def secret(name: str) -> str:
    if name != "embed":
        raise SecretMissing(f"there is no secret '{name}'")
    return "s3cret"


async def test_texts_are_sent_in_batches_with_the_key_and_come_back_in_order(server: Server) -> None:
    settings = EmbeddingSettings(url=server.address, model="small", key="secret://embed", dimensions=2)
    asked = EndpointEmbeddings(settings, secret)
    texts = ["x" * number for number in range(1, BATCH + 3)]
    assert [one[0] for one in await asked.embed(texts)] == [float(len(one)) for one in texts]
    await asked.close()
    assert [len(body["input"]) for body, _ in server.asked] == [BATCH, 2]
    body, key = server.asked[0]
    assert (body["model"], body["dimensions"], key) == ("small", 2, "Bearer s3cret")
    assert asked.name == "small/2" and not asked.local


@pytest.mark.parametrize(
    "answer",
    [
        {"data": []},
        {"data": [{"index": 1, "embedding": [1.0]}]},
        {"data": [{"index": 0, "embedding": "AAAA"}]},
        {"data": [{"index": 0, "embedding": [1e9]}]},
        {"vectors": []},
    ],
)
async def test_an_answer_that_is_not_whole_is_none(server: Server, answer: Any) -> None:
    server.answers = lambda _texts: web.json_response(answer)
    asked = EndpointEmbeddings(EmbeddingSettings(url=server.address), secret)
    with pytest.raises(EmbeddingsMisbehaved):
        await asked.embed(["one"])
    await asked.close()


async def test_an_endpoint_that_refuses_is_away_and_the_error_holds_no_key(server: Server) -> None:
    server.answers = lambda _texts: web.Response(status=401, text="no such key: s3cret")
    for settings, live in (
        (EmbeddingSettings(url=server.address, key="secret://embed"), True),
        (EmbeddingSettings(url="http://127.0.0.1:9/v1", key="secret://embed"), True),
        (EmbeddingSettings(url=server.address, key="secret://other"), True),
        (EmbeddingSettings(url=server.address), False),
    ):
        asked = EndpointEmbeddings(settings, secret, live=live)
        with pytest.raises(EmbeddingsUnavailable) as caught:
            await asked.embed(["one"])
        assert "s3cret" not in str(caught.value) and caught.value.__cause__ is None
        await asked.close()
    assert len(server.asked) == 1


async def test_an_endpoint_that_hangs_keeps_only_the_first_waiting(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    time = {"now": 1000.0}
    monkeypatch.setattr(endpoint, "elapsed", lambda: time["now"])
    hung, done = asyncio.Event(), asyncio.Event()

    async def hangs(_request: web.Request) -> web.Response:
        hung.set()
        await done.wait()
        raise web.HTTPServiceUnavailable

    server.hangs = hangs
    asked = EndpointEmbeddings(EmbeddingSettings(url=server.address, seconds=0.2), secret)

    async def refused(*, probed: bool) -> None:
        hung.clear()
        for _ in range(3):
            with pytest.raises(EmbeddingsUnavailable, match="left alone"):
                await asked.embed(["one"])
        if probed:
            await hung.wait()
            assert asked._probing is not None
            await asked._probing
        assert hung.is_set() is probed

    with pytest.raises(EmbeddingsUnavailable, match="TimeoutError"):
        await asked.embed(["one"])
    await refused(probed=False)
    time["now"] += endpoint.FIRST_WAIT
    await refused(probed=True)  # it still hangs, and only the probe waits
    time["now"] += endpoint.FIRST_WAIT
    await refused(probed=False)  # the wait was doubled
    done.set()
    server.hangs = None
    time["now"] += endpoint.FIRST_WAIT
    with pytest.raises(EmbeddingsUnavailable, match="left alone"):
        await asked.embed(["one"])
    assert asked._probing is not None
    await asked._probing
    assert await asked.embed(["one"]) == [[3.0, 1.0]]
    assert [body["input"] for body, _ in server.asked] == [["probe"], ["one"]]
    await asked.close()


async def test_what_an_endpoint_says_of_one_text_keeps_nobody_else_from_it(server: Server) -> None:
    good = server.answers
    asked = EndpointEmbeddings(EmbeddingSettings(url=server.address), secret)
    for status, is_away in ((400, False), (413, False), (503, True)):
        server.answers = lambda _texts, status=status: web.Response(status=status)  # type: ignore[misc]
        with pytest.raises(EmbeddingsUnavailable if is_away else EmbeddingsRefused, match=str(status)):
            await asked.embed(["one"])
        server.answers = good
        if is_away:
            with pytest.raises(EmbeddingsUnavailable, match="left alone"):
                await asked.embed(["one"])
        else:
            assert await asked.embed(["one"])
    await asked.close()


def test_without_an_address_vectors_are_made_here() -> None:
    assert isinstance(embeddings(EmbeddingSettings(), secret, live=True), LexicalEmbeddings)
    assert isinstance(embeddings(EmbeddingSettings(url="http://h/v1"), secret, live=True), EndpointEmbeddings)
