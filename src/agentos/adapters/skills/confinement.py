"""Files stay under the declared roots, also against someone who swaps a folder for a link between check and use.

A path is resolved first, links included, and must then lie under a root. It is opened by walking down from that root
one name at a time, following no link: what was resolved holds none, so a link met on the way was put there meanwhile.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agentos.kernel.errors import Forbidden, Invalid, NotFound

MAX_PATH: Final = 4096  # Linux' own limit (PATH_MAX)


class PathOutsideRoots(Forbidden):
    """A path leads to a place outside the folders that skills may use."""

    code = "path_outside_roots"


class PathProtected(Forbidden):
    """A path lies in a folder that tells programs what to run, or in the skills' own records."""

    code = "path_protected"


class PathMalformed(Invalid):
    """A path that no file can have, or that is of the wrong kind: a folder, a pipe, a device."""

    code = "path_malformed"


class FileMissing(NotFound):
    """There is no file or folder at the path."""

    code = "file_missing"


class FileRefused(Forbidden):
    """The operating system does not let the worker open the file."""

    code = "file_refused"


@dataclass(frozen=True, slots=True)
class Place:
    """A path under a root: where it really is. ``names`` lead from the root to it; none means the root itself."""

    root: Path
    names: tuple[str, ...]

    @property
    def path(self) -> Path:
        """The whole path, free of links."""
        return self.root.joinpath(*self.names)


def confined(path: str, roots: Sequence[Path]) -> Place:
    """Where a path really is, under one of the roots. A relative path starts at the first root.

    Raises PathOutsideRoots (Forbidden) when it leads elsewhere, by ``..``, by a link or by being absolute;
    PathMalformed (Invalid) for what no file can be called.
    """
    if not roots:
        raise PathOutsideRoots("this process has no folders that skills may use", then="Declare roots for the workers.")
    if not path or len(path) > MAX_PATH or any(c < " " or "\ud800" <= c <= "\udfff" for c in path):
        raise PathMalformed(f"'{path[:80]!a}' is not a path")
    real_roots = [Path(os.path.realpath(root)) for root in roots]
    try:
        real = Path(os.path.realpath(real_roots[0] / path))
    except (OSError, ValueError) as error:  # names that are too long, links in a circle
        raise PathMalformed(f"'{path[:80]}' cannot be resolved: {error}") from None
    for root in real_roots:
        if real.is_relative_to(root):
            return Place(root, real.relative_to(root).parts)
    raise PathOutsideRoots(
        f"'{path[:200]}' is outside the folders that skills may use", then="Use a path under one of the declared roots."
    )


def under(real: Path, roots: Sequence[Path]) -> bool:
    """Whether a path that is free of links lies under one of the roots."""
    return any(real.is_relative_to(os.path.realpath(root)) for root in roots)


@contextmanager
def folder(place: Place, names: Sequence[str], *, create: bool = False) -> Iterator[int]:
    """A descriptor of the folder that ``names`` lead to from the place's root; folders on the way are made if asked.

    Raises PathOutsideRoots when a link turned up on the way, FileMissing when the folder does not exist.
    """
    # O_PATH: to pass through a folder needs no right to list it; but such a descriptor cannot be flushed to disk.
    flags = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_RDONLY if create else os.O_PATH)
    with refusals(place):
        at = os.open(place.root, flags)
        try:
            for name in names:
                if create:
                    with suppress(FileExistsError):
                        os.mkdir(name, 0o755, dir_fd=at)
                        os.fsync(at)
                below = os.open(name, flags, dir_fd=at)
                os.close(at)
                at = below
            yield at
        finally:
            os.close(at)


@contextmanager
def refusals(place: Place) -> Iterator[None]:
    """Turn what the operating system says of a path into our kinds. What is not about the path passes unchanged."""
    try:
        yield
    except FileNotFoundError:
        raise FileMissing(f"there is nothing at '{place.path}'") from None
    except PermissionError:
        raise FileRefused(f"the worker may not open '{place.path}'", then="Check its owner and mode.") from None
    except IsADirectoryError:
        raise PathMalformed(f"'{place.path}' is a folder, not a file") from None
    except NotADirectoryError:  # with O_DIRECTORY | O_NOFOLLOW a link looks like this as well
        raise PathMalformed(f"a part of '{place.path}' is not a folder") from None
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link where resolving found none
            raise PathOutsideRoots(f"'{place.path}' became a link while it was opened") from None
        if error.errno in (errno.ENXIO, errno.ENAMETOOLONG):  # ENXIO: a pipe or socket without another side
            raise PathMalformed(f"'{place.path}' is not a regular file or too long a name") from None
        raise
