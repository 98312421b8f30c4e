"""Files with secret keys that belong to one user alone (0600): made once, and replaced whole or not at all."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def made_once(path: Path, content: bytes) -> bool:
    """Make sure that the file (0600) is there. True when it was made with this; one that is there is never replaced."""
    if path.exists():
        return False
    new = _written(path, content)
    try:
        path.hardlink_to(new)
    except FileExistsError:  # somebody made it meanwhile: theirs is the key
        return False
    finally:
        new.unlink()
    return True


def replaced(path: Path, content: bytes) -> None:
    """Put this in the place of the file (0600), whole or not at all; it stays with whom it belongs to."""
    was = path.stat()
    new = _written(path, content)
    try:
        if (was.st_uid, was.st_gid) != (new.stat().st_uid, new.stat().st_gid):
            os.chown(new, was.st_uid, was.st_gid)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Let one process at a time change files beside this one."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _written(path: Path, content: bytes) -> Path:
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    with open(new, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return new
