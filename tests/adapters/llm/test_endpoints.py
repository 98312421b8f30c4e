"""Every adapter before one server that misbehaves in every way: what is raised, and that nothing is half delivered."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from agentos.kernel.errors import AgentOSError, problem, retryable
from agentos.runtime.inference import Call, Message, Model, Result, Stop
from agentos.runtime.inference.model import (
    ModelMisbehaved,
    ModelNotConfigured,
    ModelRefusedKey,
    ModelRejectedRequest,
    ModelTimedOut,
    ModelUnavailable,
)
from tests.adapters.llm.conftest import HELLO
from tests.adapters.llm.endpoints import OURS, TOOL, VENDORS, asked, question
from tests.fakes.models import KEY, FakeModels, Fault, Reply

LIMITED, OVERLOADED, TIMED_OUT = "ERR_LLM_RATE_LIMITED", "ERR_LLM_OVERLOADED", "ERR_LLM_TIMEOUT"
GONE, MISBEHAVED, KEYLESS = "ERR_LLM_UNAVAILABLE", "ERR_LLM_MISBEHAVED", "ERR_LLM_AUTH_FAILED"

# What each misbehaviour is raised as, whether it may be tried again, and when the provider wants to be asked again.
MATRIX: dict[Fault, tuple[str, bool, float | None]] = {
    Fault.RATE_LIMITED: (LIMITED, True, 7),
    Fault.RATE_LIMITED_UNTIL: (LIMITED, True, 30),
    Fault.RATE_LIMITED_SILENTLY: (LIMITED, True, None),
    Fault.OVERLOADED: (OVERLOADED, True, None),
    Fault.UNAVAILABLE: (OVERLOADED, True, None),
    Fault.BROKEN: (OVERLOADED, True, None),
    Fault.TIMED_OUT: (TIMED_OUT, True, None),
    Fault.BAD_KEY: (KEYLESS, False, None),
    Fault.EXPIRED_KEY: (KEYLESS, False, None),
    Fault.FORBIDDEN: (KEYLESS, False, None),
    Fault.UNPAID: (KEYLESS, False, None),
    Fault.REJECTED: ("ERR_LLM_INVALID_PROMPT", False, None),
    Fault.TOO_LONG: ("ERR_LLM_CONTEXT_TOO_LONG", False, None),
    Fault.TOO_LARGE: ("ERR_LLM_CONTEXT_TOO_LONG", False, None),
    Fault.BLOCKED: ("ERR_LLM_CONTENT_BLOCKED", False, None),
    Fault.NO_SUCH_MODEL: ("ERR_LLM_INVALID_MODEL", False, None),
    Fault.NO_SUCH_ADDRESS: ("ERR_LLM_NOT_CONFIGURED", True, None),
    Fault.CONFLICT: (GONE, True, None),
    Fault.BAD_GATEWAY_PAGE: (OVERLOADED, True, None),
    Fault.REDIRECT: ("ERR_LLM_NOT_CONFIGURED", True, None),
    Fault.HANG: (TIMED_OUT, True, None),
    Fault.HANG_UP: (GONE, True, None),
    Fault.SILENT: (TIMED_OUT, True, None),
    Fault.CUT: (GONE, True, None),
    Fault.CUT_CLEANLY: (GONE, True, None),
    Fault.CUT_IN_EVENT: (GONE, True, None),
    Fault.GARBLED: (MISBEHAVED, False, None),
    Fault.STRAY_DELTA: (MISBEHAVED, False, None),
    Fault.HTML: (GONE, True, None),
    Fault.JSON: (MISBEHAVED, False, None),
    Fault.BYTES: (MISBEHAVED, False, None),
    Fault.OVERLOADED_IN_STREAM: (OVERLOADED, True, None),
    Fault.RATE_LIMITED_IN_STREAM: (LIMITED, True, None),
    Fault.REJECTED_IN_STREAM: ("ERR_LLM_INVALID_PROMPT", False, None),
}
PASSES = {Fault.SLOW, Fault.LINGERS}  # an answer comes all the same


@pytest.fixture(params=OURS)
async def model(fake: FakeModels, request: pytest.FixtureRequest) -> AsyncIterator[Model]:
    async with asked(request.param, fake.url, KEY) as one:
        yield one


def test_no_misbehaviour_is_left_out() -> None:
    assert set(MATRIX) | PASSES == set(Fault)


@pytest.mark.parametrize("fault", MATRIX, ids=lambda one: one.name.lower())
async def test_each_misbehaviour_is_an_error_of_its_kind(model: Model, fake: FakeModels, fault: Fault) -> None:
    code, again, wait = MATRIX[fault]
    heard: list[str] = []
    fake.fail(fault)
    with pytest.raises(AgentOSError) as caught:
        await model.ask(question(), hear=heard.append)
    error = caught.value
    assert (error.code, retryable(error)) == (code, again)
    assert error.retry_after == (None if wait is None else timedelta(seconds=wait))
    assert HELLO.text.startswith("".join(heard)) and "".join(heard) != HELLO.text
    assert len(fake.headers) == 1  # it was not tried again
    assert KEY not in "".join(traceback.format_exception(error)) + repr(problem(error))
    assert (await model.ask(question())).text == HELLO.text  # and the next call is none the worse


@pytest.mark.parametrize("fault", [Fault.BROKEN, Fault.UNAVAILABLE, Fault.OVERLOADED, Fault.CUT, Fault.HANG])
async def test_what_may_have_begun_may_be_billed(model: Model, fake: FakeModels, fault: Fault) -> None:
    fake.fail(fault)
    with pytest.raises(ModelUnavailable) as caught:
        await model.ask(question())
    assert caught.value.begun == (fault in (Fault.CUT, Fault.HANG))


async def test_what_is_heard_is_what_is_answered(model: Model, fake: FakeModels) -> None:
    fake.brain = lambda _: Reply(HELLO.text, calls=[("git_log", {"path": "a"})])
    heard: list[str] = []
    answer = await model.ask(question(tools=(TOOL,)), hear=heard.append)
    assert len(heard) > 3
    assert "".join(heard) == answer.text == HELLO.text


async def test_an_error_tells_the_vendors_words_and_request(model: Model, fake: FakeModels) -> None:
    fake.fail(Fault.REJECTED)
    with pytest.raises(ModelRejectedRequest) as caught:
        await model.ask(question())
    assert "max_tokens: 999999 > 64000" in str(caught.value)
    assert "request req_000001" in str(caught.value)


async def test_the_timeout_bounds_the_whole_call(model: Model, fake: FakeModels) -> None:
    fake.pause = 0.1  # never silent for long, and yet too slow in all
    fake.fail(Fault.SLOW)
    with pytest.raises(ModelTimedOut, match=r"0\.35 s"):
        await model.ask(question(timeout=timedelta(seconds=0.35)))


async def test_a_slow_stream_is_an_answer_while_it_lives(model: Model, fake: FakeModels) -> None:
    fake.pause = 0.1
    fake.fail(Fault.SLOW)
    assert (await model.ask(question())).text == HELLO.text  # nine events: longer than the silence it may keep


async def test_a_cancelled_question_is_cancelled(model: Model, fake: FakeModels) -> None:
    fake.fail(Fault.HANG)
    asking = asyncio.create_task(model.ask(question()))
    await asyncio.sleep(0.1)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


@pytest.mark.parametrize("name", OURS)
async def test_nobody_listening_is_unavailable_and_never_began(name: str) -> None:
    async with asked(name, "http://127.0.0.1:9", KEY) as model:
        with pytest.raises(ModelUnavailable, match="cannot be reached") as caught:
            await model.ask(question())
    assert not caught.value.begun


async def test_one_long_line_is_read_whole(model: Model, fake: FakeModels) -> None:
    long = "x" * 3_000_000  # a delta of 60 kB: no line reader's default would take its event
    fake.brain = lambda _: Reply(calls=[("git_log", {"path": long})])
    answer = await model.ask(question(tools=(TOOL,)))
    assert answer.calls[0].arguments == {"path": long}


@pytest.mark.parametrize("name", OURS)
async def test_an_answer_without_end_is_given_up(fake: FakeModels, name: str) -> None:
    fake.brain = lambda _: Reply("x" * 100_000)
    async with asked(name, fake.url, KEY, answer_bytes=50_000) as model:
        with pytest.raises(ModelMisbehaved, match="larger than 50000 bytes"):
            await model.ask(question())


async def test_connections_are_used_again(model: Model, fake: FakeModels) -> None:
    for _ in range(3):
        await model.ask(question())
    assert len(fake.connections) == 1


async def test_a_connection_that_lingers_holds_no_answer_up(model: Model, fake: FakeModels) -> None:
    fake.fail(Fault.LINGERS)
    async with asyncio.timeout(0.45):  # below the silence that the stream may keep
        assert (await model.ask(question())).text == HELLO.text


async def test_a_closed_adapter_opens_again(model: Model) -> None:
    await model.ask(question())
    await model.close()
    await model.close()
    assert (await model.ask(question())).text == HELLO.text


@pytest.mark.parametrize(("name", "variable"), [("claude", "ANTHROPIC_API_KEY"), ("openai", "OPENAI_API_KEY")])
async def test_without_a_key_nothing_is_asked(fake: FakeModels, name: str, variable: str) -> None:
    async with asked(name, fake.url, " ") as model:
        with pytest.raises(ModelNotConfigured, match=variable):
            await model.ask(question())
    assert not fake.headers


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("key", ["sk-with\nnewline", "sk-ümlaut"])
async def test_a_key_that_cannot_be_a_header_is_refused_without_being_shown(
    fake: FakeModels, name: str, key: str
) -> None:
    async with asked(name, fake.url, key) as model:
        with pytest.raises(ModelRefusedKey) as caught:
            await model.ask(question())
    assert "sk-" not in "".join(traceback.format_exception(caught.value))
    assert not fake.headers


@pytest.mark.parametrize("name", [*OURS, *VENDORS])
async def test_a_wrong_key_appears_in_no_log_error_or_repr(
    fake: FakeModels, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "agentos")
    caplog.set_level(logging.DEBUG, "aiohttp")
    wrong = "sk-this-is-wrong"
    async with asked(name, fake.url, wrong) as model:
        with pytest.raises(ModelRefusedKey) as caught:  # the server of the second form repeats the key
            await model.ask(question())
        seen = "".join(traceback.format_exception(caught.value)) + caplog.text + repr(model) + repr(vars(model))
    assert wrong not in seen


async def test_half_a_character_is_our_request_to_mend(model: Model, fake: FakeModels) -> None:
    with pytest.raises(ModelRejectedRequest, match="no JSON form"):
        await model.ask(question(Message("user", "\ud800")))
    assert not fake.headers


@pytest.mark.parametrize(
    ("schema", "where"),
    [
        ({"type": "banana"}, "tools[0].schema.type"),
        ({"properties": {"a": {"type": "string", "minLength": "3"}}}, "tools[0].schema.properties.a.minLength"),
        ({"type": "array"}, "tools[0].schema.type"),
        ({"type": "object", "default": float("nan")}, None),
    ],
)
async def test_a_tool_whose_schema_is_none_is_refused_before_anything_is_sent(
    model: Model, fake: FakeModels, schema: dict[str, Any], where: str | None
) -> None:
    tool = type(TOOL)("git_log", "Read commits", schema)
    if where is None:  # JSON has no such number; what the schema means is the same without it
        assert (await model.ask(question(tools=(tool,)))).text == HELLO.text
        return
    with pytest.raises(ModelRejectedRequest) as caught:
        await model.ask(question(tools=(tool,)))
    assert caught.value.where == where
    assert not fake.headers


async def test_the_server_refuses_what_the_real_ones_refuse(model: Model) -> None:
    unanswered = Message("assistant", calls=(Call("call_9", "git_log", {}),))
    with pytest.raises(ModelRejectedRequest, match=r"must be followed by tool messages|without `tool_result` blocks"):
        await model.ask(question(Message("user", "Hi"), unanswered, Message("user", "And?")))


async def test_a_whole_conversation_with_calls_goes_through(model: Model, fake: FakeModels) -> None:
    fake.brain = lambda _: Reply(
        "Looking.", calls=[("git_log", {"path": "a b", "deep": {"x": [1, None]}}), ("git_log", {})]
    )
    first = await model.ask(question(tools=(TOOL,)))
    assert (first.text, first.stop) == ("Looking.", Stop.CALLS)
    assert [call.arguments for call in first.calls] == [{"path": "a b", "deep": {"x": [1, None]}}, {}]
    fake.brain = lambda _: HELLO
    turns = (
        Message("user", "Hi"),
        Message("assistant", first.text, calls=first.calls, opaque=first.opaque),
        Message("tool", results=tuple(Result(call.id, "[]") for call in first.calls)),
    )
    assert (await model.ask(question(*turns, tools=(TOOL,)))).text == HELLO.text


# --- pydantic-ai's models behind the same server; where its clients say less, so do we -------------------------------

LESS: dict[Fault, set[str]] = {
    Fault.TIMED_OUT: {OVERLOADED},
    Fault.BLOCKED: {"ERR_LLM_CONTENT_BLOCKED", "ERR_LLM_INVALID_PROMPT"},
    Fault.TOO_LARGE: {"ERR_LLM_CONTEXT_TOO_LONG", "ERR_LLM_INVALID_PROMPT", GONE},
    Fault.NO_SUCH_ADDRESS: {"ERR_LLM_INVALID_MODEL"},
    Fault.REDIRECT: {GONE},
    Fault.GARBLED: {GONE},
    Fault.HTML: {MISBEHAVED},
    Fault.REJECTED_IN_STREAM: {"ERR_LLM_INVALID_PROMPT", GONE},
}
READ_ON = {Fault.STRAY_DELTA, Fault.BYTES}  # they overlook these; the answer that they read is whole


@pytest.mark.parametrize("name", VENDORS)
@pytest.mark.parametrize("fault", [one for one in MATRIX if one not in READ_ON], ids=lambda one: one.name.lower())
async def test_a_vendors_misbehaviour_is_an_error_too(fake: FakeModels, name: str, fault: Fault) -> None:
    code, _, _ = MATRIX[fault]
    fake.fail(fault)
    async with asked(name, fake.url, KEY) as model:
        with pytest.raises(AgentOSError) as caught:
            await model.ask(question(timeout=timedelta(seconds=3)))
    error = caught.value
    assert error.code in LESS.get(fault, {code}), (error.code, str(error))
    assert len(fake.headers) == 1
    assert KEY not in "".join(traceback.format_exception(error)) + repr(problem(error))
