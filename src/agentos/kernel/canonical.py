"""One byte form for equal data: RFC 8785 JSON and its SHA-256, on which versions, arguments and skills are named."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any, Final

import rfc8785

from agentos.kernel.errors import Invalid

EXACT: Final = 2**53  # from here on a double no longer tells neighbouring whole numbers apart
_LONG: Final = re.compile(rb"[0-9]{16}|e\+")  # what every such number is written with, and little else


class NotCanonical(Invalid):
    """Data that RFC 8785 has no form for: a number that is not finite or beyond 2^53, a key that is no string."""

    code = "not_canonical"


def canonical(data: Any) -> bytes:
    """The RFC 8785 form of JSON data: equal data gives equal bytes in every process. Raises NotCanonical (Invalid)."""
    try:
        written = rfc8785.dumps(data)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError) as error:
        raise NotCanonical(
            f"this data has no canonical form: {error}", then="Write big or exact numbers as strings."
        ) from None
    if _LONG.search(written) and (big := next(_big(data), None)) is not None:
        raise NotCanonical(
            f"this data has no canonical form: {big!r} is beyond 2^53", then="Write big or exact numbers as strings."
        )
    return written


# Where the forms differ: a float, NaN and Infinity, which have none, a number of 16 digits, and characters that UTF-16
# sorts otherwise than Unicode does.
# The pattern meets texts that hold such signs, too; those take the longer way.
_DIFFERS: Final = re.compile(r"(?:^|[:,\[])-?(?:[0-9]+[.eE]|[0-9]{16}|[NI])|[\ud800-\U0010ffff]")
_PLAIN: Final = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"), check_circular=False)


def canonical_parsed(data: Any) -> bytes:
    """``canonical`` of data that came out of JSON, so that every key is a string: the same bytes, ten times quicker."""
    plain = _PLAIN.encode(data)
    return canonical(data) if _DIFFERS.search(plain) else plain.encode()


def _big(data: Any) -> Iterator[float]:
    """Floats that stand for several decimal numbers: I-JSON has none beyond 2^53, RFC 8785 alone would round them."""
    left = [data]
    while left:
        one = left.pop()
        if isinstance(one, float) and abs(one) >= EXACT:
            yield one
        elif isinstance(one, dict):
            left.extend(one.values())
        elif isinstance(one, (list, tuple)):
            left.extend(one)


def digest(data: Any) -> str:
    """``sha256:…`` of the canonical form of JSON data."""
    return digest_bytes(canonical(data))


def digest_bytes(data: bytes) -> str:
    """``sha256:…`` of bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()
