"""JSON schemas of others: none fetches, none goes on for ever, none costs more than it may."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from agentos.kernel.schemas import MOST_BYTES, MOST_DEPTH, MOST_SHOWN, faults, misfit


def doubling(levels: int) -> dict[str, Any]:
    """Each definition refers twice to the next: small to write, and 2^levels to apply."""
    twice = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(levels)}
    return {"$defs": twice | {f"d{levels}": {}}, "$ref": "#/$defs/d0"}


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"not": schema}
    return schema


REFUSED: dict[str, tuple[Any, str, str]] = {
    "none": (["type"], "", "a mapping"),
    "another form": ({"properties": {"a": {"type": "text"}}}, ".properties.a.type", "no JSON schema"),
    "an address": ({"items": {"$ref": "http://127.0.0.1:1/s"}}, ".items.$ref", "not in this schema"),
    "a file": ({"$ref": "file:///etc/passwd"}, ".$ref", "not in this schema"),
    "no part": ({"$ref": "#/$defs/gone"}, ".$ref", "not in this schema"),
    "no schema of it": ({"const": {"$ref": "http://x/"}, "not": {"$ref": "#/const"}}, ".not.$ref", "not in this"),
    "a base": ({"properties": {"a": {"$id": "http://x/"}}}, ".properties.a.$id", "not supported"),
    "a circle": ({"$ref": "#"}, "", "comes back to itself"),
    "a circle of two": ({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"not": {"$ref": "#/$defs/a"}}}}, "", "comes back"),
    "no pattern": ({"pattern": "("}, ".pattern", "linear time"),
    "a look ahead": ({"pattern": "^(?=(a+)+$)"}, ".pattern", "linear time"),
    "a reference back": ({"patternProperties": {r"(a)\1": {}}}, r".patternProperties.(a)\1", "linear time"),
    "a pattern of a large automaton": ({"pattern": "((a{99}){99}){99}"}, ".pattern", "linear time"),
    "a long pattern": ({"pattern": "a" * 1001}, ".pattern", "1000 characters"),
    "many patterns": ({"patternProperties": {f"a{n}": {} for n in range(51)}}, "", "50 patterns"),
    "too large": ({"description": "x" * MOST_BYTES}, "", f"{MOST_BYTES} bytes"),
    "too deep": (nested(MOST_DEPTH + 1), "", "deep"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("foreign", [True, False])
def test_a_schema_that_would_surprise_is_refused_with_its_place(name: str, foreign: bool) -> None:
    schema, where, said = REFUSED[name]
    fault = faults(schema, foreign=foreign)[0]
    assert (fault.where, said in fault.what) == (where, True)


def test_what_others_write_is_taken_where_it_is_harmless() -> None:
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": "https://example.invalid/form",
        "type": "object",
        "properties": {"pattern": {"type": "string"}, "again": {"$ref": "#/properties/pattern"}},
        "default": {"$ref": "http://127.0.0.1/", "pattern": "("},
    }
    assert faults(schema, foreign=True) == []
    assert misfit(schema, {"again": 1}) is not None
    assert [fault.where for fault in faults(schema)] == [".$id", ".$schema", ".properties.again.$ref"]


def test_validating_never_opens_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_a, **_k: pytest.fail("a name was looked up"))
    monkeypatch.setattr(socket.socket, "connect", lambda *_a: pytest.fail("a connection was opened"))
    for target in ("http://127.0.0.1:1/s", "https://example.com/s", "file:///etc/passwd"):
        assert misfit({"$ref": target}, 1) is not None


@pytest.mark.parametrize(
    ("schema", "instance"),
    [
        (doubling(40), 1),
        ({"unevaluatedProperties": False} | doubling(40), {"a": 1}),
        ({"unevaluatedItems": False} | doubling(40), [1]),
        ({"allOf": [{"additionalProperties": {"$ref": "#"}}] * 2}, {"a": {"a": {"a": {"a": {}}}}}),
        ({"$ref": "#"}, 1),
        ({"pattern": "^(a+)+$"}, "a" * 5000 + "b"),
        ({"patternProperties": {"^(a+)+$": False}}, {"a" * 5000 + "b": 1}),
        ({"patternProperties": {"^(a+)+$": {}}, "additionalProperties": False}, {"a" * 5000 + "b": 1}),
    ],
    ids=[
        "doubling",
        "names of no part",
        "items of no part",
        "entering twice",
        "a circle",
        "a pattern",
        "patterns of names",
        "other names",
    ],
)
def test_validating_ends(schema: dict[str, Any], instance: Any) -> None:
    misfit(schema, instance, 10_000)


def test_what_costs_too_much_to_check_does_not_fit() -> None:
    found = misfit(doubling(40), 1, 1000)
    assert found is not None
    assert "more than 1000 steps" in found.message


def test_of_many_faults_ten_are_told() -> None:
    assert len(faults({"anyOf": [{"type": "x"}] * 3000})) == MOST_SHOWN
    assert len(faults({"anyOf": [{"pattern": "("}] * 3000})) == MOST_SHOWN


def test_a_long_chain_of_references_is_no_circle() -> None:
    chain = {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(1500)}
    assert faults({"$defs": chain | {"d1500": {}}, "$ref": "#/$defs/d0"}) == []


@pytest.mark.parametrize(
    ("schema", "fits", "not_"),
    [
        ({"pattern": "^[0-9]{4}$"}, "2026", "x2026"),
        ({"pattern": r"^\p{Lu}"}, "Émile", "émile"),
        ({"patternProperties": {"^n_": {"type": "integer"}}}, {"n_a": 1, "b": ""}, {"n_a": ""}),
        (
            {"properties": {"a": {}}, "patternProperties": {"^b": {}}, "additionalProperties": False},
            {"a": 1, "bc": 2},
            {"a": 1, "c": 2},
        ),
        ({"properties": {"a": {}}, "additionalProperties": {"type": "null"}}, {"a": 1, "b": None}, {"b": 1}),
    ],
)
def test_words_mean_what_they_mean_elsewhere(schema: dict[str, Any], fits: Any, not_: Any) -> None:
    assert faults(schema) == []
    assert misfit(schema, fits) is None
    assert misfit(schema, not_) is not None
