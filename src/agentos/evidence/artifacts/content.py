"""What of a run is an artifact, its text, and the passages that a text is searched by. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from agentos.evidence.artifacts.model import INPUT, OUTPUT, Artifact, Kind

# Long enough for a paragraph, short enough that a few words in it still weigh: see docs/evidence.md.
PASSAGE: Final = 600  # characters
MOST_PASSAGES: Final = 200  # of one artifact: 120,000 characters, about 40 printed pages
BREAK: Final = 100  # characters before a passage's end in which it is looked for a place to break
JSON: Final = "application/json"
PLAIN: Final = "text/plain"
_READS: Final = 0  # the effect class S0
_FAILED: Final = frozenset({"error", "denied"})


@dataclass(frozen=True, slots=True)
class Piece:
    """The bytes of one artifact where they were used."""

    seq: int
    step: str
    kind: Kind
    name: str
    effect: int | None
    status: str
    approval_id: str | None
    data: bytes


def kind_of(row: Mapping[str, Any]) -> Kind | None:
    """What a row of the journal holds; None where it holds nothing to find."""
    match row["kind"]:
        case "model":
            return Kind.ANSWER if row["phase"] == "result" and row["status"] == "ok" else None
        case "draft":
            return Kind.DRAFT
        case "message":
            return Kind.MESSAGE
        case "skill" if row["phase"] == "intent":
            return Kind.EFFECT if row["status"] == "sent" else None  # sent again: the very same
        case "skill" if row["status"] in _FAILED:
            return Kind.REFUSAL
        case "skill" | "note":
            return Kind.READ if row["effect"] == _READS else Kind.RESULT
        case _:
            return None


def piece_of(row: Mapping[str, Any]) -> Piece | None:
    """The artifact of a row of the journal. ``content`` of a draft's row is what was drafted."""
    kind = kind_of(row)
    if kind is None or row["content"] is None:
        return None
    data = bytes(row["content"])
    if data in (b"null", b'""', b"{}", b"[]") or not text_of(kind, value_of(data)).strip():
        return None
    return Piece(
        row["seq"],
        row["key"].partition("~")[0],
        kind,
        row["name"],
        row["effect"],
        row["status"],
        row["meta"].get("approval"),
        data,
    )


def ends_of(given: bytes, made: bytes | None) -> Iterator[Piece]:
    """The input of a run, and its output once there is one."""
    yield Piece(INPUT, "input", Kind.INPUT, "", None, "ok", None, given)
    if made is not None:
        yield Piece(OUTPUT, "output", Kind.OUTPUT, "", None, "ok", None, made)


def value_of(data: bytes) -> Any:
    """The content that these bytes are."""
    return json.loads(data)


def described(piece: Piece, text: str) -> Artifact:
    """What is kept of an artifact besides its passages."""
    media = PLAIN if piece.data[:1] == b'"' else JSON
    return Artifact(digest_of(piece.data), media, len(piece.data), len(text), min(len(text), PASSAGE * MOST_PASSAGES))


def digest_of(data: bytes) -> str:
    """The name of some bytes: the one that the journal's blobs have, too."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def text_of(kind: Kind, value: Any) -> str:
    """The text of a content: a text as it is, data as a line for each value with the names that lead to it."""
    if kind is Kind.ANSWER and isinstance(value, dict):
        value = value.get("text") or ""
    if isinstance(value, str):
        return _storable(value)
    return _storable("\n".join(_lines(value, "")))


def passages(text: str) -> list[tuple[int, str]]:
    """A text in passages with their places, broken between words where there is a gap; the most, the rest is cut."""
    found: list[tuple[int, str]] = []
    start = 0
    while start < len(text) and len(found) < MOST_PASSAGES:
        end = start + PASSAGE
        if end < len(text):
            gap = max(text.rfind(one, end - BREAK, end) for one in ("\n", " "))
            end = gap + 1 if gap > start else end
        found.append((start, text[start:end]))
        start = end
    return found


def _lines(value: Any, name: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, below in value.items():
            yield from _lines(below, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        for below in value:
            yield from _lines(below, name)
    elif value is not None:
        said = value if isinstance(value, str) else json.dumps(value)
        yield f"{name}: {said}" if name else said


def _storable(text: str) -> str:
    """A text without what PostgreSQL cannot keep, every character at its place."""
    return text.replace("\0", " ").encode("utf-8", "replace").decode()
