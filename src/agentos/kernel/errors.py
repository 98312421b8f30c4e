"""Seven kinds of error, and the three tables that say what each kind means to HTTP, to Temporal and to a shell.

A feature subclasses a kind (never the root) and gives it a stable ``code``. An error tells what was wrong, where, and
what to do next. It never carries a secret or a stack.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar, Final


class AgentOSError(Exception):
    """The root of all errors a user may see. Raise a subclass of one of the seven kinds, never this one."""

    code: ClassVar[str]
    status: ClassVar[int | None] = None  # narrows the HTTP status of the kind, e.g. Forbidden 401

    def __init__(
        self, what: str, *, where: str = "", then: str = "", retry_after: timedelta | None = None, **extra: Any
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.then = then
        self.retry_after = retry_after
        self.extra = extra

    def __str__(self) -> str:
        place = f" ({self.where})" if self.where else ""
        step = f". {self.then}" if self.then else ""
        return f"{self.what}{place}{step}"

    @property
    def kind(self) -> type[AgentOSError]:
        """The one of the seven kinds that this error belongs to."""
        return next(k for k in KINDS if isinstance(self, k))


class Invalid(AgentOSError):
    """What was asked for is malformed; asking again unchanged cannot help."""

    code = "invalid"


class Forbidden(AgentOSError):
    """The caller may not do this."""

    code = "forbidden"


class NotFound(AgentOSError):
    """No such thing, or not for this caller: the two are not told apart."""

    code = "not_found"


class Conflict(AgentOSError):
    """The state of the thing forbids it now."""

    code = "conflict"


class Exhausted(AgentOSError):
    """A limit, a rate or a budget is used up."""

    code = "exhausted"


class Unavailable(AgentOSError):
    """Something we depend on does not answer; trying again later may help."""

    code = "unavailable"


class Bug(AgentOSError):
    """A fault of ours or of a skill's code; a person must look."""

    code = "bug"


KINDS: Final[tuple[type[AgentOSError], ...]] = (
    Invalid,
    Forbidden,
    NotFound,
    Conflict,
    Exhausted,
    Unavailable,
    Bug,
)

HTTP_STATUS: Final[dict[type[AgentOSError], int]] = {
    Invalid: 422,
    Forbidden: 403,
    NotFound: 404,
    Conflict: 409,
    Exhausted: 429,
    Unavailable: 503,
    Bug: 500,
}

RETRYABLE: Final[dict[type[AgentOSError], bool]] = {
    Invalid: False,
    Forbidden: False,
    NotFound: False,
    Conflict: False,
    Exhausted: True,
    Unavailable: True,
    Bug: False,
}

EXIT_CODE: Final[dict[type[AgentOSError], int]] = {
    Invalid: 2,
    Forbidden: 3,
    NotFound: 4,
    Conflict: 5,
    Exhausted: 6,
    Unavailable: 7,
    Bug: 70,
}


def http_status(error: AgentOSError) -> int:
    """The HTTP status of an error: its own narrowed one, else its kind's."""
    return error.status or HTTP_STATUS[error.kind]


def retryable(error: AgentOSError) -> bool:
    """Whether trying the same call again later may succeed."""
    return RETRYABLE[error.kind]


def exit_code(error: AgentOSError) -> int:
    """The exit code of a command that ended in this error."""
    return EXIT_CODE[error.kind]


def problem(error: AgentOSError) -> dict[str, Any]:
    """The error as the members of an RFC 9457 problem document, which is also the form the CLI prints with --json."""
    body: dict[str, Any] = {
        "type": f"urn:agentos:error:{error.code}",
        "title": error.kind.__name__,
        "status": http_status(error),
        "code": error.code,
        "detail": error.what,
    }
    if error.where:
        body["where"] = error.where
    if error.then:
        body["next"] = error.then
    return body | error.extra


def every_error(kind: type[AgentOSError] = AgentOSError) -> list[type[AgentOSError]]:
    """All error classes that are loaded, for the reference and for the test that every code is unique."""
    found: list[type[AgentOSError]] = []
    for sub in kind.__subclasses__():
        found += [sub, *every_error(sub)]
    return found
