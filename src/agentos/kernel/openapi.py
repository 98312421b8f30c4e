"""The OpenAPI document tells the truth about errors: every operation names each status that it may be refused with.

Which these are follows from what an operation takes (a key, a body, an id, ``If-Match``), so no route lists them. One
that lets callers in by other means than a key says so by ``lets_in``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

PROBLEM: Final = "application/problem+json"

_SAID: Final = {
    401: "No key, or one that opens nothing.",
    403: "The caller's role, the key's scopes or the thing itself do not allow it.",
    404: "No such thing, or not for this caller.",
    408: "The body did not arrive in time.",
    409: "The state of the thing forbids it now.",
    412: "The thing has changed since the state that If-Match names.",
    413: "The body is too large.",
    415: "The body is compressed.",
    422: "What was asked for is malformed.",
    429: "A limit or a rate is used up.",
    503: "Something that this depends on does not answer, or too many wait; trying again later may help.",
}
_WHEN: Final = {
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "string", "pattern": "^[1-9][0-9]*$"}}
}
_HOW: Final = {"WWW-Authenticate": {"description": "How to ask.", "required": True, "schema": {"type": "string"}}}
_HEADERS: Final[Mapping[int, dict[str, Any]]] = {401: _HOW, 429: _WHEN, 503: _WHEN}
_REFUSES: Final = "x-refuses"  # within this module only: the document does not have it
_MODEL: Final = {
    "type": "object",
    "title": "Problem",
    "description": "RFC 9457, with a stable code. An error may have members of its own besides.",
    "required": ["type", "title", "status", "code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string", "description": "The kind of the error."},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "Stable: what a program decides by."},
        "detail": {"type": "string", "description": "What was wrong."},
        "where": {"type": "string"},
        "next": {"type": "string", "description": "What to do next."},
    },
}


def lets_in(*refusals: int, body: tuple[str, ...] = ()) -> dict[str, Any]:
    """For a route's ``openapi_extra``: how it refuses callers without a key, and the media types of a body read raw."""
    described = {"requestBody": {"required": True, "content": {kind: {"schema": {}} for kind in body}}} if body else {}
    return {_REFUSES: list(refusals), **described}


def tell_errors(app: FastAPI) -> None:
    """Let the app's document name the errors of every operation. It is made once, when it is first asked for."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = with_errors(get_openapi(title=app.title, version=app.version, routes=app.routes))
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's own way to make it


def with_errors(document: dict[str, Any]) -> dict[str, Any]:
    """The document with its errors, in place of the framework's own."""
    parts = document.setdefault("components", {})
    schemas = parts.setdefault("schemas", {})
    for framework in ("HTTPValidationError", "ValidationError"):
        schemas.pop(framework, None)
    schemas["Problem"] = _MODEL
    parts["responses"] = {f"Error{status}": _response(status) for status in _SAID}
    for methods in document["paths"].values():
        for method, operation in methods.items():
            operation["responses"].pop("422", None)
            for status in (*operation.pop(_REFUSES, ()), *refusals(method, operation)):
                operation["responses"].setdefault(str(status), {"$ref": f"#/components/responses/Error{status}"})
    return document


def refusals(method: str, operation: Mapping[str, Any]) -> Iterator[int]:
    """The statuses that an operation may be refused with, by what it takes."""
    named = {(one["in"], one["name"].lower()) for one in operation.get("parameters", ())}
    body, id_in_path = "requestBody" in operation, any(place == "path" for place, _ in named)
    yield from (413, 415, 422)  # a body that nobody asked for and a NUL in the address are refused everywhere
    if "security" in operation:
        yield from (401, 403, 429, 503)
    if body:
        yield 408
    if id_in_path or body:
        yield 404
    if method != "get":
        yield 409
    if ("header", "if-match") in named:
        yield 412


def _response(status: int) -> dict[str, Any]:
    said = {"description": _SAID[status], "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    return said | ({"headers": _HEADERS[status]} if status in _HEADERS else {})
