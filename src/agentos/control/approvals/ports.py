"""What approvals need from outside: which arguments of a skill are personal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Schemas(Protocol):
    """The schemas of the skills that are loaded."""

    def input_schema(self, name: str, version: str) -> Mapping[str, Any] | None:
        """The schema of a skill's arguments: another version's where that one is not loaded, None where none is."""
        ...
