"""Whether everything that one JSON schema lets through fits another, and where it does not.

The answer errs on one side only: what cannot be compared does not fit, and says so. ``test_contracts.py`` holds that
against a validator.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.exceptions import Unresolvable

Schema = Mapping[str, Any] | bool

_NOTES: Final = frozenset(
    {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$comment", "$schema", "$id"}
    | {"$defs", "definitions", "contentEncoding", "contentMediaType", "discriminator"}
)
_SAYINGS: Final = ("title", "description")
_COMPARED: Final = frozenset(
    {"type", "enum", "const", "anyOf", "allOf", "$ref", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}
    | {"multipleOf", "minLength", "maxLength", "pattern", "format", "items", "minItems", "maxItems", "uniqueItems"}
    | {"properties", "required", "additionalProperties", "minProperties", "maxProperties"}
)
_TYPES: Final = ("null", "boolean", "number", "string", "array", "object")
_PATH: Final = re.compile(r"(?:\[\]|[A-Za-z_$][\w$-]*)(?:\[\]|\.[A-Za-z_$][\w$-]*)*")
_STEP: Final = re.compile(r"\[\]|[A-Za-z_$][\w$-]*")


class Misfit(Enum):
    """How something that one schema lets through does not fit another."""

    REQUIRED = "required"
    GONE = "gone"
    TYPE = "type"
    VALUES = "values"
    BOUND = "bound"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class _Side:
    """A schema and the document that its references point into."""

    schema: Schema
    document: Mapping[str, Any]

    def below(self, schema: Schema) -> _Side:
        return _Side(schema, self.document)

    def seen_through(self) -> _Side | None:
        """The schema with its references followed; None where they lead nowhere, or in a circle."""
        schema = self.schema
        for _ in range(16):
            if isinstance(schema, bool) or "$ref" not in schema:
                return self.below(schema)
            rest = {name: value for name, value in schema.items() if name not in _NOTES and name != "$ref"}
            target = _pointed(self.document, str(schema["$ref"]))
            if target is None:
                return None
            schema = target if not rest else {"allOf": [target, rest]}
        return None


def misfits(given: Schema, taker: Schema, *, may_hold_more: bool = False) -> list[tuple[str, Misfit, str]]:
    """Where something that ``given`` lets through may not fit ``taker``: place, how, and what of it. None: it all fits.

    ``may_hold_more``: objects fit also with fields that ``taker`` does not name.
    """
    found: dict[str, tuple[str, Misfit, str]] = {}
    one = _Side(given, given if isinstance(given, Mapping) else {})
    other = _Side(taker, taker if isinstance(taker, Mapping) else {})
    for place, kind, why in _Comparison(may_hold_more).misfits(one, other, ""):
        found.setdefault(place, (place, kind, why))
    return list(found.values())


class _Comparison:
    def __init__(self, may_hold_more: bool) -> None:
        self._may_hold_more = may_hold_more
        self._under_way: set[tuple[int, int]] = set()

    def misfits(self, a: _Side, b: _Side, place: str) -> Iterator[tuple[str, Misfit, str]]:
        """Where something under ``a`` may not fit ``b``. A pair that is looked at already adds nothing to itself."""
        pair = (id(a.schema), id(b.schema))
        if pair in self._under_way:
            return
        self._under_way.add(pair)
        try:
            yield from self._compared(a, b, place)
        finally:
            self._under_way.discard(pair)

    def _compared(self, a: _Side, b: _Side, place: str) -> Iterator[tuple[str, Misfit, str]]:
        seen_a, seen_b = a.seen_through(), b.seen_through()
        if seen_a is None or seen_b is None:
            yield place, Misfit.UNKNOWN, "a reference leads nowhere"
            return
        a, b = seen_a, seen_b
        if a.schema is False or b.schema is True:
            return
        if b.schema is False:
            yield place, Misfit.GONE, ""
            return
        one: Mapping[str, Any] = {} if a.schema is True else a.schema
        other: Mapping[str, Any] = b.schema
        if not set(other) - _NOTES or _same(a, b):
            return
        if "anyOf" in one or "oneOf" in one or isinstance(one.get("type"), list):
            for option in _options(one):
                yield from self.misfits(a.below(option), b, place)
            return
        finite = _finite(one, other)
        if finite is not None:
            yield from self._values(finite, a, b, place)
            return
        if "allOf" in one:
            yield from self._parts(a, b, place)
            return
        if strange := set(other) - _NOTES - _COMPARED:
            yield place, Misfit.UNKNOWN, ", ".join(sorted(strange))
            return
        if "allOf" in other:
            for part in other["allOf"]:
                yield from self.misfits(a, b.below(part), place)
        if "anyOf" in other:
            yield from self._any_of(a, b, place)
        if "enum" in other or "const" in other:
            yield place, Misfit.VALUES, "not every value is one of those named"
            return
        yield from self._plain(a, b, place)

    def _parts(self, a: _Side, b: _Side, place: str) -> Iterator[tuple[str, Misfit, str]]:
        """It fits what is all of several when one of them alone does."""
        one: Mapping[str, Any] = a.schema  # type: ignore[assignment]
        rest = {name: value for name, value in one.items() if name != "allOf"}
        least: list[tuple[str, Misfit, str]] | None = None
        for part in (*one["allOf"], rest):
            found = list(self.misfits(a.below(part), b, place))
            least = found if least is None or len(found) < len(least) else least
        yield from least or ()

    def _any_of(self, a: _Side, b: _Side, place: str) -> Iterator[tuple[str, Misfit, str]]:
        """It fits one of several when one of them alone takes it."""
        options = [list(self.misfits(a, b.below(option), place)) for option in b.schema["anyOf"]]  # type: ignore[index]
        if all(options):
            yield from min(options, key=lambda found: (found[0][1] is Misfit.TYPE, len(found)))

    def _values(self, values: Sequence[Any], a: _Side, b: _Side, place: str) -> Iterator[tuple[str, Misfit, str]]:
        refused = [value for value in values if _valid(value, a, unsure=True) and not _valid(value, b, unsure=False)]
        if refused:
            shown = ", ".join(repr(value)[:40] for value in refused[:5])
            yield place, Misfit.VALUES, shown

    def _plain(self, a: _Side, b: _Side, place: str) -> Iterator[tuple[str, Misfit, str]]:
        one: Mapping[str, Any] = {} if a.schema is True else a.schema  # type: ignore[assignment]
        other: Mapping[str, Any] = b.schema  # type: ignore[assignment]
        mine, theirs = _types(one), _types(other)
        fractions = "number" in mine and one.get("type") != "integer" and other.get("type") == "integer"
        if mine - theirs or (fractions and not _whole(one)) or _integer_lost(one, other):
            yield place, Misfit.TYPE, f"{_type_words(one)} / {_type_words(other)}"
            return
        for kind, check in _CHECKS.items():
            if kind in mine and kind in theirs:
                for why in check(one, other):
                    yield place, Misfit.BOUND, why
        if "array" in mine:
            yield from self.misfits(a.below(one.get("items", True)), b.below(other.get("items", True)), f"{place}[]")
        if "object" in mine:
            yield from self._fields(a, b, place)

    def _fields(self, a: _Side, b: _Side, place: str) -> Iterator[tuple[str, Misfit, str]]:
        one: Mapping[str, Any] = {} if a.schema is True else a.schema  # type: ignore[assignment]
        other: Mapping[str, Any] = b.schema  # type: ignore[assignment]
        mine, theirs = one.get("properties", {}), other.get("properties", {})
        more, takes_more = one.get("additionalProperties", True), other.get("additionalProperties", True)
        if self._may_hold_more and takes_more is False:
            takes_more = True
        for name in other.get("required", ()):
            if name not in one.get("required", ()):
                gone = name not in mine and self._may_hold_more
                yield _below(place, name), Misfit.GONE if gone else Misfit.REQUIRED, ""
        for name in dict.fromkeys((*mine, *theirs)):
            here = mine.get(name, more)
            if here is False:
                if self._may_hold_more:  # a field that was there sometimes and never is now
                    yield _below(place, name), Misfit.GONE, ""
                continue
            if self._may_hold_more and name not in mine and more is True:
                yield _below(place, name), Misfit.GONE, ""
                continue
            yield from self.misfits(a.below(here), b.below(theirs.get(name, takes_more)), _below(place, name))
        if more is not False and takes_more is not True:
            yield from self.misfits(a.below(more), b.below(takes_more), _below(place, "*"))


def has_path(schema: Mapping[str, Any], path: str) -> bool:
    """Whether a result of this schema may have something at this path, such as ``items[].id``."""
    return _PATH.fullmatch(path) is not None and _leads(_Side(schema, schema), _STEP.findall(path), 0)


def _leads(side: _Side, steps: list[str], depth: int) -> bool:
    if not steps:
        return True
    seen = side.seen_through()
    if seen is None or isinstance(seen.schema, bool) or depth > 32:
        return False
    schema = seen.schema
    for option in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())):
        if _leads(seen.below(option), steps, depth + 1):
            return True
    if steps[0] == "[]":
        return "items" in schema and _leads(seen.below(schema["items"]), steps[1:], depth + 1)
    fields = schema.get("properties", {})
    return steps[0] in fields and _leads(seen.below(fields[steps[0]]), steps[1:], depth + 1)


def _below(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _pointed(document: Mapping[str, Any], reference: str) -> Schema | None:
    if reference == "#":
        return document
    if not reference.startswith("#/"):
        return None
    found: Any = document
    for part in reference[2:].split("/"):
        part = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(found, Mapping) or part not in found:
            return None
        found = found[part]
    return found if isinstance(found, (Mapping, bool)) else None


def _options(schema: Mapping[str, Any]) -> list[Schema]:
    """A schema of several options or types as one schema for each; what stands beside them holds for each."""
    for kind in ("anyOf", "oneOf"):
        if kind in schema:
            rest = {name: value for name, value in schema.items() if name != kind and name not in _NOTES}
            return [{"allOf": [option, rest]} if rest else option for option in schema[kind]]
    return [{**schema, "type": kind} for kind in schema["type"]]


def _finite(schema: Mapping[str, Any], beside: Mapping[str, Any]) -> list[Any] | None:
    """The values of a schema that names them; of truth and null also where the other schema names values."""
    if "const" in schema:
        return [schema["const"]]
    if "enum" in schema:
        return list(schema["enum"])
    few: dict[str, list[Any]] = {"boolean": [False, True], "null": [None]}
    return few.get(str(schema.get("type"))) if "enum" in beside or "const" in beside else None


def _types(schema: Mapping[str, Any]) -> set[str]:
    named = schema.get("type")
    if named is None:
        return set(_TYPES)
    every = {named} if isinstance(named, str) else set(named)
    return {"number" if one == "integer" else one for one in every}


def _integer_lost(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether ``other`` is a list of types with whole numbers only, and ``one`` may be a fraction."""
    named = other.get("type")
    only_whole = isinstance(named, list) and "integer" in named and "number" not in named
    return only_whole and "number" in _types(one) and not _whole(one)


def _whole(schema: Mapping[str, Any]) -> bool:
    return schema.get("type") == "integer" or isinstance(schema.get("multipleOf"), int)


def _type_words(schema: Mapping[str, Any]) -> str:
    named = schema.get("type", "any")
    return named if isinstance(named, str) else " or ".join(named)


def _numbers(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
    for inclusive, exclusive, sign in (("minimum", "exclusiveMinimum", 1), ("maximum", "exclusiveMaximum", -1)):
        if inclusive in other:
            bound = other[inclusive] * sign
            if not any(name in one and one[name] * sign >= bound for name in (inclusive, exclusive)):
                yield f"{inclusive} {other[inclusive]}"
        if exclusive in other:
            bound = other[exclusive] * sign
            held = (exclusive in one and one[exclusive] * sign >= bound) or (
                inclusive in one and one[inclusive] * sign > bound
            )
            if not held:
                yield f"{exclusive} {other[exclusive]}"
    step = other.get("multipleOf")
    if step is not None and one.get("multipleOf") != step:
        mine = one.get("multipleOf", 1 if one.get("type") == "integer" else None)
        if not (isinstance(mine, int) and isinstance(step, int) and mine % step == 0):
            yield f"multipleOf {step}"


def _sizes(least: str, most: str, *same: str) -> Callable[[Mapping[str, Any], Mapping[str, Any]], Iterator[str]]:
    def check(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
        if one.get(least, 0) < other.get(least, 0):
            yield f"{least} {other[least]}"
        if most in other and not (most in one and one[most] <= other[most]):
            yield f"{most} {other[most]}"
        for name in same:
            if other.get(name, False) not in (False, one.get(name)):
                yield f"{name} {str(other[name])[:60]}"

    return check


_CHECKS: Final[dict[str, Callable[[Mapping[str, Any], Mapping[str, Any]], Iterator[str]]]] = {
    "number": _numbers,
    "string": _sizes("minLength", "maxLength", "pattern", "format"),
    "array": _sizes("minItems", "maxItems", "uniqueItems"),
    "object": _sizes("minProperties", "maxProperties"),
}


def _valid(value: Any, side: _Side, *, unsure: bool) -> bool:
    """Whether a value fits a schema; ``unsure`` where the schema itself cannot be used."""
    definitions = {name: side.document[name] for name in ("$defs", "definitions") if name in side.document}
    schema = side.schema if isinstance(side.schema, bool) else {**definitions, **side.schema}
    try:
        return Draft202012Validator(schema, registry=Registry()).is_valid(value)  # which fetches nothing
    except (Unresolvable, re.error, RecursionError):  # a reference, a pattern of another dialect
        return unsure


def _same(a: _Side, b: _Side) -> bool:
    """Whether two schemas are one in writing, references and what they lead to included."""
    if _bare(a.schema) != _bare(b.schema):
        return False
    return not _refers(a.schema) or _bare(a.document.get("$defs")) == _bare(b.document.get("$defs"))


def _bare(schema: Any) -> Any:
    """A schema without what it merely says about itself, in a form in which true is not 1."""
    if isinstance(schema, Mapping):
        told = {name: value for name, value in schema.items() if not (name in _SAYINGS and isinstance(value, str))}
        return {name: _bare(value) for name, value in told.items()}
    if isinstance(schema, list):
        return [_bare(one) for one in schema]
    return (type(schema), schema)


def _refers(schema: Any) -> bool:
    if isinstance(schema, Mapping):
        return "$ref" in schema or any(_refers(value) for value in schema.values())
    return any(_refers(one) for one in schema) if isinstance(schema, list) else False
