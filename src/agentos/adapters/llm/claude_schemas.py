"""The part of a JSON schema that the Messages API can hold a model to.

It takes objects whose members are all named, and knows few of the words that limit a value. Words that it does not know
are left out, which only allows more: whoever asked checks the answer against the whole schema. A schema that would
forbid what it should allow (an object of any members) has no such part.
"""

from __future__ import annotations

from typing import Any, Final

SCALARS: Final = ("string", "integer", "number", "boolean", "null")
FORMATS: Final = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}
)
KEPT: Final = ("title", "description", "enum", "const")


class _Free(Exception):
    """A schema allows more than can be said."""


def understood(schema: dict[str, Any]) -> dict[str, Any] | None:
    """What can be said of the schema, or None."""
    try:
        defined = {name: _part(one) for name, one in schema.get("$defs", {}).items()}
        part = _part({name: value for name, value in schema.items() if name != "$defs"})
        _ends(part, defined, frozenset(), set())
    except (_Free, RecursionError):  # a chain of a thousand references is more than anybody says
        return None
    return part | {"$defs": defined} if defined else part


def _part(schema: Any) -> dict[str, Any]:
    if not isinstance(schema, dict) or "allOf" in schema or "$defs" in schema:
        raise _Free
    kept = {name: schema[name] for name in KEPT if name in schema}
    if "$ref" in schema:
        if not str(schema["$ref"]).startswith("#/$defs/"):
            raise _Free
        return {"$ref": schema["$ref"]}
    if "enum" in kept or "const" in kept:
        if any(isinstance(value, dict | list) for value in [*kept.get("enum", ()), kept.get("const")]):
            raise _Free
        return kept
    kind = schema.get("type")
    if isinstance(kind, list):
        return kept | {"anyOf": [_part({**schema, "type": one}) for one in kind]}
    for word in ("anyOf", "oneOf"):
        if word in schema:
            return kept | {"anyOf": [_part(one) for one in schema[word]]}
    if kind == "object":
        return kept | _object(schema)
    if kind == "array":
        least = {"minItems": schema["minItems"]} if schema.get("minItems") in (0, 1) else {}
        return kept | {"type": kind, "items": _part(schema.get("items"))} | least
    if kind not in SCALARS:
        raise _Free
    form = {"format": schema["format"]} if kind == "string" and schema.get("format") in FORMATS else {}
    return kept | {"type": kind} | form


def _object(schema: dict[str, Any]) -> dict[str, Any]:
    named = schema.get("properties", {})
    more = schema.get("additionalProperties", True)
    if "patternProperties" in schema or isinstance(more, dict) or (more and not named):
        raise _Free
    found: dict[str, Any] = {"type": "object", "properties": {name: _part(one) for name, one in named.items()}}
    if "required" in schema:
        found["required"] = [name for name in schema["required"] if name in named]
    return found | {"additionalProperties": False}


def _ends(part: Any, defined: dict[str, Any], inside: frozenset[str], ended: set[str]) -> None:
    """Raises _Free for a schema that comes back to itself, or refers to nothing: the API takes neither.

    ``ended``: the definitions that were found to end; each is looked into once.
    """
    if isinstance(part, list):
        for one in part:
            _ends(one, defined, inside, ended)
    elif isinstance(part, dict):
        target = part.get("$ref")
        if isinstance(target, str):
            name = target.removeprefix("#/$defs/")
            if name not in defined or name in inside:
                raise _Free
            if name not in ended:
                _ends(defined[name], defined, inside | {name}, ended)
                ended.add(name)
        for one in part.values():
            _ends(one, defined, inside, ended)
