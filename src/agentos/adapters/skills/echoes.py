"""Secrets that a host sends back, found in every form that an echo usually has.

As it is, escaped for JSON or HTML, percent-encoded, in hexadecimal digits, and in base64 wherever in a longer text it
stands; in UTF-8, UTF-16 and Latin-1; also at the end of an answer that was cut in its middle. What an answer does to it
beyond that (compression, encryption, another order) nobody can look through.
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import quote, quote_plus

LEAST: Final = 4  # characters of a form that is not the secret itself, and of the piece at the end that is taken for it
_CHARSETS: Final = ("utf-8", "utf-16-le", "utf-16-be", "latin-1")


class Echoes:
    """The forms of secrets, and by what each is replaced. ``secrets``: the reference of each by its value."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        found = {form: reference for value, reference in secrets.items() if value for form in _forms(value)}
        self._forms = sorted(found.items(), key=lambda one: -len(one[0]))  # the longest first: others are parts of it
        self._bytes = [(data, reference.encode()) for form, reference in self._forms for data in _encoded(form)]

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._forms)

    def masked(self, text: str, *, cut: bool = False) -> str:
        """The text with references in the place of secrets. ``cut``: it goes on where nobody read it."""
        for form, reference in self._forms:
            text = text.replace(form, reference)
        if cut:
            for form, reference in self._forms:
                if size := _begun(text, form):
                    return text[:-size] + reference
        return text

    def masked_bytes(self, data: bytes, *, cut: bool = False) -> bytes:
        """The same of bytes."""
        for form, reference in self._bytes:
            data = data.replace(form, reference)
        if cut:
            for form, reference in self._bytes:
                if size := _begun(data, form):
                    return data[:-size] + reference
        return data


def _begun(text: str | bytes, form: str | bytes) -> int:
    """How much of the form the end of the text is."""
    for size in range(min(len(form) - 1, len(text)), LEAST - 1, -1):
        if text.endswith(form[:size]):  # type: ignore[arg-type]  # both are of one kind
            return size
    return 0


def _forms(value: str) -> set[str]:
    escaped = json.dumps(value)[1:-1]
    escaped_little = json.dumps(value, ensure_ascii=False)[1:-1]
    digits = value.encode().hex()
    forms = {escaped, escaped.replace("/", "\\/"), escaped_little, escaped_little.replace("/", "\\/")}
    forms |= {html.escape(value), html.escape(value, quote=False), digits, digits.upper()}
    for coded in (quote(value), quote(value, safe=""), quote_plus(value), "".join(f"%{b:02X}" for b in value.encode())):
        forms |= {coded, _lower(coded)}
    for part in _in_base64(value.encode()):
        forms |= {part, part.replace("+", "-").replace("/", "_"), part.replace("/", "\\/")}
    return {form for form in forms if len(form) >= LEAST} | {value}


def _lower(coded: str) -> str:
    """Percent-encoded with small letters in its digits."""
    first, *rest = coded.split("%")
    return "%".join([first, *(one[:2].lower() + one[2:] for one in rest)])


def _in_base64(value: bytes) -> Iterator[str]:
    """What base64 makes of it whatever stands before and after it, as far as that depends on it alone."""
    for before in range(3):
        coded = base64.b64encode(b"\0" * before + value).decode()
        whole = (before + len(value)) * 8 // 6  # characters that hold no bit of what comes after
        yield coded[-(-before * 8 // 6) : whole]


def _encoded(form: str) -> Iterator[bytes]:
    for charset in _CHARSETS:
        try:
            yield form.encode(charset)
        except UnicodeEncodeError:
            continue
