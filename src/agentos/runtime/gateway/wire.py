"""What both wire forms share: bodies read strictly where we know a field, pictures, and what errors are to a client."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any, Final, TypeVar

import msgspec

from agentos.control.budgets.model import BudgetExhausted
from agentos.kernel.errors import AgentOSError, Conflict, Forbidden, Invalid, http_status, problem
from agentos.kernel.nesting import shallow
from agentos.runtime.gateway.model import MOST_TOOLS, NotOffered, RequestNotUnderstood, RunUnfinished
from agentos.runtime.inference import Image, Tool
from agentos.runtime.inference.model import (
    ContentBlocked,
    ModelMisbehaved,
    ModelNotConfigured,
    ModelRefusedKey,
    ModelTimedOut,
    ModelUnknown,
)
from agentos.runtime.inference.schemas import first_fault

T = TypeVar("T")

encode: Final = msgspec.json.Encoder().encode

# What an error is to whoever called us, where that is not what it is to us: a key of ours that a provider refuses is no
# fault of the client's key.
_STATUS: Final[tuple[tuple[type[AgentOSError], int], ...]] = (
    (ModelRefusedKey, 502),
    (ModelMisbehaved, 502),
    (ModelTimedOut, 504),
    (ModelUnknown, 404),
    (ContentBlocked, 400),
)
# Asking again at once, as the official clients do by themselves, cannot help; or it would do the same work twice.
_FINAL: Final = (Conflict, Forbidden, BudgetExhausted, ModelNotConfigured, ModelMisbehaved, RunUnfinished)
_DATA: Final = re.compile(r"data:(image/[a-z0-9.+-]{1,40});base64,", re.IGNORECASE)
_WEB: Final = re.compile(r"https?://[^\s]{1,8000}")


def read(body: bytes, kind: type[T]) -> T:
    """The body as a struct; fields that it does not know are left out. Raises RequestNotUnderstood (Invalid)."""
    try:
        return msgspec.convert(shallow(msgspec.json.decode(body)), kind)
    except msgspec.ValidationError as error:
        what, _, place = str(error).partition(" - at `$")
        where = place.rstrip("`").lstrip(".")
        raise RequestNotUnderstood(what, where=where[:200], then="See docs/models.md for what is taken.") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise RequestNotUnderstood("the body cannot be read as JSON", where="body", then="Send JSON.") from None
    except (ValueError, RecursionError):
        raise RequestNotUnderstood("the body is nested too deep", where="body", then="Nest it less.") from None


def tools(found: list[Tool], schema: dict[str, Any] | None, named: tuple[str, str]) -> tuple[Tool, ...]:
    """The client's tools, whose schemas and that of the answer may be used.

    ``named``: what the interface calls the schema of a tool, and that of the answer. Raises RequestNotUnderstood
    (Invalid) where there are too many, two of one name, or a schema that may not be used.
    """
    names = [one.name for one in found]
    if len(names) > MOST_TOOLS:
        raise RequestNotUnderstood(f"there are more than {MOST_TOOLS} tools", where="tools", then="Send fewer.")
    if len(set(names)) < len(names):
        raise RequestNotUnderstood("two tools have the same name", where="tools", then="Rename one.")
    if (fault := first_fault(found, schema)) is not None:
        number, why = fault
        where = named[1] if number is None else f"tools[{number}].{named[0]}"
        raise RequestNotUnderstood(f"the schema cannot be used: {why.what}", where=where + why.where, then=why.then)
    return tuple(found)


def picture(address: str, where: str) -> Image:
    """A picture by its address, or in it. Raises RequestNotUnderstood (Invalid)."""
    inside = _DATA.match(address)
    if inside is not None:
        return held(inside[1].lower(), address[inside.end() :], where)
    if _WEB.fullmatch(address) is None:
        raise RequestNotUnderstood("a picture is a data: or https: address", where=where)
    return Image(url=address)


def held(media_type: str, data: str, where: str) -> Image:
    """A picture that came with the request. Raises RequestNotUnderstood (Invalid)."""
    try:
        base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise RequestNotUnderstood("the picture is no base64", where=where) from None
    return Image(media_type, data)


def arguments(written: str, where: str) -> dict[str, Any]:
    """The arguments of a call that an assistant's turn holds. Raises RequestNotUnderstood (Invalid)."""
    try:
        return msgspec.json.decode(written, type=dict[str, Any]) if written.strip() else {}
    except (msgspec.DecodeError, RecursionError):
        raise RequestNotUnderstood("the arguments are no JSON object", where=where) from None


def not_offered(name: str, what: str, then: str = "Leave it out.") -> NotOffered:
    """The error that says so."""
    return NotOffered(f"{what} is not offered here", where=name, then=then)


def status_of(error: AgentOSError) -> int:
    """The HTTP status of an error, as clients of these interfaces expect it."""
    for kind, status in _STATUS:
        if isinstance(error, kind):
            return status
    status = http_status(error)
    return 400 if isinstance(error, Invalid) and status == 422 else status


def final(error: AgentOSError) -> bool:
    """Whether a client should not ask again by itself."""
    return isinstance(error, _FINAL) or "run_id" in error.extra


def told(error: AgentOSError) -> dict[str, Any]:
    """The error as our own interface tells it, for whoever wants more than the vendor's form holds."""
    return problem(error) | {"status": status_of(error)}
