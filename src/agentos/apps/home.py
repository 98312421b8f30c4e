"""What the platform's home folder holds for the command line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

DEFAULT: Final = Path(".agentos")


def home_folder() -> Path:
    """The folder that AGENTOS_HOME names. Read without the other settings, whose machinery most commands never need."""
    return Path(os.environ.get("AGENTOS_HOME", DEFAULT))


def credentials_file(home: Path) -> Path:
    """Where the keys of the command line are; private to its owner (0600)."""
    return home / "credentials"
