"""An answer as a chat completion, whole or in chunks; and an error as the vendor tells one."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from agentos.kernel.errors import AgentOSError, Exhausted
from agentos.runtime.gateway import wire
from agentos.runtime.gateway.model import Opening, Said, Wanted
from agentos.runtime.inference import Call, Stop, Usage

FINISHED: Final = {
    Stop.END: "stop",
    Stop.CALLS: "tool_calls",
    Stop.LIMIT: "length",
    Stop.REFUSAL: "content_filter",
}
DONE: Final = b"data: [DONE]\n\n"
REFUSED: Final = "The model declined to answer."
# The vendor's own words for what a client's code looks for; others keep our code.
_CODES: Final = {
    "ERR_LLM_CONTEXT_TOO_LONG": "context_length_exceeded",
    "ERR_LLM_INVALID_MODEL": "model_not_found",
    "ERR_LLM_CONTENT_BLOCKED": "content_filter",
    "ERR_LLM_RATE_LIMITED": "rate_limit_exceeded",
    "rate_exceeded": "rate_limit_exceeded",
    "budget_exhausted": "insufficient_quota",
    "unauthorized": "invalid_api_key",
    "model_unclear": "model_not_found",
}
_TYPES: Final = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    429: "rate_limit_error",
}


def shown(said: Said, at: datetime) -> dict[str, Any]:
    """The body of a whole answer."""
    refused = said.stop is Stop.REFUSAL
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if refused or (said.calls and not said.text) else said.text,
        "refusal": (said.text or REFUSED) if refused else None,
    }
    if said.calls:
        message["tool_calls"] = [_call(one) for one in said.calls]
    body = {
        "id": said.id,
        "object": "chat.completion",
        "created": int(at.timestamp()),
        "model": said.model,
        "provider": said.provider,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": FINISHED[said.stop]}],
        "usage": _usage(said.usage),
    }
    return body | _ours(said.run_id)


def _call(one: Call) -> dict[str, Any]:
    function = {"name": one.skill, "arguments": wire.encode(one.arguments).decode()}
    return {"id": one.id, "type": "function", "function": function}


def _usage(used: Usage) -> dict[str, Any] | None:
    """What is known of it: a number that nobody said is absent, and without both there is no usage at all."""
    if used.input is None or used.output is None:
        return None
    told: dict[str, Any] = {
        "prompt_tokens": used.input,
        "completion_tokens": used.output,
        "total_tokens": used.input + used.output,
    }
    if used.cache_read is not None:
        told["prompt_tokens_details"] = {"cached_tokens": used.cache_read}
    if used.reasoning is not None:
        told["completion_tokens_details"] = {"reasoning_tokens": used.reasoning}
    return told


def _ours(run_id: str) -> dict[str, Any]:
    return {"run_id": run_id} if run_id else {}


class Chunks:
    """A stream of chunks. Calls are told whole, when the answer is."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.head: dict[str, Any] = {}
        self.told = False

    def begin(self, opening: Opening) -> bytes:
        """The chunk that names the role."""
        self.head = {
            "id": opening.id,
            "object": "chat.completion.chunk",
            "created": int(opening.at.timestamp()),
            "model": opening.model,
            "provider": opening.provider,
        } | _ours(opening.run_id)
        return self._chunk({"role": "assistant", "content": ""})

    def text(self, piece: str) -> bytes:
        """A chunk of text."""
        self.told = True
        return self._chunk({"content": piece})

    def end(self, said: Said) -> bytes:
        """Calls, the reason to finish, the usage where it was asked for, and the mark of the end."""
        self.head |= {"model": said.model, "provider": said.provider}
        events = b""
        if not self.told and said.stop is Stop.REFUSAL:
            events += self._chunk({"refusal": said.text or REFUSED})
        elif not self.told and said.text:
            events += self.text(said.text)
        for number, one in enumerate(said.calls):
            events += self._chunk({"tool_calls": [{"index": number} | _call(one)]})
        events += self._chunk({}, FINISHED[said.stop])
        if self.wanted.tell_usage:
            events += _event(self.head | {"choices": [], "usage": _usage(said.usage)})
        return events + DONE

    def broke(self, error: AgentOSError, request_id: str) -> bytes:
        """The error in the place of a chunk, and no mark of the end."""
        return _event(refusal(error, request_id)[1])

    def _chunk(self, delta: dict[str, Any], finished: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finished}
        return _event(self.head | {"choices": [choice]})


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + wire.encode(data) + b"\n\n"


def refusal(error: AgentOSError, request_id: str) -> tuple[int, dict[str, Any]]:
    """An error in the vendor's form; ``problem`` is it in ours."""
    status = wire.status_of(error)
    kind = _TYPES.get(status) or ("invalid_request_error" if status < 500 else "server_error")
    if isinstance(error, Exhausted) and _CODES.get(error.code) == "insufficient_quota":
        kind = "insufficient_quota"
    said = {
        "message": str(error),
        "type": kind,
        "param": error.where or None,
        "code": _CODES.get(error.code, error.code),
        "request_id": request_id,
        "problem": wire.told(error),
    }
    return status, {"error": said}
