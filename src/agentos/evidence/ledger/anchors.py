"""Ends of chains, written to files outside the database and on disk before it is said that they are.

A line is an anchor, its number and that of the line before it, and their HMAC: so a line that is lost shows, wherever
it stood. What a crash or a full disk has torn is counted, and what follows it fits what stood before. A line that is
one but cannot be believed was written by somebody else.

A file does not grow for ever: when it is full, its older half is thinned, again and again, so that it tells of the last
hours closely and of all before ever more coarsely. As an entry proves those before it, nothing is proven less by that.
"""

from __future__ import annotations

import fcntl
import hmac
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import quote, unquote

import msgspec

from agentos.evidence.ledger.model import SET_ASIDE, Anchor
from agentos.kernel.errors import Unavailable
from agentos.kernel.seals import LedgerKey, LedgerKeys

FULL: Final = 1_000_000  # bytes of a file, some 4,000 anchors: what a busy organization has in five hours
_LONGEST: Final = 4096  # bytes of a line; ours have 300
_TAIL: Final = 2 * _LONGEST  # where the last line is looked for first
_AT_ONCE: Final = 100  # files that are open at once, so that they share the disk's flush
_SUFFIX: Final = ".jsonl"


class AnchorsUnusable(Unavailable):
    """Files of anchors cannot be read or written."""

    code = "anchors_unusable"


class Line(msgspec.Struct, frozen=True):
    """An anchor as it is written down."""

    org: str
    serial: int  # of the organization's anchors, from 1 on
    after: int  # the serial of the line before; 0: it is the first
    number: int
    hash: str
    at: datetime
    key_id: str  # of the key that the line is protected by
    mac: str = ""

    def anchor(self) -> Anchor:
        """Without what protects it."""
        return Anchor(self.org, self.number, self.hash, self.at)


@dataclass(frozen=True, slots=True)
class History:
    """The anchors of an organization as they stand, oldest first, up to the first thing that is wrong with them."""

    anchors: tuple[Anchor, ...]
    torn: int = 0  # lines that were not written to their end
    absent: frozenset[str] = frozenset()  # keys that are not there, and by which others stand here unread
    wrong: str = ""


class Anchors:
    """A folder of anchors, a file for each organization. What it has read it reads again when the file has changed."""

    def __init__(self, folder: str | Path, keys: LedgerKeys) -> None:
        self.folder = Path(folder)
        self._keys = keys
        self._last: dict[str, Line] = {}  # as the files have them
        self._seen: dict[str, int] = {}  # the highest serial that was ever there
        self._read: dict[str, tuple[int, int, int]] = {}  # which file was read, its size, and when it had changed
        self._unsure: set[str] = set()  # organizations whose last line may not be on disk
        self.cuts = 0  # how often a file had lost what was read of it
        self.torn = 0  # lines that were found torn when another was added

    def file(self, organization: str) -> Path:
        """The file of an organization, whatever its name holds."""
        return self.folder / f"{quote(organization, safe='')}{_SUFFIX}"

    def append(self, anchors: Iterable[Anchor]) -> None:
        """Make these durable. One that cannot be written keeps back no other. Raises AnchorsUnusable (Unavailable)."""
        waiting, failed = list(anchors), None
        if not waiting:
            return
        with self._alone():
            while waiting:
                some, waiting = waiting[:_AT_ONCE], waiting[_AT_ONCE:]
                with ExitStack() as opened:
                    files = []
                    for one in some:
                        try:
                            files.append((one.org, opened.enter_context(self._written(one))))
                        except OSError as error:
                            failed = failed or error
                    for org, file in files:
                        try:
                            os.fsync(file.fileno())
                            self._unsure.discard(org)
                        except OSError as error:  # the system may take the page for written from now on
                            self._unsure.add(org)
                            failed = failed or error
                for one in some:
                    try:
                        self._thin(one.org)
                    except OSError as error:
                        failed = failed or error
            self._flush_names()
        if failed is not None:
            raise self._unusable(failed)

    def last(self) -> tuple[dict[str, Anchor], AnchorsUnusable | None]:
        """The last anchor of each organization, as the files have it now, and what kept others from being read.

        One that did not reach the disk is none, so that it is written again.
        """
        found, failed = {}, None
        try:
            names = [file.name for file in self.folder.iterdir() if file.name.endswith(_SUFFIX)]
        except FileNotFoundError:
            names = []
        except OSError as error:
            return {}, self._unusable(error)
        for org in {*(unquote(name.removesuffix(_SUFFIX)) for name in names), *self._last}:
            try:
                if (line := self._newest(org)) is not None and org not in self._unsure:
                    found[org] = line.anchor()
            except OSError as error:
                failed = failed or self._unusable(error)
        return found, failed

    def of(self, organization: str) -> History:
        """The organization's anchors. Raises AnchorsUnusable (Unavailable)."""
        try:
            lines, told = self._look(organization)
        except OSError as error:
            raise self._unusable(error) from None
        return replace(told, anchors=tuple(line.anchor() for line in lines if self._keys.of(line.key_id) is not None))

    def _newest(self, org: str) -> Line | None:
        """The last line that can be believed; counts when one that was known is gone."""
        try:
            found = self.file(org).stat()
            stamp = (found.st_ino, found.st_size, found.st_mtime_ns)
        except FileNotFoundError:
            stamp = (0, 0, 0)
        if stamp == self._read.get(org):
            return self._last.get(org)
        newest, serial = self._tail(org)
        self._read[org] = stamp
        self._seen[org] = max(serial, self._seen.get(org, 0))
        known = self._last.pop(org, None)
        if newest is not None:
            self._last[org] = newest
        if known is not None and (newest is None or newest.serial < known.serial):
            self.cuts += 1
        return newest

    def _tail(self, org: str) -> tuple[Line | None, int]:
        """The last line that can be believed, and the last serial, which may be of one whose key is absent."""
        serial = 0
        try:
            with self.file(org).open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - _TAIL))
                for line in reversed(file.read().splitlines(keepends=True)):
                    if (found := self._believed(org, line)) is not None:
                        serial = serial or found.serial
                        if self._keys.of(found.key_id) is not None:
                            return found, serial
        except FileNotFoundError:
            return None, 0
        lines = self._look(org)[0] if size > _TAIL else []
        known = (line for line in reversed(lines) if self._keys.of(line.key_id) is not None)
        return next(known, None), lines[-1].serial if lines else serial

    def _look(self, org: str) -> tuple[list[Line], History]:
        """The lines of a file up to the first that is wrong, those of absent keys, too, and what there is to tell."""
        lines: list[Line] = []
        torn, absent = 0, set[str]()

        def told(wrong: str = "") -> tuple[list[Line], History]:
            return lines, History((), torn, frozenset(absent), wrong)

        try:
            with self.file(org).open("rb") as file:
                while raw := file.readline(_LONGEST):
                    if not raw.endswith(b"\n") or _decoded(raw) is None:
                        torn += 1
                        continue
                    line = self._believed(org, raw)
                    if line is None:
                        return told("the file of anchors holds a line that was not written here")
                    if line.after != (lines[-1].serial if lines else 0):
                        since = f"behind that of entry {lines[-1].number}" if lines else "from the first on"
                        upto = f"up to that of entry {line.number} at {line.at.isoformat()}"
                        return told(f"anchors are missing, {since}, {upto}: the file was cut or changed")
                    if self._keys.of(line.key_id) is None:
                        absent.add(line.key_id)
                    lines.append(line)
        except FileNotFoundError:
            pass
        return told()

    @contextmanager
    def _written(self, one: Anchor) -> Iterator[BinaryIO]:
        """The file, open, with the anchor at its end; the disk may not have it yet."""
        self._newest(one.org)
        after = self._seen.get(one.org, 0)  # also where it was cut off: that shows by what follows it
        key = self._keys.now
        line = _kept(key, Line(one.org, after + 1, after, one.number, one.hash, one.at, key.id))
        with open(self.file(one.org), "ab", buffering=0, opener=_private) as file:
            is_torn = not _ends_whole(self.file(one.org))
            self.torn += is_torn
            raw = (b"\n" if is_torn else b"") + msgspec.json.encode(line) + b"\n"
            if file.write(raw) != len(raw):
                raise OSError(0, "the disk took a part of a line")
            yield file
        self._last[one.org], self._seen[one.org] = line, line.serial

    def _thin(self, org: str) -> None:
        """Keep every second line of a full file's older half. One with something wrong or unread stays as it is."""
        path = self.file(org)
        if not path.exists() or path.stat().st_size < FULL:
            return
        lines, told = self._look(org)
        if told.wrong or told.absent:
            return
        half = len(lines) // 2
        aside = next((at for at, line in enumerate(lines[:half]) if line.hash == SET_ASIDE), -1)  # evidence, too
        kept = [*(line for at, line in enumerate(lines[:half]) if at % 2 == 0 or at == aside), *lines[half:]]
        new = path.with_suffix(".new")
        try:
            with open(new, "wb", opener=_private) as file:
                before = 0
                for line in kept:
                    key = self._keys.of(line.key_id) or self._keys.now
                    file.write(msgspec.json.encode(_kept(key, msgspec.structs.replace(line, after=before))) + b"\n")
                    before = line.serial
                file.flush()
                os.fsync(file.fileno())
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)

    def _believed(self, org: str, raw: bytes) -> Line | None:
        """A line as it was written, or one whose key is absent."""
        line = _decoded(raw)
        if line is None or line.org != org:
            return None
        key = self._keys.of(line.key_id)
        return line if key is None or hmac.compare_digest(_kept(key, line).mac, line.mac) else None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time adds anchors, so that each says rightly which is before it."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise self._unusable(error) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _flush_names(self) -> None:
        try:
            folder = os.open(self.folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise self._unusable(error) from None

    def _unusable(self, error: OSError) -> AnchorsUnusable:
        said = error.strerror or type(error).__name__
        return AnchorsUnusable(
            f"anchors cannot be used: {said}",
            where=str(error.filename or self.folder),
            then="Set AGENTOS_LEDGER_ANCHORS to a folder that this user may write to.",
        )


def _kept(key: LedgerKey, line: Line) -> Line:
    told = msgspec.json.encode(msgspec.structs.replace(line, mac=""))
    return msgspec.structs.replace(line, mac=hmac.digest(key.anchors, told, "sha256").hex())


def _private(name: str, flags: int) -> int:
    return os.open(name, flags, 0o600)


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _decoded(raw: bytes) -> Line | None:
    try:
        return msgspec.json.decode(raw, type=Line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
