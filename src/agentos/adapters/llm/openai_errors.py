"""What the errors of the chat completions wire format mean, in the forms that its speakers give them. Pure.

OpenAI says ``{"error": {"message", "type", "code"}}``. OpenRouter puts the HTTP status into ``code`` and more under
``metadata``; older vLLM has no ``error`` around it; Ollama may say ``{"error": "a sentence"}``; Google's puts a list
around it all.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from agentos.adapters.llm.endpoint import NOT_BEGUN, Failure, kind_of
from agentos.kernel.errors import AgentOSError
from agentos.runtime.inference.model import (
    ContentBlocked,
    ContextTooLong,
    ModelNotConfigured,
    ModelOverloaded,
    ModelRateLimited,
    ModelRefusedKey,
    ModelRejectedRequest,
    ModelTimedOut,
    ModelUnavailable,
    ModelUnknown,
)

# By the ``code`` of an error, else by its ``type``. Quotas come as 429, and no waiting helps them.
NAMES: Final[dict[str, type[AgentOSError]]] = {
    "context_length_exceeded": ContextTooLong,
    "model_not_found": ModelUnknown,
    "content_filter": ContentBlocked,
    "content_policy_violation": ContentBlocked,
    "invalid_api_key": ModelRefusedKey,
    "authentication_error": ModelRefusedKey,
    "permission_error": ModelRefusedKey,
    "account_deactivated": ModelRefusedKey,
    "insufficient_quota": ModelRefusedKey,
    "billing_hard_limit_reached": ModelRefusedKey,
    "rate_limit_exceeded": ModelRateLimited,
    "rate_limit_error": ModelRateLimited,
    "tokens": ModelRateLimited,  # OpenAI's type of a limit on tokens
    "requests": ModelRateLimited,
    "timeout": ModelTimedOut,
    "server_error": ModelOverloaded,
    "server_is_overloaded": ModelOverloaded,
    "overloaded_error": ModelOverloaded,
    "service_unavailable": ModelOverloaded,
    "invalid_request_error": ModelRejectedRequest,
    "BadRequestError": ModelRejectedRequest,
}
# What has no name of its own at some speakers is told apart by its words.
WORDS: Final[tuple[tuple[re.Pattern[str], type[AgentOSError]], ...]] = (
    (re.compile(r"context (length|window|size)|input tokens exceed|prompt is too long", re.I), ContextTooLong),
    (re.compile(r"not a valid model|model\b.{0,200}(does not exist|not found)", re.I), ModelUnknown),
    (re.compile(r"content (management|filtering|safety) (policy|system)|flagged", re.I), ContentBlocked),
)


def failure_of(status: int, body: bytes) -> Failure | None:
    """What the body of an answer says that is no stream; None where a 200 tells of no failure."""
    try:
        said = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        said = None
    if isinstance(said, list) and said:
        said = said[0]
    error = said if isinstance(said, dict) and said.get("object") == "error" else None
    if error is None and isinstance(said, dict):
        error = said.get("error")
    if error is not None:
        return failure(error, status)
    if status == 200:
        return None
    # No word of the vendor's: a 404 is of a server that knows no such address.
    return Failure(ModelNotConfigured if status == 404 else kind_of(status), begun=status not in NOT_BEGUN)


def failure(error: Any, status: int = 200) -> Failure:
    """What an error means; a status of 200 is that of the stream it came in."""
    said = error if isinstance(error, dict) else {"message": error}
    code, kind, message = (str(said.get(name) or "") for name in ("code", "type", "message"))
    if status == 200 and code.isdigit() and 400 <= int(code) < 600:
        status = int(code)
    if isinstance(said.get("metadata"), dict) and "flagged_input" in said["metadata"]:
        found: type[AgentOSError] = ContentBlocked
    else:
        found = _kind(status, code, kind, message)
    name = kind if code.isdigit() or not code else code
    return Failure(found, name, message, begun=status not in NOT_BEGUN)


def _kind(status: int, code: str, kind: str, message: str) -> type[AgentOSError]:
    named = NAMES.get(code) or NAMES.get(kind)
    if named is not None and named is not ModelRejectedRequest:
        return named
    if status in (200, 400, 403, 404, 413, 422):
        for words, worded in WORDS:
            if words.search(message):
                return worded
    if status == 404:
        return ModelUnknown
    if status != 200:
        return kind_of(status)
    return named or ModelUnavailable
