"""The conversation with a model, in no vendor's form."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from agentos.kernel.errors import Bug, Exhausted, Forbidden, Invalid, Unavailable


class ModelUnavailable(Unavailable):
    """A model's provider does not answer, is overloaded, or broke off; the call may be tried again.

    ``begun``: the provider may have begun to answer, and may bill for that.
    """

    code = "model_unavailable"

    def __init__(self, what: str, *, begun: bool = True, **more: Any) -> None:
        super().__init__(what, **more)
        self.begun = begun


class ModelRateLimited(Exhausted):
    """A model's provider refuses for now; ``retry_after`` says when to ask again where the provider said so."""

    code = "model_rate_limited"


class ModelRefusedKey(Forbidden):
    """A model's provider does not accept our key."""

    code = "model_refused_key"


class ModelRejectedRequest(Invalid):
    """A model's provider calls the request malformed, too long or for an unknown model."""

    code = "model_rejected_request"


class ModelNotConfigured(Unavailable):
    """No key or no adapter for the model that the version names."""

    code = "model_not_configured"


class ModelMisbehaved(Bug):
    """A model's answer is not of the form its interface promises."""

    code = "model_misbehaved"


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
class Message:
    """One turn: ``user`` has text, ``assistant`` text and calls, ``tool`` the results of the calls before it."""

    role: str
    text: str = ""
    calls: tuple[Call, ...] = ()
    results: tuple[Result, ...] = ()


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


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said. ``provider`` is part of every answer, so that a stub is never taken for a model."""

    text: str
    provider: str
    model: str
    stop: Stop = Stop.END
    calls: tuple[Call, ...] = ()
    usage: Usage = field(default_factory=Usage)
