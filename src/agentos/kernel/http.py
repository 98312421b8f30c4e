"""What every route shares: the unit of work's doors, problem documents, request ids, limits, and pages by cursor."""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import structlog
from fastapi import Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agentos.kernel import ids
from agentos.kernel.errors import AgentOSError, Bug, Invalid, NotFound, http_status, problem
from agentos.kernel.telemetry import Meter
from agentos.kernel.telemetry.catalogue import HTTP_SECONDS
from agentos.kernel.unit_of_work import Doors

log = structlog.get_logger(__name__)

MOST_BODY_BYTES: Final = 1024 * 1024
PROBLEM: Final = "application/problem+json"
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


class MalformedRequest(Invalid):
    """The request does not fit the route's schema."""

    code = "malformed_request"


class BodyTooLarge(Invalid):
    """The body is over the limit."""

    code = "body_too_large"
    status = 413


class BadCursor(Invalid):
    """A cursor that no listing has given out."""

    code = "bad_cursor"


class RouteUnknown(NotFound):
    """No such route."""

    code = "route_unknown"


def doors(request: Request) -> Doors:
    """The process's doors to units of work."""
    found: Doors = request.app.state.doors
    return found


DoorsDep = Annotated[Doors, Depends(doors)]
Limit = Annotated[int, Query(ge=1, le=200, description="How many entries a page holds at most.")]
Cursor = Annotated[str, Query(max_length=200, description="The next_cursor of the page before.")]


def page(rows: Sequence[Mapping[str, Any]], limit: int, *, by: str = "id") -> dict[str, Any]:
    """A page of at most ``limit`` rows, out of a query for one more, with the cursor of the next."""
    shown = list(rows[:limit])
    more = len(rows) > limit
    return {"items": shown, "next_cursor": cursor_of(str(shown[-1][by])) if more else None}


def cursor_of(position: str) -> str:
    """A position as an opaque cursor."""
    return base64.urlsafe_b64encode(position.encode()).decode().rstrip("=")


def position_of(cursor: str) -> str:
    """The position in a cursor; empty for the first page. Raises BadCursor (Invalid)."""
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        text = "\0"
    if "\0" in text:
        raise BadCursor("this cursor was not given out by a listing", then="Start again without a cursor.")
    return text


def install(app: FastAPI, meter: Meter) -> None:
    """Give an app its problem documents, request ids, body limit and timing."""
    app.add_middleware(Envelope, meter=meter)

    @app.exception_handler(AgentOSError)
    async def known(_request: Request, error: AgentOSError) -> JSONResponse:
        return answer(error)

    @app.exception_handler(RequestValidationError)
    async def malformed(_request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return answer(MalformedRequest(f"{where}: {first['msg']}", where=where, then="See /api/v1/openapi.json."))

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 404:
            return answer(RouteUnknown(f"no route {request.url.path[:200]}", then="See /api/v1/openapi.json."))
        body = {"type": "about:blank", "title": error.detail, "status": error.status_code, "code": "http"}
        return JSONResponse(body, error.status_code, headers=error.headers, media_type=PROBLEM)


def answer(error: AgentOSError) -> JSONResponse:
    """An error as a problem document, with Retry-After where the error says when."""
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(error.retry_after.total_seconds())))
    return JSONResponse(problem(error), http_status(error), headers=headers, media_type=PROBLEM)


class Envelope:
    """Around every request: its id in the answer and the logs, its time in the metrics, its body within the limit.

    An error that nobody foresaw is answered as a Bug, without its stack.
    """

    def __init__(self, app: ASGIApp, meter: Meter) -> None:
        self.app = app
        self.meter = meter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        request_id = given if _REQUEST_ID.fullmatch(given) else ids.new("req")
        scope.setdefault("state", {})["request_id"] = request_id
        status = 500
        started = False

        async def sending(message: Message) -> None:
            nonlocal status, started
            if message["type"] == "http.response.start":
                status, started = message["status"], True
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        received = 0

        async def receiving() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MOST_BODY_BYTES:
                raise _too_large()
            return message

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                if int(headers.get(b"content-length", b"0")) > MOST_BODY_BYTES:
                    raise _too_large()
                await self.app(scope, receiving, sending)
            except Exception as error:
                known = (
                    error
                    if isinstance(error, AgentOSError)
                    else Bug("the platform made a mistake", then=f"Tell your operator the request id {request_id}.")
                )
                if isinstance(known, Bug):
                    log.exception("request_failed", path=scope["path"])
                if not started:
                    await answer(known)(scope, receive, sending)
            finally:
                route = getattr(scope.get("route"), "path", "none")
                self.meter.observe(
                    HTTP_SECONDS,
                    time.perf_counter() - began,
                    route=route,
                    method=scope["method"],
                    status=str(status),
                )


def _too_large() -> BodyTooLarge:
    return BodyTooLarge(f"the body is over {MOST_BODY_BYTES} bytes", then="Send less, or by reference.")
