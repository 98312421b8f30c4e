"""Every other vendor's models, by pydantic-ai, which the extra ``agentos[vendors]`` brings: ``vendor:groq`` and so on.

The vendor's key is read by pydantic-ai, from the variable that it documents for it. It costs several times the CPU of
our own adapters, so it is for vendors that speak neither of the two wire formats.
"""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import json
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from agentos.adapters.http_dates import bounded
from agentos.adapters.llm.policies import ModelPolicyInvalid, check_name, check_switch
from agentos.kernel.errors import AgentOSError
from agentos.runtime.inference.model import (
    Answer,
    Call,
    ContentBlocked,
    ContextTooLong,
    Image,
    Message,
    ModelMisbehaved,
    ModelNotConfigured,
    ModelOverloaded,
    ModelRateLimited,
    ModelRefusedKey,
    ModelRejectedRequest,
    ModelTimedOut,
    ModelUnavailable,
    ModelUnknown,
    Opaque,
    Stop,
    Usage,
)
from agentos.runtime.inference.ports import Hear, Question
from agentos.runtime.inference.schemas import check_schemas

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelMessage, ModelResponse, UserContent
    from pydantic_ai.models import Model, ModelRequestParameters
    from pydantic_ai.settings import ModelSettings

VENDOR: Final = "vendor:"
MOST_MODELS: Final = 128  # of a vendor that a process holds ready: clients name them
INSTALL: Final = "Install the extra: pip install 'agentos[vendors]'."

PASSED_ON: Final = (  # of a model policy
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "stop_sequences",
    "parallel_tool_calls",
    "tool_choice",
    "thinking",
    "cache",
)
STOPS: Final = {
    "stop": Stop.END,
    "length": Stop.LIMIT,
    "content_filter": Stop.REFUSAL,
    "tool_call": Stop.CALLS,
}


OWN: Final = {"openai": "openai", "anthropic": "claude", "claude": "claude", "stub": "stub"}  # pydantic-ai's, ours


def installed() -> bool:
    """Whether the extra is there."""
    return importlib.util.find_spec("pydantic_ai") is not None


def check_policy(policy: Mapping[str, Any]) -> None:
    """Refuse a policy that no call could be made with. Raises ModelPolicyInvalid."""
    vendor = str(policy.get("provider")).removeprefix(VENDOR)
    if not vendor.replace("-", "").replace("_", "").isalnum() or len(vendor) > 40:
        raise ModelPolicyInvalid(
            "vendor: is followed by pydantic-ai's name of a vendor", where="provider", then="Write vendor:groq."
        )
    check_name(policy, "as the vendor calls the model")
    check_switch(policy, "structured")
    if not isinstance(policy.get("settings", {}), Mapping):
        raise ModelPolicyInvalid("settings is a mapping", where="settings", then="Write settings: {name: value}.")


def found(identity: str) -> Model:
    """pydantic-ai's model of that name. Raises ModelUnknown, ModelNotConfigured or what its vendor's part raises."""
    from pydantic_ai.exceptions import UserError
    from pydantic_ai.models import infer_model

    try:
        return infer_model(identity)
    except ImportError as error:
        raise ModelNotConfigured(f"what reaches '{identity[:100]}' is not installed: {str(error)[:200]}") from None
    except UserError as error:  # says which variable of a key is missing, never a key
        if error.message.startswith("Unknown model"):
            raise ModelUnknown(f"pydantic-ai knows no '{identity[:100]}'", then="Check the name.") from None
        raise ModelNotConfigured(f"'{identity[:100]}' cannot be asked: {error.message[:300]}") from None


class Vendor:
    """The models of one vendor."""

    instant: bool = False
    local: bool = False

    def __init__(self, provider: str, find: Callable[[str], Model] = found) -> None:
        self.provider = provider
        self._found = lru_cache(MOST_MODELS)(find)  # what it leaves out is made anew when it is asked again

    async def ask(self, question: Question, *, hear: Hear | None = None) -> Answer:
        """Answer within ``question.timeout``, or raise as ``Model.ask`` says; without the extra, ModelNotConfigured."""
        if not installed():
            raise ModelNotConfigured(f"'{self.provider[:60]}' needs pydantic-ai", then=INSTALL)
        check_schemas(question)
        from pydantic_ai.exceptions import AgentRunError, UserError

        model = self._found(f"{self.provider.removeprefix(VENDOR)}:{question.model}")
        try:
            async with asyncio.timeout(question.timeout.total_seconds()) as limit:
                response = await self._ask(model, question, hear)
        # Nothing is chained below: what a client of a vendor raises may carry the request, and with it the key.
        except TimeoutError:
            waited = f"within {question.timeout.total_seconds():g} s" if limit.expired() else "in time"
            raise ModelTimedOut(f"{self.provider} did not finish its answer {waited}") from None
        except AgentRunError as error:
            raise self._error(error) from None
        except UserError as error:
            raise ModelRejectedRequest(f"{self.provider} cannot be asked that: {error.message[:300]}") from None
        except Exception as error:  # a fault of a vendor's client is one of this call, and of no other
            raise ModelMisbehaved(f"the client of {self.provider} raised {type(error).__name__}") from None
        return self._answer(question, response)

    async def close(self) -> None:
        """Forget the models; their connections are pydantic-ai's, which shares them and gives them back itself."""
        self._found.cache_clear()

    async def _ask(self, model: Model, question: Question, hear: Hear | None) -> ModelResponse:
        from pydantic_ai.direct import model_request_stream
        from pydantic_ai.messages import PartDeltaEvent, PartStartEvent, TextPart, TextPartDelta

        async with model_request_stream(
            model,
            list(_messages(question, self.provider)),
            model_settings=_settings(question),
            model_request_parameters=_parameters(model, question),
            instrument=False,
        ) as stream:
            async for event in stream:
                if hear is None:
                    continue
                if isinstance(event, PartStartEvent) and isinstance(event.part, TextPart) and event.part.content:
                    hear(event.part.content)
                elif isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta):
                    hear(event.delta.content_delta)
            return stream.get()

    def _answer(self, question: Question, response: ModelResponse) -> Answer:
        from pydantic_ai.messages import TextPart, ThinkingPart, ToolCallPart

        text: list[str] = []
        calls: list[Call] = []
        thought: list[dict[str, Any]] = []
        for part in response.parts:
            if isinstance(part, TextPart):
                text.append(part.content)
                thought.append({"type": "text"})
            elif isinstance(part, ThinkingPart):
                thought.append({"type": "thinking", "part": _dumped(part)})
            elif isinstance(part, ToolCallPart):
                calls.append(Call(part.tool_call_id, part.tool_name, self._arguments(part)))
                thought.append({"type": "tool_use"})
        used = response.usage
        counted = bool(used.input_tokens or used.output_tokens)
        stop = STOPS.get(response.finish_reason or "")
        # Where a stream broke off, its clients suppose that it stopped: then neither a reason nor a count ever came.
        if stop is None or not (counted or (response.provider_details or {}).get("finish_reason")):
            raise ModelUnavailable(f"{self.provider}'s answer broke off before its end")
        if stop is Stop.REFUSAL:
            calls = []  # nothing is done on the word of a refusal
        elif stop is Stop.LIMIT:
            calls = calls[:-1]  # the limit fell into the last
        elif calls:
            stop = Stop.CALLS
        return Answer(
            text="".join(text),
            provider=self.provider,
            model=response.model_name or question.model,
            stop=stop,
            calls=tuple(calls),
            usage=Usage(
                used.input_tokens if counted else None,
                used.output_tokens if counted else None,
                used.cache_read_tokens or None,
                used.cache_write_tokens or None,
                used.details.get("reasoning_tokens"),
            ),
            opaque=Opaque(self.provider, tuple(thought)) if any("part" in one for one in thought) else None,
        )

    def _arguments(self, part: Any) -> dict[str, Any]:
        try:
            arguments = part.args if isinstance(part.args, dict) else json.loads(part.args or "{}")
        except ValueError:
            arguments = None
        if not isinstance(arguments, dict):
            raise ModelMisbehaved(
                f"{self.provider} called '{part.tool_name[:64]}' with arguments that are no JSON object"
            )
        return arguments

    def _error(self, error: Exception) -> AgentOSError:
        """What an error of pydantic-ai means here. The words of one about a key are left out: they may show it."""
        kind = _kind(error)
        status = getattr(error, "status_code", None)
        name = getattr(error, "provider_error_code", None) or getattr(error, "provider_error_type", None)
        named = str(name)[:60] if name else f"HTTP {status}" if status else type(error).__name__
        said = "" if kind is ModelRefusedKey else f": {_words(error)[:300]}"
        wait = getattr(error, "retry_after", None)
        raised = kind(
            f"{self.provider} answered {named}{said}",
            retry_after=None if wait is None else bounded(wait),
        )
        if isinstance(raised, ModelUnavailable):
            raised.begun = getattr(error, "phase", None) not in ("pool", "connect")
        return raised


def _kind(error: Exception) -> type[AgentOSError]:
    from pydantic_ai import exceptions as theirs

    kinds: tuple[tuple[type[Exception], type[AgentOSError]], ...] = (  # the narrower first
        (theirs.ContentFilterError, ContentBlocked),
        (theirs.ModelContextWindowExceededError, ContextTooLong),
        (theirs.ModelAuthenticationError, ModelRefusedKey),
        (theirs.ModelNotFoundError, ModelUnknown),
        (theirs.ModelQuotaExceededError, ModelRefusedKey),
        (theirs.ModelRequestRejectedError, ModelRejectedRequest),
        (theirs.ModelRateLimitError, ModelRateLimited),
        (theirs.ModelTimeoutError, ModelTimedOut),
        (theirs.ModelRequestTimeout, ModelTimedOut),
        (theirs.ModelConnectionError, ModelUnavailable),
        (theirs.ModelUnavailableError, ModelOverloaded),
        (theirs.ModelServerError, ModelOverloaded),
        (theirs.ModelAPIError, ModelUnavailable),
    )
    return next((ours for one, ours in kinds if isinstance(error, one)), ModelMisbehaved)


def _words(error: Exception) -> str:
    body = getattr(error, "body", None)
    inner = body.get("error", body) if isinstance(body, dict) else body
    said = inner.get("message") if isinstance(inner, dict) else None
    return str(said or getattr(error, "message", "") or type(error).__name__)


def _messages(question: Question, provider: str) -> Iterable[ModelMessage]:
    from pydantic_ai.messages import ModelRequest, ToolReturnPart, UserPromptPart

    named: dict[str, str] = {}
    for message in question.messages:
        if message.role == "assistant":
            named |= {call.id: call.skill for call in message.calls}
            turn = _turn(message, provider)
            if turn.parts:
                yield turn
            continue
        parts: list[Any] = [
            ToolReturnPart(
                named.get(result.call_id, "unknown"),
                result.text,
                result.call_id,
                outcome="failed" if result.failed else "success",
            )
            for result in message.results
        ]
        if message.images or message.text.strip():
            content: list[UserContent] = [*map(_image, message.images)]
            parts.append(UserPromptPart([*content, message.text] if message.text.strip() else content))
        if parts:
            yield ModelRequest(parts, instructions=question.system if question.system.strip() else None)


def _turn(message: Message, provider: str) -> ModelResponse:
    from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart

    text: list[Any] = [TextPart(message.text)] if message.text.strip() else []
    calls: list[Any] = [ToolCallPart(call.skill, call.arguments, call.id) for call in message.calls]
    parts: list[Any] = []
    if message.opaque is not None and message.opaque.provider == provider:
        for mark in message.opaque.blocks:
            if mark["type"] == "text":
                parts, text = parts + text, []
            elif mark["type"] == "tool_use":
                parts, calls = parts + calls[:1], calls[1:]
            else:
                parts.append(_loaded(mark["part"]))
    return ModelResponse([*parts, *text, *calls])


def _image(image: Image) -> UserContent:
    from pydantic_ai.messages import BinaryContent, ImageUrl

    if image.url:
        return ImageUrl(image.url)
    return BinaryContent(base64.b64decode(image.data), media_type=image.media_type)


def _settings(question: Question) -> ModelSettings:
    options = question.options
    passed: Any = {name: options[name] for name in PASSED_ON if name in options} | dict(options.get("settings", {}))
    settings: ModelSettings = passed | {"max_tokens": question.max_tokens, "max_retries": 0}
    return settings


def _parameters(model: Model, question: Question) -> ModelRequestParameters:
    from pydantic_ai.models import ModelRequestParameters
    from pydantic_ai.output import OutputObjectDefinition
    from pydantic_ai.tools import ToolDefinition

    tools = [
        ToolDefinition(name=tool.name, description=tool.description, parameters_json_schema=tool.schema)
        for tool in question.tools
    ]
    wanted = question.schema is not None and question.options.get("structured", True)
    if not wanted or not model.profile.get("supports_json_schema_output", False):
        return ModelRequestParameters(function_tools=tools)
    return ModelRequestParameters(
        function_tools=tools,
        output_mode="native",
        output_object=OutputObjectDefinition(json_schema=question.schema or {}, name="answer"),
    )


def _dumped(part: Any) -> dict[str, Any]:
    from pydantic import TypeAdapter
    from pydantic_ai.messages import ThinkingPart

    dumped: dict[str, Any] = TypeAdapter(ThinkingPart).dump_python(part, mode="json")
    return dumped


def _loaded(part: Any) -> Any:
    from pydantic import TypeAdapter
    from pydantic_ai.messages import ThinkingPart

    return TypeAdapter(ThinkingPart).validate_python(part)
