"""A question to a model as a span, by the names that OpenTelemetry has for it."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.trace import SpanKind

from agentos.adapters.llm import Providers
from agentos.adapters.llm.settings import ClaudeSettings, OpenAISettings
from agentos.adapters.llm.stub import Stub
from agentos.adapters.llm.traced import traced
from agentos.adapters.secrets.environment import environment_secret
from agentos.kernel.telemetry import Traces
from agentos.kernel.telemetry.traces import vendor
from agentos.runtime.inference import Answer, Call, Hear, Message, Question, Result, Stop, Usage
from agentos.runtime.inference.model import ModelOverloaded
from tests.kernel.test_traces import Recorded

QUESTION = Question("m-1", "Be brief.", (Message("user", "the question"),), max_tokens=9, schema={"type": "object"})
KNOWN = {value for name, value in vars(gen_ai_attributes).items() if name.isupper()}


class Model:
    """Gives one answer, or raises it."""

    provider, instant, local = "claude", False, False

    def __init__(self, said: Answer | Exception) -> None:
        self.said = said

    async def ask(self, question: Question, *, hear: Hear | None = None) -> Answer:
        if isinstance(self.said, Exception):
            raise self.said
        return self.said

    async def close(self) -> None:
        return None


async def attributes(said: Answer | Exception, **more: Any) -> dict[str, Any]:
    recorded = Recorded(**more)
    try:
        await traced(Model(said), recorded.traces).ask(QUESTION)
    except Exception as error:
        assert error is said
    span = recorded.spans["chat m-1"]
    assert span.kind is SpanKind.CLIENT
    return dict(span.attributes or {})


async def test_an_answer_is_told_by_the_conventions_words() -> None:
    usage = Usage(input=10, output=3, cache_read=4, cache_write=0, reasoning=1)
    said = await attributes(Answer("the answer", "claude", "m-1-2026", Stop.LIMIT, usage=usage))
    assert said == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "m-1",
        "gen_ai.request.max_tokens": 9,
        "gen_ai.output.type": "json",
        "gen_ai.response.model": "m-1-2026",
        "gen_ai.response.finish_reasons": ("length",),
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 3,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.usage.cache_creation.input_tokens": 0,
        "gen_ai.usage.reasoning.output_tokens": 1,
    }
    assert set(said) <= KNOWN


async def test_what_the_provider_did_not_say_is_not_told() -> None:
    said = await attributes(Answer("the answer", "claude", "m-1"))
    assert not [name for name in said if "usage" in name]


async def test_a_failed_call_is_told_by_its_stable_code() -> None:
    said = await attributes(ModelOverloaded("529 of the vendor"))
    assert said["error.type"] == "ERR_LLM_OVERLOADED"
    assert "529" not in str(said)


async def test_content_is_told_in_the_conventions_form_when_asked_for() -> None:
    answer = Answer("the answer", "claude", "m-1", Stop.CALLS, (Call("c1", "look", {"n": 1}),))
    without, asked = await attributes(answer), await attributes(answer, content=True)
    assert set(asked) - set(without) == {
        "gen_ai.system_instructions",
        "gen_ai.input.messages",
        "gen_ai.output.messages",
    }
    assert set(asked) <= KNOWN
    assert asked["gen_ai.output.messages"] == (
        '[{"role": "assistant", "parts": [{"type": "text", "content": "the answer"}, {"type": "tool_call", '
        '"id": "c1", "name": "look", "arguments": {"n": 1}}], "finish_reason": "tool_call"}]'
    )


async def test_a_skills_result_is_a_part_of_the_conversation() -> None:
    recorded = Recorded(content=True)
    asked = Question("m-1", "", (Message("tool", results=(Result("c1", "found"),)),))
    await traced(Model(Answer("x", "claude", "m-1")), recorded.traces).ask(asked)
    told = (recorded.spans["chat m-1"].attributes or {})["gen_ai.input.messages"]
    assert told == '[{"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "found"}]}]'


@pytest.mark.parametrize(("ours", "theirs"), [("claude", "anthropic"), ("openai", "openai")])
def test_vendors_are_named_as_the_conventions_name_them(ours: str, theirs: str) -> None:
    assert vendor(ours) == theirs
    assert theirs in {one.value for one in gen_ai_attributes.GenAiProviderNameValues}


def test_without_spans_a_model_is_the_very_same() -> None:
    model = Model(Answer("x", "claude", "m-1"))
    assert traced(model, Traces()) is model
    models = Providers(ClaudeSettings.read(), OpenAISettings.read(), environment_secret, Traces())
    assert isinstance(models.for_policy({"provider": "stub"}), Stub)
