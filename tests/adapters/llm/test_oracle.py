"""Our adapters beside pydantic-ai's models before the same server: the same conversation means the same to both."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentos.runtime.inference import Answer, Call, Image, Message, Model, Question, Result, Tool
from tests.adapters.llm.endpoints import asked, question
from tests.fakes.models import KEY, FakeModels, Reply, serving

NAMES = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=12)
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=30).filter(
    lambda text: text.strip() == text
)
VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXTS,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(NAMES, below, max_size=3),
    max_leaves=6,
)
ARGUMENTS: Any = st.dictionaries(NAMES, VALUES, max_size=3)
IMAGES = st.just(Image("image/png", data="iVBORw0KGgo=")) | st.just(Image(url="https://example.com/cat.png"))
PATH = {
    "type": "object",
    "properties": {"path": {"type": "string"}},
    "required": ["path"],
    "additionalProperties": False,
}
TOOLS = st.lists(NAMES, min_size=1, max_size=3, unique=True).map(
    lambda names: tuple(Tool(name, f"What {name} does", PATH) for name in names)
)


@st.composite
def conversations(draw: st.DrawFn) -> Question:
    """A conversation as the loop makes one: a task, then turns of calls and their results, or of words."""
    tools = draw(TOOLS)
    messages = [Message("user", draw(TEXTS), images=tuple(draw(st.lists(IMAGES, max_size=2))))]
    made = 0
    for _ in range(draw(st.integers(0, 3))):
        names = draw(st.lists(st.sampled_from([tool.name for tool in tools]), max_size=3))
        calls = tuple(Call(f"call_{made + at}", name, draw(ARGUMENTS)) for at, name in enumerate(names))
        made += len(calls)
        messages.append(Message("assistant", draw(TEXTS if not calls else TEXTS | st.just("")), calls=calls))
        if calls:
            results = tuple(Result(call.id, json.dumps(draw(VALUES)), draw(st.booleans())) for call in calls)
            messages.append(Message("tool", results=results))
        else:
            messages.append(Message("user", draw(TEXTS)))
    return question(*messages, tools=tools, max_tokens=draw(st.integers(1, 9999)))


@st.composite
def replies(draw: st.DrawFn) -> Reply:
    calls = draw(st.lists(st.tuples(NAMES, ARGUMENTS), max_size=3))
    return Reply(draw(TEXTS if not calls else TEXTS | st.just("")), calls=calls)


@dataclass
class Pair:
    """Ours and theirs before one server."""

    form: str
    fake: FakeModels
    ours: Model
    theirs: Model
    runner: asyncio.Runner

    def ask(self, asked: Question, reply: Reply) -> tuple[list[Answer], list[dict[str, Any]]]:
        self.fake.brain = lambda _: reply
        self.fake.requests.clear()
        answers = [self.runner.run(model.ask(asked)) for model in (self.ours, self.theirs)]
        return answers, [MEANT[self.form](body) for body in self.fake.requests]


@pytest.fixture(scope="module", params=["claude", "openai"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    theirs = {"claude": "vendor:anthropic", "openai": "vendor:openai"}[request.param]
    with serving(FakeModels()) as fake, asyncio.Runner() as runner:
        limits = {"silence_seconds": 20.0}
        mine, other = asked(request.param, fake.url, KEY, **limits), asked(theirs, fake.url, KEY, **limits)
        yield Pair(request.param, fake, runner.run(mine.__aenter__()), runner.run(other.__aenter__()), runner)
        runner.run(mine.__aexit__(None, None, None))
        runner.run(other.__aexit__(None, None, None))


@settings(max_examples=60, deadline=None)
@given(asking=conversations(), reply=replies())
def test_the_same_conversation_is_sent_and_understood_the_same(pair: Pair, asking: Question, reply: Reply) -> None:
    (ours, theirs), (sent, expected) = pair.ask(asking, reply)
    assert sent == expected
    assert ours.text == theirs.text == reply.text
    assert [(call.skill, call.arguments) for call in ours.calls] == list(reply.calls)
    assert [(call.skill, call.arguments) for call in theirs.calls] == list(reply.calls)
    assert ours.stop is theirs.stop
    assert (ours.usage.input, ours.usage.output) == (theirs.usage.input, theirs.usage.output) == (25, 15)


USAGES = {
    "claude": {
        "input_tokens": 3,
        "output_tokens": 90,
        "cache_read_input_tokens": 1000,
        "cache_creation_input_tokens": 200,
    },
    "openai": {
        "prompt_tokens": 1203,
        "completion_tokens": 90,
        "total_tokens": 1293,
        "prompt_tokens_details": {"cached_tokens": 1000},
        "completion_tokens_details": {"reasoning_tokens": 70},
    },
}


def test_what_was_used_is_counted_the_same(pair: Pair) -> None:
    (ours, theirs), _ = pair.ask(question(), Reply("Good day.", usage=USAGES[pair.form]))
    assert ours.usage == theirs.usage


def test_thinking_goes_back_the_same(pair: Pair) -> None:
    if pair.form != "claude":
        return  # chat completions tell no thoughts
    pair.fake.brain = lambda _: Reply("Let me look.", thinking="What would Deep Thought say?", calls=[("look", {})])
    sent = []
    for model, options in ((pair.ours, {"thinking": "model_default"}), (pair.theirs, {})):
        answer = pair.runner.run(model.ask(question(tools=(LOOK,), options=options)))
        turns = (
            Message("user", "Hi"),
            Message("assistant", answer.text, calls=answer.calls, opaque=answer.opaque),
            Message("tool", results=(Result(answer.calls[0].id, "[]"),)),
        )
        pair.fake.requests.clear()
        pair.runner.run(model.ask(question(*turns, tools=(LOOK,), options=options)))
        sent.append(pair.fake.requests[0]["messages"][1]["content"])
    assert [[block["type"] for block in content] for content in sent] == [["thinking", "text", "tool_use"]] * 2
    assert sent[0][0] == sent[1][0]


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}
LOOK = Tool("look", "Look", PATH)


def test_a_schema_is_asked_for_the_same(pair: Pair) -> None:
    pair.ask(question(schema=SCHEMA), Reply('{"a": 1}'))
    ours, theirs = pair.fake.requests
    if pair.form == "claude":
        assert ours["output_config"] == theirs["output_config"]
    else:
        ours, theirs = ours["response_format"]["json_schema"], theirs["response_format"]["json_schema"]
        assert (ours["schema"], ours["strict"]) == (theirs["schema"], theirs["strict"])


# --- what a body means, whichever of the wire's ways it is said in ---------------------------------------------------


def _claude(body: dict[str, Any]) -> dict[str, Any]:
    messages: list[dict[str, Any]] = []
    for message in body["messages"]:
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        blocks = [_block(block) for block in blocks]
        if messages and messages[-1]["role"] == message["role"]:
            messages[-1]["content"] += blocks
        else:
            messages.append({"role": message["role"], "content": blocks})
    for message in messages:  # a picture may stand before or behind other pictures' text
        message["content"].sort(key=lambda block: (block["type"] != "tool_result", block["type"] == "tool_use"))
    system = body.get("system")
    return {
        "system": system if isinstance(system, str) else "".join(block["text"] for block in system or ()),
        "messages": messages,
        "tools": [{name: tool[name] for name in ("name", "description", "input_schema")} for tool in body["tools"]]
        if "tools" in body
        else [],
        "max_tokens": body["max_tokens"],
    }


def _block(block: dict[str, Any]) -> dict[str, Any]:
    block = {name: value for name, value in block.items() if name != "cache_control"}
    if block["type"] == "tool_result":
        content = block["content"]
        text = content if isinstance(content, str) else "".join(one["text"] for one in content)
        return block | {"content": text, "is_error": bool(block.get("is_error"))}
    return block


def _openai(body: dict[str, Any]) -> dict[str, Any]:
    return {
        "messages": [_turn(message) for message in body["messages"]],
        "tools": [
            {name: tool["function"][name] for name in ("name", "description", "parameters")}
            for tool in body.get("tools", [])
        ],
        "max_tokens": body["max_completion_tokens"],
        "stream_options": body["stream_options"],
    }


def _turn(message: dict[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
    for part in parts:
        part.get("image_url", {}).pop("detail", None)
        if message["role"] == "tool" and part["text"].startswith('{"error":"'):  # their way to say that it failed
            part["text"] = json.loads(part["text"])["error"]
    calls = [
        (call["id"], call["function"]["name"], json.loads(call["function"]["arguments"]))
        for call in message.get("tool_calls") or ()
    ]
    return {"role": message["role"], "content": parts, "calls": calls, "answers": message.get("tool_call_id")}


MEANT = {"claude": _claude, "openai": _openai}
