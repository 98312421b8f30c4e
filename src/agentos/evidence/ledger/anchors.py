"""Ends of chains, appended to a file outside the database and on disk before it is said that they are.

A line is an anchor and its HMAC. What a crash has torn is passed over, as if it had not been written; a line that is
one but cannot be believed was written by somebody else.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import msgspec

from agentos.evidence.ledger.model import Anchor
from agentos.kernel.errors import Unavailable
from agentos.kernel.seals import LedgerKey


class AnchorsUnusable(Unavailable):
    """The file of anchors cannot be read or written."""

    code = "anchors_unusable"


class Anchors:
    """One file of anchors. What this object has read it does not read again to tell the last ones."""

    def __init__(self, path: str | Path, key: LedgerKey) -> None:
        self.path = Path(path)
        self._key = key.anchors
        self._read_to = 0
        self._file: tuple[int, int] | None = None  # which file that was read
        self.cuts = 0  # how often the file was shorter than what had been read of it, or another one
        self._last: dict[str, Anchor] = {}

    def append(self, anchors: Iterable[Anchor]) -> None:
        """Make these durable, in one write. Raises AnchorsUnusable (Unavailable)."""
        lines = b"".join(self._line(one) for one in anchors)
        if not lines:
            return
        try:
            with open(self.path, "ab", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
                file.write((b"" if self._ends_whole() else b"\n") + lines)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise self._unusable(error) from None

    def last(self) -> dict[str, Anchor]:
        """The last anchor of each organization, as the file has it now: what is cut off is forgotten here, too.

        Raises AnchorsUnusable (Unavailable).
        """
        self._look_whether_it_was_cut()
        for offset, one in self._lines(self._read_to):
            if one is not None:
                self._last[one.org] = one
            self._read_to = offset
        return self._last

    def of(self, organization: str) -> Iterator[Anchor | None]:
        """The organization's anchors, oldest first, one at a time; None for a line of nobody's.

        Raises AnchorsUnusable (Unavailable).
        """
        return (one for _, one in self._lines(0) if one is None or one.org == organization)

    def _look_whether_it_was_cut(self) -> None:
        try:
            found = self.path.stat()
            file, size = (found.st_dev, found.st_ino), found.st_size
        except FileNotFoundError:
            file, size = None, 0
        except OSError as error:
            raise self._unusable(error) from None
        if self._read_to and (file != self._file or size < self._read_to):
            self._read_to, self._last = 0, {}
            self.cuts += 1
        self._file = file

    def _lines(self, offset: int) -> Iterator[tuple[int, Anchor | None]]:
        try:
            with self.path.open("rb") as file:
                file.seek(offset)
                for line in file:
                    if not line.endswith(b"\n"):  # under way, or torn by a crash
                        return
                    offset += len(line)
                    found = _read(line)
                    if found is not None:
                        one = Anchor(found.org, found.number, found.hash, found.at)
                        yield offset, one if hmac.compare_digest(self._line(one), line) else None
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._unusable(error) from None

    def _line(self, one: Anchor) -> bytes:
        told = msgspec.json.encode(asdict(one))
        return msgspec.json.encode({**asdict(one), "mac": hmac.digest(self._key, told, "sha256").hex()}) + b"\n"

    def _ends_whole(self) -> bool:
        with self.path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            if size == 0:
                return True
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"

    def _unusable(self, error: OSError) -> AnchorsUnusable:
        said = error.strerror or type(error).__name__
        return AnchorsUnusable(
            f"the file of anchors cannot be used: {said}",
            where=str(self.path),
            then="Set AGENTOS_LEDGER_ANCHORS to a file that this user may append to.",
        )


class _Line(msgspec.Struct):
    org: str
    number: int
    hash: str
    at: datetime
    mac: str


def _read(line: bytes) -> _Line | None:
    try:
        return msgspec.json.decode(line, type=_Line)
    except msgspec.DecodeError:
        return None
