"""A recognizer that knows what is listed in a file, and nothing else: your staff's names, your sites' addresses.

It understands no language: 'Ann Lee' is found where just that stands, in any case, and 'Lee, Ann' is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

from agentos.adapters.recognizers.settings import ListedSettings
from agentos.control.privacy.model import Finding, Kind
from agentos.kernel.settings import BadSetting

MOST_ENTRIES: Final = 10_000  # a list is tried at every place of a text


def listed(text: str) -> Iterator[Finding]:
    """What of the list stands in the text. Raises BadSetting (Invalid) with the first text when there is no list."""
    for kind, pattern in _patterns(ListedSettings.read().file):
        for found in pattern.finditer(text):
            yield Finding(found.start(), found.end(), kind)


@cache
def _patterns(file: str) -> tuple[tuple[Kind, re.Pattern[str]], ...]:
    words: dict[Kind, list[str]] = {}
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines() if file else []
    except (OSError, UnicodeDecodeError) as error:
        raise BadSetting(f"AGENTOS_PRIVACY_LIST cannot be read: {error}", then="Name a file of UTF-8.") from None
    for number, line in enumerate(lines, 1):
        kind, _, said = line.partition(":")
        if line.strip() and not line.startswith("#"):
            if kind.strip() not in tuple(Kind) or not said.strip():
                raise BadSetting(f"AGENTOS_PRIVACY_LIST, line {number}: no 'kind: words'", then="As 'name: Ann Lee'.")
            words.setdefault(Kind(kind.strip()), []).append(said.strip())
    if not words or sum(map(len, words.values())) > MOST_ENTRIES:
        raise BadSetting(
            "the recognizer 'listed' has no list, or one that is too long",
            then=f"Set AGENTOS_PRIVACY_LIST to a file of 1 to {MOST_ENTRIES} lines.",
        )
    return tuple(
        (kind, re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, sorted(said, key=len, reverse=True)))})(?!\w)", re.I))
        for kind, said in words.items()
    )
