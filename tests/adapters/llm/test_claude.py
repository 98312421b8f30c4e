"""The claude adapter against a server that speaks its wire format, well and badly."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from agentos.adapters.llm import ModelPolicyInvalid
from agentos.adapters.llm.claude import Claude, check_policy
from agentos.adapters.llm.claude_schemas import understood
from agentos.adapters.llm.claude_wire import request
from agentos.adapters.llm.settings import ClaudeSettings
from agentos.kernel.settings import BadSetting
from agentos.runtime.inference import Answer, Call, Image, Message, Opaque, Result, Stop, Usage
from agentos.runtime.inference.model import ModelMisbehaved
from tests.adapters.llm.conftest import HELLO
from tests.adapters.llm.endpoints import TOOL, asked, question
from tests.fakes.models import KEY, FakeModels, Reply, serving


@pytest.fixture
async def claude(fake: FakeModels) -> AsyncIterator[Claude]:
    async with asked("claude", fake.url, KEY) as model:
        assert isinstance(model, Claude)
        yield model


async def test_an_answer_is_put_together_from_its_stream(claude: Claude, fake: FakeModels) -> None:
    answer = await claude.ask(question(max_tokens=77, options={"temperature": 0, "provider": "claude"}))
    assert (answer.text, answer.stop, answer.calls) == (HELLO.text, Stop.END, ())
    assert (answer.provider, answer.model, answer.usage) == ("claude", "model-test-1", Usage(25, 15))
    (body,) = fake.requests
    assert body == {
        "model": "model-test-1",
        "max_tokens": 77,
        "system": "Be brief.",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
        "stream": True,
        "thinking": {"type": "disabled"},
        "temperature": 0,
    }
    assert fake.headers[0]["x-api-key"] == KEY
    assert fake.headers[0]["anthropic-version"] == "2023-06-01"


async def test_parallel_calls_go_out_and_their_results_come_back(claude: Claude, fake: FakeModels) -> None:
    fake.brain = lambda _: Reply(
        "Looking.", calls=[("git_log", {"path": "a b", "deep": {"x": [1, None]}}), ("git_log", {})]
    )
    first = await claude.ask(question(tools=(TOOL,)))
    assert (first.text, first.stop) == ("Looking.", Stop.CALLS)
    assert [(call.skill, call.arguments) for call in first.calls] == [
        ("git_log", {"path": "a b", "deep": {"x": [1, None]}}),
        ("git_log", {}),
    ]
    fake.brain = lambda _: HELLO
    results = (Result(first.calls[0].id, '{"commits":[]}'), Result(first.calls[1].id, "It is denied.", failed=True))
    await claude.ask(
        question(
            Message("user", "Hi"),
            Message("assistant", first.text, calls=first.calls),
            Message("tool", results=results),
            tools=(TOOL,),
        )
    )
    assert fake.requests[0]["tools"] == [
        {"name": "git_log", "description": "Read commits", "input_schema": TOOL.schema}
    ]
    assert fake.requests[1]["messages"][1]["content"] == [
        {"type": "text", "text": "Looking."},
        *({"type": "tool_use", "id": call.id, "name": "git_log", "input": call.arguments} for call in first.calls),
    ]
    assert fake.requests[1]["messages"][2]["content"] == [
        {"type": "tool_result", "tool_use_id": first.calls[0].id, "content": '{"commits":[]}'},
        {
            "type": "tool_result",
            "tool_use_id": first.calls[1].id,
            "content": "It is denied.",
            "is_error": True,
            "cache_control": {"type": "ephemeral"},
        },
    ]


async def test_empty_turns_are_left_out_and_turns_of_one_side_are_joined(claude: Claude, fake: FakeModels) -> None:
    call = Call("toolu_1", "git_log", {})
    await claude.ask(
        question(
            Message("user", "One"),
            Message("assistant", "  "),
            Message("user", "Two"),
            Message("assistant", calls=(call,)),
            Message("tool", results=(Result("toolu_1", "[]"),)),
            Message("user", "Three"),
        )
    )
    assert [len(message["content"]) for message in fake.requests[0]["messages"]] == [2, 1, 2]
    assert fake.requests[0]["messages"][2]["content"][0]["type"] == "tool_result"


async def test_input_tokens_count_what_the_cache_gave_and_took(claude: Claude, fake: FakeModels) -> None:
    usage = {
        "input_tokens": 3,
        "cache_read_input_tokens": 1000,
        "cache_creation_input_tokens": 200,
        "output_tokens": 9,
    }
    fake.brain = lambda _: Reply("Good day to you.", usage=usage)
    answer = await claude.ask(question())
    assert answer.usage == Usage(input=1203, output=9, cache_read=1000, cache_write=200)


THINKING = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
THOUGHT = {"type": "thinking", "thinking": "What would Deep Thought say?", "signature": "EqQBCgIYAhIM"}


async def test_thinking_stays_out_of_the_text_and_goes_back_unchanged(claude: Claude, fake: FakeModels) -> None:
    fake.brain = lambda _: Reply("Let me look.", thinking=THOUGHT["thinking"], calls=[("git_log", {})])
    heard: list[str] = []
    first = await claude.ask(question(tools=(TOOL,), options=THINKING), hear=heard.append)
    assert first.text == "".join(heard) == "Let me look."
    assert first.opaque == Opaque("claude", (THOUGHT, {"type": "text"}, {"type": "tool_use"}))
    journaled = msgspec.convert(msgspec.json.decode(msgspec.json.encode(first)), Answer)
    turns = (
        Message("user", "Hi"),
        Message("assistant", journaled.text, calls=journaled.calls, opaque=journaled.opaque),
        Message("tool", results=(Result(journaled.calls[0].id, "[]"),)),
    )
    await claude.ask(question(*turns, tools=(TOOL,), options=THINKING))
    assert fake.requests[0]["thinking"] == fake.requests[1]["thinking"] == THINKING["thinking"]
    said = fake.requests[1]["messages"][1]["content"]
    assert said[0] == THOUGHT
    assert [block["type"] for block in said] == ["thinking", "text", "tool_use"]


@pytest.mark.parametrize(
    ("provider", "options"),
    [("openai", THINKING), ("claude", {}), ("claude", {"thinking": {"type": "disabled"}})],
)
async def test_thinking_goes_to_nobody_else_and_nowhere_when_it_is_off(
    claude: Claude, fake: FakeModels, provider: str, options: dict[str, Any]
) -> None:
    turn = Message("assistant", "Forty-two.", opaque=Opaque(provider, (THOUGHT, {"type": "text"})))
    await claude.ask(question(Message("user", "Hi"), turn, Message("user", "And?"), options=options))
    assert fake.requests[0]["messages"][1]["content"] == [{"type": "text", "text": "Forty-two."}]


async def test_thinking_between_calls_keeps_its_place(claude: Claude, fake: FakeModels) -> None:
    marks = (THOUGHT, {"type": "tool_use"}, THOUGHT, {"type": "tool_use"})
    calls = (Call("toolu_1", "git_log", {}), Call("toolu_2", "git_log", {}))
    turns = (
        Message("user", "Hi"),
        Message("assistant", calls=calls, opaque=Opaque("claude", marks)),
        Message("tool", results=(Result("toolu_1", "[]"), Result("toolu_2", "[]"))),
    )
    await claude.ask(question(*turns, options={"thinking": "model_default"}))
    said = fake.requests[0]["messages"][1]["content"]
    assert [block["type"] for block in said] == ["thinking", "tool_use", "thinking", "tool_use"]
    assert "thinking" not in fake.requests[0]


async def test_thinking_is_counted(claude: Claude, fake: FakeModels) -> None:
    usage = {"input_tokens": 3, "output_tokens": 90, "output_tokens_details": {"thinking_tokens": 70}}
    fake.brain = lambda _: Reply("Forty-two.", usage=usage)
    assert (await claude.ask(question())).usage == Usage(input=3, output=90, reasoning=70)


async def test_pictures_are_passed_through_before_their_text(claude: Claude, fake: FakeModels) -> None:
    pictures = (Image("image/png", data="aGk="), Image(url="https://example.com/cat.png"))
    await claude.ask(question(Message("user", "What is it?", images=pictures)))
    assert fake.requests[0]["messages"][0]["content"] == [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/cat.png"}},
        {"type": "text", "text": "What is it?"},
    ]


async def test_what_is_cached_is_the_policys_to_say(claude: Claude, fake: FakeModels) -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    for cache in (True, False):
        await claude.ask(question(tools=(TOOL,), options={"cache": cache}))
    asked_for, refused = fake.requests
    assert asked_for["system"] == [{"type": "text", "text": "Be brief."} | mark]
    assert asked_for["tools"][-1]["cache_control"] == mark["cache_control"]
    assert asked_for["messages"][-1]["content"][-1] == {"type": "text", "text": "Hi"} | mark
    assert "cache_control" not in str(refused)
    assert "cache_control" not in str(TOOL.schema)


SCHEMA = {
    "type": "object",
    "properties": {"notes": {"type": "string", "maxLength": 500}, "count": {"type": ["integer", "null"], "minimum": 0}},
    "required": ["notes"],
}


async def test_a_schema_is_held_to_as_far_as_the_wire_can_say_it(claude: Claude, fake: FakeModels) -> None:
    await claude.ask(question(schema=SCHEMA))
    assert fake.requests[0]["output_config"] == {
        "format": {
            "type": "json_schema",
            "schema": {
                "type": "object",
                "properties": {
                    "notes": {"type": "string"},
                    "count": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
                },
                "required": ["notes"],
                "additionalProperties": False,
            },
        }
    }
    await claude.ask(question(schema=SCHEMA, options={"structured": False}))
    await claude.ask(question(schema={"type": "object"}))  # of any members: to close it would forbid them
    assert all("output_config" not in body for body in fake.requests[1:])


NODE = {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object", "additionalProperties": {"type": "string"}},
        {"type": "object", "patternProperties": {"^a": {"type": "string"}}},
        {"allOf": [SCHEMA, SCHEMA]},
        {"type": "array"},
        {"enum": [{"a": 1}]},
        {"$ref": "#/$defs/node", "$defs": {"node": NODE}},
        {"$ref": "#/$defs/none"},
        {"$ref": "https://example.com/schema"},
    ],
)
def test_a_schema_that_allows_more_than_can_be_said_is_not_said(schema: dict[str, Any]) -> None:
    assert understood(schema) is None


def test_what_a_schema_refers_to_is_said_with_it() -> None:
    item = {"type": "object", "properties": {"kind": {"enum": ["a", "b"], "title": "Kind"}}, "required": ["kind"]}
    schema = {"type": "array", "items": {"$ref": "#/$defs/item"}, "minItems": 1, "maxItems": 9, "$defs": {"item": item}}
    assert understood(schema) == {
        "type": "array",
        "items": {"$ref": "#/$defs/item"},
        "minItems": 1,
        "$defs": {"item": item | {"additionalProperties": False}},
    }


@pytest.mark.parametrize(
    ("policy", "where"),
    [
        ({}, "name"),
        ({"name": 7}, "name"),
        ({"name": "claude-x", "cache": "1h"}, "cache"),
        ({"name": "claude-x", "structured": 1}, "structured"),
        ({"name": "claude-x", "thinking": "enabled"}, "thinking"),
        ({"name": "claude-x", "thinking": {"type": "model_default"}}, "thinking"),
        ({"name": "claude-x", "thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"name": "claude-x", "thinking": {"type": "enabled", "budget_tokens": 4096}}, "thinking.budget_tokens"),
    ],
)
def test_a_policy_that_no_call_can_be_made_with_is_refused_at_its_place(policy: dict[str, Any], where: str) -> None:
    with pytest.raises(ModelPolicyInvalid) as caught:
        check_policy({"provider": "claude"} | policy)
    assert caught.value.where == where
    assert caught.value.then


@pytest.mark.parametrize("thinking", ["model_default", {"type": "adaptive"}, THINKING["thinking"]])
def test_a_policy_may_switch_thinking_on(thinking: Any) -> None:
    check_policy({"provider": "claude", "name": "claude-x", "thinking": thinking})


@pytest.mark.parametrize(
    ("reason", "stop"),
    [
        ("end_turn", Stop.END),
        ("stop_sequence", Stop.END),
        ("max_tokens", Stop.LIMIT),
        ("model_context_window_exceeded", Stop.LIMIT),
        ("refusal", Stop.REFUSAL),
    ],
)
async def test_a_reason_to_stop_is_told_apart(claude: Claude, fake: FakeModels, reason: str, stop: Stop) -> None:
    fake.brain = lambda _: Reply("As far as I came", stop=reason)
    assert (await claude.ask(question())).stop is stop


async def test_a_call_that_the_limit_cut_is_never_delivered(claude: Claude, fake: FakeModels) -> None:
    calls = [("git_log", {"path": "whole"}), ("git_log", {"path": "cut in the middle"})]
    fake.brain = lambda _: Reply(calls=calls, stop="max_tokens", cut_last_call=True)
    answer = await claude.ask(question(tools=(TOOL,)))
    assert answer.stop is Stop.LIMIT
    assert [call.arguments for call in answer.calls] == [{"path": "whole"}]


async def test_nothing_is_called_on_the_word_of_a_refusal(claude: Claude, fake: FakeModels) -> None:
    fake.brain = lambda _: Reply("No.", calls=[("git_log", {})], stop="refusal")
    answer = await claude.ask(question(tools=(TOOL,)))
    assert (answer.stop, answer.calls) == (Stop.REFUSAL, ())


async def test_complete_calls_are_calls_whatever_the_reason_is_called(claude: Claude, fake: FakeModels) -> None:
    fake.brain = lambda _: Reply(calls=[("git_log", {})], stop="end_turn")
    assert (await claude.ask(question(tools=(TOOL,)))).stop is Stop.CALLS


@pytest.mark.parametrize(
    "reply",
    [
        Reply("Hm.", stop="a_reason_of_next_year"),
        Reply("Hm.", stop="tool_use"),
        Reply(calls=[("git_log", {"path": "cut without a reason"})], cut_last_call=True),
    ],
)
async def test_an_answer_of_unknown_form_is_a_bug_and_not_an_answer(
    claude: Claude, fake: FakeModels, reply: Reply
) -> None:
    fake.brain = lambda _: reply
    with pytest.raises(ModelMisbehaved):
        await claude.ask(question(tools=(TOOL,)))


async def test_an_agent_can_be_run_against_a_fake_on_its_own_thread() -> None:
    def think(body: dict[str, Any]) -> Reply:
        last = body["messages"][-1]["content"][-1]
        return Reply(f"Read {last['content']}.") if last["type"] == "tool_result" else Reply(calls=[("git_log", {})])

    with serving(FakeModels(brain=think)) as fake:
        model = Claude(ClaudeSettings.read(api_key=KEY, base_url=fake.url))
        first = await model.ask(question(tools=(TOOL,)))
        turns = (
            Message("user", "Hi"),
            Message("assistant", calls=first.calls),
            Message("tool", results=(Result(first.calls[0].id, "3 commits"),)),
        )
        assert (await model.ask(question(*turns, tools=(TOOL,)))).text == "Read 3 commits."
        await model.close()


def test_a_base_url_with_credentials_is_refused() -> None:
    with pytest.raises(BadSetting):
        ClaudeSettings.read(base_url="https://user:password@example.com")


def test_definitions_that_refer_to_each_other_are_looked_into_once_each() -> None:
    levels = 200
    twice = {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(levels)}
    schema = {"$defs": twice | {f"d{levels}": {"type": "string"}}, "$ref": "#/$defs/d0"}
    assert understood(schema) == schema


def test_a_chain_of_references_without_end_is_told_in_words_only() -> None:
    chain = {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}]} for n in range(1500)}
    assert understood({"$defs": chain | {"d1500": {"type": "string"}}, "$ref": "#/$defs/d0"}) is None


def test_an_id_of_another_model_is_told_in_a_form_that_the_wire_takes_and_kept_as_it_was() -> None:
    foreign, other, own = "functions.look:0", "functions.look:1", "toolu_01AbC-d"
    called = Message("assistant", calls=tuple(Call(one, "look", {}) for one in (foreign, other, own)))
    given = Message("tool", results=tuple(Result(one, "{}") for one in (foreign, other, own)))
    asked_ = question(Message("user", "go"), called, given)
    _, turn, results = request(asked_)["messages"]
    ids = [block["id"] for block in turn["content"]]
    assert ids == [block["tool_use_id"] for block in results["content"]]
    assert len(set(ids)) == 3
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]+", one) for one in ids)
    assert ids[2] == own
    assert request(asked_)["messages"][1] == turn
    assert called.calls[0].id == foreign
