"""Every question to a model is a span, ``chat {model}``: each attempt its own, also where a router asks several."""

from __future__ import annotations

from typing import Any

from opentelemetry.trace import Span, SpanKind

from agentos.kernel.telemetry.traces import Traces, vendor
from agentos.runtime.inference import Answer, Hear, Message, Model, Question, Stop

# What the conventions call the reasons to stop.
_REASONS = {Stop.END: "stop", Stop.CALLS: "tool_call", Stop.LIMIT: "length", Stop.REFUSAL: "content_filter"}


def traced(model: Model, traces: Traces) -> Model:
    """The same model with a span around each question; the very same where there are no spans."""
    return Traced(model, traces) if traces.on else model


class Traced:
    """A model, and a span around each question that it is asked."""

    def __init__(self, model: Model, traces: Traces) -> None:
        self._model = model
        self._traces = traces
        self.provider = model.provider
        self.instant = model.instant
        self.local = model.local

    async def ask(self, question: Question, *, hear: Hear | None = None) -> Answer:
        """Answer as the model does."""
        name = question.model or self.provider
        with self._traces.span(f"chat {name}", self._asked(question, name), kind=SpanKind.CLIENT) as span:
            answer = await self._model.ask(question, hear=hear)
            self._answered(span, answer)
        return answer

    async def close(self) -> None:
        """Give back connections."""
        await self._model.close()

    def _asked(self, question: Question, name: str) -> dict[str, Any]:
        said: dict[str, Any] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": vendor(self.provider),
            "gen_ai.request.model": name,
            "gen_ai.request.max_tokens": question.max_tokens,
            "gen_ai.output.type": "json" if question.schema is not None else None,
        }
        if self._traces.content:
            said["gen_ai.system_instructions"] = self._traces.told([_text(question.system)])
            asked = [{"role": one.role, "parts": _parts(one)} for one in question.messages]
            said["gen_ai.input.messages"] = self._traces.told(asked)
        return said

    def _answered(self, span: Span, answer: Answer) -> None:
        usage = answer.usage
        said = {
            "gen_ai.response.model": answer.model,
            "gen_ai.response.finish_reasons": (_REASONS[answer.stop],),
            "gen_ai.usage.input_tokens": usage.input,
            "gen_ai.usage.output_tokens": usage.output,
            "gen_ai.usage.cache_read.input_tokens": usage.cache_read,
            "gen_ai.usage.cache_creation.input_tokens": usage.cache_write,
            "gen_ai.usage.reasoning.output_tokens": usage.reasoning,
        }
        if self._traces.content:
            parts = _parts(Message("assistant", answer.text, calls=answer.calls))
            told = {"role": "assistant", "parts": parts, "finish_reason": _REASONS[answer.stop]}
            said["gen_ai.output.messages"] = self._traces.told([told])
        span.set_attributes({name: value for name, value in said.items() if value is not None})


def _parts(message: Message) -> list[dict[str, Any]]:
    """A turn in the form that the conventions have for it. Pictures and what only a provider reads stay out."""
    parts = [_text(message.text)] if message.text else []
    for call in message.calls:
        parts.append({"type": "tool_call", "id": call.id, "name": call.skill, "arguments": call.arguments})
    for result in message.results:
        parts.append({"type": "tool_call_response", "id": result.call_id, "response": result.text})
    return parts


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "content": text}
