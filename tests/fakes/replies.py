"""What the fake models say and how they go wrong, in no vendor's form, and what a vendor's form is for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol


class Fault(StrEnum):
    """Ways in which a call can go wrong. A fault is used up by one call."""

    RATE_LIMITED = "429 with retry-after in seconds"
    RATE_LIMITED_UNTIL = "429 with retry-after as a date"
    RATE_LIMITED_SILENTLY = "429 without retry-after"
    OVERLOADED = "529"
    UNAVAILABLE = "503"
    BROKEN = "500"
    TIMED_OUT = "504"
    BAD_KEY = "401"
    EXPIRED_KEY = "401, the key was good once"
    FORBIDDEN = "403"
    UNPAID = "402"
    REJECTED = "400"
    TOO_LONG = "400, the prompt does not fit the context"
    BLOCKED = "400, the content filter"
    NO_SUCH_MODEL = "404, the model"
    NO_SUCH_ADDRESS = "404, nothing is here"
    TOO_LARGE = "413"
    CONFLICT = "409"
    BAD_GATEWAY_PAGE = "502 with a page in HTML"
    REDIRECT = "307 to another host"
    HANG = "no answer at all"
    HANG_UP = "the connection is closed before any answer"
    SLOW = "a pause before every event"
    SILENT = "the stream stops coming, the connection stays"
    CUT = "the connection breaks in the middle of the stream"
    CUT_CLEANLY = "the stream ends early, properly closed"
    CUT_IN_EVENT = "the stream ends in the middle of an event's JSON"
    GARBLED = "an event that is not JSON"
    STRAY_DELTA = "a delta for something that was not begun"
    HTML = "200 with a page in HTML"
    JSON = "200 with plain JSON, the stream flag ignored"
    BYTES = "200 with the events under another content type"
    OVERLOADED_IN_STREAM = "overloaded, after the first words"
    RATE_LIMITED_IN_STREAM = "a rate limit, after the first words"
    REJECTED_IN_STREAM = "an invalid request, after the first words"
    LINGERS = "a whole answer, and the connection stays open after it"


@dataclass(frozen=True)
class Reply:
    """What the model says: text, then calls, and how it ends in the wire's own word (by itself, or for its calls)."""

    text: str = ""
    calls: Sequence[tuple[str, dict[str, Any]]] = ()
    stop: str = ""
    thinking: str = ""
    usage: Mapping[str, Any] = field(default_factory=dict)  # the wire's own; empty: 25 tokens in, 15 out
    cut_last_call: bool = False  # its arguments end in the middle, as when the limit is reached


class Form(Protocol):
    """A vendor's wire format, as its server speaks it."""

    path: str
    in_stream: Mapping[Fault, bytes]  # errors after the first words
    stray: bytes
    garbled: bytes

    def key(self, headers: Mapping[str, str]) -> str:
        """The key that a request carries."""
        ...

    def refused(self, headers: Mapping[str, str], body: dict[str, Any]) -> str | None:
        """Why the real server would refuse a request, or None."""
        ...

    def error(self, fault: Fault) -> tuple[int, dict[str, Any]]:
        """The status and the body of an error."""
        ...

    def rejection(self, why: str) -> dict[str, Any]:
        """The body of a 400."""
        ...

    def events(self, model: str, reply: Reply, made: int) -> list[bytes]:
        """The events of a reply; the fifth is the first that comes after the first words."""
        ...


def pieces(text: str, size: int = 7) -> list[str]:
    """A text in the small pieces in which it is streamed; a long one in larger ones."""
    step = max(size, len(text) // 50)
    return [text[at : at + step] for at in range(0, len(text), step)]
