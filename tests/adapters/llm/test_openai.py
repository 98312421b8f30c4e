"""The chat completions adapter: what it sends, what it makes of a stream, and of the forms that other servers give."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from agentos.adapters.llm import ModelPolicyInvalid
from agentos.adapters.llm.endpoint import Failed
from agentos.adapters.llm.openai import OpenAI, check_policy, endpoints
from agentos.adapters.llm.openai_errors import failure_of
from agentos.adapters.llm.openai_wire import Draft, request
from agentos.adapters.llm.settings import OpenAISettings
from agentos.adapters.secrets.environment import environment_secret
from agentos.kernel.errors import AgentOSError
from agentos.kernel.settings import BadSetting
from agentos.runtime.inference import Call, Image, Message, Opaque, Result, Stop, Usage
from agentos.runtime.inference.model import (
    ContentBlocked,
    ContextTooLong,
    ModelMisbehaved,
    ModelNotConfigured,
    ModelOverloaded,
    ModelRateLimited,
    ModelRefusedKey,
    ModelRejectedRequest,
    ModelUnavailable,
    ModelUnknown,
)
from tests.adapters.llm.conftest import HELLO
from tests.adapters.llm.endpoints import TOOL, asked, question
from tests.fakes.models import KEY, FakeModels, Reply


@pytest.fixture
async def openai(fake: FakeModels) -> AsyncIterator[OpenAI]:
    async with asked("openai", fake.url, KEY) as model:
        assert isinstance(model, OpenAI)
        yield model


def drafted(*chunks: dict[str, Any]) -> Draft:
    draft = Draft("local", question())
    for chunk in chunks:
        draft.take(msgspec.json.encode(chunk))
    return draft


def delta(finish: str | None = None, **said: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": said, "finish_reason": finish}]}


async def test_an_answer_is_put_together_from_its_stream(openai: OpenAI, fake: FakeModels) -> None:
    answer = await openai.ask(question(max_tokens=77, options={"temperature": 0, "provider": "openai"}))
    assert (answer.text, answer.stop, answer.calls) == (HELLO.text, Stop.END, ())
    assert (answer.provider, answer.model, answer.usage) == ("openai", "model-test-1", Usage(25, 15))
    (body,) = fake.requests
    assert body == {
        "model": "model-test-1",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_completion_tokens": 77,
        "temperature": 0,
    }
    assert fake.headers[0]["authorization"] == f"Bearer {KEY}"


async def test_calls_and_their_results_have_the_wires_form(openai: OpenAI, fake: FakeModels) -> None:
    call = Call("call_1", "git_log", {"path": "ä"})
    turns = (
        Message("user", "Hi"),
        Message("assistant", "  ", calls=(call,), opaque=Opaque("claude", ({"type": "thinking"},))),
        Message("tool", results=(Result("call_1", "It is denied.", failed=True),)),
        Message("assistant", " "),
        Message("user", "And?"),
    )
    await openai.ask(question(*turns, tools=(TOOL,), options={"tool_choice": "none", "parallel_tool_calls": False}))
    body = fake.requests[0]
    assert body["messages"][2:] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "git_log", "arguments": '{"path":"ä"}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "It is denied."},
        {"role": "user", "content": "And?"},
    ]
    assert body["tools"] == [
        {
            "type": "function",
            "function": {"name": "git_log", "description": "Read commits", "parameters": TOOL.schema},
        }
    ]
    assert (body["tool_choice"], body["parallel_tool_calls"]) == ("none", False)


async def test_what_is_about_tools_is_left_out_where_there_are_none(openai: OpenAI) -> None:
    assert (await openai.ask(question(options={"tool_choice": "none"}))).text == HELLO.text


async def test_pictures_are_passed_through(openai: OpenAI, fake: FakeModels) -> None:
    pictures = (Image("image/png", data="aGk="), Image(url="https://example.com/cat.png"))
    await openai.ask(question(Message("user", "What is it?", images=pictures)))
    assert fake.requests[0]["messages"][-1]["content"] == [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
        {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}},
        {"type": "text", "text": "What is it?"},
    ]


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        ({"type": "object", "properties": {"a": {}}, "required": ["a"], "additionalProperties": False}, True),
        ({"type": "object", "properties": {"a": {}}, "required": ["a"]}, False),
        ({"type": "object", "properties": {"a": {}}, "additionalProperties": False}, False),
        ({"type": "array", "items": {"type": "object"}}, False),
        ({"type": "string"}, True),
    ],
)
def test_a_schema_is_held_to_strictly_where_it_can_be(schema: dict[str, Any], strict: bool) -> None:
    form = {"name": "answer", "schema": schema, "strict": strict}
    assert request(question(schema=schema))["response_format"] == {"type": "json_schema", "json_schema": form}
    assert "response_format" not in request(question(schema=schema, options={"structured": False}))


async def test_cached_and_reasoning_tokens_are_counted(openai: OpenAI, fake: FakeModels) -> None:
    usage = {
        "prompt_tokens": 1200,
        "completion_tokens": 90,
        "prompt_tokens_details": {"cached_tokens": 1000, "cache_write_tokens": 100},
        "completion_tokens_details": {"reasoning_tokens": 70},
    }
    fake.brain = lambda _: Reply("Good day.", usage=usage)
    assert (await openai.ask(question())).usage == Usage(1200, 90, cache_read=1000, cache_write=100, reasoning=70)


@pytest.mark.parametrize(
    ("reason", "stop"),
    [("stop", Stop.END), ("length", Stop.LIMIT), ("content_filter", Stop.REFUSAL), ("refusal", Stop.REFUSAL)],
)
async def test_a_reason_to_stop_is_told_apart(openai: OpenAI, fake: FakeModels, reason: str, stop: Stop) -> None:
    fake.brain = lambda _: Reply("As far as I came", stop=reason)
    answer = await openai.ask(question())
    assert (answer.stop, answer.text) == (stop, "As far as I came")


async def test_a_call_that_the_limit_cut_is_never_delivered(openai: OpenAI, fake: FakeModels) -> None:
    calls = [("git_log", {"path": "whole"}), ("git_log", {"path": "cut in the middle"})]
    fake.brain = lambda _: Reply(calls=calls, stop="length", cut_last_call=True)
    answer = await openai.ask(question(tools=(TOOL,)))
    assert (answer.stop, [call.arguments for call in answer.calls]) == (Stop.LIMIT, [{"path": "whole"}])


async def test_nothing_is_called_on_the_word_of_a_filter(openai: OpenAI, fake: FakeModels) -> None:
    fake.brain = lambda _: Reply("No.", calls=[("git_log", {})], stop="content_filter")
    answer = await openai.ask(question(tools=(TOOL,)))
    assert (answer.stop, answer.calls) == (Stop.REFUSAL, ())


@pytest.mark.parametrize(
    "reply",
    [
        Reply("Hm.", stop="a_reason_of_next_year"),
        Reply("Hm.", stop="tool_calls"),
        Reply(calls=[("git_log", {"path": "cut without a reason"})], cut_last_call=True),
    ],
)
async def test_an_answer_of_unknown_form_is_a_bug_and_not_an_answer(
    openai: OpenAI, fake: FakeModels, reply: Reply
) -> None:
    fake.brain = lambda _: reply
    with pytest.raises(ModelMisbehaved):
        await openai.ask(question(tools=(TOOL,)))


def call(index: int | None, name: str | None, arguments: str, known: str | None = None) -> dict[str, Any]:
    return {"index": index, "id": known, "function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize(
    "parts",
    [
        [call(0, "a", "", "1"), call(0, None, "{}"), call(1, "b", '{"x"', "2"), call(1, None, ":1}")],
        [call(0, "a", "{}", "1"), call(0, "b", '{"x":1}', "2")],  # whole calls, all of one index
        [call(None, "a", "{}", "1"), call(None, "b", '{"x":1}', "2")],  # and of none
        [call(0, "a", "{", "1"), call(1, "b", '{"x"', "2"), call(0, "", "}", "1"), call(1, None, ":1}", "2")],
    ],
)
def test_pieces_of_calls_find_each_other_as_each_server_marks_them(parts: list[dict[str, Any]]) -> None:
    answer = drafted(*(delta(tool_calls=[part]) for part in parts), delta("tool_calls")).answer()
    assert answer.calls == (Call("1", "a", {}), Call("2", "b", {"x": 1}))


def test_a_call_without_an_id_gets_one() -> None:
    answer = drafted(delta(tool_calls=[call(None, "a", "{}"), call(None, "b", "{}")]), delta("stop")).answer()
    assert [(one.id, one.skill) for one in answer.calls] == [("call_1_0", "a"), ("call_1_1", "b")]
    assert answer.stop is Stop.CALLS


def test_an_answer_is_whole_when_the_choice_says_so_though_nobody_says_done() -> None:
    assert not drafted(delta(content="Hel")).whole
    assert drafted(delta(content="Hello"), delta("stop")).whole


@pytest.mark.parametrize(
    ("chunk", "kind"),
    [
        ({"error": {"code": 429, "message": "Rate limited upstream"}}, ModelRateLimited),
        ({"error": {"code": "server_error", "message": "?"}, "choices": []}, ModelOverloaded),
        (
            {"object": "error", "message": "EngineCore died", "type": "InternalServerError", "code": 500},
            ModelOverloaded,
        ),
        ({"error": "the model runner has stopped"}, ModelUnavailable),
        ({"choices": [{"index": 0, "error": {"code": 502, "message": "bad"}}]}, ModelOverloaded),
        (delta("error"), ModelUnavailable),
    ],
)
def test_an_error_inside_a_stream_is_understood_in_each_form(chunk: dict[str, Any], kind: type[AgentOSError]) -> None:
    with pytest.raises(Failed) as caught:
        drafted(delta(content="Hel"), chunk)
    assert caught.value.failure.kind is kind


OVER = "This model's maximum context length is 8192 tokens, however you requested 8977 tokens."
VLLM = "You passed 1015 input tokens and requested 10 output tokens. However, the model's context length is only 1024."


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"error": {"message": OVER, "type": "invalid_request_error", "code": None}}, ContextTooLong),
        (400, {"error": {"message": VLLM, "type": "BadRequestError", "code": 400}}, ContextTooLong),
        (400, {"object": "error", "message": OVER, "type": "BadRequestError", "code": 400}, ContextTooLong),
        (400, {"error": {"message": "gpt-9 is not a valid model ID", "code": 400}}, ModelUnknown),
        (404, {"error": "model 'llama9' not found"}, ModelUnknown),
        (404, {"error": {"message": "No endpoints found for a/b.", "code": 404}}, ModelUnknown),
        (404, {"object": "error", "message": "The model `x` does not exist.", "code": 404}, ModelUnknown),
        (404, {"detail": "Not Found"}, ModelNotConfigured),
        (403, {"error": {"code": 403, "message": "m", "metadata": {"flagged_input": "x"}}}, ContentBlocked),
        (403, {"error": {"code": 403, "message": "Key limit exceeded"}}, ModelRefusedKey),
        (402, {"error": {"code": 402, "message": "Insufficient credits"}}, ModelRefusedKey),
        (429, {"error": {"message": "?", "type": "insufficient_quota", "code": "insufficient_quota"}}, ModelRefusedKey),
        (429, [{"error": {"code": 429, "message": "Quota", "status": "RESOURCE_EXHAUSTED"}}], ModelRateLimited),
        (400, {"error": {"message": "filtered", "code": "content_filter"}}, ContentBlocked),
        (422, {"error": {"message": "max_tokens: must be positive"}}, ModelRejectedRequest),
        (200, {"error": {"code": 503, "message": "No provider is available"}}, ModelOverloaded),
        (500, "no JSON", ModelOverloaded),
    ],
)
def test_an_error_is_understood_in_each_servers_form(status: int, body: Any, kind: type[AgentOSError]) -> None:
    failure = failure_of(status, msgspec.json.encode(body))
    assert failure is not None
    assert failure.kind is kind


def read(**given: Any) -> list[OpenAI]:
    return endpoints(OpenAISettings.read(**given), environment_secret)


async def test_a_named_endpoint_is_a_provider_with_a_key_of_its_own(
    fake: FakeModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    default, router, local = read(
        endpoints=f"open-router={fake.url}/v1, local={fake.url}/v1/", local="local", api_key="sk-other"
    )
    assert [(one.provider, one.local, one.configured) for one in (default, router, local)] == [
        ("openai", False, True),
        ("open-router", False, False),
        ("local", True, True),
    ]
    with pytest.raises(ModelNotConfigured, match="AGENTOS_SECRET_OPEN_ROUTER_KEY"):
        await router.ask(question())
    monkeypatch.setenv("AGENTOS_SECRET_OPEN_ROUTER_KEY", KEY)
    assert router.configured
    answer = await router.ask(question(max_tokens=9, options={"extra": {"top_k": 3, "provider": {"sort": "price"}}}))
    assert (answer.provider, answer.text) == ("open-router", HELLO.text)
    assert fake.headers[0]["authorization"] == f"Bearer {KEY}"
    assert (fake.requests[0]["max_tokens"], fake.requests[0]["top_k"]) == (9, 3)  # the name that all servers know
    with pytest.raises(ModelRefusedKey):  # a machine of one's own is asked without a key; this one wants one
        await local.ask(question())
    assert "authorization" not in fake.headers[-1]
    for one in (default, router, local):
        await one.close()


@pytest.mark.parametrize(
    "given",
    [
        {"endpoints": "claude=http://127.0.0.1:1/v1"},
        {"endpoints": "a=http://127.0.0.1:1,a=http://127.0.0.1:2"},
        {"endpoints": "a=ftp://127.0.0.1"},
        {"endpoints": "a=http://user:secret@host/v1"},
        {"endpoints": "http://127.0.0.1:1/v1"},
        {"endpoints": "A b=http://127.0.0.1:1/v1"},
        {"local": "nobody"},
    ],
)
def test_endpoints_that_mean_nothing_are_refused_when_they_are_read(given: dict[str, str]) -> None:
    with pytest.raises(BadSetting) as caught:
        read(**given)
    assert caught.value.then
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("policy", "where"),
    [
        ({}, "name"),
        ({"name": "gpt-x", "structured": "yes"}, "structured"),
        ({"name": "gpt-x", "limit_field": "tokens"}, "limit_field"),
        ({"name": "gpt-x", "extra": [1]}, "extra"),
        ({"name": "gpt-x", "extra": {"stream": False}}, "extra.stream"),
        ({"name": "gpt-x", "extra": {"temperature": 1}}, "extra.temperature"),
    ],
)
def test_a_policy_that_no_call_can_be_made_with_is_refused_at_its_place(policy: dict[str, Any], where: str) -> None:
    with pytest.raises(ModelPolicyInvalid) as caught:
        check_policy({"provider": "openai"} | policy)
    assert caught.value.where == where
    assert caught.value.then
