"""JSON schemas of others that may be looked at and validated against without surprise.

A schema without faults fetches nothing, ends, and is small: its references lead into itself and never back to
themselves without entering the instance, and its patterns are of the kind that is matched in linear time. What it costs
to validate is bounded besides, as a few references may multiply without any circle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter
from itertools import islice
from typing import Any, Final

import jsonschema_rs
import msgspec
from jsonschema import Draft202012Validator, ValidationError
from jsonschema.exceptions import best_match
from jsonschema.validators import extend
from referencing import Registry
from referencing.exceptions import Unresolvable

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
MOST_BYTES: Final = 65_536  # as JSON; a generated schema of a big form has ~20,000
MOST_DEPTH: Final = 64  # ten times what the deepest schemas that people write need
MOST_PATTERN: Final = 1000  # characters of a pattern
MOST_PATTERNS: Final = 50  # of one schema; each is compiled
MOST_WORK: Final = 500_000  # words of a schema that are looked at for one instance: about a second
MOST_SHOWN: Final = 10  # faults of one schema; one mistake often breaks several rules

_PATTERN_BYTES: Final = 512 * 1024  # of a compiled pattern: ``.{1,500}`` has less; compiling takes milliseconds
_REBASING: Final = ("$id", "$dynamicRef", "$dynamicAnchor", "$anchor")
_IN_PLACE: Final = ("not", "if", "then", "else")
_IN_PLACE_LISTS: Final = ("allOf", "anyOf", "oneOf")
_ONE: Final = (
    *_IN_PLACE,
    *("items", "contains", "additionalProperties", "propertyNames", "unevaluatedItems", "unevaluatedProperties"),
    "contentSchema",
)
_LISTS: Final = (*_IN_PLACE_LISTS, "prefixItems")
_MAPS: Final = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")

_encode: Final = msgspec.json.Encoder().encode
_META: Final = Draft202012Validator(Draft202012Validator.META_SCHEMA)
_IS_SCHEMA: Final = jsonschema_rs.Draft202012Validator(Draft202012Validator.META_SCHEMA).is_valid  # fast, and wordless
_LEFT: ContextVar[list[int]] = ContextVar("what is left of MOST_WORK")

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a schema: at ``path`` below it, or at the key that ends the path."""

    path: Path
    what: str
    then: str
    of_key: bool = False

    @property
    def where(self) -> str:
        """The path as it is written after the name of the schema."""
        return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.path)[:300]


class _TooMuch(Exception):
    """Validating takes more than MOST_WORK."""


def faults(schema: Any, *, foreign: bool = False) -> list[Fault]:
    """What forbids to use the schema, MOST_SHOWN at most; none: it may be.

    ``foreign``: it was written for somebody else, so that it may name itself and another draft, and refer to any part
    of itself.
    """
    if not isinstance(schema, dict):
        return [Fault((), "a JSON schema is a mapping here", "Write for example 'type: object'.")]
    try:
        size = len(_encode(schema))
    except (TypeError, ValueError, RecursionError, UnicodeEncodeError):
        return [Fault((), "it has no JSON form", "Write JSON.")]
    if size > MOST_BYTES:
        return [Fault((), f"the schema is over {MOST_BYTES} bytes", "Make it smaller.")]
    if _depth(schema) > MOST_DEPTH:
        return [Fault((), f"the schema is nested more than {MOST_DEPTH} deep", "Nest it less.")]
    if not _IS_SCHEMA(schema):
        return [*islice(_of_form(schema), MOST_SHOWN)] or [
            Fault((), "this is no JSON schema", "Write JSON Schema of draft 2020-12.")
        ]
    parts = {_pointer(path): (path, one) for path, one in _parts(schema, ())}
    if len(patterns(schema)) > MOST_PATTERNS:
        return [Fault((), f"the schema has more than {MOST_PATTERNS} patterns", "Use fewer.")]
    found = [
        *islice((fault for path, one in parts.values() for fault in _of_part(path, one, parts, foreign)), MOST_SHOWN)
    ]
    if not found and _circles({name: one for name, (_, one) in parts.items()}):
        found.append(Fault((), "a $ref comes back to itself", "Put 'properties' or 'items' between."))
    return found


def patterns(schema: Any) -> set[str]:
    """The patterns of a schema of the known form."""
    found: set[str] = set()
    for _path, one in _parts(schema, ()):
        found.update([one["pattern"]] if "pattern" in one else (), one.get("patternProperties", ()))
    return found


def misfit(schema: Any, instance: Any, work: int = MOST_WORK) -> ValidationError | None:
    """What of the instance fits the schema least; None: all of it fits. Fetches nothing and ends, whatever they are."""
    token = _LEFT.set([work])
    try:
        found: ValidationError | None = best_match(_Bounded(schema, registry=Registry()).iter_errors(instance))
        return found
    except _TooMuch:
        return ValidationError(f"to check it takes more than {work} steps")
    except RecursionError:
        return ValidationError("it is nested too deep to be checked")
    except (Unresolvable, ValueError) as error:  # of a schema that has faults
        return ValidationError(f"its schema cannot be used: {str(error)[:200]}")
    finally:
        _LEFT.reset(token)


def _of_form(schema: dict[str, Any]) -> Iterator[Fault]:
    seen: set[tuple[Path, str]] = set()
    for error in _META.iter_errors(schema):
        path = tuple(error.absolute_path)
        if (path, error.message) not in seen:
            seen.add((path, error.message))
            yield Fault(path, f"this is no JSON schema: {error.message[:200]}", "Write JSON Schema of draft 2020-12.")


def _of_part(
    path: Path, one: dict[str, Any], parts: Mapping[str, tuple[Path, dict[str, Any]]], foreign: bool
) -> Iterator[Fault]:
    for word in _REBASING:
        if word in one and not (foreign and word == "$id" and not path):
            yield Fault((*path, word), f"'{word}' is not supported", "Refer to '#/$defs/NAME'.", of_key=True)
    if not foreign and one.get("$schema", DIALECT) not in (DIALECT, DIALECT + "#"):
        yield Fault((*path, "$schema"), "only draft 2020-12 is understood", f"Write {DIALECT}.")
    target = one.get("$ref")
    if target is not None and not (target in parts and (foreign or _is_definition(target))):
        then = "Refer to '#' or to '#/$defs/NAME' of this very schema."
        yield Fault((*path, "$ref"), f"'{target[:100]}' is not in this schema", then)
    if "pattern" in one and (why := _unbounded(one["pattern"])):
        yield Fault((*path, "pattern"), why, _PLAINER)
    for pattern in one.get("patternProperties", ()):
        if why := _unbounded(pattern):
            yield Fault((*path, "patternProperties", pattern), why, _PLAINER, of_key=True)
    if "patternProperties" in one and "unevaluatedProperties" in one:
        what = "'unevaluatedProperties' beside 'patternProperties' is not supported"
        yield Fault((*path, "unevaluatedProperties"), what, "Write 'additionalProperties'.", of_key=True)


_PLAINER: Final = "Write a shorter one, without look-around and without references back."


def _unbounded(pattern: str) -> str | None:
    """Why a pattern cannot be matched in linear time, if it cannot."""
    if len(pattern) > MOST_PATTERN:
        return f"the pattern is over {MOST_PATTERN} characters"
    try:
        _matcher(pattern)
    except ValueError:
        return f"'{pattern[:60]}' is no pattern that can be matched in linear time"
    return None


@lru_cache(64)
def _matcher(pattern: str) -> Callable[[str], bool]:
    """Whether the pattern is somewhere in a text, by automaton. Raises ValueError where it has none, or a large one."""
    options = jsonschema_rs.RegexOptions(size_limit=_PATTERN_BYTES)
    return jsonschema_rs.Draft202012Validator({"pattern": pattern}, pattern_options=options).is_valid


def _is_definition(target: str) -> bool:
    return target == "#" or (target.startswith(("#/$defs/", "#/definitions/")) and target.count("/") == 2)


def _parts(schema: Any, path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The schema and all that are below it."""
    if not isinstance(schema, dict):
        return
    yield path, schema
    for word in _ONE:
        yield from _parts(schema.get(word), (*path, word))
    for word in _LISTS:
        for number, below in enumerate(schema.get(word) or ()):
            yield from _parts(below, (*path, word, number))
    for word in _MAPS:
        for name, below in (schema.get(word) or {}).items():
            yield from _parts(below, (*path, word, name))


def _pointer(path: Path) -> str:
    return "#" + "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)


def _depth(value: Any) -> int:
    deepest, left = 0, [(value, 1)]
    while left:
        one, depth = left.pop()
        if isinstance(one, dict | list):
            deepest = max(deepest, depth)
            left += [(inner, depth + 1) for inner in (one.values() if isinstance(one, dict) else one)]
    return deepest


def _circles(parts: Mapping[str, dict[str, Any]]) -> bool:
    """Whether a part that is referred to is applied to the very instance that it is being applied to."""
    referred = {one["$ref"] for one in parts.values() if "$ref" in one}
    try:
        TopologicalSorter({name: set(_targets(parts[name])) for name in referred}).prepare()
    except CycleError:
        return True
    return False


def _targets(schema: Any) -> Iterator[str]:
    """What a schema refers to without entering the instance."""
    if not isinstance(schema, dict):
        return
    if "$ref" in schema:
        yield schema["$ref"]
    for word in _IN_PLACE:
        yield from _targets(schema.get(word))
    for word in _IN_PLACE_LISTS:
        for below in schema.get(word) or ():
            yield from _targets(below)
    for below in (schema.get("dependentSchemas") or {}).values():
        yield from _targets(below)


# The words of validation, in bounded form.


def _counted(word: Any) -> Any:
    def counted(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        left = _LEFT.get()
        left[0] -= 1
        if left[0] < 0:
            raise _TooMuch
        return word(validator, value, instance, schema)

    return counted


def _pattern(_validator: Any, pattern: str, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if isinstance(instance, str) and not _matcher(pattern)(instance):
        yield ValidationError(f"{instance[:200]!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, patterns: Any, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if isinstance(instance, dict):
        for pattern, below in patterns.items():
            for name, value in instance.items():
                if _matcher(pattern)(name):
                    yield from validator.descend(value, below, path=name, schema_path=pattern)


def _additional(validator: Any, below: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if not isinstance(instance, dict):
        return
    named, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    more = [name for name in instance if name not in named and not any(_matcher(one)(name) for one in patterns)]
    if isinstance(below, dict):
        for name in more:
            yield from validator.descend(instance[name], below, path=name)
    elif not below and more:
        shown = ", ".join(repr(name[:60]) for name in sorted(more)[:5])
        verb = "was" if len(more) == 1 else "were"
        yield ValidationError(f"Additional properties are not allowed ({shown} {verb} unexpected)")


_WORDS: Final = dict(Draft202012Validator.VALIDATORS) | {
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional,
}
_Bounded: Final[Any] = extend(  # type: ignore[no-untyped-call]  # the stubs know no better
    Draft202012Validator, {name: _counted(word) for name, word in _WORDS.items()}
)
