"""What the stub says where nobody gave it a script: that it is the stub, in a form that fits what is expected.

The same question gets the same answer. For a JSON schema it is the smallest value that fits: required properties only,
first of what may be chosen, and in every free text the same sentence. A value that would be large is refused, however
small its schema is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from agentos.kernel.schemas import faults, misfit
from agentos.runtime.inference.model import ModelRejectedRequest
from agentos.runtime.inference.ports import Question

SAYS: Final = "This is the stub: no model was asked."
DEEPEST: Final = 32  # levels of a value; a schema that wants more refers to itself
MOST_BYTES: Final = 256 * 1024  # of a value; a model's longest answers have half of that
MOST_WORK: Final = 50_000  # steps of the check whether the value fits: a tenth of a second
MOST_ITEMS: Final = 1000  # of one list

_FORMATS: Final = {
    "date": "2000-01-01",
    "date-time": "2000-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "duration": "PT0S",
    "email": "stub@example.invalid",
    "hostname": "example.invalid",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.invalid/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


class _NoneFits(Exception):
    """No value is found."""


class _Room:
    """What is left for a value."""

    def __init__(self) -> None:
        self.bytes = MOST_BYTES

    def take(self, size: int) -> None:
        self.bytes -= size
        if self.bytes < 0:
            raise _NoneFits(f"the smallest value has more than {MOST_BYTES} bytes")


def stand_in(question: Question) -> str:
    """The text. Raises ModelRejectedRequest (Invalid) for a schema that this finds no value for."""
    if question.schema is None:
        return SAYS
    try:
        for fault in faults(question.schema, foreign=True):
            raise _NoneFits(f"{fault.where}: {fault.what}" if fault.path else fault.what)
        value = _value(question.schema, question.schema, 0, 0, _Room())
        wrong = misfit(question.schema, value, MOST_WORK)
        if wrong is not None:
            raise _NoneFits(wrong.message[:200])
        return msgspec.json.encode(value).decode()
    except (_NoneFits, ArithmeticError, ValueError) as error:
        raise ModelRejectedRequest(
            f"the stub stands in for a model and finds no value that fits the output schema: {error}",
            then="Say what it is to answer: spec.model.routing.stand_in.",
        ) from None


def _value(schema: Any, root: Mapping[str, Any], depth: int, number: int, room: _Room) -> Any:
    """A value for a schema; ``number`` tells the members of a list apart."""
    room.take(8)
    if not isinstance(schema, Mapping) or depth > DEEPEST:
        return None
    schema = _flat(schema, root)
    for name in ("enum", "examples"):
        if isinstance(schema.get(name), list) and schema[name]:
            return _taken(schema[name][number % len(schema[name])], room)
    for name in ("const", "default"):
        if name in schema:
            return _taken(schema[name], room)
    kind = _kind(schema)
    if kind == "object":
        wanted = schema.get("required", ())
        properties = schema.get("properties", {})
        room.take(sum(map(len, wanted)))
        return {name: _value(properties.get(name, {}), root, depth + 1, number, room) for name in wanted}
    if kind == "array":
        first = schema.get("prefixItems", [])
        length = min(max(int(schema.get("minItems", 0)), 0), MOST_ITEMS)
        kinds = [first[at] if at < len(first) else schema.get("items", {}) for at in range(length)]
        return [_value(one, root, depth + 1, at, room) for at, one in enumerate(kinds)]
    if kind in ("integer", "number"):
        return _number(schema, whole=kind == "integer") + number * (schema.get("multipleOf", 1) if number else 0)
    if kind == "boolean":
        return bool(number % 2)
    if kind == "null":
        return None
    text = _FORMATS.get(str(schema.get("format")), SAYS if number == 0 else f"{SAYS} ({number})")
    least = max(int(schema.get("minLength", 0)), len(text))
    room.take(least)
    return text.ljust(least, ".")[: schema.get("maxLength")]


def _taken(value: Any, room: _Room) -> Any:
    room.take(len(msgspec.json.encode(value)))
    return value


def _flat(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema with its reference followed, the first of its choices taken, and what it adds up put together."""
    for _ in range(DEEPEST):
        more: list[Any] = []
        rest = {key: value for key, value in schema.items() if key not in ("$ref", "anyOf", "oneOf", "allOf")}
        if isinstance(schema.get("$ref"), str):
            more.append(_target(schema["$ref"], root))
        for name in ("anyOf", "oneOf"):
            choices = schema.get(name) or []
            more += [one for one in choices if one != {"type": "null"}][:1] or choices[:1]
        more += schema.get("allOf") or []
        if not more:
            return schema
        for one in more:
            if isinstance(one, Mapping):
                rest = _joined(rest, one)
        schema = rest
    return schema


def _joined(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    joined = {**one, **other}
    if "required" in one and "required" in other:
        joined["required"] = [*dict.fromkeys([*one["required"], *other["required"]])]
    if "properties" in one and "properties" in other:
        joined["properties"] = {**one["properties"], **other["properties"]}
    return joined


def _target(reference: str, root: Mapping[str, Any]) -> Any:
    found: Any = root
    for part in reference.removeprefix("#").split("/")[1:]:
        found = found.get(part.replace("~1", "/").replace("~0", "~"), {}) if isinstance(found, Mapping) else {}
    return found


def _kind(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    if kind is None:
        kind = "object" if {"properties", "required"} & set(schema) else "array" if "items" in schema else "string"
    return str(kind)


def _number(schema: Mapping[str, Any], *, whole: bool) -> int | float:
    least, most = schema.get("minimum"), schema.get("maximum")
    over, under = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    step = schema.get("multipleOf", 1)
    value: int | float = 0
    if least is not None:
        value = max(value, least)
    if over is not None and value <= over:
        value = over + step
    if most is not None:
        value = min(value, most)
    if under is not None and value >= under:
        value = under - step
    value = -(-value // step) * step
    return int(value) if whole else value
