"""The Anthropic Messages wire format: a question as the body of a call, and streamed events as an answer. Pure.

Thinking. A model that thinks needs its thinking blocks back, unchanged and signed, in the assistant turn before the
results of its calls. A ``Message`` has no place for them, so thinking is switched off where the wire lets us. Some
models always think and refuse to be told not to: ``thinking: model_default`` in the model policy leaves the field out
for them; what they think is then dropped, which costs them the thread between two calls but never enters the text.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from agentos.runtime.inference.model import Answer, Call, Message, ModelMisbehaved, Stop, Usage
from agentos.runtime.inference.ports import Question

PASSED_ON: Final = ("temperature", "top_p", "top_k", "stop_sequences", "tool_choice", "metadata")  # of a model policy

STOPS: Final = {
    "end_turn": Stop.END,
    "stop_sequence": Stop.END,
    "tool_use": Stop.CALLS,
    "max_tokens": Stop.LIMIT,
    "model_context_window_exceeded": Stop.LIMIT,
    "refusal": Stop.REFUSAL,
}


class WireUsage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


class Start(msgspec.Struct):
    model: str = ""
    usage: WireUsage | None = None


class Block(msgspec.Struct):
    type: str
    id: str = ""
    name: str = ""
    text: str = ""
    input: dict[str, Any] | None = None


class Delta(msgspec.Struct):
    type: str = ""
    text: str = ""
    partial_json: str = ""
    stop_reason: str | None = None


class WireError(msgspec.Struct):
    type: str = ""
    message: str = ""


class Event(msgspec.Struct):
    type: str
    index: int = 0
    message: Start | None = None
    content_block: Block | None = None
    delta: Delta | None = None
    usage: WireUsage | None = None
    error: WireError | None = None
    request_id: str | None = None


class Failure(msgspec.Struct):
    error: WireError = msgspec.field(default_factory=WireError)


decode_event: Final = msgspec.json.Decoder(Event).decode
decode_failure: Final = msgspec.json.Decoder(Failure).decode
encode: Final = msgspec.json.Encoder().encode


def request(question: Question) -> dict[str, Any]:
    """The body of the call. Turns of the same side are joined, because the wire wants the sides to alternate."""
    messages: list[dict[str, Any]] = []
    for message in question.messages:
        role = "assistant" if message.role == "assistant" else "user"
        blocks = list(_blocks(message))
        if not blocks:
            continue  # the wire refuses empty turns and empty text
        if messages and messages[-1]["role"] == role:
            messages[-1]["content"] += blocks
        else:
            messages.append({"role": role, "content": blocks})
    body: dict[str, Any] = {
        "model": question.model,
        "max_tokens": question.max_tokens,
        "messages": messages,
        "stream": True,
    }
    if question.system.strip():
        body["system"] = question.system
    if question.tools:
        body["tools"] = [
            {"name": tool.name, "description": tool.description, "input_schema": tool.schema} for tool in question.tools
        ]
        if messages:  # with skills there is a next turn, which reads everything up to here from the vendor's cache
            messages[-1]["content"][-1]["cache_control"] = {"type": "ephemeral"}
    if question.options.get("thinking") != "model_default":
        body["thinking"] = {"type": "disabled"}
    return body | {name: question.options[name] for name in PASSED_ON if name in question.options}


def _blocks(message: Message) -> Iterable[dict[str, Any]]:
    for result in message.results:  # before any text: the wire wants results right after their calls
        block: dict[str, Any] = {"type": "tool_result", "tool_use_id": result.call_id, "content": result.text}
        yield block | {"is_error": True} if result.failed else block
    if message.text.strip():
        yield {"type": "text", "text": message.text}
    for call in message.calls:
        yield {"type": "tool_use", "id": call.id, "name": call.skill, "input": call.arguments}


class Draft:
    """The answer as far as it was streamed."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.reason: str | None = None
        self.usage = WireUsage()
        self.blocks: dict[int, Block] = {}
        self.parts: dict[int, list[str]] = {}

    def take(self, event: Event) -> None:
        if event.type == "message_start" and event.message:
            self.model = event.message.model or self.model
            self._count(event.message.usage)
        elif event.type == "content_block_start" and event.content_block:
            self.blocks[event.index], self.parts[event.index] = event.content_block, []
        elif event.type == "content_block_delta" and event.delta:
            if event.index not in self.blocks:
                raise ModelMisbehaved("claude went on with a block that it had not begun")
            # Deltas of other types (thinking, signatures, citations) have neither field.
            self.parts[event.index].append(event.delta.text or event.delta.partial_json)
        elif event.type == "message_delta":
            self.reason = (event.delta and event.delta.stop_reason) or self.reason
            self._count(event.usage)

    def _count(self, said: WireUsage | None) -> None:  # counts are cumulative: the last one said is the total
        for name in WireUsage.__struct_fields__ if said else ():
            if (value := getattr(said, name)) is not None:
                setattr(self.usage, name, value)

    def answer(self) -> Answer:
        """The whole answer. Raises ModelMisbehaved (Bug) on a stop reason or a call that is not of the known form."""
        stop = STOPS.get(self.reason or "")
        if stop is None:  # to guess that all is well would hide a new kind of refusal
            raise ModelMisbehaved(f"claude stopped for a reason we do not know: {str(self.reason)[:40]}")
        text: list[str] = []
        calls: list[Call] = []
        for index, block in sorted(self.blocks.items()):
            streamed = "".join(self.parts[index])
            if block.type == "text":
                text.append(block.text + streamed)
            elif block.type == "tool_use" and stop is not Stop.REFUSAL:  # nothing is done on the word of a refusal
                if stop is Stop.LIMIT and index == max(self.blocks):
                    continue  # the limit fell into this call: its arguments are cut, even where they happen to parse
                try:
                    arguments = msgspec.json.decode(streamed, type=dict[str, Any]) if streamed else block.input or {}
                except msgspec.DecodeError:
                    raise ModelMisbehaved(
                        f"claude called '{block.name[:64]}' with arguments that are no JSON object"
                    ) from None
                calls.append(Call(id=block.id, skill=block.name, arguments=arguments))
        if stop is Stop.CALLS and not calls:
            raise ModelMisbehaved("claude stopped to have skills called and named none")
        if stop is Stop.END and calls:
            stop = Stop.CALLS  # calls that are complete want answers whatever the reason is called
        return Answer(
            text="".join(text), provider="claude", model=self.model, stop=stop, calls=tuple(calls), usage=self._usage()
        )

    def _usage(self) -> Usage:
        """Our ``input`` counts all input; the wire's leaves out what the cache gave or took."""
        said = self.usage
        cached = (said.cache_read_input_tokens or 0) + (said.cache_creation_input_tokens or 0)
        return Usage(
            input=None if said.input_tokens is None else said.input_tokens + cached,
            output=said.output_tokens,
            cache_read=said.cache_read_input_tokens,
            cache_write=said.cache_creation_input_tokens,
        )
