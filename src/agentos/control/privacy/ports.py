"""What privacy needs from outside: somebody who knows names, addresses and dates in free text."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Protocol

from agentos.control.privacy.model import Finding
from agentos.kernel.settings import BadSetting


class Recognizer(Protocol):
    """Finds in free text what no format gives away: names, addresses, birth dates.

    It runs in the process on every text that is looked through, so it is fast, raises nothing and remembers nothing.
    """

    def __call__(self, text: str) -> Iterable[Finding]:
        """What it found, in any order; it may overlap."""
        ...


def recognizer_of(named: str) -> Recognizer | None:
    """The recognizer that AGENTOS_PRIVACY_RECOGNIZER names. Raises BadSetting (Invalid)."""
    if not named:
        return None
    module, _, name = named.partition(":")
    try:
        found: Recognizer = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        raise BadSetting(
            f"AGENTOS_PRIVACY_RECOGNIZER: there is no '{named[:100]}'", then="Write MODULE:NAME of a callable."
        ) from None
    return found
