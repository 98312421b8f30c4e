"""Nodes read as what a field may hold: known fields, texts, names, numbers, lists; every fault at its place."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence

from agentos.control.agents.documents import Node
from agentos.control.agents.model import Problem
from agentos.kernel.errors import Invalid
from agentos.kernel.ids import checked_name


def mapping(
    node: Node | None, what: str, required: Collection[str], optional: Collection[str], problems: list[Problem]
) -> dict[str, Node]:
    """The known fields of a mapping; unknown, empty and missing ones are problems."""
    if node is None:
        return {}
    if not isinstance(node.value, dict):
        problems.append(Problem(node.place, f"{what} is a mapping, not {kind(node)}", "Write 'field: value' lines."))
        return {}
    known = (*required, *(name for name in optional if name not in required))
    misspelt = set()
    for name in node.value:
        if name not in known:
            near = difflib.get_close_matches(name.lower(), {one.lower() for one in known}, n=1, cutoff=0.6)
            meant = next((one for one in known if near and one.lower() == near[0]), None)
            misspelt.add(meant)
            then = f"Did you mean '{meant}'?" if meant else f"Known here: {', '.join(known)}."
            problems.append(Problem(node.keys[name], f"unknown field '{name[:64]}' in {what}", then))
    for name in required:
        if name not in node.value and name not in misspelt:
            problems.append(Problem(node.place, f"'{name}' is missing in {what}", f"Add '{name}: …'."))
    given = {name: found for name, found in node.value.items() if name in known}
    for name, found in given.items():
        if found.value is None and name not in ("tokens", "money"):
            then = "Fill it in." if name in required else "Fill it in, or leave the line out."
            problems.append(Problem(node.keys[name], f"'{name}' is empty", then))
    return {name: found for name, found in given.items() if found.value is not None}


def below(node: Node, *names: str) -> Node | None:
    """The node at the end of these names; None where there is none."""
    found: Node | None = node
    for name in names:
        found = found.value.get(name) if found is not None and isinstance(found.value, dict) else None
    return found


def text(node: Node | None, what: str, problems: list[Problem], *, most: int) -> str:
    """A text of so many characters at most; empty where it is none."""
    if node is None:
        return ""
    value = node.written if node.written is not None and not isinstance(node.value, bool) else node.value
    if not isinstance(value, str):
        then = "Put it in quotes." if isinstance(value, bool) else "Write a text."
        problems.append(Problem(node.place, f"'{what}' is a text, not {kind(node)}", then))
        return ""
    if not value.strip():
        problems.append(Problem(node.place, f"'{what}' is empty", "Fill it in."))
    if len(value) > most:
        problems.append(Problem(node.place, f"'{what}' has {len(value)} characters, {most} at most", "Shorten it."))
    return value


def name(node: Node | None, what: str, problems: list[Problem]) -> str:
    """A name that people choose; empty where it is none."""
    before = len(problems)
    found = text(node, "name" if what == "agent" else what, problems, most=1000)
    if node is None or len(problems) > before:
        return ""
    try:
        return checked_name(found, what=what)
    except Invalid as error:
        problems.append(Problem(node.place, error.what, error.then))
        return ""


def exactly(node: Node | None, what: str, allowed: Sequence[str], problems: list[Problem]) -> str:
    """One of these texts; the first where it is none of them."""
    if node is None:
        return allowed[0]
    if isinstance(node.value, str) and node.value in allowed:
        return node.value
    problems.append(Problem(node.place, f"{what} '{said(node)}' is not known", f"Write {' or '.join(allowed)}."))
    return allowed[0]


def whole(
    given: dict[str, Node], name: str, otherwise: int | None, problems: list[Problem], *, most: int
) -> int | None:
    """The whole number of that name, from 1; ``otherwise`` where there is none."""
    node = given.get(name)
    if node is None:
        return otherwise
    if isinstance(node.value, bool) or not isinstance(node.value, int) or not 1 <= node.value <= most:
        problems.append(Problem(node.place, f"'{name}' is {kind(node)}", f"Write a whole number from 1 to {most}."))
        return otherwise
    return node.value


def items(node: Node | None, what: str, problems: list[Problem], *, most: int) -> list[Node]:
    """The entries of a list; none where it is no list or too long."""
    if node is None:
        return []
    if not isinstance(node.value, list):
        problems.append(Problem(node.place, f"'{what}' is a list, not {kind(node)}", "Begin each entry with '- '."))
        return []
    if len(node.value) > most:
        problems.append(Problem(node.place, f"there are {len(node.value)} {what}, {most} at most", "Name fewer."))
        return []
    return node.value


def kind(node: Node) -> str:
    """What a node holds, in words for people."""
    value = node.value
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return f"the text '{value[:40]}'"
    return f"the value {said(node)}"


def said(node: Node) -> str:
    """A value as people wrote it, shortened."""
    if isinstance(node.value, dict | list):
        return kind(node)
    return node.written or str(node.value)[:64]
