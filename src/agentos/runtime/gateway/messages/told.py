"""An answer as a message, whole or in events; and an error as the vendor tells one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from agentos.kernel.errors import AgentOSError
from agentos.runtime.gateway import wire
from agentos.runtime.gateway.messages.asked import PROVIDER
from agentos.runtime.gateway.model import Opening, Said, Wanted
from agentos.runtime.inference import Stop, Usage

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
        yield from said.opaque.among(text, calls)
    else:
        yield from (*text, *calls)


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
