"""What the errors of the Anthropic Messages wire format mean. Pure."""

from __future__ import annotations

import re
from typing import Final

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

# What the vendor's names of errors mean, also inside a stream, where the HTTP status was 200.
ERROR_TYPES: Final[dict[str, type[AgentOSError]]] = {
    "authentication_error": ModelRefusedKey,
    "permission_error": ModelRefusedKey,
    "billing_error": ModelRefusedKey,
    "invalid_request_error": ModelRejectedRequest,
    "not_found_error": ModelUnknown,
    "request_too_large": ContextTooLong,
    "rate_limit_error": ModelRateLimited,
    "timeout_error": ModelTimedOut,
    "api_error": ModelOverloaded,
    "overloaded_error": ModelOverloaded,
}
# One name, invalid_request_error, stands for these as well; only the words tell them apart.
WORDS: Final[tuple[tuple[re.Pattern[str], type[AgentOSError]], ...]] = (
    (re.compile(r"prompt is too long|exceed context limit|context window"), ContextTooLong),
    (re.compile(r"content filtering policy"), ContentBlocked),
    (re.compile(r"credit balance is too low"), ModelRefusedKey),
)


class WireError(msgspec.Struct):
    type: str = ""
    message: str = ""


class WireFailure(msgspec.Struct):
    error: WireError | None = None


decode_failure: Final = msgspec.json.Decoder(WireFailure).decode


def failure_of(status: int, body: bytes) -> Failure | None:
    """What the body of an answer says that is no stream; None where a 200 tells of no failure."""
    try:
        said = decode_failure(body).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        said = None
    begun = status not in NOT_BEGUN
    if said is not None:
        return failure(said, kind_of(status) if status not in (200, 400, 404) else None, begun=begun)
    if status == 200:
        return None
    # No word of the vendor's: a 404 is of a server that knows no such address.
    return Failure(ModelNotConfigured if status == 404 else kind_of(status), begun=begun)


def failure(said: WireError, kind: type[AgentOSError] | None = None, *, begun: bool = True) -> Failure:
    """What an error means; ``kind`` where its HTTP status says so already."""
    found = kind or ERROR_TYPES.get(said.type, ModelUnavailable)
    if found is ModelRejectedRequest:
        found = next((named for words, named in WORDS if words.search(said.message)), found)
    return Failure(found, said.type, said.message, begun)
