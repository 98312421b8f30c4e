"""What a client asks a model reaches it, and what the model says comes back in the client's form."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import anthropic
import pytest

from agentos.runtime.inference import Answer, Call, Opaque, Question, Stop, Usage
from agentos.runtime.inference.model import ModelOverloaded
from tests.journeys.gateway.conftest import GPT, HELLO, SONNET, WEATHER, House


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


async def test_a_fallback_that_the_client_names_answers_and_is_named(house: House) -> None:
    house.claude.next = [ModelOverloaded("full")]
    async with house.openai() as client:
        found = await client.chat.completions.create(
            model=SONNET, messages=HELLO, extra_body={"fallback": [f"openai/{GPT}"]}
        )
    assert found.model == f"openai/{GPT}"
    (fact,) = await house.facts()
    assert fact["attempts"] == [f"claude/{SONNET}: ERR_LLM_OVERLOADED", f"openai/{GPT}: ok"]
