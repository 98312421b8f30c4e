"""A question never has more tokens than its bound says."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from agentos.adapters.llm.claude_wire import request
from agentos.adapters.llm.stub import Stub
from agentos.runtime.inference import Call, Image, Message, Question, Result, Tool
from agentos.runtime.inference.bounds import CALL_TOKENS, IMAGE_TOKENS, most_tokens

TEXTS = st.text(st.characters(codec="utf-8"), max_size=40)
DATA: Any = st.dictionaries(TEXTS, TEXTS | st.integers(-(10**6), 10**6) | st.none(), max_size=3)
CALLS = st.builds(Call, TEXTS, TEXTS, DATA)
MESSAGES = st.one_of(
    st.builds(Message, st.just("user"), TEXTS),
    st.builds(Message, st.just("assistant"), TEXTS, st.lists(CALLS, max_size=3).map(tuple)),
    st.builds(
        Message,
        st.just("tool"),
        results=st.lists(st.builds(Result, TEXTS, DATA.map(json.dumps), st.booleans()), max_size=3).map(tuple),
    ),
)
QUESTIONS = st.builds(
    Question,
    model=st.just("claude"),
    system=TEXTS,
    messages=st.lists(MESSAGES, min_size=1, max_size=6).map(tuple),
    tools=st.lists(st.builds(Tool, TEXTS, TEXTS, DATA), max_size=3).map(tuple),
    schema=st.none() | st.just({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}),
)


def wire_bytes(question: Question) -> int:
    """What the vendor reads: a byte-level vocabulary has at most one token for each of these."""
    body = request(question)
    told = ("system", "messages", "tools", "output_config")
    return len(msgspec.json.encode({name: body[name] for name in told if name in body}))


@settings(deadline=None)  # other tests share the machine
@given(QUESTIONS)
def test_a_question_has_at_most_as_many_tokens_as_the_wire_has_bytes(question: Question) -> None:
    assert most_tokens(question) >= wire_bytes(question) + CALL_TOKENS


@settings(deadline=None)  # other tests share the machine
@given(QUESTIONS, st.lists(MESSAGES, max_size=4).map(tuple))
def test_what_the_provider_counted_before_bounds_what_came_after(question: Question, more: tuple[Message, ...]) -> None:
    longer = Question(question.model, question.system, question.messages + more, question.tools)
    counted = wire_bytes(question)  # the most that it can have counted
    assert most_tokens(longer, (len(question.messages), counted)) >= wire_bytes(longer)


def test_a_picture_is_bounded_by_what_pictures_cost_and_not_by_its_bytes() -> None:
    def asked(*images: Image) -> int:
        return most_tokens(Question("m", "", (Message("user", "What is it?", images=images),)))

    near, far = Image("image/png", data="x" * 1_000_000), Image(url="https://example.com/cat.png")
    assert asked(near) == asked(far) == asked() + IMAGE_TOKENS
    assert asked(near, far) == asked() + 2 * IMAGE_TOKENS


async def test_the_stub_counts_within_the_bound() -> None:
    said = {"provider": "stub", "script": [{"text": "done"}]}
    question = Question("", "Follow.", (Message("user", "日本語" * 100),), options=said)
    answer = await Stub().ask(question)
    assert answer.usage.input is not None
    assert answer.usage.input <= most_tokens(question)
