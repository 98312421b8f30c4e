"""Write a text file under the declared roots, once per key.

How a key is remembered. A write goes through three states, each safe to be killed in:

1. the text lies in a part file beside the target, whose name holds the key, flushed to disk;
2. a record of the key lies in ``.agentos-writes`` of the root, flushed to disk;
3. the part file is renamed over the target, and the folder flushed.

A call that finds the record and no part file knows that the rename happened, and returns what the record says without
touching the target; so a repeated early key never undoes a later write by another. With a part file left over, the
rename did not happen and the call starts again. Writes in one root wait for each other (a lock on the records' folder).

Records are small and stay; those older than the runs that made them may be deleted at any time.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, Final

from pydantic import Field
from typing_extensions import TypedDict

from agentos.adapters.skills.confinement import (
    MAX_PATH,
    FileMissing,
    PathMalformed,
    PathProtected,
    Place,
    confined,
    folder,
)
from agentos.kernel.clock import elapsed
from agentos.kernel.errors import Conflict, Unavailable
from agentos.runtime.skills import SkillContext, skill

MOST_CHARACTERS: Final = 4 * 1024 * 1024  # a model writes at most ~0.5 MB at once; a transformation may write more
RECORDS: Final = ".agentos-writes"
PROTECTED: Final = frozenset({".git", ".agentos", RECORDS})  # a hook or a git setting is a program that somebody runs


class DiskFull(Unavailable):
    """There is no room on the disk, or none left for this user."""

    code = "disk_full"


class KeyReused(Conflict):
    """The same key came with another path or text before."""

    code = "key_reused"


class WriteLate(Unavailable):
    """The turn of a write came only after its caller had stopped waiting, so it was not made."""

    code = "write_late"


class Written(TypedDict):
    """What was written. ``replaced_sha256`` is of the content that was there before, if there was any."""

    path: str
    bytes: int
    sha256: str
    replaced_sha256: str | None


# S2: it may replace the content of any file under the roots. Compensable, not reversible: the old content is not kept.
@skill(version="1", effect="S2", reversibility="compensable", idempotent=True, timeout="30s")
def file_write(
    context: SkillContext,
    path: Annotated[str, Field(max_length=MAX_PATH, description="Path of the file, absolute or from the first root.")],
    text: Annotated[str, Field(max_length=MOST_CHARACTERS, description="The whole content of the file.")],
) -> Written:
    """Write a text file (UTF-8), replacing what was there. Readers see the old content or the new, never a part."""
    deadline = elapsed() + context.timeout.total_seconds()
    place = confined(path, context.roots)
    if not place.names:
        raise PathMalformed(f"'{place.path}' is a folder, not a file")
    if taken := PROTECTED.intersection(name.casefold() for name in place.names):
        raise PathProtected(f"'{place.path}' is in '{sorted(taken)[0]}', where skills do not write")
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise PathMalformed("the text holds half a character (a lone surrogate)") from None
    key = hashlib.sha256(f"{context.organization}\n{context.key}".encode()).hexdigest()
    try:
        with _records(place) as records:
            # A thread cannot be stopped from outside: one whose caller has given up must not write after all.
            if elapsed() >= deadline:
                raise WriteLate(f"'{place.path}' was not written: other writes took too long")
            return _write_once(place, data, key, records)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"there is no room to write '{place.path}'", then="Free space on that disk.") from None
        if error.errno == errno.EROFS:
            raise Unavailable(f"'{place.path}' is on a disk that is mounted read-only") from None
        raise


def _write_once(place: Place, data: bytes, key: str, records: int) -> Written:
    name, part, record = place.names[-1], f".{key[:32]}.part", f"{key}.json"
    sha256 = hashlib.sha256(data).hexdigest()
    done = _read_record(record, records)
    if done is not None and (done["path"], done["sha256"]) != (str(place.path), sha256):
        raise KeyReused("this key was used for another path or text", where=str(place.path))
    if done is not None and not _left_over(part, place):
        return done
    with folder(place, place.names[:-1], create=True) as parent:
        replaced, mode = _before(name, parent, place)
        written: Written = {
            "path": str(place.path),
            "bytes": len(data),
            "sha256": sha256,
            "replaced_sha256": replaced if done is None else done["replaced_sha256"],
        }
        try:
            _put(part, data, mode, parent)
            if done is None:
                _put(f"{record}.part", json.dumps(written).encode(), 0o644, records)
                os.rename(f"{record}.part", record, src_dir_fd=records, dst_dir_fd=records)
                os.fsync(records)
            os.rename(part, name, src_dir_fd=parent, dst_dir_fd=parent)
        except OSError:
            # The record goes first: a record without a part file would mean that the write was done.
            _remove(f"{record}.part", records)
            _remove(record, records)
            os.fsync(records)
            _remove(part, parent)
            raise
        os.fsync(parent)
    return written


@contextmanager
def _records(place: Place) -> Iterator[int]:
    """A descriptor of the folder of records, locked against every other write in this root until it is given back."""
    with folder(place, (RECORDS,), create=True) as at:
        fcntl.flock(at, fcntl.LOCK_EX)
        if not _exists(".gitignore", at):
            _put(".gitignore", b"*\n", 0o644, at)  # a root may be a checkout; its owner wants none of this in it
        yield at


def _read_record(name: str, records: int) -> Written | None:
    try:
        with os.fdopen(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=records), "rb") as file:
            written: Written = json.load(file)
            return written
    except FileNotFoundError:
        return None


def _left_over(part: str, place: Place) -> bool:
    try:
        with folder(place, place.names[:-1]) as parent:
            return _exists(part, parent)
    except FileMissing:  # the folder was taken away since
        return False


def _before(name: str, parent: int, place: Place) -> tuple[str | None, int]:
    """Digest and mode of the file that is about to be replaced."""
    if not _exists(name, parent):
        return None, 0o644
    if not stat.S_ISREG(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
        raise PathMalformed(f"'{place.path}' is not a regular file")
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with os.fdopen(os.open(name, flags, dir_fd=parent), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), os.fstat(file.fileno()).st_mode & 0o777


def _put(name: str, data: bytes, mode: int, at: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(name, flags, 0o600, dir_fd=at), "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _exists(name: str, at: int) -> bool:
    try:
        os.stat(name, dir_fd=at, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _remove(name: str, at: int) -> None:
    with suppress(OSError):
        os.unlink(name, dir_fd=at)
