"""A request for a chat completion, and what it wants.

Fields that we do not know are left out, as the vendor does. Those that ask for something else than one answer in text
and calls are refused (``_refuse``).
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

from agentos.runtime.gateway import wire
from agentos.runtime.gateway.model import MOST_MESSAGES, RequestNotUnderstood, Wanted, Wishes
from agentos.runtime.inference import Call, Image, Message, Result, Tool
from agentos.runtime.inference.model import MOST_TOKENS

Count = Annotated[int, msgspec.Meta(ge=1, le=MOST_TOKENS)]

_CHOICES: Final = {"auto": "auto", "none": "none", "required": "any"}


class TextPart(msgspec.Struct, tag_field="type", tag="text"):
    text: str


class RefusalPart(msgspec.Struct, tag_field="type", tag="refusal"):
    refusal: str


class ImageUrl(msgspec.Struct):
    url: str


class ImagePart(msgspec.Struct, tag_field="type", tag="image_url"):
    image_url: ImageUrl


class Function(msgspec.Struct):
    name: wire.Name
    arguments: str = ""


class ToolCall(msgspec.Struct):
    id: str
    function: Function


class System(msgspec.Struct, tag_field="role", tag="system"):
    content: str | list[TextPart]


class Developer(msgspec.Struct, tag_field="role", tag="developer"):
    content: str | list[TextPart]


class User(msgspec.Struct, tag_field="role", tag="user"):
    content: str | list[TextPart | ImagePart]


class Assistant(msgspec.Struct, tag_field="role", tag="assistant"):
    content: str | list[TextPart | RefusalPart] | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None


class ToolTurn(msgspec.Struct, tag_field="role", tag="tool"):
    tool_call_id: str
    content: str | list[TextPart]


class Described(msgspec.Struct):
    name: wire.Name
    description: str | None = None
    parameters: dict[str, Any] | None = None


class Offered(msgspec.Struct, tag_field="type", tag="function"):
    function: Described


class Named(msgspec.Struct):
    name: wire.Name


class Chosen(msgspec.Struct, tag_field="type", tag="function"):
    function: Named


class Schema(msgspec.Struct):
    schema: dict[str, Any] | None = None


class AnyText(msgspec.Struct, tag_field="type", tag="text"):
    pass


class AnyJson(msgspec.Struct, tag_field="type", tag="json_object"):
    pass


class JsonOf(msgspec.Struct, tag_field="type", tag="json_schema"):
    json_schema: Schema


class StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class Body(msgspec.Struct):
    model: wire.Name
    messages: Annotated[
        list[System | Developer | User | Assistant | ToolTurn], msgspec.Meta(min_length=1, max_length=MOST_MESSAGES)
    ]
    tools: list[Offered] | None = None
    tool_choice: str | Chosen | None = None
    parallel_tool_calls: bool | None = None
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    temperature: float | None = None
    top_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    user: str | None = None
    response_format: AnyText | AnyJson | JsonOf | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    # refused where they say more than nothing
    n: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    modalities: list[str] | None = None
    audio: Any = None
    web_search_options: Any = None
    functions: Any = None
    function_call: Any = None
    # ours
    fallback: Annotated[list[wire.Name], msgspec.Meta(max_length=8)] | None = None
    environment: Annotated[str, msgspec.Meta(max_length=63)] = "production"


def read(body: bytes) -> Wanted:
    """What a request wants. Raises RequestNotUnderstood or NotOffered (Invalid)."""
    given = wire.read(body, Body)
    _refuse(given)
    system, messages = _turns(given)
    offered = [Tool(one.function.name, one.function.description or "", one.function.parameters or {"type": "object"})
               for one in given.tools or ()]  # fmt: skip
    choice, tool = _choice(given.tool_choice)
    schema = _schema(given.response_format)
    stop = (given.stop,) if isinstance(given.stop, str) else tuple(given.stop or ())
    return Wanted(
        model=given.model,
        messages=messages,
        system=system,
        tools=wire.tools(offered, schema, ("function.parameters", "response_format.json_schema.schema")),
        max_tokens=given.max_completion_tokens or given.max_tokens,
        schema=schema,
        wishes=Wishes(
            temperature=given.temperature,
            top_p=given.top_p,
            stop=stop,
            seed=given.seed,
            frequency_penalty=given.frequency_penalty,
            presence_penalty=given.presence_penalty,
            logit_bias=given.logit_bias,
            reasoning_effort=given.reasoning_effort,
            verbosity=given.verbosity,
            tool_choice=choice,
            tool=tool,
            parallel=given.parallel_tool_calls,
            user=given.user,
        ),
        fallback=tuple(given.fallback or ()),
        environment=given.environment,
        stream=bool(given.stream),
        tell_usage=bool(given.stream_options and given.stream_options.include_usage),
    )


def _turns(given: Body) -> tuple[str, tuple[Message, ...]]:
    """What the system says, and what is said after it; results that follow each other are one turn."""
    system: list[str] = []
    messages: list[Message] = []
    for number, one in enumerate(given.messages):
        where = f"messages[{number}]"
        if isinstance(one, (System, Developer)):
            system.append(_text(one.content))
        elif isinstance(one, ToolTurn):
            result = Result(one.tool_call_id, _text(one.content))
            if messages and messages[-1].role == "tool":
                messages[-1] = Message("tool", results=(*messages[-1].results, result))
            else:
                messages.append(Message("tool", results=(result,)))
        elif isinstance(one, Assistant):
            calls = tuple(
                Call(call.id, call.function.name, wire.arguments(call.function.arguments, f"{where}.tool_calls"))
                for call in one.tool_calls or ()
            )
            messages.append(Message("assistant", _text(one.content) or one.refusal or "", calls=calls))
        else:
            messages.append(Message("user", _text(one.content), images=_images(one.content, where)))
    if not messages:
        raise RequestNotUnderstood("nobody says anything but the system", where="messages", then="Add a user's turn.")
    return "\n\n".join(one for one in system if one.strip()), tuple(messages)


def _refuse(given: Body) -> None:
    if given.n not in (None, 1):
        raise wire.not_offered("n", "more than one answer")
    if given.logprobs or given.top_logprobs:
        raise wire.not_offered("logprobs", "the probability of tokens")
    if given.audio is not None or set(given.modalities or ()) - {"text"}:
        raise wire.not_offered("modalities", "an answer that is no text")
    if given.web_search_options is not None:
        raise wire.not_offered("web_search_options", "a search by the vendor", "Run an agent that has such a skill.")
    if given.functions or given.function_call is not None:
        raise wire.not_offered("functions", "the older form of tools", "Send tools and tool_choice.")


def _text(content: str | list[Any] | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    parts = [
        one.text if isinstance(one, TextPart) else one.refusal for one in content if not isinstance(one, ImagePart)
    ]
    return "\n".join(parts)


def _images(content: str | list[Any], where: str) -> tuple[Image, ...]:
    if isinstance(content, str):
        return ()
    return tuple(
        wire.picture(one.image_url.url, f"{where}.content[{number}].image_url.url")
        for number, one in enumerate(content)
        if isinstance(one, ImagePart)
    )


def _choice(said: str | Chosen | None) -> tuple[str | None, str]:
    if isinstance(said, Chosen):
        return "tool", said.function.name
    if said is None:
        return None, ""
    if said not in _CHOICES:
        raise RequestNotUnderstood(
            f"there is no tool_choice '{said[:40]}'", where="tool_choice", then=f"Use {', '.join(_CHOICES)} or a tool."
        )
    return _CHOICES[said], ""


def _schema(said: AnyText | AnyJson | JsonOf | None) -> dict[str, Any] | None:
    if isinstance(said, JsonOf):
        return said.json_schema.schema or {"type": "object"}
    return {"type": "object"} if isinstance(said, AnyJson) else None
