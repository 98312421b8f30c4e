"""What the platform's home folder holds for the command line."""

from __future__ import annotations

from pathlib import Path


def credentials_file(home: Path) -> Path:
    """Where the keys of the command line are; private to its owner (0600)."""
    return home / "credentials"
