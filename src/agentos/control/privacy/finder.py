"""Find personal data in a text, in time that grows with the text and no faster.

Every expression is bounded or gives nothing back, and what it finds is checked by libraries: checksums by stdnum, phone
numbers by phonenumbers. Most texts hold nothing; a look for what any finding needs costs less than the rest.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from itertools import chain
from typing import Final

from agentos.control.privacy.labels import BLANK, Label, label_of
from agentos.control.privacy.model import Finding, Kind, Rules, Sensitivity, TextTooLong
from agentos.control.privacy.numbers import numbers
from agentos.control.privacy.ports import Recognizer
from agentos.control.privacy.tokens import announces, tokens

MOST_CHARACTERS: Final = 64 * 1024 * 1024  # looked through at once: some seconds of work, some hundred MB of memory

SHORT: Final = (
    4000  # characters; a longer text holds nearly always something suspect, so that looking for it first costs
)

# What any number or address holds: an @, six digits close together, or the capitals of a codice fiscale.
_SUSPECT: Final = re.compile(r"@|[0-9](?:[ .\-/()\u00a0\u2011]{0,3}+[0-9]){5}|[A-Z]{6}[0-9LMNPQRSTUV]{2}[A-EHLMPRST]")
LEAST: Final = 6  # characters of a text that holds anything

_LOCAL: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.!#$%&'*+/=?^_`{|}~-")
_DOMAIN: Final = re.compile(r"[^\W_](?:[\w-]{0,62}+)(?:\.[^\W_][\w-]{0,62}+){1,8}+")
_FILES: Final = frozenset(
    ("png", "jpg", "jpeg", "gif", "svg", "webp", "css", "html", "json", "yaml", "yml", "js", "ts")
)
MOST_LOCAL: Final = 64  # characters before an @ (RFC 5321)

_IP: Final = re.compile(
    r"(?<![\w.:])(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9A-Fa-f:]{2,39}(?:\.[0-9.]{6,12})?)(?![\w:]|\.[0-9])"
)
_VERSION: Final = re.compile(r"(?:[vV]|version|release)[ :=]?$")
_COORDINATES: Final = re.compile(r"(?<![\w.])-?[0-9]{1,2}\.[0-9]{4,15}, ?-?[0-9]{1,3}\.[0-9]{4,15}(?![\w.])")
_USER: Final = re.compile(
    r"(?<![A-Za-z])(?:user|customer|member|patient|account)[ _-]?(?:id|name|no)[\"']?[ ]{0,3}[:=][ ]{0,3}[\"']?"
    r"([^\s\"',;&)\]}]{1,200}+)",
    re.IGNORECASE,
)
_CLASS_C: Final = frozenset(kind for kind in Kind if kind.sensitivity is Sensitivity.C)
_OF_FIELDS: Final = {Label.USER_ID: Kind.USER_ID, Label.LOCATION: Kind.LOCATION}


def suspect(text: str) -> bool:
    """Whether a text may hold anything of class A or B. False is certain, but for what a recognizer finds."""
    return len(text) >= LEAST and (_SUSPECT.search(text) is not None or announces(text))


def find(text: str, rules: Rules, *, named: str = "", recognizer: Recognizer | None = None) -> list[Finding]:
    """What a text holds of the rules' kinds, in order, nothing overlapping. ``named``: the field that holds the text.

    Markers are left alone. Raises TextTooLong (Invalid).
    """
    if len(text) > MOST_CHARACTERS:
        raise TextTooLong(
            f"{len(text)} characters, {MOST_CHARACTERS} at most are looked through at once", then="Split it."
        )
    usual = len(text) > SHORT or suspect(text)
    if not usual and recognizer is None and not rules.kinds & _CLASS_C:
        return []
    marked = [one.span() for one in rules.markers.finditer(text)] if any(map(text.__contains__, rules.lead)) else []
    whole, text = text, _blanked(text, marked)
    label = label_of(named) if named else None
    found: Iterator[Finding] = iter(())
    if usual:
        found = chain(_addresses(text), tokens(text), numbers(text, rules.regions, label))
    found = chain(found, _of_class_c(text, rules, label), () if recognizer is None else recognizer(whole))
    wanted = sorted((one for one in found if one.kind in rules.kinds), key=lambda one: (one.start, -one.end))
    return _apart(_unmarked(wanted, marked))


def _blanked(text: str, marked: list[tuple[int, int]]) -> str:
    """The text with every marker as long as it was, and saying nothing: 'CARD' in one is no label of what follows."""
    parts, place = [], 0
    for start, end in marked:
        parts += [text[place:start], BLANK * (end - start)]
        place = end
    return "".join(parts) + text[place:] if parts else text


def _unmarked(found: list[Finding], marked: list[tuple[int, int]]) -> list[Finding]:
    """The findings that touch no marker."""
    kept, place = [], 0
    for one in found:
        while place < len(marked) and marked[place][1] <= one.start:
            place += 1
        if place == len(marked) or marked[place][0] >= one.end:
            kept.append(one)
    return kept


def _apart(found: list[Finding]) -> list[Finding]:
    """Findings that overlap become one, of the kind that is of the higher class, else of the longer."""
    apart: list[Finding] = []
    for one in found:
        if not apart or one.start >= apart[-1].end:
            apart.append(one)
            continue
        before = apart[-1]
        first = min((before, one), key=lambda each: (each.kind.sensitivity, each.start - each.end))
        apart[-1] = Finding(before.start, max(before.end, one.end), first.kind)
    return apart


def _addresses(text: str) -> Iterator[Finding]:
    """E-mail addresses: an @ with a name before it and a domain after it."""
    at = text.find("@")
    while at >= 0:
        start, lowest = at, max(0, at - MOST_LOCAL)
        while start > lowest and (
            text[start - 1] in _LOCAL or (text[start - 1] > "\x7f" and text[start - 1].isalpha())
        ):
            start -= 1
        while start < at and text[start] in ".'`/=*{}|&?!#$%^":
            start += 1
        domain = _DOMAIN.match(text, at + 1) if start < at else None
        if domain is not None and _is_address(text, start, at, domain.end()):
            yield Finding(start, domain.end(), Kind.EMAIL)
        at = text.find("@", at + 1)


def _is_address(text: str, start: int, at: int, end: int) -> bool:
    top = text[text.rfind(".", at, end) + 1 : end]
    if len(top) < 2 or not (top.isalpha() or top.startswith("xn--")) or top.casefold() in _FILES:
        return False
    if text[start:at] == "git" or text[max(0, start - 2) : start] == "//":  # an address of a repository or a server
        return False
    return text[start] != "-"


def _of_class_c(text: str, rules: Rules, told: Label | None) -> Iterator[Finding]:
    if Kind.IP in rules.kinds and ("." in text or ":" in text):
        for found in _IP.finditer(text):
            if _is_ip(found.group()) and not _VERSION.search(text, max(0, found.start() - 9), found.start()):
                yield Finding(found.start(), found.end(), Kind.IP)
    if Kind.LOCATION in rules.kinds:
        for found in _COORDINATES.finditer(text):
            yield Finding(found.start(), found.end(), Kind.LOCATION)
    if Kind.USER_ID in rules.kinds:
        for found in _USER.finditer(text):
            yield Finding(found.start(1), found.end(1), Kind.USER_ID)
    if text and told in _OF_FIELDS and _OF_FIELDS[told] in rules.kinds:
        yield Finding(0, len(text), _OF_FIELDS[told])


def _is_ip(written: str) -> bool:
    try:
        ipaddress.ip_address(written)
    except ValueError:
        return False
    return len(written) > 2
