"""JSON schemas of manifests: what ``kernel/schemas`` takes, each fault at the line that it is written on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from agentos.control.agents.documents import Node
from agentos.control.agents.model import Problem
from agentos.control.privacy.model import ANNOTATION, Kind
from agentos.kernel.canonical import canonical
from agentos.kernel.errors import Invalid
from agentos.kernel.schemas import Fault, faults

_KINDS: Final = tuple(kind.value for kind in Kind)


def check(node: Node, problems: list[Problem]) -> dict[str, Any] | None:
    """The schema as plain data, or None with its faults added to ``problems``."""
    plain = node.plain()
    found = [Problem(_place(node, fault), fault.what, fault.then) for fault in faults(plain)]
    for each in _mappings(node):
        said = each.value.get(ANNOTATION)
        if said is not None and said.value not in _KINDS:
            what = f"'{ANNOTATION}' names no kind of personal data"
            found.append(Problem(said.place, what, f"Write {', '.join(Kind)}."))
    try:
        canonical(plain)
    except Invalid:
        return None  # the document's reader has told which value it is
    problems += found
    return None if found else plain


def _place(node: Node, fault: Fault) -> str:
    *above, last = fault.path or ("",)
    for step in above:
        node = node.value[step]
    if fault.of_key:
        return node.keys[str(last)]
    return node.value[last].place if fault.path else node.place


def _mappings(node: Node) -> Iterator[Node]:
    if isinstance(node.value, dict):
        yield node
        for below in node.value.values():
            yield from _mappings(below)
    elif isinstance(node.value, list):
        for below in node.value:
            yield from _mappings(below)
