"""One log per service, bounded: a log over the limit keeps its last part as NAME.log.1 and starts again."""

from __future__ import annotations

import shutil
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

LIMIT_BYTES = 10_000_000  # two files each: about 150 MB for a stack of seven services


def rotate(log: Path, limit_bytes: int = LIMIT_BYTES) -> None:
    """Bound a log, also while its service writes to it. Lines written during the copy may be lost.

    The service holds the file open and appends, so it is copied and truncated, not renamed: a rename would need every
    service to open its log again on a signal.
    """
    try:
        if log.stat().st_size <= limit_bytes:
            return
    except FileNotFoundError:
        return
    old = log.with_suffix(".log.1")
    try:
        shutil.copyfile(log, old)
        old.chmod(0o600)
    except OSError:  # the disk is full: staying bounded matters more than the past
        old.unlink(missing_ok=True)
    with log.open("r+b") as current:
        current.truncate(0)


def tail(log: Path, lines: int) -> list[str]:
    """The last lines of a log."""
    if not log.exists():
        return []
    with log.open(encoding="utf-8", errors="replace") as text:
        return [line.rstrip("\n") for line in deque(text, maxlen=lines)]


def follow(log: Path, *, pause_seconds: float = 0.2) -> Iterator[str]:
    """Lines as they are written from now on, through rotations. Never ends by itself."""
    position = log.stat().st_size if log.exists() else 0
    rest = ""
    while True:
        if log.exists():
            if log.stat().st_size < position:
                position = 0
            with log.open("rb") as data:
                data.seek(position)
                chunk = data.read(1_000_000)
            position += len(chunk)
            *whole, rest = (rest + chunk.decode(errors="replace")).split("\n")
            yield from whole
            if chunk:
                continue
        time.sleep(pause_seconds)
