"""Documents whose every part knows where it was written: YAML from files, or JSON from a request.

Reading is bounded whatever the input: in bytes, in depth, and in parts with every alias counted as what it stands for.
Only plain data comes out, in the types of JSON; a date stays the text that was written.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import yaml
from yaml.reader import ReaderError

from agentos.control.agents.model import Problem

MOST_BYTES: Final = 1024 * 1024  # of a file; also the limit of a request's body
MOST_DEPTH: Final = 64  # ten times what the deepest JSON schemas that people write need
MOST_PARTS: Final = 50_000  # a manifest of 64 skills and a 300-line schema has under 3,000
MOST_NUMBER: Final = 2**53 - 1  # beyond it JSON readers disagree, and RFC 8785 has no form for integers

_YAML: Final = "tag:yaml.org,2002:"
_TEXTS: Final = {_YAML + "str", _YAML + "timestamp", _YAML + "value"}


@dataclass(frozen=True, slots=True)
class Node:
    """A part of a document. ``value`` is a text, number, bool, None, a list of nodes, or a dict of nodes."""

    value: Any
    place: str  # file:line:column, or the path
    path: str  # documents[0].spec.tier
    written: str | None = None  # a bare number or date of YAML as it was written: version 1.10 is not 1.1
    keys: Mapping[str, str] = field(default_factory=dict)  # the place of each key of a dict

    def plain(self) -> Any:
        """The part as plain JSON data."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def places(self) -> dict[str, str]:
        """Where this part and all below it are written, by path."""
        found = {self.path: self.place}
        below = self.value.values() if isinstance(self.value, dict) else self.value
        if isinstance(self.value, dict | list):
            for node in below:
                found |= node.places()
        return found


class _Unreadable(Exception):
    """Reading cannot go on after this problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def from_yaml(data: bytes, name: str, problems: list[Problem], *, first: int = 0) -> list[Node]:
    """The documents of a file, their paths counted from ``first``; faults are added to ``problems``."""
    try:
        return _Reading(name, problems).documents(data, first)
    except _Unreadable as error:
        problems.append(error.problem)
        return []


def from_json(data: Any, path: str, problems: list[Problem]) -> Node | None:
    """A document out of a request; faults are added to ``problems``."""
    try:
        return _Reading("", problems).json(data, path, 0)
    except _Unreadable as error:
        problems.append(error.problem)
        return None


class _Loader(yaml.SafeLoader):
    """Composes nodes, refusing depth before it can exhaust the stack."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.depth >= MOST_DEPTH:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # the stubs know no better
            raise yaml.MarkedYAMLError(problem=f"this is nested more than {MOST_DEPTH} deep", problem_mark=mark)
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


class _Reading:
    def __init__(self, name: str, problems: list[Problem]) -> None:
        self.name = name
        self.problems = problems
        self.parts = 0

    def documents(self, data: bytes, first: int) -> list[Node]:
        if len(data) > MOST_BYTES:
            raise self._stop(f"{self.name}:1:1", f"the file is over {MOST_BYTES} bytes", "Split it.")
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            before = data[: error.start]
            line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
            raise self._stop(
                f"{self.name}:{line}:{column}", "this byte is not UTF-8", "Save the file as UTF-8."
            ) from None
        found: list[Node] = []
        try:
            loader = _Loader(text)
            while loader.check_node():
                node = loader.get_node()
                if node is not None and not _absent(node):
                    found.append(self.composed(node, f"documents[{first + len(found)}]", 0))
        except ReaderError as error:
            before_it = text[: error.position]
            line, column = before_it.count("\n") + 1, error.position - before_it.rfind("\n")
            code = error.character if isinstance(error.character, int) else ord(str(error.character)[:1] or "?")
            raise self._stop(
                f"{self.name}:{line}:{column}", f"character U+{code:04X} is not allowed in YAML", "Remove it."
            ) from None
        except yaml.MarkedYAMLError as error:
            what = (error.problem or "this is not YAML").replace("\n", " ")
            context = f" {error.context}" if error.context else ""
            raise self._stop(
                self._place(error.problem_mark or error.context_mark), what + context, "Mend the YAML."
            ) from None
        if not found:
            raise self._stop(f"{self.name}:1:1", "the file holds no document", "Write a manifest, or remove the file.")
        return found

    def composed(self, node: yaml.Node, path: str, depth: int) -> Node:
        place = self._place(node.start_mark)
        self._count(place, depth)
        if isinstance(node, yaml.MappingNode):
            self._tagged(node, "map", place)
            return self._mapping(node, place, path, depth)
        if isinstance(node, yaml.SequenceNode):
            self._tagged(node, "seq", place)
            items = [self.composed(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(node.value)]
            return Node(items, place, path)
        assert isinstance(node, yaml.ScalarNode)
        return self._scalar(node, place, path)

    def json(self, data: Any, path: str, depth: int) -> Node:
        self._count(path, depth)
        if isinstance(data, dict):
            fields = {key: self.json(value, f"{path}.{key}", depth + 1) for key, value in data.items()}
            for key in fields:
                self._check(key, path)
            return Node(fields, path, path, keys={key: f"{path}.{key}" for key in fields})
        if isinstance(data, list):
            return Node([self.json(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(data)], path, path)
        self._check(data, path)
        return Node(data, path, path)

    def _mapping(self, node: yaml.MappingNode, place: str, path: str, depth: int) -> Node:
        fields: dict[str, Node] = {}
        keys: dict[str, str] = {}
        for key_node, value_node in node.value:
            at = self._place(key_node.start_mark)
            if key_node.tag == _YAML + "merge":
                self._note(at, "'<<' is not supported", "Write the fields out.")
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                self._note(at, "a key is a text", "Quote it.")
                continue
            key = str(key_node.value)
            self._check(key, at)
            value = self.composed(value_node, f"{path}.{key}", depth + 1)
            if key in fields:
                self._note(at, f"'{key[:64]}' is here twice", f"Keep one; the first is at {keys[key]}.")
                continue
            fields[key], keys[key] = value, at
        return Node(fields, place, path, keys=keys)

    def _scalar(self, node: yaml.ScalarNode, place: str, path: str) -> Node:
        text, tag = str(node.value), node.tag
        value: Any = text
        make = yaml.constructor.SafeConstructor()
        try:
            if tag == _YAML + "null":
                value = None
            elif tag == _YAML + "bool":
                value = make.construct_yaml_bool(node)
            elif tag == _YAML + "int":
                value = make.construct_yaml_int(node)
            elif tag == _YAML + "float":
                value = make.construct_yaml_float(node)
            elif tag not in _TEXTS:
                self._tagged(node, "str", place)
        except (ValueError, KeyError, IndexError):
            self._note(place, f"'{text[:64]}' is not of the type that its tag says", "Quote it.")
        self._check(value, place)
        return Node(value, place, path, written=text if isinstance(value, int | float) else None)

    def _tagged(self, node: yaml.Node, tag: str, place: str) -> None:
        if node.tag != _YAML + tag:
            self._note(place, f"the tag '{str(node.tag)[:64]}' does not fit plain data", "Remove it.")

    def _check(self, value: Any, place: str) -> None:
        """Refuse what JSON, its canonical form or the database cannot hold."""
        if isinstance(value, str):
            if "\0" in value:
                self._note(place, "a text may not hold the character U+0000", "Remove it.")
            elif any("\ud800" <= letter <= "\udfff" for letter in value):
                self._note(place, "a text may not hold half of a surrogate pair", "Write the whole character.")
        elif isinstance(value, float) and not math.isfinite(value):
            self._note(place, "a number must be finite", "Write a number, or a text.")
        elif isinstance(value, int | float) and abs(value) > MOST_NUMBER:
            self._note(place, "this number is beyond what JSON can hold exactly", "Write it as a text, in quotes.")

    def _count(self, place: str, depth: int) -> None:
        self.parts += 1
        if depth > MOST_DEPTH:  # an anchor may hold an alias of itself
            raise self._stop(place, f"this is nested more than {MOST_DEPTH} deep", "Make it flatter.")
        if self.parts > MOST_PARTS:
            raise self._stop(
                place,
                f"there are more than {MOST_PARTS} values, those that aliases stand for included",
                "Split the file, or take out aliases.",
            )

    def _note(self, place: str, what: str, then: str) -> None:
        self.problems.append(Problem(place, what, then))

    def _stop(self, place: str, what: str, then: str) -> _Unreadable:
        return _Unreadable(Problem(place, what, then))

    def _place(self, mark: Any) -> str:
        return f"{self.name}:{mark.line + 1}:{mark.column + 1}" if mark else f"{self.name}:1:1"


def _absent(node: yaml.Node) -> bool:
    """Whether a document holds nothing, as after a '---' that nothing follows."""
    return isinstance(node, yaml.ScalarNode) and node.tag == _YAML + "null" and not node.value
