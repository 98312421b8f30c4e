"""Every refusal and every break is told in the client's own form, and none is taken for an answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import anthropic
import openai
import pytest

from agentos.runtime.inference import Answer, Question
from agentos.runtime.inference.model import (
    ContentBlocked,
    ContextTooLong,
    ModelMisbehaved,
    ModelOverloaded,
    ModelRateLimited,
    ModelRefusedKey,
    ModelTimedOut,
    ModelUnavailable,
    ModelUnknown,
)
from tests.journeys.conftest import running
from tests.journeys.gateway.conftest import GPT, HELLO, SONNET, House, furnished

Made = Callable[[], Exception]


ERRORS: list[tuple[Made, type[Exception], type[Exception], int, str]] = [
    (lambda: ModelRateLimited("wait", retry_after=timedelta(seconds=7)), openai.RateLimitError,
     anthropic.RateLimitError, 429, "rate_limit_exceeded"),
    (lambda: ModelOverloaded("full"), openai.InternalServerError, anthropic.InternalServerError, 503,
     "ERR_LLM_OVERLOADED"),
    (lambda: ModelTimedOut("slow"), openai.InternalServerError, anthropic.InternalServerError, 504, "ERR_LLM_TIMEOUT"),
    (lambda: ModelUnknown("none"), openai.NotFoundError, anthropic.NotFoundError, 404, "model_not_found"),
    (lambda: ContextTooLong("long"), openai.BadRequestError, anthropic.BadRequestError, 400,
     "context_length_exceeded"),
    (lambda: ContentBlocked("no"), openai.BadRequestError, anthropic.BadRequestError, 400, "content_filter"),
    (lambda: ModelRefusedKey("ours"), openai.InternalServerError, anthropic.InternalServerError, 502,
     "ERR_LLM_AUTH_FAILED"),
    (lambda: ModelMisbehaved("odd"), openai.InternalServerError, anthropic.InternalServerError, 502,
     "ERR_LLM_MISBEHAVED"),
]  # fmt: skip


@pytest.mark.parametrize(("made", "of_openai", "of_anthropic", "status", "code"), ERRORS)
@pytest.mark.parametrize("streamed", [False, True])
async def test_an_error_of_a_model_is_the_exception_that_the_client_expects(
    house: House,
    made: Made,
    of_openai: type[openai.APIStatusError],
    of_anthropic: type[anthropic.APIStatusError],
    status: int,
    code: str,
    streamed: bool,
) -> None:
    house.claude.next = [made(), made()]
    async with house.openai() as client:
        with pytest.raises(of_openai) as caught:
            await client.chat.completions.create(model=SONNET, messages=HELLO, stream=streamed)
    assert (caught.value.status_code, caught.value.code) == (status, code)
    assert caught.value.request_id
    assert caught.value.response.headers.get("retry-after") == ("7" if status == 429 else None)
    async with house.anthropic() as client:
        with pytest.raises(of_anthropic) as met:
            await client.messages.create(model=SONNET, max_tokens=5, messages=HELLO, stream=streamed)
    assert met.value.status_code == status
    assert met.value.request_id
    assert {one["outcome"] for one in await house.facts()} == {made().code}  # type: ignore[attr-defined]


async def test_an_answer_that_breaks_off_is_never_taken_for_a_whole_one(house: House) -> None:
    house.claude.pieces = ("It is", " not")
    house.claude.breaks = ModelUnavailable("the stream broke")
    heard: list[str] = []
    async with house.openai() as client:
        stream = await client.chat.completions.create(
            model=SONNET, messages=HELLO, stream=True, extra_body={"fallback": [f"openai/{GPT}"]}
        )
        with pytest.raises(openai.APIError, match="the stream broke"):
            async for chunk in stream:
                heard += [one.delta.content for one in chunk.choices if one.delta.content]
                assert not any(one.finish_reason for one in chunk.choices)
    assert heard == ["It is", " not"]
    assert not house.gpt.asked  # another model cannot go on with the half that was told
    async with house.anthropic() as client:
        with pytest.raises(anthropic.APIStatusError, match="the stream broke"):
            async with client.messages.stream(model=SONNET, max_tokens=5, messages=HELLO) as told:
                async for event in told:
                    assert event.type != "message_stop"


async def test_a_model_name_that_stands_for_nothing_or_for_several_is_refused_with_what_to_write(house: House) -> None:
    for provider in ("claude", "openai"):
        price = {"provider": provider, "model": "both", "input": "1", "output": "2"}
        await house.platform.admin.put("/api/v1/budgets/prices", json=price)
    house.platform.held.parts.books.read.clear()
    async with house.openai() as client:
        with pytest.raises(openai.NotFoundError, match="PROVIDER/MODEL"):
            await client.chat.completions.create(model="nonsense", messages=HELLO)
        with pytest.raises(openai.NotFoundError, match="claude or openai"):
            await client.chat.completions.create(model="both", messages=HELLO)
        with pytest.raises(openai.PermissionDeniedError, match="nobody knows what 'unpriced' of 'openai' costs"):
            await client.chat.completions.create(model="openai/unpriced", messages=HELLO)
    assert not house.claude.asked + house.gpt.asked


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"functions": [{"name": "old"}]}, "functions"),
        ({"logit_bias": {"1": 5}}, "logit_bias"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0].type"),
        ({"tool_choice": "sometimes"}, "tool_choice"),
        ({"max_tokens": 0}, "max_tokens"),
    ],
)
async def test_what_would_change_the_answer_is_refused_and_never_left_out(
    house: House, more: dict[str, Any], param: str
) -> None:
    async with house.openai() as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.chat.completions.create(**{"model": SONNET, "messages": HELLO, **more})
    assert caught.value.param == param
    assert not house.claude.asked


async def test_who_has_no_key_or_no_permission_is_told_in_the_clients_own_form(house: House) -> None:
    viewer = (await house.platform.admin.post("/api/v1/keys", json={"machine": "m", "scopes": ["read"]})).json()
    async with house.openai("wrong") as client:
        with pytest.raises(openai.AuthenticationError):
            await client.chat.completions.create(model=SONNET, messages=HELLO)
    async with house.anthropic("aos_wrong") as other:
        with pytest.raises(anthropic.AuthenticationError):
            await other.messages.create(model=SONNET, max_tokens=5, messages=HELLO)
    async with house.openai(viewer["secret"]) as client:
        with pytest.raises(openai.PermissionDeniedError, match=r"models\.ask"):
            await client.chat.completions.create(model=SONNET, messages=HELLO)
        assert [one.id async for one in client.models.list()] == []
    asker = {"machine": "asker", "scopes": ["read", "models.ask"]}
    key = (await house.platform.admin.post("/api/v1/keys", json=asker)).json()["secret"]
    async with house.openai(key) as client:
        with pytest.raises(openai.PermissionDeniedError, match=r"runs\.start"):
            await client.chat.completions.create(model="agent:tester", messages=HELLO)
    assert not house.claude.asked


async def test_a_body_that_is_too_big_or_no_json_is_refused_in_the_clients_own_form(house: House) -> None:
    big = json.dumps({"model": SONNET, "max_tokens": 5, "messages": [{"role": "user", "content": "x" * 2_000_000}]})
    author = house.platform.author
    taken = await author.post("/v1/chat/completions", content=big)
    assert taken.status_code == 200, taken.text  # pictures and long conversations are over what other routes take
    huge = b"x" * (17 * 1024 * 1024)
    refused = await author.post("/v1/messages", content=huge)
    assert (refused.status_code, refused.json()["error"]["type"]) == (413, "request_too_large")
    broken = await author.post("/v1/messages", content=b'{"model": ')
    assert (broken.status_code, broken.json()["error"]["type"]) == (400, "invalid_request_error")
    deep = await author.post("/v1/chat/completions", content=b"[" * 100_000)
    assert (deep.status_code, deep.json()["error"]["code"]) == (400, "request_not_understood")
    long_key = await author.post("/v1/chat/completions", content=big, headers={"Idempotency-Key": "k" * 300})
    assert (long_key.status_code, long_key.json()["error"]["type"]) == (400, "invalid_request_error")
    nowhere = await author.post("/v1/embeddings", json={})
    assert (nowhere.status_code, nowhere.json()["error"]["code"]) == (404, "route_unknown")


async def test_a_stream_in_which_nothing_happens_says_that_it_is_alive(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTOS_GATEWAY_ALIVE_SECONDS", "0.05")
    monkeypatch.setenv("AGENTOS_GATEWAY_FIRST_WORD_SECONDS", "0.05")
    async with running(database_url, monkeypatch) as platform:
        house, told = await furnished(platform), asyncio.Event()

        async def late(_question: Question) -> Answer:
            await told.wait()
            raise ModelUnavailable("gone at last")

        house.claude.else_ = late
        body = {"model": SONNET, "messages": HELLO, "max_tokens": 10, "stream": True}
        lines = []
        async with platform.author.stream("POST", "/v1/chat/completions", json=body) as answer:
            assert answer.status_code == 200
            async for line in answer.aiter_lines():
                lines.append(line)
                if line == ": alive":
                    told.set()
    assert ": alive" in lines
    assert json.loads(lines[-2].removeprefix("data: "))["error"]["message"].startswith("gone at last")
    assert "data: [DONE]" not in lines
