"""What every route shares: the unit of work's doors, problem documents, request ids, limits, and pages by cursor."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import structlog
from fastapi import Depends, FastAPI, Header, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from opentelemetry.trace import Span, Status, StatusCode
from pydantic import AfterValidator
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agentos.kernel import ids
from agentos.kernel.errors import AgentOSError, Bug, Invalid, NotFound, http_status, problem
from agentos.kernel.nesting import shallow
from agentos.kernel.openapi import PROBLEM, tell_errors
from agentos.kernel.signing import Signer
from agentos.kernel.telemetry import Meter, Traces
from agentos.kernel.telemetry.catalogue import HTTP_SECONDS
from agentos.kernel.unit_of_work import Doors

log = structlog.get_logger(__name__)

MOST_BODY_BYTES: Final = 1024 * 1024
BODY_SECONDS: Final = 20.0  # for a whole body: 1 MiB over a line of half a megabit
_TAG: Final = re.compile(r'\s*(W/)?"([^"]*)"\s*')
_NUMBER: Final = re.compile(r"[0-9]{1,10}")
_NO_TRACES: Final = Traces()  # of an app that was given none
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


class MalformedRequest(Invalid):
    """The request does not fit the route's schema."""

    code = "malformed_request"


class BodyTooLarge(Invalid):
    """The body is over the limit."""

    code = "body_too_large"
    status = 413


class BodyTooSlow(Invalid):
    """The body did not arrive in time."""

    code = "body_too_slow"
    status = 408


class EncodingNotTaken(Invalid):
    """The body came compressed; what it would unpack to is unknown."""

    code = "encoding_not_taken"
    status = 415


class BadCursor(Invalid):
    """A cursor that no listing has given out."""

    code = "bad_cursor"


class RouteUnknown(NotFound):
    """No such route."""

    code = "route_unknown"


async def doors(request: Request) -> Doors:
    """The process's doors to units of work."""
    found: Doors = request.app.state.doors
    return found


DoorsDep = Annotated[Doors, Depends(doors)]


async def signer(request: Request) -> Signer:
    """What signs this process's documents. Raises SigningKeyMissing (Unavailable)."""
    found: Signer | None = request.app.state.signer
    return found if found is not None else Signer.load("")


SignerDep = Annotated[Signer, Depends(signer)]
Limit = Annotated[int, Query(ge=1, le=200, description="How many entries a page holds at most.")]
Cursor = Annotated[str, Query(max_length=200, description="The next_cursor of the page before.")]


# JSON of no form of ours: an input, a skill's result, a manifest.
FreeJson = Annotated[Any, AfterValidator(shallow)]


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


async def if_match(if_match: Annotated[str | None, Header(max_length=1000)] = None) -> frozenset[int] | None:
    """The states that the caller accepts; None without the header or for ``*``. Raises MalformedRequest (Invalid).

    Tags compare strongly, so a weak one matches nothing.
    """
    if if_match is None or if_match.strip() == "*":
        return None
    tags = [_TAG.fullmatch(part) for part in if_match.split(",")]
    if not all(tags):
        raise MalformedRequest('If-Match is not of the form "7"', where="header.If-Match", then="Copy the ETag.")
    return frozenset(int(tag[2]) for tag in tags if tag and not tag[1] and _NUMBER.fullmatch(tag[2]))


IfMatch = Annotated[frozenset[int] | None, Depends(if_match)]


def number_in(cursor: str) -> int | None:
    """The number in the cursor of a listing by number; None for the first page. Raises BadCursor (Invalid)."""
    position = position_of(cursor)
    if position and not (position.isascii() and position.isdigit() and len(position) < 10):
        raise BadCursor("this cursor was not given out by this listing", then="Start again without a cursor.")
    return int(position) if position else None


@dataclass(frozen=True, slots=True)
class Region:
    """Paths below one prefix that speak another's interface, which clients know already: errors and limits are its."""

    prefix: str
    most_body_bytes: int
    answer: Callable[[AgentOSError, Scope], Response]


def install(app: FastAPI, meter: Meter, *, body_seconds: float = BODY_SECONDS, regions: Sequence[Region] = ()) -> None:
    """Give an app its problem documents, and their place in its document; request ids, body limits and timing."""
    app.add_middleware(Envelope, meter=meter, body_seconds=body_seconds, regions=regions)
    tell_errors(app)

    @app.exception_handler(AgentOSError)
    async def known(request: Request, error: AgentOSError) -> Response:
        return _said(error, request.scope, regions)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        refused = MalformedRequest(f"{where}: {first['msg']}", where=where, then="See /api/v1/openapi.json.")
        return _said(refused, request.scope, regions)

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        if error.status_code == 404:
            no_route = RouteUnknown(f"no route {request.url.path[:200]}", then="See /api/v1/openapi.json.")
            return _said(no_route, request.scope, regions)
        if isinstance(error.__cause__, AgentOSError):  # what the Envelope refused while the framework read the body
            return _said(error.__cause__, request.scope, regions)
        if error.status_code == 400:  # the framework's word for a body that no parser can read
            return answer(MalformedRequest("the body cannot be read as JSON", where="body", then="Send JSON as UTF-8."))
        body = {"type": "about:blank", "title": error.detail, "status": error.status_code, "code": "http"}
        return JSONResponse(body, error.status_code, headers=error.headers, media_type=PROBLEM)


def answer(error: AgentOSError) -> JSONResponse:
    """An error as a problem document, with Retry-After where the error says when."""
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(error.retry_after.total_seconds())))
    if http_status(error) == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(problem(error), http_status(error), headers=headers, media_type=PROBLEM)


def _region(path: str, regions: Sequence[Region]) -> Region | None:
    return next((one for one in regions if path.startswith(one.prefix)), None)


def _said(error: AgentOSError, scope: Scope, regions: Sequence[Region]) -> Response:
    region = _region(scope["path"], regions)
    return answer(error) if region is None else region.answer(error, scope)


class Envelope:
    """Around every request: its id in the answer and the logs, its time in the metrics, its body within the limit.

    An error that nobody foresaw is answered as a Bug, without its stack.
    """

    def __init__(self, app: ASGIApp, meter: Meter, body_seconds: float, regions: Sequence[Region] = ()) -> None:
        self.app = app
        self.meter = meter
        self.body_seconds = body_seconds
        self.regions = regions

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

        received, complete = 0, False
        region = _region(scope["path"], self.regions)
        most = MOST_BODY_BYTES if region is None else region.most_body_bytes

        async def receiving() -> Message:
            nonlocal received, complete
            if complete:  # what follows the body is that the client goes away, which may take as long as it likes
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), began + self.body_seconds - time.perf_counter())
            except TimeoutError:
                raise BodyTooSlow(
                    f"the body took longer than {self.body_seconds:g} s", then="Send it at once."
                ) from None
            received += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if received > most:
                raise _too_large(most)
            return message

        traces: Traces = getattr(scope["app"].state, "traces", _NO_TRACES)
        with structlog.contextvars.bound_contextvars(request_id=request_id), traces.request(headers) as span:
            try:
                _check(scope, headers, most)
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
                    await _said(known, scope, self.regions)(scope, receive, sending)
            finally:
                route = getattr(scope.get("route"), "path", "none")
                _tell(span, request_id, scope["method"], route, status)
                self.meter.observe(
                    HTTP_SECONDS,
                    time.perf_counter() - began,
                    route=route,
                    method=scope["method"],
                    status=str(status),
                )


def _tell(span: Span, request_id: str, method: str, route: str, status: int) -> None:
    if not span.is_recording():
        return
    span.update_name(f"{method} {route}")
    span.set_attributes({"http.request.method": method, "http.route": route, "agentos.request_id": request_id})
    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        span.set_attribute("error.type", str(status))
        span.set_status(Status(StatusCode.ERROR))


def _check(scope: Scope, headers: Mapping[bytes, bytes], most: int) -> None:
    """Refuse what needs no look at the body."""
    length = headers.get(b"content-length", b"0")
    if length.isdigit() and int(length) > most:
        raise _too_large(most)
    if headers.get(b"content-encoding", b"identity").lower() not in (b"identity", b""):
        raise EncodingNotTaken("the body is compressed", where="Content-Encoding", then="Send it as it is.")
    if "\x00" in scope["path"] or b"%00" in scope["query_string"] or b"\x00" in scope["query_string"]:
        raise MalformedRequest("the address holds a NUL character", where="path or query", then="Leave it out.")


def _too_large(most: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body is over {most} bytes", then="Send less, or by reference.")
