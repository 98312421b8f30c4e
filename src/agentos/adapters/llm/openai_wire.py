"""The chat completions wire format: a question as the body of a call, and streamed chunks as an answer. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from agentos.adapters.llm.endpoint import Failed
from agentos.adapters.llm.openai_errors import failure
from agentos.runtime.inference.model import Answer, Call, Image, Message, ModelMisbehaved, Stop, Usage
from agentos.runtime.inference.ports import Hear, Question

PASSED_ON: Final = (  # of a model policy
    "temperature",
    "top_p",
    "frequency_penalty",
    "presence_penalty",
    "stop",
    "seed",
    "logit_bias",
    "reasoning_effort",
    "verbosity",
    "service_tier",
    "metadata",
    "user",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
)
WITH_TOOLS: Final = ("tool_choice", "parallel_tool_calls")  # refused where there are none

STOPS: Final = {
    "stop": Stop.END,
    "eos": Stop.END,
    "tool_calls": Stop.CALLS,
    "function_call": Stop.CALLS,
    "length": Stop.LIMIT,
    "content_filter": Stop.REFUSAL,
}
END: Final = b"[DONE]"


class Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class CallPart(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: Function | None = None


class Delta(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[CallPart] | None = None


class Choice(msgspec.Struct):
    index: int = 0
    delta: Delta | None = None
    finish_reason: str | None = None
    error: Any = None  # OpenRouter's place for it


class InputDetails(msgspec.Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class OutputDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class WireUsage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: InputDetails | None = None
    completion_tokens_details: OutputDetails | None = None


class Chunk(msgspec.Struct):
    model: str | None = None
    choices: list[Choice] | None = None
    usage: WireUsage | None = None
    error: Any = None
    object: str | None = None  # "error": then the fields below tell it, as older servers do
    message: Any = None
    type: Any = None
    code: Any = None


decode_chunk: Final = msgspec.json.Decoder(Chunk).decode
encode: Final = msgspec.json.Encoder().encode


def request(question: Question, limit: str = "max_completion_tokens") -> dict[str, Any]:
    """The body of the call; ``limit`` is what the server calls the most tokens of an answer."""
    options = question.options
    messages: list[dict[str, Any]] = []
    if question.system.strip():
        messages.append({"role": "system", "content": question.system})
    for message in question.messages:
        messages += _turns(message)
    body: dict[str, Any] = {
        "model": question.model,
        "messages": messages,
        "stream": True,
        "stream_options": {"include_usage": True},
        options.get("limit_field", limit): question.max_tokens,
    }
    if question.tools:
        body["tools"] = [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": {"type": "object"} | tool.schema,
                },
            }
            for tool in question.tools
        ]
        body |= {name: options[name] for name in WITH_TOOLS if name in options}
    if question.schema is not None and options.get("structured", True):
        form = {"name": "answer", "schema": question.schema, "strict": _strict(question.schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": form}
    body |= {name: options[name] for name in PASSED_ON if name in options}
    return {**options.get("extra", {}), **body}


def _turns(message: Message) -> Iterable[dict[str, Any]]:
    for result in message.results:
        yield {"role": "tool", "tool_call_id": result.call_id, "content": result.text}
    if message.role == "assistant":
        calls = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.skill, "arguments": encode(call.arguments).decode()},
            }
            for call in message.calls
        ]
        if message.text.strip() or calls:
            said: dict[str, Any] = {"role": "assistant", "content": message.text if message.text.strip() else None}
            yield said | {"tool_calls": calls} if calls else said
    elif message.images:
        parts = [{"type": "image_url", "image_url": {"url": _address(image)}} for image in message.images]
        text = [{"type": "text", "text": message.text}] if message.text.strip() else []
        yield {"role": "user", "content": [*parts, *text]}
    elif message.text.strip():
        yield {"role": "user", "content": message.text}


def _address(image: Image) -> str:
    return image.url or f"data:{image.media_type};base64,{image.data}"


def _strict(schema: Any) -> bool:
    """Whether a server can be held to the schema: every object names all its members, and requires them."""
    if isinstance(schema, list):
        return all(_strict(one) for one in schema)
    if not isinstance(schema, dict):
        return True
    if schema.get("type") == "object" or "properties" in schema:
        named = schema.get("properties")
        if not isinstance(named, dict) or schema.get("additionalProperties") is not False:
            return False
        if set(schema.get("required", ())) != set(named):
            return False
    return "allOf" not in schema and all(_strict(one) for one in schema.values())


class Draft:
    """The answer as far as it was streamed."""

    def __init__(self, provider: str, question: Question, hear: Hear | None = None) -> None:
        self.provider = provider
        self.model = question.model
        self.turn = len(question.messages)
        self.hear = hear
        self.reason: str | None = None
        self.usage = WireUsage()
        self.text: list[str] = []
        self.refusal: list[str] = []
        self.calls: list[tuple[CallPart, list[str]]] = []
        self.at: dict[int, int] = {}  # the call that an index stands for now

    @property
    def whole(self) -> bool:
        """Not every server says that the stream is done; the choice says so before."""
        return self.reason is not None

    def take(self, data: bytes | bytearray) -> bool:
        data = data.strip()
        if data == END:
            return True
        chunk = decode_chunk(data)
        if chunk.error is not None:
            raise Failed(failure(chunk.error))
        if chunk.object == "error":
            raise Failed(failure({"message": chunk.message, "type": chunk.type, "code": chunk.code}))
        self.model = chunk.model or self.model
        self.usage = chunk.usage or self.usage
        for choice in chunk.choices or ():
            if choice.error is not None:
                raise Failed(failure(choice.error))
            if choice.index == 0:
                self._add(choice)
        return False

    def _add(self, choice: Choice) -> None:
        self.reason = choice.finish_reason or self.reason
        if self.reason == "error":  # OpenRouter's word for a server behind it that gave up, with or without an error
            raise Failed(failure("the server behind it gave up"))
        delta = choice.delta
        if delta is None:
            return
        if delta.content:
            self.text.append(delta.content)
            if self.hear is not None:
                self.hear(delta.content)
        if delta.refusal:
            self.refusal.append(delta.refusal)
        for part in delta.tool_calls or ():
            self._call(part)

    def _call(self, part: CallPart) -> None:
        """Add a piece of a call. Pieces belong together by index; some servers give whole calls all the same one."""
        function = part.function or Function()
        index = len(self.calls) - 1 if part.index is None else part.index
        at = self.at.get(index, -1)
        begins = at < 0 or bool(function.name and self._other(part, self.calls[at][0]))
        if begins:
            if not function.name:
                raise ModelMisbehaved(f"{self.provider} went on with a call that it had not begun")
            at = self.at[index if part.index is not None else len(self.calls)] = len(self.calls)
            self.calls.append((CallPart(index, part.id, function), []))
        self.calls[at][1].append(function.arguments or "")

    def _other(self, part: CallPart, begun: CallPart) -> bool:
        return part.index is None if part.id is None else part.id != begun.id

    def answer(self) -> Answer:
        """The whole answer. Raises ModelMisbehaved (Bug) on a reason to finish or a call that is not of the known
        form."""
        stop = STOPS.get(self.reason or "")
        if stop is None:  # to guess that all is well would hide a new kind of refusal
            raise ModelMisbehaved(f"{self.provider} stopped for a reason we do not know: {str(self.reason)[:40]}")
        if self.refusal:
            stop = Stop.REFUSAL
        whole = self.calls
        if stop is Stop.REFUSAL:
            whole = []  # nothing is done on the word of a refusal
        elif stop is Stop.LIMIT:
            whole = self.calls[:-1]  # the limit fell into the last: its arguments are cut, even where they parse
        calls = tuple(self._whole(number, *one) for number, one in enumerate(whole))
        if stop is Stop.CALLS and not calls:
            raise ModelMisbehaved(f"{self.provider} stopped to have skills called and named none")
        if stop is Stop.END and calls:
            stop = Stop.CALLS  # calls that are complete want answers whatever the reason is called
        text = "".join(self.text or self.refusal)
        return Answer(text, self.provider, self.model, stop, calls, self._usage())

    def _whole(self, number: int, begun: CallPart, parts: list[str]) -> Call:
        name = (begun.function and begun.function.name) or ""
        written = "".join(parts)
        try:
            arguments = msgspec.json.decode(written, type=dict[str, Any]) if written.strip() else {}
        except msgspec.DecodeError:
            raise ModelMisbehaved(
                f"{self.provider} called '{name[:64]}' with arguments that are no JSON object"
            ) from None
        return Call(begun.id or f"call_{self.turn}_{number}", name, arguments)  # some servers give no ids

    def _usage(self) -> Usage:
        said = self.usage
        into, out = said.prompt_tokens_details, said.completion_tokens_details
        return Usage(
            input=said.prompt_tokens,
            output=said.completion_tokens,
            cache_read=into.cached_tokens if into else None,
            cache_write=into.cache_write_tokens if into else None,
            reasoning=out.reasoning_tokens if out else None,
        )
