"""A request for a message, and what it wants."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final

import msgspec

from agentos.runtime.gateway import wire
from agentos.runtime.gateway.model import MOST_MESSAGES, RequestNotUnderstood, Wanted, Wishes
from agentos.runtime.inference import Call, Image, Message, Opaque, Result, Tool
from agentos.runtime.inference.model import MOST_TOKENS

PROVIDER: Final = "claude"  # whose opaque blocks these are


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
    name: wire.Name
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
    name: wire.Name
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
    model: wire.Name
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
    fallback: Annotated[list[wire.Name], msgspec.Meta(max_length=8)] | None = None
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
