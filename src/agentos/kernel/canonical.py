"""One byte form for equal data: RFC 8785 JSON and its SHA-256, on which versions, arguments and skills are named."""

from __future__ import annotations

import hashlib
from typing import Any

import rfc8785

from agentos.kernel.errors import Invalid


class NotCanonical(Invalid):
    """Data that RFC 8785 has no form for: a number that is not finite or beyond 2^53, a key that is no string."""

    code = "not_canonical"


def canonical(data: Any) -> bytes:
    """The RFC 8785 form of JSON data: equal data gives equal bytes in every process. Raises NotCanonical (Invalid)."""
    try:
        return rfc8785.dumps(data)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError) as error:
        raise NotCanonical(
            f"this data has no canonical form: {error}", then="Write big or exact numbers as strings."
        ) from None


def digest(data: Any) -> str:
    """``sha256:…`` of the canonical form of JSON data."""
    return digest_bytes(canonical(data))


def digest_bytes(data: bytes) -> str:
    """``sha256:…`` of bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()
