"""JSON schemas that anybody may validate against without surprise: valid, finite, and fetching nothing.

A reference leads to ``#`` or ``#/$defs/NAME`` and nowhere else, so validating never opens a connection; and none comes
back to itself without entering the instance, so validating always ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from jsonschema import Draft202012Validator

from agentos.control.agents.documents import Node
from agentos.control.agents.model import Problem
from agentos.control.privacy.model import ANNOTATION, Kind
from agentos.kernel.canonical import canonical
from agentos.kernel.errors import Invalid

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
MOST_BYTES: Final = 100_000  # canonical; a generated schema of a big form has ~20,000
MOST_SHOWN: Final = 10  # faults of one schema; one mistake often breaks several rules

_META: Final = Draft202012Validator(
    Draft202012Validator.META_SCHEMA, format_checker=Draft202012Validator.FORMAT_CHECKER
)
_KINDS: Final = tuple(kind.value for kind in Kind)
_REBASING: Final = ("$id", "$dynamicRef", "$dynamicAnchor", "$anchor")
_IN_PLACE: Final = ("not", "if", "then", "else")
_IN_PLACE_LISTS: Final = ("allOf", "anyOf", "oneOf")


def check(node: Node, problems: list[Problem]) -> dict[str, Any] | None:
    """The schema as plain data, or None with its faults added to ``problems``."""
    if not isinstance(node.value, dict):
        problems.append(Problem(node.place, "a JSON schema is a mapping here", "Write for example 'type: object'."))
        return None
    schema: dict[str, Any] = node.plain()
    found = list(_faults(node, schema))
    if not found and _circles(schema):
        found.append(Problem(node.place, "a $ref comes back to itself", "Put 'properties' or 'items' between."))
    try:
        if len(canonical(schema)) > MOST_BYTES:
            found.append(Problem(node.place, f"the schema is over {MOST_BYTES} bytes", "Make it smaller."))
    except Invalid:
        return None  # the document's reader has told which value it is
    problems += found
    return None if found else schema


def _faults(node: Node, schema: dict[str, Any]) -> Iterator[Problem]:
    seen: set[tuple[str, str]] = set()
    for error in _META.iter_errors(schema):
        at = node
        for step in error.absolute_path:
            at = at.value[step]
        if len(seen) < MOST_SHOWN and (at.place, error.message) not in seen:
            seen.add((at.place, error.message))
            yield Problem(
                at.place,
                f"this is no JSON schema: {error.message[:200]}",
                "Write JSON Schema of draft 2020-12.",
            )
    definitions = {
        f"#/{place}/{name}" for place in ("$defs", "definitions") for name in _mapping(schema.get(place))
    } | {"#"}
    for each in _mappings(node):
        for word in _REBASING:
            if word in each.value and isinstance(each.value[word].value, str):
                yield Problem(each.keys[word], f"'{word}' is not supported", "Refer to '#/$defs/NAME'.")
        if "$schema" in each.value and each.value["$schema"].value not in (DIALECT, DIALECT + "#"):
            yield Problem(each.value["$schema"].place, "only draft 2020-12 is understood", f"Write {DIALECT}.")
        said = each.value.get(ANNOTATION)
        if said is not None and said.value not in _KINDS:
            yield Problem(said.place, f"'{ANNOTATION}' names no kind of personal data", f"Write {', '.join(Kind)}.")
        target = each.value.get("$ref")
        if target is not None and isinstance(target.value, str) and target.value not in definitions:
            yield Problem(
                target.place,
                f"'{target.value[:100]}' is not in this schema",
                "Refer to '#' or to '#/$defs/NAME' of this very schema.",
            )


def _mappings(node: Node) -> Iterator[Node]:
    if isinstance(node.value, dict):
        yield node
        for below in node.value.values():
            yield from _mappings(below)
    elif isinstance(node.value, list):
        for below in node.value:
            yield from _mappings(below)


def _circles(schema: dict[str, Any]) -> bool:
    """Whether a definition, or the schema itself, is applied to the very instance that it is being applied to."""
    starts = {"#": schema} | {
        f"#/{place}/{name}": found
        for place in ("$defs", "definitions")
        for name, found in _mapping(schema.get(place)).items()
    }
    leads = {name: {target for target in _targets(found) if target in starts} for name, found in starts.items()}
    done: set[str] = set()
    while ready := {name for name in leads if name not in done and leads[name] <= done}:
        done |= ready
    return len(done) < len(leads)


def _targets(schema: Any) -> Iterator[str]:
    """What a schema refers to without entering the instance."""
    if not isinstance(schema, dict):
        return
    if isinstance(schema.get("$ref"), str):
        yield schema["$ref"]
    for word in _IN_PLACE:
        yield from _targets(schema.get(word))
    for word in _IN_PLACE_LISTS:
        for below in schema.get(word) or ():
            yield from _targets(below)
    for below in _mapping(schema.get("dependentSchemas")).values():
        yield from _targets(below)


def _mapping(found: Any) -> dict[str, Any]:
    return found if isinstance(found, dict) else {}
