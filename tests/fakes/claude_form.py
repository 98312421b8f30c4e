"""The Anthropic Messages API as its server speaks it. Written from its documentation, not from our adapter."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tests.fakes.replies import Fault, Reply, pieces

LIMIT = "This request would exceed your organization's rate limit."

ERRORS: dict[Fault, tuple[int, str, str]] = {
    Fault.RATE_LIMITED: (429, "rate_limit_error", LIMIT),
    Fault.RATE_LIMITED_UNTIL: (429, "rate_limit_error", LIMIT),
    Fault.RATE_LIMITED_SILENTLY: (429, "rate_limit_error", "Number of request tokens has exceeded your limit."),
    Fault.OVERLOADED: (529, "overloaded_error", "Overloaded"),
    Fault.UNAVAILABLE: (503, "overloaded_error", "Service temporarily unavailable"),
    Fault.BROKEN: (500, "api_error", "Internal server error"),
    Fault.TIMED_OUT: (504, "timeout_error", "Request timed out"),
    Fault.BAD_KEY: (401, "authentication_error", "invalid x-api-key"),
    Fault.EXPIRED_KEY: (401, "authentication_error", "API key has expired"),
    Fault.FORBIDDEN: (403, "permission_error", "Your API key does not have permission to use the specified resource."),
    Fault.UNPAID: (402, "billing_error", "There is an issue with your payment information."),
    Fault.REJECTED: (400, "invalid_request_error", "max_tokens: 999999 > 64000"),
    Fault.TOO_LONG: (400, "invalid_request_error", "prompt is too long: 207791 tokens > 200000 maximum"),
    Fault.BLOCKED: (400, "invalid_request_error", "Output blocked by content filtering policy"),
    Fault.NO_SUCH_MODEL: (404, "not_found_error", "model: claude-none"),
    Fault.TOO_LARGE: (413, "request_too_large", "Request exceeds the maximum size"),
    Fault.CONFLICT: (409, "conflict_error", "The resource was modified concurrently."),
}


def sse(name: str, data: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


def _failure(kind: str, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_fake"}


class ClaudeForm:
    path = "/v1/messages"
    in_stream = {
        Fault.OVERLOADED_IN_STREAM: sse("error", _failure("overloaded_error", "Overloaded")),
        Fault.RATE_LIMITED_IN_STREAM: sse("error", _failure("rate_limit_error", LIMIT)),
        Fault.REJECTED_IN_STREAM: sse("error", _failure("invalid_request_error", "The request is malformed.")),
    }
    stray = sse(
        "content_block_delta",
        {"type": "content_block_delta", "index": 77, "delta": {"type": "text_delta", "text": "?"}},
    )
    garbled = b'event: content_block_delta\ndata: {"type": "content_\n\n'

    def key(self, headers: Mapping[str, str]) -> str:
        return headers.get("x-api-key", "") or headers.get("authorization", "").removeprefix("Bearer ")

    def refused(self, headers: Mapping[str, str], body: dict[str, Any]) -> str | None:
        version = headers.get("anthropic-version")
        if not version:
            return "anthropic-version: header is required"
        if version >= "2026-10-21" and (gone := sorted({"temperature", "top_p", "top_k"} & set(body))):
            return f"{gone[0]}: Extra inputs are not permitted"
        return faults_of(body)

    def error(self, fault: Fault) -> tuple[int, dict[str, Any]]:
        status, kind, message = ERRORS[fault]
        return status, _failure(kind, message)

    def rejection(self, why: str) -> dict[str, Any]:
        return _failure("invalid_request_error", why)

    def events(self, model: str, reply: Reply, made: int) -> list[bytes]:
        return [sse(name, data) for name, data in _events(model, reply, made)]


def _events(model: str, reply: Reply, made: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """The events of a reply, in the order and the form of the real API."""

    def block(index: int, begun: dict[str, Any], deltas: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
        yield "content_block_start", {"type": "content_block_start", "index": index, "content_block": begun}
        if index == 0:
            yield "ping", {"type": "ping"}
        for delta in deltas:
            yield "content_block_delta", {"type": "content_block_delta", "index": index, "delta": delta}
        yield "content_block_stop", {"type": "content_block_stop", "index": index}

    usage = dict(reply.usage) or {"input_tokens": 25, "output_tokens": 15}
    message = {
        "id": f"msg_{made:06d}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage | {"output_tokens": 1},
    }
    yield "message_start", {"type": "message_start", "message": message}
    index = 0
    if reply.thinking:
        deltas = [{"type": "thinking_delta", "thinking": part} for part in pieces(reply.thinking)]
        deltas.append({"type": "signature_delta", "signature": "EqQBCgIYAhIM"})
        yield from block(index, {"type": "thinking", "thinking": "", "signature": ""}, deltas)
        index += 1
    if reply.text:
        deltas = [{"type": "text_delta", "text": part} for part in pieces(reply.text)]
        yield from block(index, {"type": "text", "text": ""}, deltas)
        index += 1
    for number, (skill, arguments) in enumerate(reply.calls):
        written = json.dumps(arguments) if arguments else ""
        if reply.cut_last_call and number == len(reply.calls) - 1:
            written = written[: len(written) // 2]
        deltas = [{"type": "input_json_delta", "partial_json": part} for part in ["", *pieces(written)]]
        begun = {"type": "tool_use", "id": f"toolu_{made:06d}_{number}", "name": skill, "input": {}}
        yield from block(index, begun, deltas)
        index += 1
    stop = reply.stop or ("tool_use" if reply.calls else "end_turn")
    ended = {"stop_reason": stop, "stop_sequence": None}
    told = {name: usage[name] for name in ("output_tokens", "output_tokens_details") if name in usage}
    yield "message_delta", {"type": "message_delta", "delta": ended, "usage": told}
    yield "message_stop", {"type": "message_stop"}


def faults_of(body: dict[str, Any]) -> str | None:
    """Why the real API would refuse a request's body, or None."""
    if not isinstance(body.get("model"), str) or not body["model"]:
        return "model: Field required"
    if not isinstance(body.get("max_tokens"), int) or body["max_tokens"] < 1:
        return "max_tokens: Field required"
    if not body.get("stream"):
        return "the fake speaks only streams"
    messages = body.get("messages")
    if not messages:
        return "messages: at least one message is required"
    names = [tool["name"] for tool in body.get("tools", [])]
    for name in names:
        if not re.fullmatch(r"[a-zA-Z0-9_-]{1,128}", name):
            return "tools.0.custom.name: String should match pattern '^[a-zA-Z0-9_-]{1,128}$'"
    if any(tool["input_schema"].get("type") != "object" for tool in body.get("tools", [])):
        return "tools.0.custom.input_schema.type: Field required"
    if "tool_choice" in body and not names:
        return "tool_choice may only be specified while providing tools"
    if (wrong := _unclosed(body.get("output_config", {}).get("format", {}).get("schema"))) is not None:
        return f"output_config.format.schema: {wrong}"
    if json.dumps(body).count('"cache_control"') > 4:
        return "A maximum of 4 blocks with cache_control may be provided."
    awaited: set[str] = set()
    for number, message in enumerate(messages):
        if message["role"] not in ("user", "assistant"):
            return f"messages.{number}.role: Input should be 'user' or 'assistant'"
        content = message["content"]
        if isinstance(content, str):
            content = [{"type": "text", "text": content}]
        if not content:
            return f"messages.{number}: all messages must have non-empty content"
        if any(block["type"] == "text" and not block["text"].strip() for block in content):
            return "messages: text content blocks must contain non-whitespace text"
        if any(block["type"] == "thinking" and not block.get("signature") for block in content):
            return f"messages.{number}.content.0.thinking.signature: Field required"
        answered = {block["tool_use_id"] for block in content if block["type"] == "tool_result"}
        if awaited - answered:
            return (
                f"messages.{number}: `tool_use` ids were found without `tool_result` blocks immediately after: "
                + ", ".join(sorted(awaited - answered))
            )
        if answered - awaited:
            return f"messages.{number}.content.0: unexpected `tool_use_id` found in `tool_result` blocks"
        awaited = {block["id"] for block in content if block["type"] == "tool_use"}
    return None


def _unclosed(schema: Any) -> str | None:
    if isinstance(schema, list):
        return next((wrong for one in schema if (wrong := _unclosed(one))), None)
    if not isinstance(schema, dict):
        return None
    if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
        return "For 'object' type, 'additionalProperties' must be explicitly set to false"
    if strange := sorted({"minimum", "maximum", "minLength", "maxLength", "pattern", "maxItems"} & set(schema)):
        return f"property '{strange[0]}' is not supported"
    return next((wrong for one in schema.values() if (wrong := _unclosed(one))), None)
