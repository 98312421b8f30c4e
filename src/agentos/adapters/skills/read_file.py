"""Read a text file under the declared roots."""

from __future__ import annotations

import hashlib
import os
import stat
from typing import Annotated, Final

from pydantic import Field
from typing_extensions import TypedDict

from agentos.adapters.skills.confinement import MAX_PATH, PathMalformed, confined, folder, refusals
from agentos.kernel.errors import Invalid
from agentos.runtime.skills import SkillContext, skill

DEFAULT_BYTES: Final = 1024 * 1024  # 1 MiB of text is ~250,000 tokens: more than a model reads at once
MOST_BYTES: Final = 8 * 1024 * 1024


class FileTooLarge(Invalid):
    """A file is larger than the call allows."""

    code = "file_too_large"


class NotText(Invalid):
    """A file is not text in UTF-8."""

    code = "not_text"


class Text(TypedDict):
    """A file's text. ``sha256`` is of its bytes."""

    path: str
    text: str
    bytes: int
    sha256: str


@skill(version="1", effect="S0", timeout="30s")
def read_file(
    context: SkillContext,
    path: Annotated[str, Field(max_length=MAX_PATH, description="Path of the file, absolute or from the first root.")],
    max_bytes: Annotated[int, Field(ge=1, le=MOST_BYTES, description="Largest file that is read.")] = DEFAULT_BYTES,
) -> Text:
    """Read a text file (UTF-8). It is read whole or not at all; what lies outside the declared folders is refused."""
    place = confined(path, context.roots)
    if not place.names:
        raise PathMalformed(f"'{place.path}' is a folder, not a file")
    with folder(place, place.names[:-1]) as parent, refusals(place):
        # Looked at before it is opened: opening a pipe waits, opening a device may do something.
        if not stat.S_ISREG(os.stat(place.names[-1], dir_fd=parent, follow_symlinks=False).st_mode):
            raise PathMalformed(f"'{place.path}' is not a regular file")
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with os.fdopen(os.open(place.names[-1], flags, dir_fd=parent), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise PathMalformed(f"'{place.path}' is not a regular file")
            data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise FileTooLarge(f"'{place.path}' is larger than {max_bytes} bytes", then="Raise max_bytes, up to 8 MiB.")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise NotText(f"'{place.path}' is not text in UTF-8") from None
    if "\0" in text:
        raise NotText(f"'{place.path}' holds NUL bytes: it is not text")
    return {"path": str(place.path), "text": text, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
