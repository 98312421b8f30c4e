"""How a generated page is written."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import TypeVar

E = TypeVar("E", bound=Enum)


HEADER = "<!-- Written by `make docs` from the code. Do not edit. -->\n"


def told(kind: type[E]) -> dict[E, str]:
    """The members of an enum, each with the comment that stands beside it."""
    told = re.findall(r"^    (\w+) = \S+  # (.*)$", inspect.getsource(kind), re.MULTILINE)
    return {kind[name]: words for name, words in told}


def page(body: Iterable[str]) -> str:
    """A whole page."""
    return "\n".join([HEADER, *body]).rstrip("\n") + "\n"


def table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table, whatever stands in its cells."""
    lines = [f"| {' | '.join(names)} |", "|" + "---|" * len(names)]
    for row in rows:
        cells = (" ".join(cell.replace("|", "\\|").split()) for cell in row)
        lines.append(f"| {' | '.join(cells)} |")
    return ["\n".join(lines) + "\n"]


def code(text: str) -> str:
    """A text in the form of code; nothing of nothing."""
    return f"`{text}`" if text else ""


def guarantee(documented: type) -> str:
    """The first sentence or line of a docstring: by our convention it says what is guaranteed."""
    return (documented.__doc__ or "").strip().partition("\n\n")[0].replace("\n", " ").replace("``", "`")
