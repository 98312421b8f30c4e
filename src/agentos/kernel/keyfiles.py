"""Files with a secret key that belong to one user alone (0600) and are made once."""

from __future__ import annotations

import os
from pathlib import Path


def made_once(path: Path, content: bytes) -> bool:
    """Make sure that the file (0600) is there. True when it was made with this; one that is there is never replaced."""
    if path.exists():
        return False
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    with open(new, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    try:
        path.hardlink_to(new)
    except FileExistsError:  # somebody made it meanwhile: theirs is the key
        return False
    finally:
        new.unlink()
    return True
