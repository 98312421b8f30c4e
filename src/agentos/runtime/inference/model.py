"""The conversation with a model, in no vendor's form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from agentos.control.budgets.model import Tokens
from agentos.kernel.errors import Bug, Exhausted, Forbidden, Invalid, Unavailable

MOST_TOKENS: Final = 1_000_000  # of an answer; eight times what the longest-winded models can say


class ModelUnavailable(Unavailable):
    """A model's provider cannot be reached, or broke off; the call may be tried again.

    ``begun``: the provider may have begun to answer, and may bill for that.
    """

    code = "ERR_LLM_UNAVAILABLE"

    def __init__(self, what: str, *, begun: bool = True, **more: Any) -> None:
        super().__init__(what, **more)
        self.begun = begun


class ModelOverloaded(ModelUnavailable):
    """A model's provider says that it cannot answer now: overloaded, in maintenance, or an error of its own."""

    code = "ERR_LLM_OVERLOADED"


class ModelTimedOut(ModelUnavailable):
    """A model's provider did not answer within the deadline, or fell silent."""

    code = "ERR_LLM_TIMEOUT"


class ModelRateLimited(Exhausted):
    """A model's provider refuses for now; ``retry_after`` says when to ask again where the provider said so."""

    code = "ERR_LLM_RATE_LIMITED"


class ModelRefusedKey(Forbidden):
    """A model's provider does not accept our key, or what it may do."""

    code = "ERR_LLM_AUTH_FAILED"


class ModelRejectedRequest(Invalid):
    """A model's provider calls the request malformed."""

    code = "ERR_LLM_INVALID_PROMPT"


class ContextTooLong(ModelRejectedRequest):
    """The conversation is longer than the model reads."""

    code = "ERR_LLM_CONTEXT_TOO_LONG"


class ModelUnknown(ModelRejectedRequest):
    """The provider has no model of that name."""

    code = "ERR_LLM_INVALID_MODEL"


class ContentBlocked(Forbidden):
    """The model, or its provider's filter, declined to answer."""

    code = "ERR_LLM_CONTENT_BLOCKED"


class ModelNotConfigured(Unavailable):
    """No key or no adapter for the model that the version names."""

    code = "ERR_LLM_NOT_CONFIGURED"


class ModelMisbehaved(Bug):
    """A model's answer is not of the form its interface promises."""

    code = "ERR_LLM_MISBEHAVED"


class Stop(StrEnum):
    """Why a model stopped."""

    END = "end"  # it has said all
    CALLS = "calls"  # it wants skills called
    LIMIT = "limit"  # max_tokens reached: the text or the calls are cut
    REFUSAL = "refusal"  # the model or its provider's filter declined


@dataclass(frozen=True, slots=True)
class Call:
    """A skill call that a model asks for. ``id`` is the model's own and pairs it with its Result."""

    id: str
    skill: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a Call, as the model is told: ``text`` is JSON, or a plain sentence when ``failed``."""

    call_id: str
    text: str
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Image:
    """A picture beside a user's text: base64 in ``data``, or the address where the provider finds it in ``url``."""

    media_type: str = ""
    data: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class Opaque:
    """What a provider wants back unchanged with an assistant's turn, such as signed thinking. Nobody else reads it."""

    provider: str
    blocks: tuple[dict[str, Any], ...]

    def among(self, text: list[dict[str, Any]], calls: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Its blocks, with the text and the calls of the turn at the places that it marks; the rest comes last."""
        text, calls = list(text), list(calls)
        for mark in self.blocks:
            if mark["type"] == "text":
                yield from text
                text.clear()
            elif mark["type"] == "tool_use":
                yield from calls[:1]
                del calls[:1]
            else:
                yield dict(mark)
        yield from text
        yield from calls


@dataclass(frozen=True, slots=True)
class Message:
    """One turn: ``user`` has text and images, ``assistant`` text and calls, ``tool`` the results of the calls before.

    ``opaque`` belongs to an assistant's turn and is told only to the provider it came from.
    """

    role: str
    text: str = ""
    calls: tuple[Call, ...] = ()
    results: tuple[Result, ...] = ()
    images: tuple[Image, ...] = ()
    opaque: Opaque | None = None


@dataclass(frozen=True, slots=True)
class Tool:
    """A skill as a model sees it."""

    name: str
    description: str
    schema: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call. ``input`` counts all input, cached parts included. None: the provider did not say."""

    input: int | None = None
    output: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    reasoning: int | None = None  # of the output

    def tokens(self) -> Tokens | None:
        """What is billed; None where the provider did not say."""
        if self.input is None or self.output is None:
            return None
        return Tokens(self.input, self.output, self.cache_read or 0, self.cache_write or 0)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said. ``provider`` is part of every answer, so that a stub is never taken for a model."""

    text: str
    provider: str
    model: str
    stop: Stop = Stop.END
    calls: tuple[Call, ...] = ()
    usage: Usage = field(default_factory=Usage)
    opaque: Opaque | None = None
