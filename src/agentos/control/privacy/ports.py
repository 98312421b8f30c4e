"""What privacy needs from outside: somebody who knows names, addresses and dates in free text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from agentos.control.privacy.model import Finding


class Recognizer(Protocol):
    """Finds in free text what no format gives away: names, addresses, birth dates.

    It runs in the process on every text that is looked through, so it is fast, raises nothing and remembers nothing.
    """

    def __call__(self, text: str) -> Iterable[Finding]:
        """What it found, in any order; it may overlap."""
        ...
