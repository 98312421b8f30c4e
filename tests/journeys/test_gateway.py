"""Existing clients use our models and agents by changing their base URL: the vendors' own SDKs over real HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import anthropic
import httpx
import openai
import pytest
from sqlalchemy import text

from agentos.kernel import ids
from agentos.kernel.clock import now
from agentos.kernel.ids import OrgId
from agentos.kernel.retention import forget
from agentos.runtime.gateway import asking
from agentos.runtime.inference import Answer, Call, Opaque, Question, Stop, Usage
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
from agentos.runtime.inference.ports import Hear, Listed
from tests.journeys.conftest import Platform, running
from tests.runtime.inference.fakes import Fake, Fakes
from tests.runtime.runs.harness import DONE, calls

SONNET = "claude-sonnet-5"  # the list knows its price
GPT = "gpt-5-mini"
HELLO: Any = [{"role": "user", "content": "hello"}]
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


class Voice(Fake):
    """A fake model that says its answer in pieces, waits in between where it is told to, and may break off."""

    pieces: tuple[str, ...] = ()
    breaks: Exception | None = None
    pause: asyncio.Event | None = None  # waited for after the first piece
    was_cancelled = False

    async def ask(self, question: Question, *, hear: Hear | None = None) -> Answer:
        if not self.pieces:
            return await super().ask(question, hear=hear)
        self.asked.append(question)
        try:
            for piece in self.pieces:
                if hear is not None:
                    hear(piece)
                if self.pause is not None:
                    await self.pause.wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise
        if self.breaks is not None:
            raise self.breaks
        return Answer("".join(self.pieces), self.provider, question.model, usage=Usage(10, 5))


class Voices(Fakes):
    """Two of them, as a process knows its models."""

    def listing(self) -> list[Listed]:
        return [Listed(name, instant=False, local=False, configured=True) for name in sorted(self.by_name)] + [
            Listed("stub", instant=True, local=True, configured=True)
        ]

    def for_policy(self, policy: dict[str, Any]) -> Any:
        return self.stub if policy.get("provider") == "stub" else super().for_policy(policy)

    stub: Any = None

    async def close(self) -> None:
        pass


@dataclass
class House:
    """A platform whose models are fakes, and the vendors' clients of it."""

    platform: Platform
    claude: Voice
    gpt: Voice

    def key(self, who: httpx.AsyncClient | None = None) -> str:
        found = (who or self.platform.author).headers["Authorization"]
        return str(found).removeprefix("Bearer ")

    @asynccontextmanager
    async def openai(self, key: str | None = None, **more: Any) -> AsyncIterator[openai.AsyncOpenAI]:
        more = {"max_retries": 0, **more}
        async with openai.AsyncOpenAI(
            base_url=f"{self.platform.address}/v1", api_key=key or self.key(), **more
        ) as client:
            yield client

    @asynccontextmanager
    async def anthropic(self, key: str | None = None) -> AsyncIterator[anthropic.AsyncAnthropic]:
        async with anthropic.AsyncAnthropic(
            base_url=self.platform.address, api_key=key or self.key(), max_retries=0
        ) as client:
            yield client

    async def facts(self) -> list[dict[str, Any]]:
        organization = OrgId((await self.platform.admin.get("/api/v1/me")).json()["organization"])
        async with self.platform.held.parts.doors.open(organization) as work:
            rows = await work.all(text("SELECT body FROM outbox WHERE name = 'ModelAsked' ORDER BY seq"))
        return [row.body for row in rows]

    async def until_told(self, outcome: str) -> dict[str, Any]:
        async with asyncio.timeout(10):
            while not (found := [one for one in await self.facts() if one["outcome"] == outcome]):
                await asyncio.sleep(0.02)
        return found[-1]

    async def usage(self) -> dict[str, Any]:
        found = (await self.platform.admin.get("/api/v1/budgets/usage")).json()["items"]
        return dict(next((one for one in found if one["agent"] is None and one["period"] == "day"), {}))

    async def cap(self, **caps: Any) -> None:
        answer = await self.platform.admin.put("/api/v1/budgets", json={"period": "day", **caps})
        assert answer.status_code == 200, answer.text
        self.platform.held.parts.books.read.clear()  # what a process has read holds for a second


@pytest.fixture
async def house(platform: Platform) -> House:
    return await furnished(platform)


async def furnished(platform: Platform) -> House:
    claude, gpt = Voice("claude"), Voice("openai")
    voices = Voices(claude, gpt)
    voices.stub = platform.held.models.for_policy({"provider": "stub"})
    platform.held.models = platform.held.parts.models = voices  # type: ignore[assignment]
    for model in (GPT,):
        price = {"provider": "openai", "model": model, "input": "1", "output": "2"}
        assert (await platform.admin.put("/api/v1/budgets/prices", json=price)).status_code == 200
    platform.held.parts.books.read.clear()
    return House(platform, claude, gpt)


async def test_an_openai_client_asks_any_model_by_changing_its_base_url(house: House) -> None:
    async with house.openai() as client:
        found = await client.chat.completions.create(
            model=SONNET,
            messages=[{"role": "system", "content": "Be brief."}, *HELLO],
            temperature=0.5,
            stop="END",
            max_completion_tokens=100,
        )
    (asked,) = house.claude.asked
    assert (asked.model, asked.system, asked.max_tokens) == (SONNET, "Be brief.", 100)
    assert asked.options["temperature"] == 0.5
    assert asked.options["stop_sequences"] == ["END"]
    assert found.choices[0].message.content == "claude says so"
    assert found.choices[0].finish_reason == "stop"
    assert found.model == f"claude/{SONNET}"
    assert found.usage is not None
    assert (found.usage.prompt_tokens, found.usage.completion_tokens, found.usage.total_tokens) == (10, 5, 15)
    assert found._request_id
    (fact,) = await house.facts()
    assert fact["ask_id"] == found.id
    assert fact["by"] == "author"
    assert fact["request_id"] == found._request_id
    assert (fact["provider"], fact["model"], fact["outcome"]) == ("claude", SONNET, "ok")
    assert (fact["input_tokens"], fact["output_tokens"]) == (10, 5)
    assert fact["micros"] > 0
    assert fact["attempts"] == [f"claude/{SONNET}: ok"]
    assert "hello" not in json.dumps(fact)
    assert "says so" not in json.dumps(fact)


async def test_an_anthropic_client_asks_any_model_by_changing_its_base_url(house: House) -> None:
    async with house.anthropic() as client:
        found = await client.messages.create(
            model=f"openai/{GPT}",
            max_tokens=100,
            system="Be brief.",
            messages=HELLO,
            stop_sequences=["END"],
            tool_choice={"type": "any"},
            tools=[{"name": "weather", "description": "Tells it.", "input_schema": WEATHER}],
        )
    (asked,) = house.gpt.asked
    assert asked.options["stop"] == ["END"]
    assert asked.options["tool_choice"] == "required"
    assert asked.tools[0].schema == WEATHER
    (block,) = found.content
    assert isinstance(block, anthropic.types.TextBlock)
    assert block.text == "openai says so"
    assert (found.stop_reason, found.model) == ("end_turn", f"openai/{GPT}")
    assert (found.usage.input_tokens, found.usage.output_tokens) == (10, 5)
    assert found._request_id


async def test_an_openai_client_hears_an_answer_as_it_comes(house: House) -> None:
    house.claude.pieces, house.claude.pause = ("It ", "is ", "so."), asyncio.Event()
    heard, last = [], None
    async with house.openai() as client:
        stream = await client.chat.completions.create(
            model=SONNET, messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
        async for chunk in stream:
            last = chunk
            if chunk.choices and chunk.choices[0].delta.content:
                heard.append(chunk.choices[0].delta.content)
                house.claude.pause.set()  # the first piece came while the model was not done
    assert heard == ["It ", "is ", "so."]
    assert last is not None
    assert last.usage is not None
    assert last.usage.total_tokens == 15
    assert last.model == f"claude/{SONNET}"


async def test_an_anthropic_client_hears_an_answer_as_it_comes(house: House) -> None:
    house.claude.pieces, house.claude.pause = ("It ", "is ", "so."), asyncio.Event()
    heard = []
    async with (
        house.anthropic() as client,
        client.messages.stream(model=SONNET, max_tokens=50, messages=HELLO) as stream,
    ):
        async for piece in stream.text_stream:
            heard.append(piece)
            house.claude.pause.set()
        whole = await stream.get_final_message()
    assert heard == ["It ", "is ", "so."]
    assert (whole.stop_reason, whole.model) == ("end_turn", f"claude/{SONNET}")
    assert (whole.usage.input_tokens, whole.usage.output_tokens) == (10, 5)


def wants_weather(question: Question) -> Answer:
    if question.messages[-1].role == "tool":
        said = question.messages[-1].results[0]
        return Answer(f"{said.call_id}: {said.text}", "claude", question.model, usage=Usage(1, 1))
    asked = (Call("call_1", "weather", {"city": "Oslo"}), Call("call_2", "weather", {"city": "Rome"}))
    return Answer("Let me see.", "claude", question.model, Stop.CALLS, asked, Usage(1, 1))


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_openai_clients_tools_are_its_own(house: House, streamed: bool) -> None:
    house.claude.else_ = wants_weather
    tools: Any = [{"type": "function", "function": {"name": "weather", "parameters": WEATHER}}]
    async with house.openai() as client:
        if streamed:
            async with client.chat.completions.stream(model=SONNET, messages=HELLO, tools=tools) as stream:
                first: Any = (await stream.get_final_completion()).choices[0]
        else:
            first = (await client.chat.completions.create(model=SONNET, messages=HELLO, tools=tools)).choices[0]
        assert first.finish_reason == "tool_calls"
        assert first.message.content == "Let me see."
        wanted = [(one.id, one.function.name, json.loads(one.function.arguments)) for one in first.message.tool_calls]
        assert wanted == [("call_1", "weather", {"city": "Oslo"}), ("call_2", "weather", {"city": "Rome"})]
        turn: Any = {
            "role": "assistant",
            "content": first.message.content,
            "tool_calls": [
                {"id": one.id, "type": "function", "function": {"name": "weather", "arguments": one.function.arguments}}
                for one in first.message.tool_calls
            ],
        }
        results: Any = [{"role": "tool", "tool_call_id": f"call_{number}", "content": "rain"} for number in (1, 2)]
        done = await client.chat.completions.create(
            model=SONNET, messages=[*HELLO, turn, *results], tools=tools, parallel_tool_calls=False
        )
    assert done.choices[0].message.content == "call_1: rain"
    asked = house.claude.asked[-1]
    assert [one.call_id for one in asked.messages[-1].results] == ["call_1", "call_2"]
    assert asked.messages[1].calls[0].arguments == {"city": "Oslo"}
    assert asked.options["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_anthropic_clients_tools_and_signed_thinking_come_back_to_the_provider(
    house: House, streamed: bool
) -> None:
    thought = {"type": "thinking", "thinking": "hm", "signature": "signed"}
    marks = ({"type": "text"}, {"type": "tool_use"})

    def thinks(question: Question) -> Answer:
        found = wants_weather(question)
        opaque = Opaque("claude", (thought, *marks, *marks[1:])) if found.calls else None
        return Answer(found.text, "claude", found.model, found.stop, found.calls, found.usage, opaque)

    house.claude.else_ = thinks
    common: Any = {
        "model": SONNET,
        "max_tokens": 4000,
        "tools": [{"name": "weather", "input_schema": WEATHER}],
        "thinking": {"type": "enabled", "budget_tokens": 2000},
    }
    async with house.anthropic() as client:
        if streamed:
            async with client.messages.stream(messages=HELLO, **common) as stream:
                first = await stream.get_final_message()
        else:
            first = await client.messages.create(messages=HELLO, **common)
        kinds = [one.type for one in first.content]
        assert kinds == ["thinking", "text", "tool_use", "tool_use"]
        assert first.stop_reason == "tool_use"
        assert first.content[0].model_dump(exclude_none=True) == thought
        assert first.content[2].model_dump(exclude_none=True)["input"] == {"city": "Oslo"}
        results: Any = [
            {"type": "tool_result", "tool_use_id": "call_1", "content": "rain"},
            {"type": "tool_result", "tool_use_id": "call_2", "content": [{"type": "text", "text": "sun"}]},
        ]
        given: Any = [one.model_dump(exclude_none=True) for one in first.content]
        turns: Any = [*HELLO, {"role": "assistant", "content": given}, {"role": "user", "content": results}]
        await client.messages.create(messages=turns, **common)
    asked = house.claude.asked[-1]
    assert asked.options["thinking"] == common["thinking"]
    opaque = asked.messages[1].opaque
    assert opaque is not None
    assert opaque.blocks == (thought, *marks, *marks[1:])
    assert [one.text for one in asked.messages[-1].results] == ["rain", "sun"]


async def test_pictures_and_schemas_reach_the_model(house: House) -> None:
    picture = "data:image/png;base64,aGVsbG8="
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    form: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
    content: Any = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": picture}}]
    async with house.openai() as client:
        await client.chat.completions.create(
            model=f"openai/{GPT}", messages=[{"role": "user", "content": content}], response_format=form
        )
    asked = house.gpt.asked[0]
    assert asked.schema == schema
    assert (asked.messages[0].images[0].media_type, asked.messages[0].images[0].data) == ("image/png", "aGVsbG8=")


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


async def test_a_fallback_that_the_client_names_answers_and_is_named(house: House) -> None:
    house.claude.next = [ModelOverloaded("full")]
    async with house.openai() as client:
        found = await client.chat.completions.create(
            model=SONNET, messages=HELLO, extra_body={"fallback": [f"openai/{GPT}"]}
        )
    assert found.model == f"openai/{GPT}"
    (fact,) = await house.facts()
    assert fact["attempts"] == [f"claude/{SONNET}: ERR_LLM_OVERLOADED", f"openai/{GPT}: ok"]


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


async def test_stops_withhold_models_and_the_refusal_cites_them(house: House) -> None:
    admin = house.platform.admin
    entry = {"kind": "deny", "scope": "provider", "target": "claude"}
    denied = (await admin.post("/api/v1/stops", json=entry)).json()
    async with house.openai() as client:
        with pytest.raises(openai.PermissionDeniedError, match=denied["id"]):
            await client.chat.completions.create(model=SONNET, messages=HELLO)
        found = await client.chat.completions.create(
            model=SONNET, messages=HELLO, extra_body={"fallback": [f"openai/{GPT}"]}
        )
        assert found.model == f"openai/{GPT}"
        killed = (await admin.post("/api/v1/stops", json={"kind": "kill", "scope": "organization"})).json()
        with pytest.raises(openai.PermissionDeniedError, match=killed["id"]) as caught:
            await client.chat.completions.create(model=f"openai/{GPT}", messages=HELLO)
    assert caught.value.code == "asking_stopped"
    assert not house.claude.asked
    assert len(house.gpt.asked) == 1
    assert [one["outcome"] for one in await house.facts()] == ["asking_stopped", "ok", "asking_stopped"]


async def test_a_budget_holds_for_clients_and_what_is_left_of_a_reserve_is_given_back(house: House) -> None:
    await house.cap(money="1")
    async with house.openai() as client:
        await client.chat.completions.create(model=SONNET, messages=HELLO)
        used = await house.usage()
        assert (used["calls"], used["tokens"]) == (1, 15)
        assert float(used["reserved_money"]) == 0
        await house.cap(money="0.001")
        with pytest.raises(openai.RateLimitError) as caught:
            await client.chat.completions.create(model=SONNET, messages=HELLO)
    assert caught.value.code == "insufficient_quota"
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert len(house.claude.asked) == 1
    house.claude.next = [ModelRateLimited("wait")]  # surely costs nothing
    await house.cap(money="1")
    async with house.anthropic() as other:
        with pytest.raises(anthropic.RateLimitError):
            await other.messages.create(model=SONNET, max_tokens=100, messages=HELLO)
    used = await house.usage()
    assert (used["calls"], used["tokens"]) == (1, 15)
    assert used["reserved_tokens"] == 0
    assert [one["outcome"] for one in await house.facts()] == ["ok", "budget_exhausted", "ERR_LLM_RATE_LIMITED"]


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_client_that_goes_away_breaks_the_call_off_and_it_is_counted(house: House, streamed: bool) -> None:
    await house.cap(money="1")
    house.claude.pieces, house.claude.pause = ("It", "is"), asyncio.Event()
    body = {"model": SONNET, "messages": HELLO, "max_tokens": 10, "stream": streamed}
    async with house.platform.acting(house.key()) as leaving:
        if streamed:
            async with leaving.stream("POST", "/v1/chat/completions", json=body) as answer:
                async for _line in answer.aiter_lines():
                    break
        else:
            with pytest.raises(httpx.ReadTimeout):
                await leaving.post("/v1/chat/completions", json=body, timeout=0.3)
    fact = await house.until_told("cancelled")
    assert house.claude.was_cancelled
    assert fact["micros"] is None
    used = await house.usage()
    assert (used["calls"], used["unknown_calls"], used["reserved_tokens"]) == (1, 1, 0)
    assert used["tokens"] > 10  # at its reserve: nobody knows what the provider bills


async def test_what_a_lost_process_had_reserved_is_settled(house: House) -> None:
    await house.cap(money="1")
    house.claude.pieces, house.claude.pause = ("It",), asyncio.Event()
    async with house.platform.acting(house.key()) as client:
        body = {"model": SONNET, "messages": HELLO, "max_tokens": 10}
        lost = asyncio.create_task(client.post("/v1/chat/completions", json=body))
        async with asyncio.timeout(10):
            while not (await house.usage()).get("reserved_tokens"):
                await asyncio.sleep(0.02)
        database = house.platform.held.parts.database
        await forget(database, asking.KEPT, at=now())
        assert (await house.usage())["reserved_tokens"], "it is young enough to be under way"
        await forget(database, asking.KEPT, at=now() + asking.KEPT.kept + timedelta(seconds=1))
        used = await house.usage()
        assert (used["reserved_tokens"], used["calls"], used["unknown_calls"]) == (0, 1, 1)
        (fact,) = await house.facts()
        assert fact["outcome"] == "lost"
        lost.cancel()
        await asyncio.gather(lost, return_exceptions=True)


def test_the_time_in_an_id_is_what_forgetting_goes_by() -> None:
    one, other = ids.new("ask"), ids.new("ask")
    assert one < other
    assert one[:8] == other[:8]


async def test_an_agent_answers_as_a_model_would(house: House) -> None:
    await house.platform.apply([{"text": "All done."}], [])
    async with house.openai() as client:
        raw = await client.chat.completions.with_raw_response.create(model="agent:tester", messages=HELLO)
        found = raw.parse()
        assert found.choices[0].message.content == "All done."
        assert found.model == "agent:tester"
        run_id = raw.headers["x-agentos-run-id"]
        assert found.id == run_id == (found.model_extra or {})["run_id"]
        assert (found.model_extra or {})["provider"] == "stub"
        assert found.usage is not None
        assert found.usage.prompt_tokens > 0
        names = [one.id async for one in client.models.list()]
        assert {"agent:tester", f"openai/{GPT}", "stub"} <= set(names)
    run = (await house.platform.author.get(f"/api/v1/runs/{run_id}")).json()
    assert run["input"] == {"task_description": "hello"}
    assert run["requested_by"] == "author"
    async with house.anthropic() as other:
        async with other.messages.stream(model="agent:tester", max_tokens=5, messages=HELLO) as stream:
            assert await stream.get_final_text() == "All done."
        assert "agent:tester" in [one.id async for one in other.models.list()]


async def test_the_same_idempotency_key_is_the_same_run_whichever_door_it_came_by(house: House) -> None:
    await house.platform.apply([{"text": "Once."}], [])
    key = {"Idempotency-Key": "k1"}
    first = await house.platform.run({"task_description": "hello"}, **key)
    async with house.openai() as client:
        found = await client.chat.completions.create(model="agent:tester", messages=HELLO, extra_headers=key)
    assert found.id == first["id"]
    assert len((await house.platform.author.get("/api/v1/runs")).json()["items"]) == 1


async def test_a_run_that_waits_for_a_person_is_told_and_a_stream_waits_with_it(house: House) -> None:
    await house.platform.apply([calls(("pay", 1)), DONE], ["pay"], tier="L3")
    async with house.openai(max_retries=2) as client:
        with pytest.raises(openai.ConflictError, match="a person must approve") as caught:
            await client.chat.completions.create(
                model="agent:tester", messages=HELLO, extra_headers={"Idempotency-Key": "k2"}
            )
        run_id = caught.value.response.headers["x-agentos-run-id"]
        assert len((await house.platform.author.get("/api/v1/runs")).json()["items"]) == 1, "no retry by itself"

        async def streamed() -> str:
            parts = []
            stream = await client.chat.completions.create(
                model="agent:tester", messages=HELLO, stream=True, extra_headers={"Idempotency-Key": "k2"}
            )
            async for chunk in stream:
                assert chunk.id == run_id
                parts += [one.delta.content or "" for one in chunk.choices]
            return "".join(parts)

        waiting = asyncio.create_task(streamed())
        question = await house.platform.question(run_id)
        answer = await house.platform.approver.post(f"/api/v1/approvals/{question['id']}/approve", json={})
        assert answer.status_code == 200, answer.text
        assert await waiting == "done"


async def test_an_agent_that_fails_says_so_and_no_stranger_finds_it(house: House) -> None:
    await house.platform.apply([calls(("note", 1)), DONE], ["note"], tier="L0", onDenied="stop")
    async with house.openai() as client:
        with pytest.raises(openai.ConflictError, match="is blocked"):
            await client.chat.completions.create(model="agent:tester", messages=HELLO)
        with pytest.raises(openai.BadRequestError, match="tools"):
            tools: Any = [{"type": "function", "function": {"name": "weather", "parameters": WEATHER}}]
            await client.chat.completions.create(model="agent:tester", messages=HELLO, tools=tools)
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(model="agent:nobody", messages=HELLO)
    async with house.anthropic(await house.platform.stranger()) as other:
        with pytest.raises(anthropic.NotFoundError):
            await other.messages.create(model="agent:tester", max_tokens=5, messages=HELLO)


async def test_personal_data_of_an_agents_output_is_kept_from_a_key_that_may_not_see_it(house: House) -> None:
    await house.platform.apply([{"text": "Write to bob.miller@example.com."}], [])
    machine = (await house.platform.admin.post("/api/v1/keys", json={"machine": "m", "scopes": ["runs.start"]})).json()
    async with house.openai(machine["secret"]) as client, house.openai() as whole:
        found = await client.chat.completions.create(model="agent:tester", messages=HELLO)
        stream = await client.chat.completions.create(model="agent:tester", messages=HELLO, stream=True)
        told = "".join([one.choices[0].delta.content or "" async for one in stream])
        for text_of in (found.choices[0].message.content, told):
            assert text_of is not None
            assert text_of.startswith("Write to ")
            assert "bob.miller" not in text_of
        seen = await whole.chat.completions.create(model="agent:tester", messages=HELLO)
    assert seen.choices[0].message.content == "Write to bob.miller@example.com."


async def test_calls_that_wait_for_models_take_no_turns_of_their_organization(house: House) -> None:
    house.claude.pieces, house.claude.pause = ("It is so.",), asyncio.Event()
    many = 2 * house.platform.held.requests.at_once
    async with house.openai() as client:
        asked = [asyncio.create_task(client.chat.completions.create(model=SONNET, messages=HELLO)) for _ in range(many)]
        async with asyncio.timeout(20):
            while len(house.claude.asked) < many:
                await asyncio.sleep(0.02)
        house.claude.pause.set()
        answers = await asyncio.gather(*asked)
    assert len({one.id for one in answers}) == many


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


@pytest.fixture(params=["FORCE_STUB_ADAPTER", "DISABLE_LIVE_ADAPTERS"])
def switch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv(request.param, "true")
    yield request.param


async def test_switches_hold_for_clients_and_a_stub_says_that_it_is_one(
    switch: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(database_url, monkeypatch) as platform:
        house = await furnished(platform)
        async with house.openai() as client, house.anthropic() as other:
            if switch == "DISABLE_LIVE_ADAPTERS":
                with pytest.raises(openai.InternalServerError) as caught:
                    await client.chat.completions.create(model=SONNET, messages=HELLO)
                assert caught.value.status_code == 503
                assert switch in caught.value.message
            else:
                found = await client.chat.completions.create(model=SONNET, messages=HELLO)
                assert (found.model, (found.model_extra or {})["provider"]) == ("stub", "stub")
                said = await other.messages.create(model=SONNET, max_tokens=5, messages=HELLO)
                assert said.model == "stub"
            plain = await client.chat.completions.create(model="stub", messages=HELLO)
            assert plain.model == "stub"
            assert plain.choices[0].message.content == "This is the stub: no model was asked."
        assert not house.claude.asked + house.gpt.asked
