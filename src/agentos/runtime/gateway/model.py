"""What a client of another's interface wants and is told, in neither's form; and what is kept of a call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Final

from agentos.kernel.errors import Conflict, Forbidden, Invalid, Unavailable
from agentos.kernel.facts import Fact
from agentos.runtime.inference import Answer, Message, Opaque, Stop, Tool, Usage
from agentos.runtime.inference.model import Call

MOST_BODY_BYTES: Final = 16 * 1024 * 1024  # a conversation with a few pictures; vendors take twice that
MOST_MESSAGES: Final = 5000
MOST_TOOLS: Final = 512
MOST_NAME: Final = 200  # characters of a model's name
AGENT: Final = "agent:"
STUB: Final = "stub"


class RequestNotUnderstood(Invalid):
    """The body is not of the form that the interface has; ``where`` names the place."""

    code = "request_not_understood"
    status = 400


class NotOffered(Invalid):
    """The request asks for something of the interface that is not offered here, and leaving it out would mislead."""

    code = "not_offered"
    status = 400


class ModelUnclear(Invalid):
    """A model's name that stands for none of the configured providers, or for several."""

    code = "model_unclear"
    status = 404


class AskingStopped(Forbidden):
    """A stop withholds models; it is named."""

    code = "asking_stopped"


class RunWaits(Conflict):
    """The agent's run waits for a person; it goes on whether or not anybody asks for it."""

    code = "run_waits"


class RunNotCompleted(Conflict):
    """The agent's run ended without an output; the problem of the run is told."""

    code = "run_not_completed"


class RunUnfinished(Unavailable):
    """The agent's run did not end within the time that a client waits here; it goes on."""

    code = "run_unfinished"
    status = 504


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a client may say of an answer besides the conversation, in neither interface's words. None: nothing said."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: Mapping[str, float] | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    thinking: Mapping[str, Any] | None = None
    tool_choice: str | None = None  # auto | any | none | tool
    tool: str = ""  # the one to call, where the choice is ``tool``
    parallel: bool | None = None  # whether several tools may be called at once
    user: str | None = None
    cache: bool = False  # the client marked what is to be kept for its next call


@dataclass(frozen=True, slots=True)
class Wanted:
    """One request of a client."""

    model: str
    messages: tuple[Message, ...]
    system: str = ""
    tools: tuple[Tool, ...] = ()
    max_tokens: int | None = None
    schema: dict[str, Any] | None = None
    wishes: Wishes = field(default_factory=Wishes)
    fallback: tuple[str, ...] = ()  # models that may answer instead, in order
    environment: str = "production"  # of an agent's deployment
    stream: bool = False
    tell_usage: bool = True  # also in a stream

    @property
    def task(self) -> str:
        """The text of the last user's turn: what an agent is given to do."""
        return next((one.text for one in reversed(self.messages) if one.role == "user" and one.text.strip()), "")


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, for the facts and the bill."""

    organization: str
    handle: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Said:
    """What a client is told: a model's answer, or an agent's output as if a model had said it."""

    id: str
    model: str
    provider: str
    text: str
    stop: Stop = Stop.END
    calls: tuple[Call, ...] = ()
    usage: Usage = field(default_factory=Usage)
    opaque: Opaque | None = None
    run_id: str = ""

    @classmethod
    def of(cls, ask_id: str, answer: Answer) -> Said:
        """A model's answer. A stub says so in the model's name."""
        return cls(
            ask_id,
            named(answer.provider, answer.model),
            answer.provider,
            answer.text,
            answer.stop,
            answer.calls,
            answer.usage,
            answer.opaque,
        )


@dataclass(frozen=True, slots=True)
class Opening:
    """What is known of an answer as it begins to be streamed."""

    id: str
    model: str
    provider: str
    at: datetime
    run_id: str = ""


def named(provider: str, model: str) -> str:
    """``provider/model``, the name under which a model can be asked again."""
    return f"{provider}/{model}" if model else provider


@dataclass(frozen=True, slots=True)
class ModelAsked(Fact):
    """A model was asked for a client. A number is None where nobody knows it.

    ``outcome``: ok, cancelled, lost (with its process) or an error's code. ``attempts``: each model that was tried or
    left out and what came of it, as ``provider/model: outcome``.
    """

    key_field: ClassVar[str] = "ask_id"
    ask_id: str
    by: str
    request_id: str
    provider: str
    model: str
    outcome: str
    input_tokens: int | None
    output_tokens: int | None
    micros: int | None
    attempts: list[str]
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    seconds: float | None = None  # that the model which answered took
    counted_micros: int | None = None  # what budgets count for the answer, known or not
    counted_tokens: int | None = None
