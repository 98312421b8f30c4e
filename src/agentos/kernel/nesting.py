"""How deep JSON may nest that we keep as it comes."""

from __future__ import annotations

from typing import Any, Final

MOST_DEPTH: Final = 64  # people nest a few, a parser's stack ends at a thousand


def shallow(value: Any) -> Any:
    """The value, when it nests no deeper than we keep it. Raises ValueError."""
    left: list[tuple[Any, int]] = [(value, 1)]
    while left:
        one, depth = left.pop()
        if isinstance(one, (dict, list)):
            if depth > MOST_DEPTH:
                raise ValueError(f"nested deeper than {MOST_DEPTH}")
            left.extend((inner, depth + 1) for inner in (one.values() if isinstance(one, dict) else one))
    return value
