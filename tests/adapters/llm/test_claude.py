"""The claude adapter against a server that speaks its wire format, well and badly."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from agentos.adapters.llm.claude import Claude
from agentos.adapters.llm.settings import ClaudeSettings
from agentos.kernel.errors import AgentOSError, problem, retryable
from agentos.kernel.settings import BadSetting
from agentos.runtime.inference import Call, Message, Question, Result, Stop, Tool, Usage
from agentos.runtime.inference.model import (
    ModelMisbehaved,
    ModelNotConfigured,
    ModelRateLimited,
    ModelRefusedKey,
    ModelRejectedRequest,
    ModelUnavailable,
)
from tests.fakes.claude import KEY, FakeClaude, Fault, Reply, serving

HELLO = Reply("Hello, this is a longer answer.")
TOOL = Tool("git_log", "Read commits", {"type": "object", "properties": {"path": {"type": "string"}}})


def settings(fake: FakeClaude | None, **given: Any) -> ClaudeSettings:
    return ClaudeSettings.read(api_key=KEY, base_url=fake.url if fake else "http://127.0.0.1:9", **given)


def question(*messages: Message, **given: Any) -> Question:
    said = messages or (Message("user", "Hi"),)
    return Question(model="claude-test-1", system="Be brief.", messages=said, **given)


@pytest.fixture
async def fake() -> AsyncIterator[FakeClaude]:
    async with FakeClaude(brain=lambda _: HELLO) as server:
        yield server


@pytest.fixture
async def claude(fake: FakeClaude) -> AsyncIterator[Claude]:
    model = Claude(settings(fake, silence_seconds=0.5, connect_seconds=2.0))
    yield model
    await model.close()


async def failing(claude: Claude, fake: FakeClaude, fault: Fault, **given: Any) -> AgentOSError:
    fake.fail(fault)
    with pytest.raises(AgentOSError) as caught:
        await claude.ask(question(**given))
    return caught.value


async def test_an_answer_is_put_together_from_its_stream(claude: Claude, fake: FakeClaude) -> None:
    answer = await claude.ask(question(max_tokens=77, options={"temperature": 0, "provider": "claude"}))
    assert (answer.text, answer.stop, answer.calls) == (HELLO.text, Stop.END, ())
    assert (answer.provider, answer.model, answer.usage) == ("claude", "claude-test-1", Usage(25, 15))
    (body,) = fake.requests
    assert body == {
        "model": "claude-test-1",
        "max_tokens": 77,
        "system": "Be brief.",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
        "stream": True,
        "thinking": {"type": "disabled"},
        "temperature": 0,
    }
    assert fake.headers[0]["x-api-key"] == KEY
    assert fake.headers[0]["anthropic-version"] == "2023-06-01"


async def test_parallel_calls_go_out_and_their_results_come_back(claude: Claude, fake: FakeClaude) -> None:
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


async def test_empty_turns_are_left_out_and_turns_of_one_side_are_joined(claude: Claude, fake: FakeClaude) -> None:
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


async def test_input_tokens_count_what_the_cache_gave_and_took(claude: Claude, fake: FakeClaude) -> None:
    usage = {
        "input_tokens": 3,
        "cache_read_input_tokens": 1000,
        "cache_creation_input_tokens": 200,
        "output_tokens": 9,
    }
    fake.brain = lambda _: Reply("Good day to you.", usage=usage)
    answer = await claude.ask(question())
    assert answer.usage == Usage(input=1203, output=9, cache_read=1000, cache_write=200)


async def test_thinking_stays_out_of_the_text(claude: Claude, fake: FakeClaude) -> None:
    fake.brain = lambda _: Reply("Forty-two.", thinking="The user wants to know the answer to everything.")
    answer = await claude.ask(question(options={"thinking": "model_default"}))
    assert answer.text == "Forty-two."
    assert "thinking" not in fake.requests[0]


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
async def test_a_reason_to_stop_is_told_apart(claude: Claude, fake: FakeClaude, reason: str, stop: Stop) -> None:
    fake.brain = lambda _: Reply("As far as I came", stop=reason)
    assert (await claude.ask(question())).stop is stop


async def test_a_call_that_the_limit_cut_is_never_delivered(claude: Claude, fake: FakeClaude) -> None:
    calls = [("git_log", {"path": "whole"}), ("git_log", {"path": "cut in the middle"})]
    fake.brain = lambda _: Reply(calls=calls, stop="max_tokens", cut_last_call=True)
    answer = await claude.ask(question(tools=(TOOL,)))
    assert answer.stop is Stop.LIMIT
    assert [call.arguments for call in answer.calls] == [{"path": "whole"}]


async def test_nothing_is_called_on_the_word_of_a_refusal(claude: Claude, fake: FakeClaude) -> None:
    fake.brain = lambda _: Reply("No.", calls=[("git_log", {})], stop="refusal")
    answer = await claude.ask(question(tools=(TOOL,)))
    assert (answer.stop, answer.calls) == (Stop.REFUSAL, ())


async def test_complete_calls_are_calls_whatever_the_reason_is_called(claude: Claude, fake: FakeClaude) -> None:
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
    claude: Claude, fake: FakeClaude, reply: Reply
) -> None:
    fake.brain = lambda _: reply
    with pytest.raises(ModelMisbehaved):
        await claude.ask(question(tools=(TOOL,)))


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault.BAD_KEY, ModelRefusedKey),
        (Fault.FORBIDDEN, ModelRefusedKey),
        (Fault.UNPAID, ModelRefusedKey),
        (Fault.REJECTED, ModelRejectedRequest),
        (Fault.NO_SUCH_MODEL, ModelRejectedRequest),
        (Fault.TOO_LARGE, ModelRejectedRequest),
        (Fault.RATE_LIMITED, ModelRateLimited),
        (Fault.CONFLICT, ModelUnavailable),
        (Fault.OVERLOADED, ModelUnavailable),
        (Fault.BROKEN, ModelUnavailable),
        (Fault.TIMED_OUT, ModelUnavailable),
        (Fault.BAD_GATEWAY_PAGE, ModelUnavailable),
        (Fault.REDIRECT, ModelNotConfigured),
        (Fault.HANG_UP, ModelUnavailable),
        (Fault.SILENT, ModelUnavailable),
        (Fault.CUT, ModelUnavailable),
        (Fault.CUT_CLEANLY, ModelUnavailable),
        (Fault.CUT_IN_EVENT, ModelUnavailable),
        (Fault.GARBLED, ModelMisbehaved),
        (Fault.STRAY_DELTA, ModelMisbehaved),
        (Fault.HTML, ModelUnavailable),
        (Fault.JSON, ModelMisbehaved),
        (Fault.OVERLOADED_IN_STREAM, ModelUnavailable),
        (Fault.RATE_LIMITED_IN_STREAM, ModelRateLimited),
        (Fault.REJECTED_IN_STREAM, ModelRejectedRequest),
    ],
)
async def test_every_fault_has_its_kind_and_is_not_tried_again(
    claude: Claude, fake: FakeClaude, fault: Fault, kind: type[AgentOSError]
) -> None:
    error = await failing(claude, fake, fault)
    assert type(error) is kind
    assert len(fake.headers) == 1
    assert KEY not in "".join(traceback.format_exception(error)) + repr(problem(error))
    assert (await claude.ask(question())).text == HELLO.text  # and the next call is none the worse


async def test_an_error_tells_the_vendors_words_and_request(claude: Claude, fake: FakeClaude) -> None:
    error = await failing(claude, fake, Fault.REJECTED)
    assert "max_tokens: 999999 > 64000" in str(error)
    assert "request req_000001" in str(error)


@pytest.mark.parametrize(
    ("fault", "wait"),
    [
        (Fault.RATE_LIMITED, timedelta(seconds=7)),
        (Fault.RATE_LIMITED_UNTIL, timedelta(seconds=30)),
        (Fault.RATE_LIMITED_SILENTLY, None),
    ],
)
async def test_a_rate_limit_says_when_to_ask_again(
    claude: Claude, fake: FakeClaude, fault: Fault, wait: timedelta | None
) -> None:
    error = await failing(claude, fake, fault)
    assert error.retry_after == wait
    assert retryable(error)


async def test_the_timeout_bounds_the_whole_call(claude: Claude, fake: FakeClaude) -> None:
    fake.pause = 0.1  # never silent for long, and yet too slow in all
    error = await failing(claude, fake, Fault.SLOW, timeout=timedelta(seconds=0.35))
    assert isinstance(error, ModelUnavailable)
    assert "0.35 s" in str(error)


async def test_a_slow_stream_is_an_answer_while_it_lives(claude: Claude, fake: FakeClaude) -> None:
    fake.pause = 0.1
    fake.fail(Fault.SLOW)
    assert (await claude.ask(question())).text == HELLO.text  # ten events: longer than the silence it may keep


async def test_no_answer_at_all_is_unavailable(claude: Claude, fake: FakeClaude) -> None:
    assert "fell silent" in str(await failing(claude, fake, Fault.HANG))


async def test_a_cancelled_question_is_cancelled(claude: Claude, fake: FakeClaude) -> None:
    fake.fail(Fault.HANG)
    asking = asyncio.create_task(claude.ask(question()))
    await asyncio.sleep(0.1)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_nobody_listening_is_unavailable() -> None:
    model = Claude(settings(None))
    with pytest.raises(ModelUnavailable, match="cannot be reached"):
        await model.ask(question())
    await model.close()


async def test_one_long_line_is_read_whole(claude: Claude, fake: FakeClaude) -> None:
    long = "x" * 3_000_000  # a delta of 60 kB: no line reader's default would take its event
    fake.brain = lambda _: Reply(calls=[("git_log", {"path": long})])
    answer = await claude.ask(question(tools=(TOOL,)))
    assert answer.calls[0].arguments == {"path": long}


async def test_an_answer_without_end_is_given_up(fake: FakeClaude) -> None:
    fake.brain = lambda _: Reply("x" * 100_000)
    model = Claude(settings(fake, answer_bytes=50_000))
    with pytest.raises(ModelMisbehaved, match="larger than 50000 bytes"):
        await model.ask(question())
    await model.close()


async def test_connections_are_used_again(claude: Claude, fake: FakeClaude) -> None:
    for _ in range(3):
        await claude.ask(question())
    assert len(fake.connections) == 1


async def test_a_connection_that_lingers_holds_no_answer_up(claude: Claude, fake: FakeClaude) -> None:
    fake.fail(Fault.LINGERS)
    async with asyncio.timeout(0.45):  # below the silence that the stream may keep
        assert (await claude.ask(question())).text == HELLO.text


async def test_a_closed_adapter_opens_again(claude: Claude) -> None:
    await claude.ask(question())
    await claude.close()
    await claude.close()
    assert (await claude.ask(question())).text == HELLO.text


async def test_without_a_key_claude_is_not_configured(fake: FakeClaude) -> None:
    with pytest.raises(ModelNotConfigured, match="ANTHROPIC_API_KEY"):
        await Claude(ClaudeSettings.read(api_key=" ", base_url=fake.url)).ask(question())


@pytest.mark.parametrize("key", ["sk-ant-with\nnewline", "sk-ant-ümlaut"])
async def test_a_key_that_cannot_be_a_header_is_refused_without_being_shown(fake: FakeClaude, key: str) -> None:
    with pytest.raises(ModelRefusedKey) as caught:
        await Claude(ClaudeSettings.read(api_key=key, base_url=fake.url)).ask(question())
    assert "sk-ant" not in "".join(traceback.format_exception(caught.value))
    assert not fake.headers


async def test_a_wrong_key_appears_in_no_log_error_or_repr(fake: FakeClaude, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    wrong = "sk-ant-this-is-wrong"
    given = ClaudeSettings.read(api_key=wrong, base_url=fake.url)
    model = Claude(given)
    with pytest.raises(ModelRefusedKey) as caught:
        await model.ask(question())
    await model.close()
    seen = "".join(traceback.format_exception(caught.value)) + caplog.text + repr(model) + repr(given)
    assert wrong not in seen


async def test_half_a_character_is_our_request_to_mend(claude: Claude, fake: FakeClaude) -> None:
    with pytest.raises(ModelRejectedRequest, match="no JSON form"):
        await claude.ask(question(Message("user", "\ud800")))
    assert not fake.headers


async def test_the_fake_refuses_what_the_real_one_refuses(claude: Claude) -> None:
    unanswered = Message("assistant", calls=(Call("toolu_9", "git_log", {}),))
    with pytest.raises(ModelRejectedRequest, match="without `tool_result` blocks"):
        await claude.ask(question(Message("user", "Hi"), unanswered, Message("user", "And?")))


async def test_an_agent_can_be_run_against_a_fake_on_its_own_thread() -> None:
    def think(body: dict[str, Any]) -> Reply:
        last = body["messages"][-1]["content"][-1]
        return Reply(f"Read {last['content']}.") if last["type"] == "tool_result" else Reply(calls=[("git_log", {})])

    with serving(FakeClaude(brain=think)) as fake:
        model = Claude(settings(fake))
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
