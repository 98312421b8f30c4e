"""Look through files, folders and standard input. What is not looked through is said, with the reason."""

from __future__ import annotations

import os
import tempfile
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agentos.control.privacy.finder import find
from agentos.control.privacy.model import Counts, Finding, Rules, counted
from agentos.control.privacy.ports import Recognizer
from agentos.control.privacy.values import redact

MOST_BYTES: Final = 64 * 1024 * 1024  # of one file: half a minute of work
LOOKED_AT: Final = 8192  # bytes in which a NUL tells that a file is binary, as git does it
LEFT_OUT: Final = frozenset({".git", ".venv", "node_modules", "__pycache__"})  # folders that hold nothing of people's


@dataclass(frozen=True, slots=True)
class Place:
    """Where something was found: never what."""

    line: int
    column: int
    kind: str


@dataclass(frozen=True, slots=True)
class Looked:
    """What came of one file. ``skipped`` says why it was not looked through; empty: it was."""

    path: str
    counts: Counts
    places: tuple[Place, ...] = ()
    skipped: str = ""
    changed: bool = False


def files(paths: Sequence[Path]) -> Iterator[Path]:
    """The files of paths, and of the folders below them, in the order of their names; links are not followed."""
    for path in paths:
        if not path.is_dir() or path.is_symlink():
            yield path
            continue
        for folder, below, names in os.walk(path):
            below[:] = sorted(one for one in below if one not in LEFT_OUT)
            yield from (Path(folder) / name for name in sorted(names))


def scan(path: Path, rules: Rules, recognizer: Recognizer | None = None) -> Looked:
    """What a file holds, by place and kind."""
    text = read(path)
    if isinstance(text, Looked):
        return text
    found = find(text, rules, recognizer=recognizer)
    return Looked(str(path), counted(found), tuple(places(text, found)))


def rewrite(path: Path, rules: Rules, *, dry_run: bool, recognizer: Recognizer | None = None) -> Looked:
    """Redact a file in its place: it is the old or the new one at every moment, with the same mode."""
    text = read(path)
    if isinstance(text, Looked):
        return text
    shown, counts = redact(text, rules, recognizer=recognizer)
    if not counts or dry_run:
        return Looked(str(path), counts)
    try:
        _replace(path, shown.encode("utf-8"))
    except OSError as error:
        return Looked(str(path), Counts(), skipped=f"it cannot be written: {error.strerror}")
    return Looked(str(path), counts, changed=True)


def read(path: Path) -> str | Looked:
    """The text of a file, line ends as they are, or why it is not looked through."""
    try:
        if path.is_symlink():
            return _skipped(path, "it is a link")
        if not path.is_file():
            return _skipped(path, "it is no file" if path.exists() else "there is no such file")
        if path.stat().st_size > MOST_BYTES:
            return _skipped(path, f"it has over {MOST_BYTES} bytes")
        with path.open("rb") as opened:
            data = opened.read(MOST_BYTES + 1)
    except OSError as error:
        return _skipped(path, f"it cannot be read: {error.strerror}")
    text = decoded(data)
    return text if text is not None else _skipped(path, "it is binary, or not in UTF-8")


def decoded(data: bytes) -> str | None:
    """Bytes as text; None where they are none, or more than are looked through."""
    if b"\0" in data[:LOOKED_AT] or len(data) > MOST_BYTES:
        return None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None


def places(text: str, found: Sequence[Finding]) -> Iterator[Place]:
    """The line and column of each finding, from 1."""
    starts = [0]
    at = text.find("\n")
    while at >= 0:
        starts.append(at + 1)
        at = text.find("\n", at + 1)
    for one in found:
        line = bisect_right(starts, one.start)
        yield Place(line, one.start - starts[line - 1] + 1, one.kind.name)


def _skipped(path: Path, why: str) -> Looked:
    return Looked(str(path), Counts(), skipped=why)


def _replace(path: Path, data: bytes) -> None:
    mode = path.stat().st_mode & 0o7777
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as opened:
            opened.write(data)
            opened.flush()
            os.fsync(opened.fileno())
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
