"""Chat completions as OpenAI's server speaks them. Written from its documentation, not from our adapter."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tests.fakes.replies import Fault, Reply, pieces

LIMIT = "Rate limit reached for requests."
LONG = "This model's maximum context length is 8192 tokens. However, your messages resulted in 8246 tokens."

ERRORS: dict[Fault, tuple[int, str | None, str | None, str]] = {
    Fault.RATE_LIMITED: (429, "requests", "rate_limit_exceeded", LIMIT),
    Fault.RATE_LIMITED_UNTIL: (429, "tokens", "rate_limit_exceeded", LIMIT),
    Fault.RATE_LIMITED_SILENTLY: (429, "tokens", "rate_limit_exceeded", LIMIT),
    Fault.OVERLOADED: (529, "server_error", None, "The engine is currently overloaded, please try again later."),
    Fault.UNAVAILABLE: (503, "server_error", "service_unavailable", "The engine is currently overloaded."),
    Fault.BROKEN: (500, "server_error", None, "The server had an error while processing your request."),
    Fault.TIMED_OUT: (504, "server_error", "timeout", "The request timed out."),
    Fault.BAD_KEY: (401, "invalid_request_error", "invalid_api_key", "Incorrect API key provided: {key}."),
    Fault.EXPIRED_KEY: (401, "invalid_request_error", None, "Your API key has expired."),
    Fault.FORBIDDEN: (403, "invalid_request_error", None, "You are not allowed to sample from this model."),
    Fault.UNPAID: (429, "insufficient_quota", "insufficient_quota", "You exceeded your current quota."),
    Fault.REJECTED: (400, "invalid_request_error", None, "max_tokens: 999999 > 64000"),
    Fault.TOO_LONG: (400, "invalid_request_error", "context_length_exceeded", LONG),
    Fault.BLOCKED: (400, None, "content_filter", "The response was filtered due to the content management policy."),
    Fault.NO_SUCH_MODEL: (404, "invalid_request_error", "model_not_found", "The model `gpt-none` does not exist."),
    Fault.TOO_LARGE: (413, "invalid_request_error", None, "The request is too large."),
    Fault.CONFLICT: (409, "invalid_request_error", None, "The resource was modified concurrently."),
}


def sse(data: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return f"data: {json.dumps(data)}\n\n".encode()


def _failure(kind: str | None, code: str | None, message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


class OpenAIForm:
    path = "/v1/chat/completions"
    in_stream = {
        Fault.OVERLOADED_IN_STREAM: sse(_failure("server_error", None, "The server had an error.")),
        Fault.RATE_LIMITED_IN_STREAM: sse(_failure("requests", "rate_limit_exceeded", LIMIT)),
        Fault.REJECTED_IN_STREAM: sse(_failure("invalid_request_error", None, "The request is malformed.")),
    }
    stray = sse({"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 77, "function": {"arguments": "{"}}]}}]})
    garbled = b'data: {"id": "chatcmpl-\n\n'

    def key(self, headers: Mapping[str, str]) -> str:
        return headers.get("authorization", "").removeprefix("Bearer ")

    def refused(self, headers: Mapping[str, str], body: dict[str, Any]) -> str | None:
        return faults_of(body)

    def error(self, fault: Fault) -> tuple[int, dict[str, Any]]:
        status, kind, code, message = ERRORS[fault]
        return status, _failure(kind, code, message)

    def rejection(self, why: str) -> dict[str, Any]:
        return _failure("invalid_request_error", None, why)

    def events(self, model: str, reply: Reply, made: int) -> list[bytes]:
        return [*map(sse, _chunks(model, reply, made)), b"data: [DONE]\n\n"]


def _chunks(model: str, reply: Reply, made: int) -> Iterator[dict[str, Any]]:
    """The chunks of a reply, in the order and the form of the real API."""
    known = {"id": f"chatcmpl-{made:06d}", "object": "chat.completion.chunk", "created": 1_790_000_000, "model": model}

    def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return known | {"choices": [choice], "usage": None}

    yield chunk({"role": "assistant", "content": "", "refusal": None})
    said = "refusal" if reply.stop == "refusal" else "content"
    for part in pieces(reply.text):
        yield chunk({said: part})
    for number, (skill, arguments) in enumerate(reply.calls):
        written = json.dumps(arguments)
        if reply.cut_last_call and number == len(reply.calls) - 1:
            written = written[: len(written) // 2]
        begun = {"id": f"call_{made:06d}_{number}", "type": "function", "function": {"name": skill, "arguments": ""}}
        yield chunk({"tool_calls": [{"index": number} | begun]})
        for part in pieces(written):
            yield chunk({"tool_calls": [{"index": number, "function": {"arguments": part}}]})
    stop = "stop" if reply.stop == "refusal" else reply.stop
    yield chunk({}, stop or ("tool_calls" if reply.calls else "stop"))
    usage = dict(reply.usage) or {"prompt_tokens": 25, "completion_tokens": 15, "total_tokens": 40}
    yield known | {"choices": [], "usage": usage}


def faults_of(body: dict[str, Any]) -> str | None:
    """Why the real API would refuse a request's body, or None."""
    if not isinstance(body.get("model"), str) or not body["model"]:
        return "you must provide a model parameter"
    if not body.get("stream"):
        return "the fake speaks only streams"
    if not body.get("messages"):
        return "Invalid 'messages': empty array. Expected an array with minimum length 1."
    tools = body.get("tools", [])
    if any(not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", tool["function"]["name"]) for tool in tools):
        return "Invalid 'tools[0].function.name': string does not match pattern."
    if any(tool["function"].get("parameters", {}).get("type") != "object" for tool in tools):
        return "Invalid schema for function: schema must be a JSON Schema of 'type: \"object\"'"
    if not tools and ("tool_choice" in body or "parallel_tool_calls" in body):
        return "'tool_choice' is only allowed when 'tools' are specified."
    awaited: list[str] = []
    for number, message in enumerate(body["messages"]):
        if message["role"] not in ("system", "developer", "user", "assistant", "tool"):
            return f"Invalid value: '{message['role']}'."
        if message["role"] == "tool":
            if message.get("tool_call_id") not in awaited:
                return "messages with role 'tool' must be a response to a preceeding message with 'tool_calls'."
            awaited.remove(message["tool_call_id"])
            continue
        if awaited:
            return (
                "An assistant message with 'tool_calls' must be followed by tool messages responding to each of them."
            )
        if message["role"] == "assistant":
            awaited = [call["id"] for call in message.get("tool_calls", [])]
        if message.get("content") is None and not awaited:
            return f"Invalid value for 'content': expected a string, got null (messages[{number}])."
    return "An assistant message with 'tool_calls' must be followed by tool messages." if awaited else None
