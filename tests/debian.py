"""Programs of Debian packages, unpacked by tools/debian.sh, or installed on the machine."""

from __future__ import annotations

import shutil
from pathlib import Path

UNPACKED = Path(__file__).parent.parent / "build" / "debian" / "usr" / "bin"


def program(name: str) -> str | None:
    """The path of a program, or None where this machine has none. Tests that need it say so: ``@debian(name)``."""
    return shutil.which(name, path=str(UNPACKED)) or shutil.which(name)
