"""Anthropic's Messages as a client speaks them: a body as what is wanted, an answer as its body or events. Pure.

Thinking. Signed blocks of a model's thinking are told to the client at their place, and come back in its next request;
they reach the provider that they came from and nobody else. In a stream they must stand before the text that followed
them, so an answer with thinking is streamed when it is whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec

from agentos.kernel.errors import AgentOSError
from agentos.runtime.gateway import wire
from agentos.runtime.gateway.model import (
    MOST_MESSAGES,
    MOST_NAME,
    Opening,
    RequestNotUnderstood,
    Said,
    Wanted,
    Wishes,
)
from agentos.runtime.gateway.ports import Form
from agentos.runtime.inference import Call, Image, Message, Opaque, Result, Stop, Tool, Usage
from agentos.runtime.inference.model import MOST_TOKENS

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MOST_NAME)]

PROVIDER: Final = "claude"  # whose opaque blocks these are
STOPPED: Final = {
    Stop.END: "end_turn",
    Stop.CALLS: "tool_use",
    Stop.LIMIT: "max_tokens",
    Stop.REFUSAL: "refusal",
}
_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


class TextBlock(msgspec.Struct, tag_field="type", tag="text"):
    text: str
    cache_control: Any = None


class Source(msgspec.Struct):
    type: str
    media_type: str = ""
    data: str = ""
    url: str = ""


class ImageBlock(msgspec.Struct, tag_field="type", tag="image"):
    source: Source
    cache_control: Any = None


class ToolUse(msgspec.Struct, tag_field="type", tag="tool_use"):
    id: str
    name: Name
    input: dict[str, Any]
    cache_control: Any = None


class ToolResult(msgspec.Struct, tag_field="type", tag="tool_result"):
    tool_use_id: str
    content: str | list[TextBlock | ImageBlock] | None = None
    is_error: bool | None = None
    cache_control: Any = None


class Thinking(msgspec.Struct, tag_field="type", tag="thinking"):
    thinking: str
    signature: str


class Hidden(msgspec.Struct, tag_field="type", tag="redacted_thinking"):
    data: str


class User(msgspec.Struct, tag_field="role", tag="user"):
    content: str | list[TextBlock | ImageBlock | ToolResult]


class Assistant(msgspec.Struct, tag_field="role", tag="assistant"):
    content: str | list[TextBlock | ToolUse | Thinking | Hidden]


class Described(msgspec.Struct):
    name: Name
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    type: str | None = None
    cache_control: Any = None


class Choice(msgspec.Struct):
    type: str
    name: str = ""
    disable_parallel_tool_use: bool | None = None


class Metadata(msgspec.Struct):
    user_id: str | None = None


class Format(msgspec.Struct):
    type: str
    schema: dict[str, Any] | None = None


class Output(msgspec.Struct):
    format: Format | None = None


class Body(msgspec.Struct):
    model: Name
    max_tokens: Annotated[int, msgspec.Meta(ge=1, le=MOST_TOKENS)]
    messages: Annotated[list[User | Assistant], msgspec.Meta(min_length=1, max_length=MOST_MESSAGES)]
    system: str | list[TextBlock] | None = None
    tools: list[Described] | None = None
    tool_choice: Choice | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: list[str] | None = None
    thinking: dict[str, Any] | None = None
    metadata: Metadata | None = None
    output_config: Output | None = None
    stream: bool | None = None
    # refused where they say more than nothing
    container: Any = None
    mcp_servers: list[Any] | None = None
    # ours
    fallback: Annotated[list[Name], msgspec.Meta(max_length=8)] | None = None
    environment: Annotated[str, msgspec.Meta(max_length=63)] = "production"


def read(body: bytes) -> Wanted:
    """What a request wants. Raises RequestNotUnderstood or NotOffered (Invalid)."""
    given = wire.read(body, Body)
    if given.container is not None:
        raise wire.not_offered("container", "a container of the vendor")
    if given.mcp_servers:
        raise wire.not_offered(
            "mcp_servers", "the vendor's own calls to servers", "Send tools, and call them yourself."
        )
    offered = []
    for number, tool in enumerate(given.tools or ()):
        if tool.type not in (None, "custom"):
            raise wire.not_offered(
                f"tools[{number}].type", "a tool that the vendor executes", "Send tools of your own."
            )
        offered.append(Tool(tool.name, tool.description or "", tool.input_schema or {"type": "object"}))
    messages = [turn for number, one in enumerate(given.messages) for turn in _turns(one, f"messages[{number}]")]
    choice, tool_named, parallel = _choice(given.tool_choice)
    schema = _schema(given.output_config)
    return Wanted(
        model=given.model,
        messages=tuple(messages),
        system=_joined(given.system),
        tools=wire.tools(offered, schema, ("input_schema", "output_config.format.schema")),
        max_tokens=given.max_tokens,
        schema=schema,
        wishes=Wishes(
            temperature=given.temperature,
            top_p=given.top_p,
            top_k=given.top_k,
            stop=tuple(given.stop_sequences or ()),
            thinking=given.thinking,
            tool_choice=choice,
            tool=tool_named,
            parallel=parallel,
            user=given.metadata.user_id if given.metadata else None,
            cache=_marked(given),
        ),
        fallback=tuple(given.fallback or ()),
        environment=given.environment,
        stream=bool(given.stream),
    )


def _turns(one: User | Assistant, where: str) -> Iterator[Message]:
    if isinstance(one.content, str):
        yield Message("assistant" if isinstance(one, Assistant) else "user", one.content)
        return
    if isinstance(one, Assistant):
        yield _assistants(one.content)
        return
    results, images, texts = [], [], []
    for number, block in enumerate(one.content):
        place = f"{where}.content[{number}]"
        if isinstance(block, ToolResult):
            inner = block.content if isinstance(block.content, list) else []
            text = block.content if isinstance(block.content, str) else _joined([
                part for part in inner if isinstance(part, TextBlock)
            ])  # fmt: skip
            results.append(Result(block.tool_use_id, text, failed=bool(block.is_error)))
            images += [_image(part, place) for part in inner if isinstance(part, ImageBlock)]
        elif isinstance(block, ImageBlock):
            images.append(_image(block, place))
        else:
            texts.append(block)
    if results:
        yield Message("tool", results=tuple(results))
    if images or texts or not results:
        yield Message("user", _joined(texts), images=tuple(images))


def _assistants(content: list[TextBlock | ToolUse | Thinking | Hidden]) -> Message:
    texts, calls, marks = [], [], []
    for block in content:
        if isinstance(block, TextBlock):
            texts.append(block)
            marks.append({"type": "text"})
        elif isinstance(block, ToolUse):
            calls.append(Call(block.id, block.name, block.input))
            marks.append({"type": "tool_use"})
        else:
            marks.append(msgspec.to_builtins(block))
    thinks = any("thinking" in one["type"] for one in marks)
    opaque = Opaque(PROVIDER, tuple(marks)) if thinks else None
    return Message("assistant", "".join(one.text for one in texts), calls=tuple(calls), opaque=opaque)


def _image(block: ImageBlock, where: str) -> Image:
    source = block.source
    if source.type == "base64":
        return wire.held(source.media_type, source.data, f"{where}.source.data")
    if source.type == "url":
        return wire.picture(source.url, f"{where}.source.url")
    raise wire.not_offered(f"{where}.source", f"a picture by '{source.type[:20]}'", "Send it as base64 or url.")


def _joined(content: str | list[TextBlock] | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "\n\n".join(one.text for one in content)


def _choice(said: Choice | None) -> tuple[str | None, str, bool | None]:
    if said is None:
        return None, "", None
    if said.type not in ("auto", "any", "none", "tool"):
        raise RequestNotUnderstood(
            f"there is no tool_choice '{said.type[:40]}'", where="tool_choice.type", then="Use auto, any, none or tool."
        )
    if said.type == "tool" and not said.name:
        raise RequestNotUnderstood("the tool to use has no name", where="tool_choice.name")
    parallel = None if said.disable_parallel_tool_use is None else not said.disable_parallel_tool_use
    return said.type, said.name, parallel


def _schema(said: Output | None) -> dict[str, Any] | None:
    return said.format.schema if said is not None and said.format is not None else None


def _marked(given: Body) -> bool:
    """Whether the client marks anything to be kept in the provider's cache."""
    blocks: list[Any] = [*(given.system if isinstance(given.system, list) else ()), *(given.tools or ())]
    for one in given.messages:
        blocks += one.content if isinstance(one.content, list) else ()
    return any(getattr(one, "cache_control", None) is not None for one in blocks)


def shown(said: Said, at: datetime) -> dict[str, Any]:  # noqa: ARG001  # this form has no time of its own
    """The body of a whole answer."""
    return _head(said.id, said.model, said.provider, said.run_id) | {
        "content": list(_blocks(said)),
        "stop_reason": STOPPED[said.stop],
        "usage": _usage(said.usage),
    }


def _head(answer_id: str, model: str, provider: str, run_id: str) -> dict[str, Any]:
    head = {"id": answer_id, "type": "message", "role": "assistant", "model": model, "provider": provider}
    return head | {"stop_sequence": None} | ({"run_id": run_id} if run_id else {})


def _blocks(said: Said) -> Iterator[dict[str, Any]]:
    """The blocks of an answer, thinking where it stood."""
    text = [{"type": "text", "text": said.text}] if said.text else []
    calls: list[dict[str, Any]] = [
        {"type": "tool_use", "id": one.id, "name": one.skill, "input": one.arguments} for one in said.calls
    ]
    if said.opaque is not None and said.opaque.provider == PROVIDER:
        for mark in said.opaque.blocks:
            if mark["type"] == "text":
                yield from text
                text = []
            elif mark["type"] == "tool_use":
                yield from calls[:1]
                calls = calls[1:]
            else:
                yield dict(mark)
    yield from text
    yield from calls


def _usage(used: Usage) -> dict[str, Any]:
    """Our input counts all of it; this form counts what the cache gave or took beside it. Unknown numbers are null."""
    cached = (used.cache_read or 0) + (used.cache_write or 0)
    return {
        "input_tokens": None if used.input is None else used.input - cached,
        "output_tokens": used.output,
        "cache_read_input_tokens": used.cache_read,
        "cache_creation_input_tokens": used.cache_write,
    }


class Events:
    """A stream of events. Calls are told whole, when the answer is."""

    def __init__(self, wanted: Wanted) -> None:
        self.thinks = (wanted.wishes.thinking or {}).get("type", "disabled") != "disabled"
        self.number = 0
        self.open = False

    def begin(self, opening: Opening) -> bytes:
        """The message without content; what it costs is told at the end."""
        message = _head(opening.id, opening.model, opening.provider, opening.run_id)
        usage = {"input_tokens": 0, "output_tokens": 0}
        message |= {"content": [], "stop_reason": None, "usage": usage}
        return _event("message_start", {"message": message})

    def text(self, piece: str) -> bytes:
        """Some more text; nothing yet where thinking may stand before it."""
        if self.thinks:
            return b""
        begin = b"" if self.open else self._start({"type": "text", "text": ""})
        self.open = True
        return begin + self._delta({"type": "text_delta", "text": piece})

    def end(self, said: Said) -> bytes:
        """The blocks that were not told, the reason to stop, the usage, and the mark of the end."""
        events = b""
        if self.open:
            events += self._stop()
        for block in _blocks(said):
            if not (self.open and block["type"] == "text"):
                events += self._whole(block)
        delta = {"stop_reason": STOPPED[said.stop], "stop_sequence": None}
        events += _event("message_delta", {"delta": delta, "usage": _usage(said.usage)})
        return events + _event("message_stop", {})

    def broke(self, error: AgentOSError, request_id: str) -> bytes:
        """The error, and no mark of the end."""
        return b"event: error\ndata: " + wire.encode(refusal(error, request_id)[1]) + b"\n\n"

    def _whole(self, block: dict[str, Any]) -> bytes:
        """A block in the pieces that clients put together."""
        if block["type"] == "text":
            begun, deltas = {"type": "text", "text": ""}, [{"type": "text_delta", "text": block["text"]}]
        elif block["type"] == "tool_use":
            written = wire.encode(block["input"]).decode()
            begun, deltas = block | {"input": {}}, [{"type": "input_json_delta", "partial_json": written}]
        elif block["type"] == "thinking":
            begun = {"type": "thinking", "thinking": "", "signature": ""}
            deltas = [
                {"type": "thinking_delta", "thinking": block["thinking"]},
                {"type": "signature_delta", "signature": block["signature"]},
            ]
        else:
            begun, deltas = block, []
        return self._start(begun) + b"".join(map(self._delta, deltas)) + self._stop()

    def _start(self, block: dict[str, Any]) -> bytes:
        return _event("content_block_start", {"index": self.number, "content_block": block})

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return _event("content_block_delta", {"index": self.number, "delta": delta})

    def _stop(self) -> bytes:
        event = _event("content_block_stop", {"index": self.number})
        self.number += 1
        return event


def _event(name: str, data: dict[str, Any]) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + wire.encode({"type": name} | data) + b"\n\n"


def refusal(error: AgentOSError, request_id: str) -> tuple[int, dict[str, Any]]:
    """An error in the vendor's form; ``problem`` is it in ours."""
    status = wire.status_of(error)
    kind = _TYPES.get(status) or ("invalid_request_error" if status < 500 else "api_error")
    said = {"type": kind, "message": str(error), "problem": wire.told(error)}
    return status, {"type": "error", "error": said, "request_id": request_id}


FORM: Final = Form(read, shown, Events, refusal)
