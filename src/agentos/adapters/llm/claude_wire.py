"""The Anthropic Messages wire format: a question as the body of a call, and streamed events as an answer. Pure.

Thinking. A model that thinks needs its thinking blocks back, unchanged and signed, in the assistant turn before the
results of its calls. They travel as ``Answer.opaque`` and ``Message.opaque``, with a mark where a text or a call stood
between them. Thinking is off unless the model policy says ``thinking``: as the wire words it, or ``model_default``,
which leaves the field out for models that always think and refuse to be told not to.

Ids of calls. A conversation that another model began has that model's ids in it, of which the wire takes those of
letters, digits, ``_`` and ``-`` only. Another one is told by its digest, the same in the call and in its result, and
the conversation keeps the id as it was, for whoever gave it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from agentos.adapters.llm.claude_errors import WireError, failure
from agentos.adapters.llm.claude_schemas import understood
from agentos.adapters.llm.endpoint import Failed
from agentos.runtime.inference.model import Answer, Call, Image, Message, ModelMisbehaved, Opaque, Stop, Usage
from agentos.runtime.inference.ports import Hear, Question

CACHED: Final = {"type": "ephemeral"}  # for five minutes: an hour is priced otherwise

PASSED_ON: Final = ("temperature", "top_p", "top_k", "stop_sequences", "metadata", "service_tier")  # of a model policy

STOPS: Final = {
    "end_turn": Stop.END,
    "stop_sequence": Stop.END,
    "tool_use": Stop.CALLS,
    "max_tokens": Stop.LIMIT,
    "model_context_window_exceeded": Stop.LIMIT,
    "refusal": Stop.REFUSAL,
}


class OutputDetails(msgspec.Struct):
    thinking_tokens: int | None = None


class WireUsage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    output_tokens_details: OutputDetails | None = None


class Start(msgspec.Struct):
    model: str = ""
    usage: WireUsage | None = None


class Block(msgspec.Struct):
    type: str
    id: str = ""
    name: str = ""
    text: str = ""
    thinking: str = ""
    signature: str = ""
    data: str = ""  # of thinking that the vendor does not show
    input: dict[str, Any] | None = None


class Delta(msgspec.Struct):
    type: str = ""
    text: str = ""
    thinking: str = ""
    signature: str = ""
    partial_json: str = ""
    stop_reason: str | None = None


class Event(msgspec.Struct):
    type: str
    index: int = 0
    message: Start | None = None
    content_block: Block | None = None
    delta: Delta | None = None
    usage: WireUsage | None = None
    error: WireError | None = None


_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")

decode_event: Final = msgspec.json.Decoder(Event).decode
encode: Final = msgspec.json.Encoder().encode


def request(question: Question) -> dict[str, Any]:
    """The body of the call. Turns of the same side are joined, because the wire wants the sides to alternate."""
    options = question.options
    thinking = options.get("thinking", {"type": "disabled"})
    thinks = thinking == "model_default" or thinking.get("type") != "disabled"
    messages: list[dict[str, Any]] = []
    for message in question.messages:
        role = "assistant" if message.role == "assistant" else "user"
        blocks = list(_blocks(message, thinks=thinks))
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
            {"name": tool.name, "description": tool.description, "input_schema": {"type": "object"} | tool.schema}
            for tool in question.tools
        ]
        if "tool_choice" in options:
            body["tool_choice"] = options["tool_choice"]
    _cache(body, options.get("cache"))
    if question.schema is not None and options.get("structured", True):
        schema = understood(question.schema)
        if schema is not None:
            body["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
    if thinking != "model_default":
        body["thinking"] = thinking
    return body | {name: options[name] for name in PASSED_ON if name in options}


def _cache(body: dict[str, Any], asked: bool | None) -> None:
    """Mark what the vendor is to keep: by default the conversation where there are skills, since with them there is a
    next turn, which reads everything up to here from the cache; if asked, skills and system text of their own as well,
    which other runs of the same version read."""
    if asked is False:
        return
    if asked:
        if "system" in body:
            body["system"] = [{"type": "text", "text": body["system"], "cache_control": CACHED}]
        if "tools" in body:
            body["tools"][-1]["cache_control"] = CACHED
    last = body["messages"][-1]["content"][-1] if body["messages"] else None
    if last is not None and (asked or "tools" in body) and "thinking" not in last["type"]:
        last["cache_control"] = CACHED


def _blocks(message: Message, *, thinks: bool) -> Iterable[dict[str, Any]]:
    for result in message.results:  # before any text: the wire wants results right after their calls
        block: dict[str, Any] = {"type": "tool_result", "tool_use_id": _told_id(result.call_id), "content": result.text}
        yield block | {"is_error": True} if result.failed else block
    for image in message.images:
        yield {"type": "image", "source": _source(image)}
    text = [{"type": "text", "text": message.text}] if message.text.strip() else []
    calls: list[dict[str, Any]] = [
        {"type": "tool_use", "id": _told_id(call.id), "name": call.skill, "input": call.arguments}
        for call in message.calls
    ]
    if thinks and message.opaque is not None and message.opaque.provider == "claude":
        yield from message.opaque.among(text, calls)
    else:
        yield from (*text, *calls)


def _told_id(call_id: str) -> str:
    return call_id if _ID.fullmatch(call_id) else f"call_{hashlib.sha256(call_id.encode()).hexdigest()[:32]}"


def _source(image: Image) -> dict[str, Any]:
    if image.url:
        return {"type": "url", "url": image.url}
    return {"type": "base64", "media_type": image.media_type, "data": image.data}


class Draft:
    """The answer as far as it was streamed."""

    def __init__(self, provider: str, model: str, hear: Hear | None = None) -> None:
        self.provider = provider
        self.model = model
        self.hear = hear
        self.whole = False
        self.reason: str | None = None
        self.usage = WireUsage()
        self.blocks: dict[int, Block] = {}
        self.parts: dict[int, list[str]] = {}

    def take(self, data: bytes | bytearray) -> bool:
        event = decode_event(data)
        if event.type == "content_block_delta" and event.delta:
            self._add(event.index, event.delta)
        elif event.type == "content_block_start" and event.content_block:
            self.blocks[event.index], self.parts[event.index] = event.content_block, []
            if self.hear is not None and event.content_block.text:
                self.hear(event.content_block.text)
        elif event.type == "message_start" and event.message:
            self.model = event.message.model or self.model
            self._count(event.message.usage)
        elif event.type == "message_delta":
            self.reason = (event.delta and event.delta.stop_reason) or self.reason
            self._count(event.usage)
        elif event.type == "message_stop":
            self.whole = True
        elif event.type == "error":
            raise Failed(failure(event.error or WireError()))
        return self.whole

    def _add(self, index: int, delta: Delta) -> None:
        block = self.blocks.get(index)
        if block is None:
            raise ModelMisbehaved(f"{self.provider} went on with a block that it had not begun")
        if delta.type == "signature_delta":
            block.signature += delta.signature
            return
        self.parts[index].append(delta.text or delta.partial_json or delta.thinking)  # citations have none of these
        if self.hear is not None and block.type == "text" and delta.text:
            self.hear(delta.text)

    def _count(self, said: WireUsage | None) -> None:  # counts are cumulative: the last one said is the total
        for name in WireUsage.__struct_fields__ if said else ():
            if (value := getattr(said, name)) is not None:
                setattr(self.usage, name, value)

    def answer(self) -> Answer:
        """The whole answer. Raises ModelMisbehaved (Bug) on a stop reason or a call that is not of the known form."""
        stop = STOPS.get(self.reason or "")
        if stop is None:  # to guess that all is well would hide a new kind of refusal
            raise ModelMisbehaved(f"{self.provider} stopped for a reason we do not know: {str(self.reason)[:40]}")
        text: list[str] = []
        calls: list[Call] = []
        thought: list[dict[str, Any]] = []
        for index, block in sorted(self.blocks.items()):
            streamed = "".join(self.parts[index])
            if block.type == "text":
                text.append(block.text + streamed)
                thought.append({"type": "text"})
            elif block.type == "thinking":
                thought.append(
                    {"type": "thinking", "thinking": block.thinking + streamed, "signature": block.signature}
                )
            elif block.type == "redacted_thinking":
                thought.append({"type": "redacted_thinking", "data": block.data})
            elif block.type == "tool_use" and stop is not Stop.REFUSAL:  # nothing is done on the word of a refusal
                if stop is Stop.LIMIT and index == max(self.blocks):
                    continue  # the limit fell into this call: its arguments are cut, even where they happen to parse
                calls.append(Call(block.id, block.name, self._arguments(block, streamed)))
                thought.append({"type": "tool_use"})
        if stop is Stop.CALLS and not calls:
            raise ModelMisbehaved(f"{self.provider} stopped to have skills called and named none")
        if stop is Stop.END and calls:
            stop = Stop.CALLS  # calls that are complete want answers whatever the reason is called
        thinks = any("thinking" in one["type"] for one in thought)
        return Answer(
            text="".join(text),
            provider=self.provider,
            model=self.model,
            stop=stop,
            calls=tuple(calls),
            usage=self._usage(),
            opaque=Opaque("claude", tuple(thought)) if thinks else None,
        )

    def _arguments(self, block: Block, streamed: str) -> dict[str, Any]:
        try:
            return msgspec.json.decode(streamed, type=dict[str, Any]) if streamed else block.input or {}
        except msgspec.DecodeError:
            raise ModelMisbehaved(
                f"{self.provider} called '{block.name[:64]}' with arguments that are no JSON object"
            ) from None

    def _usage(self) -> Usage:
        """Our ``input`` counts all input; the wire's leaves out what the cache gave or took."""
        said = self.usage
        cached = (said.cache_read_input_tokens or 0) + (said.cache_creation_input_tokens or 0)
        return Usage(
            input=None if said.input_tokens is None else said.input_tokens + cached,
            output=said.output_tokens,
            cache_read=said.cache_read_input_tokens,
            cache_write=said.cache_creation_input_tokens,
            reasoning=said.output_tokens_details.thinking_tokens if said.output_tokens_details else None,
        )
