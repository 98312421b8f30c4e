"""The two wire forms by themselves: whatever is sent is understood or refused, and every stream ends once."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentos.kernel.errors import Bug, every_error
from agentos.runtime.gateway import chat, messages, options, wire
from agentos.runtime.gateway.model import NotOffered, Opening, RequestNotUnderstood, Said, Wanted, Wishes
from agentos.runtime.gateway.ports import Form
from agentos.runtime.inference import Call, Opaque, Stop, Tool, Usage

AT = datetime(2026, 11, 21, tzinfo=UTC)
FORMS = [chat.FORM, messages.FORM]
TOOL = Tool("look", "", {"type": "object"})

words = st.text(max_size=8) | st.sampled_from(
    ["system", "developer", "user", "assistant", "tool", "function", "text", "image_url", "image", "tool_use", "auto",
     "tool_result", "thinking", "base64", "url", "json_schema", "json_object", "data:image/png;base64,AA==", "{}"]
)  # fmt: skip
fields = st.sampled_from(
    ["role", "content", "type", "text", "image_url", "url", "tool_calls", "id", "function", "name", "arguments",
     "tool_call_id", "source", "data", "media_type", "input", "tool_use_id", "thinking", "signature", "is_error",
     "json_schema", "schema", "disable_parallel_tool_use", "include_usage", "format", "parameters"]
)  # fmt: skip
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(fields | words, inner, max_size=5),
    max_leaves=25,
)
known = sorted({*chat.asked.Body.__struct_fields__, *messages.asked.Body.__struct_fields__})
bodies = st.fixed_dictionaries(
    {"model": words | anything, "messages": st.lists(anything, max_size=4) | anything, "max_tokens": st.integers()},
    optional={name: anything for name in known if name not in ("model", "messages", "max_tokens")},
)


@pytest.mark.parametrize("form", FORMS)
@given(body=bodies | anything)
def test_whatever_is_sent_is_understood_or_refused_as_the_clients_fault(form: Form, body: Any) -> None:
    sent = json.dumps(body, allow_nan=True).encode()
    try:
        wanted = form.read(sent)
    except (RequestNotUnderstood, NotOffered) as error:
        status, told = form.refusal(error, "req_1")
        assert status == 400
        json.loads(wire.encode(told))
    else:
        assert wanted.messages
        for provider in ("claude", "openai", "vendor:groq", "stub"):
            try:
                json.dumps(options.entry(provider, "m", wanted, 10))
            except NotOffered as error:
                assert error.where in ("top_k", "frequency_penalty", "presence_penalty", "logit_bias")


@pytest.mark.parametrize("form", FORMS)
@given(body=st.binary(max_size=200))
def test_bytes_that_are_no_json_are_refused(form: Form, body: bytes) -> None:
    with pytest.raises((RequestNotUnderstood, NotOffered)):
        form.read(body)


CALLS = (Call("c1", "look", {"a": 1}), Call("c2", "look", {}))
OPAQUE = Opaque("claude", ({"type": "redacted_thinking", "data": "x"}, {"type": "text"}, {"type": "tool_use"}))


@pytest.mark.parametrize("stop", list(Stop))
@pytest.mark.parametrize("heard", [(), ("It is ", "so.")])
@pytest.mark.parametrize("opaque", [None, OPAQUE])
@pytest.mark.parametrize("usage", [Usage(), Usage(7, 5, 2, 1, 3)])
@pytest.mark.parametrize("form", FORMS)
def test_a_stream_adds_up_to_the_whole_answer(
    form: Form, stop: Stop, heard: tuple[str, ...], opaque: Opaque | None, usage: Usage
) -> None:
    calls = CALLS if stop is Stop.CALLS else ()
    said = Said("ask_1", "claude/m", "claude", "It is so.", stop, calls, usage, opaque)
    thinking = {"type": "enabled"} if opaque else None
    events = form.events(Wanted("m", (), wishes=Wishes(thinking=thinking), tell_usage=True))
    sent = events.begin(Opening("ask_1", "claude/m", "claude", AT))
    sent += b"".join(events.text(piece) for piece in heard) + events.end(said)
    whole = form.shown(said, AT)
    if form is chat.FORM:
        assert chat_of(sent) == {name: whole["choices"][0][name] for name in ("message", "finish_reason")} | {
            "usage": whole["usage"]
        }
    else:
        assert messages_of(sent) == {name: whole[name] for name in ("content", "stop_reason", "usage")}


def chat_of(sent: bytes) -> dict[str, Any]:
    """What a client puts together from chunks."""
    *chunks, done, rest = sent.decode().split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    text, refusal, calls, finish, usage = "", None, [], None, None
    for chunk in (json.loads(one.removeprefix("data: ")) for one in chunks):
        usage = chunk.get("usage", usage)
        for choice in chunk["choices"]:
            delta = choice["delta"]
            text += delta.get("content") or ""
            refusal = delta.get("refusal", refusal)
            calls += [{key: one[key] for key in ("id", "type", "function")} for one in delta.get("tool_calls", ())]
            finish = choice["finish_reason"] or finish
    declined = finish == "content_filter"
    message = {"role": "assistant", "content": None if declined else text, "refusal": refusal}
    if declined and refusal is None:
        message["refusal"] = text  # it was told as it came, before anybody knew
    return {"message": message | ({"tool_calls": calls} if calls else {}), "finish_reason": finish, "usage": usage}


def messages_of(sent: bytes) -> dict[str, Any]:
    """What a client puts together from events."""
    blocks: list[dict[str, Any]] = []
    found: dict[str, Any] = {}
    names = []
    for event in sent.decode().strip().split("\n\n"):
        name, _, data = event.partition("\n")
        told = json.loads(data.removeprefix("data: "))
        assert name == f"event: {told['type']}"
        names.append(told["type"])
        if told["type"] == "content_block_start":
            assert told["index"] == len(blocks)
            blocks.append(dict(told["content_block"]))
        elif told["type"] == "content_block_delta":
            delta = told["delta"]
            if delta["type"] == "text_delta":
                blocks[told["index"]]["text"] += delta["text"]
            else:
                blocks[told["index"]]["input"] = json.loads(delta["partial_json"])
        elif told["type"] == "message_delta":
            found = {"stop_reason": told["delta"]["stop_reason"], "usage": told["usage"]}
    assert (names[0], names[-1]) == ("message_start", "message_stop")
    assert names.count("content_block_start") == names.count("content_block_stop") == len(blocks)
    return {"content": blocks, **found}


@pytest.mark.parametrize("form", FORMS)
def test_a_broken_stream_ends_with_the_error_and_no_mark_of_the_end(form: Form) -> None:
    events = form.events(Wanted("m", ()))
    sent = (events.begin(Opening("a", "m", "p", AT)) + events.broke(Bug("it broke"), "req_1")).decode()
    assert "it broke" in sent
    assert "[DONE]" not in sent
    assert "message_stop" not in sent


def test_every_error_has_a_status_and_a_form_at_both_doors() -> None:
    for kind in every_error():
        error = kind("what was wrong")
        for form in FORMS:
            status, body = form.refusal(error, "req_1")
            assert 400 <= status < 600
            assert body["error"]["message"].startswith("what was wrong")
            assert body["error"]["problem"]["code"] == kind.code


def test_wishes_are_said_in_the_words_of_each_provider() -> None:
    wishes = Wishes(0.5, 0.9, stop=("END",), tool_choice="tool", tool="look", parallel=False, user="u")
    wanted = Wanted("m", (), tools=(TOOL,), wishes=wishes)
    assert options.entry("claude", "m", wanted, 10) == {
        "provider": "claude",
        "name": "m",
        "max_tokens": 10,
        "temperature": 0.5,
        "top_p": 0.9,
        "stop_sequences": ["END"],
        "tool_choice": {"type": "tool", "name": "look", "disable_parallel_tool_use": True},
        "cache": False,
        "metadata": {"user_id": "u"},
    }
    assert options.entry("openrouter", "a/b", wanted, 10) == {
        "provider": "openrouter",
        "name": "a/b",
        "max_tokens": 10,
        "temperature": 0.5,
        "top_p": 0.9,
        "user": "u",
        "stop": ["END"],
        "parallel_tool_calls": False,
        "tool_choice": {"type": "function", "function": {"name": "look"}},
    }
    assert options.entry("stub", "echo", wanted, 10) == {"provider": "stub", "max_tokens": 10, "behaviour": "echo"}


def test_system_turns_of_a_chat_go_first_wherever_they_stand() -> None:
    turns = [
        {"role": "system", "content": "One."},
        {"role": "user", "content": "hello"},
        {"role": "developer", "content": [{"type": "text", "text": "Two."}]},
        {"role": "user", "content": "now"},
    ]
    wanted = chat.FORM.read(json.dumps({"model": "m", "messages": turns, "unheard_of": 1}).encode())
    assert wanted.system == "One.\n\nTwo."
    assert [one.text for one in wanted.messages] == ["hello", "now"]
    assert wanted.task == "now"


@pytest.mark.parametrize(
    ("form", "more", "where"),
    [
        (
            chat.FORM,
            {"tools": [{"type": "function", "function": {"name": "a", "parameters": {"$ref": "http://x/"}}}]},
            "tools[0].function.parameters.$ref",
        ),
        (
            chat.FORM,
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"pattern": "(?=a)"}}}},
            "response_format.json_schema.schema.pattern",
        ),
        (messages.FORM, {"tools": [{"name": "a", "input_schema": {"$ref": "#"}}]}, "tools[0].input_schema"),
        (
            messages.FORM,
            {"output_config": {"format": {"type": "json_schema", "schema": {"type": "none such"}}}},
            "output_config.format.schema.type",
        ),
    ],
)
def test_a_schema_that_may_not_be_used_is_refused_at_its_place(form: Form, more: dict[str, Any], where: str) -> None:
    body = {"model": "stub", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]} | more
    with pytest.raises(RequestNotUnderstood) as refused:
        form.read(json.dumps(body).encode())
    assert refused.value.where == where
