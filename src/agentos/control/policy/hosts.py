"""The hosts that a call is towards, as far as its arguments tell.

More is found than is meant: a host that only stands in a text counts too, because a denylist that misses one is worth
nothing. What a receiver redirects to, or a name resolves to, no argument tells; skills that reach out guard those.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any, Final
from urllib.parse import unquote

_URL: Final = re.compile(r"[/\\]{2,}([^/?#\s\"'<>]+)")  # whatever its scheme is called
# A text that is a host, a host with its port, or an address of e-mail.
_BARE: Final = re.compile(r"(?:[^\s/@]{1,64}@)?([^\s/@:]{1,253}\.[^\s/@:.]{2,63}\.?)(?::\d{1,5})?")
_MAILBOX: Final = re.compile(r"@([A-Za-z0-9][A-Za-z0-9.-]{0,252})")  # of an address of e-mail within a text
_PARTS: Final = re.compile(r"[@\\]")  # readers of URLs disagree about what stands before these: each part counts
_MOST: Final = 253  # characters of a host's name
_PORT: Final = re.compile(r":\d*$")


def hosts_of(arguments: Any) -> tuple[str, ...]:
    """Every host that is named in these arguments, however deep: lower case, sorted, each once."""
    found: set[str] = set()
    left = [arguments]
    while left:
        one = left.pop()
        if isinstance(one, str):
            _look(one if one.isascii() else unicodedata.normalize("NFKC", one).replace("。", "."), found)
        elif isinstance(one, dict):
            left.extend(one)
            left.extend(one.values())
        elif isinstance(one, (list, tuple)):
            left.extend(one)
    return tuple(sorted(found))


def _look(text: str, found: set[str]) -> None:
    if "//" in text or "\\" in text:
        for authority in _URL.findall(text):
            for part in _PARTS.split(authority):
                _add(unquote(part), found)
    if "@" in text:
        for host in _MAILBOX.findall(text):
            _add(host, found)
    if "." in text and len(text) <= 2 * _MOST and (bare := _BARE.fullmatch(text.strip())) is not None:
        _add(bare[1], found)


def _add(written: str, found: set[str]) -> None:
    host = _PORT.sub("", written.lower()).strip("[]").rstrip(".")
    if not host or len(host) > _MOST:
        return
    found.add(host)
    if not host.isascii():
        try:
            found.add(host.encode("idna").decode())
        except UnicodeError:
            return
