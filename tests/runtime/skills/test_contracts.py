"""Contracts of skills: what breaks whoever relied on another version, and that nothing which breaks is let through."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from agentos.control.policy.model import EffectClass
from agentos.runtime.skills import Cost, Reversibility
from agentos.runtime.skills.contracts import compare
from agentos.runtime.skills.model import Contract
from agentos.runtime.skills.schemas import has_path, misfits


def takes(**fields: Any) -> dict[str, Any]:
    """A schema of arguments, as declarations give them; a name with ``_`` at its end is optional."""
    return {
        "type": "object",
        "properties": {name.rstrip("_"): schema for name, schema in fields.items()},
        "required": [name for name in fields if not name.endswith("_")],
        "additionalProperties": False,
    }


def gives(**fields: Any) -> dict[str, Any]:
    """A schema of results."""
    return {name: value for name, value in takes(**fields).items() if name != "additionalProperties"}


TEXT, WHOLE, NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}
WAS = Contract(
    name="search",
    version="1",
    digest="sha256:1",
    description="Search.",
    effect=EffectClass.S1,
    reversibility=Reversibility.COMPENSABLE,
    idempotent=True,
    timeout_seconds=30.0,
    input_schema=takes(query=TEXT, limit_=WHOLE),
    output_schema=gives(total=WHOLE, items={"type": "array", "items": gives(id=TEXT, score_=NUMBER)}),
    stable=("total", "items[].id"),
    cost=Cost(per_call=100),
    failures=("busy", "gone"),
)


def either(*options: Any) -> dict[str, Any]:
    return {"anyOf": list(options)}


@pytest.mark.parametrize(
    ("was", "now", "said"),
    [
        (takes(a=TEXT), takes(a=TEXT, b=WHOLE), "input.b: is required now"),
        (takes(a=TEXT, b_=WHOLE), takes(a=TEXT, b=WHOLE), "input.b: is required now"),
        (takes(a=TEXT, b_=WHOLE), takes(a=TEXT), "input.b: is not taken any more"),
        (takes(a=NUMBER), takes(a=WHOLE), "input.a: takes a narrower type (number / integer)"),
        (takes(a=TEXT), takes(a=WHOLE), "input.a: takes a narrower type (string / integer)"),
        (takes(a={}), takes(a=TEXT), "input.a: takes a narrower type (any / string)"),
        (takes(a=either(TEXT, {"type": "null"})), takes(a=TEXT), "input.a: takes a narrower type (null / string)"),
        (takes(a={"enum": ["x", "y"]}), takes(a={"enum": ["x"]}), "input.a: takes fewer values ('y')"),
        (takes(a=TEXT), takes(a={"enum": ["x"]}), "input.a: takes fewer values"),
        (takes(a={"type": "boolean"}), takes(a={"const": True}), "input.a: takes fewer values (False)"),
        (takes(a=TEXT), takes(a=TEXT | {"maxLength": 5}), "input.a: is limited more (maxLength 5)"),
        (takes(a=TEXT), takes(a=TEXT | {"pattern": "^x"}), "input.a: is limited more (pattern ^x)"),
        (takes(a=TEXT), takes(a=TEXT | {"format": "uuid"}), "input.a: is limited more (format uuid)"),
        (takes(a=WHOLE | {"minimum": 0}), takes(a=WHOLE | {"minimum": 1}), "input.a: is limited more (minimum 1)"),
        (
            takes(a=WHOLE | {"minimum": 0}),
            takes(a=WHOLE | {"exclusiveMinimum": 0}),
            "input.a: is limited more (exclusiveMinimum 0)",
        ),
        (takes(a=NUMBER), takes(a=NUMBER | {"multipleOf": 2}), "input.a: is limited more (multipleOf 2)"),
        (
            takes(a={"type": "array", "items": NUMBER}),
            takes(a={"type": "array", "items": WHOLE}),
            "input.a[]: takes a narrower type",
        ),
        (
            takes(a={"type": "object", "additionalProperties": NUMBER}),
            takes(a={"type": "object", "additionalProperties": WHOLE}),
            "input.a.*: takes a narrower type",
        ),
        (takes(a=TEXT), takes(a=TEXT | {"not": {"const": "x"}}), "input.a: cannot be compared (not)"),
        (
            takes(a={"$ref": "#/$defs/A"}) | {"$defs": {"A": takes(x=NUMBER)}},
            takes(a={"$ref": "#/$defs/B"}) | {"$defs": {"B": takes(x=WHOLE)}},
            "input.a.x: takes a narrower type",
        ),
        (takes(a=TEXT), takes(a={"$ref": "#/$defs/Missing"}), "input.a: cannot be compared"),
    ],
)
def test_arguments_that_were_taken_and_are_not_any_more_break(was: Any, now: Any, said: str) -> None:
    found = compare(replace(WAS, input_schema=was), replace(WAS, input_schema=now))
    assert any(reason.startswith(said) for reason in found.breaking), found.breaking
    assert compare(replace(WAS, input_schema=was), replace(WAS, input_schema=was)).breaking == ()


@pytest.mark.parametrize(
    ("was", "now", "said"),
    [
        (gives(a=TEXT, b=WHOLE), gives(a=TEXT), "output.b: is gone"),
        (gives(a=TEXT, b_=WHOLE), gives(a=TEXT), "output.b: is gone"),
        (gives(a=TEXT), gives(a_=TEXT), "output.a: is not always there any more"),
        (gives(a=WHOLE), gives(a=NUMBER), "output.a: may be of another type (number / integer)"),
        (gives(a=TEXT), gives(a=either(TEXT, {"type": "null"})), "output.a: may be of another type (null / string)"),
        (gives(a={"enum": ["x"]}), gives(a={"enum": ["x", "y"]}), "output.a: may have a new value ('y')"),
        (gives(a=TEXT | {"maxLength": 5}), gives(a=TEXT), "output.a: is limited less (maxLength 5)"),
        (
            gives(a={"type": "array", "items": gives(id=TEXT)}),
            gives(a={"type": "array", "items": gives(name=TEXT)}),
            "output.a[].id: is gone",
        ),
        ({"type": "array", "items": WHOLE}, {"type": "array", "items": TEXT}, "output[]: may be of another type"),
    ],
)
def test_results_that_nobody_expected_break(was: Any, now: Any, said: str) -> None:
    found = compare(replace(WAS, output_schema=was, stable=()), replace(WAS, output_schema=now, stable=()))
    assert any(reason.startswith(said) for reason in found.breaking), found.breaking


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"effect": EffectClass.S3}, "effect: raised from S1 to S3"),
        ({"reversibility": Reversibility.IRREVERSIBLE}, "reversibility: from compensable to irreversible"),
        ({"idempotent": False}, "idempotent: not promised any more"),
        ({"stable": ("total",)}, "output.items[].id: is not promised to be stable any more"),
        ({"failures": ("busy", "gone", "late")}, "failures: late added"),
        ({"failures": None}, "failures: may fail in ways that nobody declared"),
    ],
)
def test_a_promise_that_is_taken_back_breaks(change: dict[str, Any], said: str) -> None:
    assert compare(WAS, replace(WAS, **change)).breaking == (said,)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"input_schema": takes(query=either(TEXT, WHOLE), limit_=NUMBER, more_=TEXT)}, "input: takes all"),
        ({"output_schema": WAS.output_schema | {"minProperties": 1}}, "output: gives nothing"),
        ({"effect": EffectClass.S0}, "effect: from S1 to S0"),
        ({"reversibility": Reversibility.REVERSIBLE}, "reversibility: from compensable to reversible"),
        ({"timeout_seconds": 60.0}, "timeout: from 30 s to 60 s"),
        ({"cost": Cost(per_call=5, per_unit=2, unit="row")}, "cost: from 100 micros a call to 5 micros a call and 2"),
        ({"stable": ("total", "items[].id", "items")}, "output.items: is promised"),
        ({"failures": ("busy",)}, ""),
    ],
)
def test_what_breaks_nobody_is_told_apart(change: dict[str, Any], said: str) -> None:
    found = compare(WAS, replace(WAS, **change))
    assert found.breaking == ()
    assert not said or any(one.startswith(said) for one in found.compatible), found.compatible


def test_a_field_more_in_a_result_breaks_nobody() -> None:
    more = gives(total=WHOLE, items=WAS.output_schema["properties"]["items"], took=NUMBER)
    closed = WAS.output_schema | {"additionalProperties": False}
    assert compare(WAS, replace(WAS, output_schema=more)).breaking == ()
    assert compare(replace(WAS, output_schema=closed), replace(WAS, output_schema=more)).breaking == ()


def test_a_schema_that_holds_itself_is_compared() -> None:
    def tree(leaf: Any) -> dict[str, Any]:
        node = takes(leaf=leaf, next_=either({"$ref": "#/$defs/Node"}, {"type": "null"}))
        return takes(root={"$ref": "#/$defs/Node"}) | {"$defs": {"Node": node}}

    assert misfits(tree(WHOLE), tree(NUMBER)) == []
    assert misfits(tree(NUMBER), tree(WHOLE))[0][0] == "root.leaf"


@pytest.mark.parametrize(
    ("path", "there"),
    [(path, True) for path in ("total", "items[].id", "items", "items[]")]
    + [(path, False) for path in ("items.id", "gone", "", "items[", "total.x", "..")],
)
def test_a_path_leads_to_a_field_of_the_output(path: str, there: bool) -> None:
    assert has_path(WAS.output_schema, path) is there


# Schemas of a small world, and values of it: small enough that a value often fits.
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 4) | st.sampled_from([0.5, 1.0]) | st.text("xy", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=5,
)
BOUNDS = st.fixed_dictionaries(
    {},
    optional={
        "minimum": st.integers(-1, 2),
        "exclusiveMinimum": st.integers(-1, 2),
        "maximum": st.integers(0, 3),
        "exclusiveMaximum": st.integers(0, 3),
        "multipleOf": st.integers(1, 3),
    },
)
SIZES = st.fixed_dictionaries({}, optional={"minLength": st.integers(0, 2), "maxLength": st.integers(0, 2)})
LEAVES = (
    st.just({})
    | st.builds(lambda kind, more: {"type": kind, **more}, st.sampled_from(["integer", "number"]), BOUNDS)
    | st.builds(lambda more: {"type": "string", **more}, SIZES)
    | st.sampled_from([{"type": "null"}, {"type": "boolean"}, {"type": ["integer", "null"]}, {"pattern": "^x"}])
    | st.builds(lambda some: {"enum": some}, st.lists(VALUES, min_size=1, max_size=3))
)


def _wider(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    either_of = st.lists(inner, min_size=1, max_size=2)
    objects = st.fixed_dictionaries(
        {"type": st.just("object")},
        optional={
            "properties": st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
            "required": st.lists(st.sampled_from("ab"), unique=True),
            "additionalProperties": st.booleans() | inner,
            "maxProperties": st.integers(0, 2),
        },
    )
    arrays = st.fixed_dictionaries(
        {"type": st.just("array")},
        optional={"items": inner, "minItems": st.integers(0, 1), "maxItems": st.integers(0, 2)},
    )
    return (
        objects
        | arrays
        | either_of.map(lambda some: {"anyOf": some})
        | either_of.map(lambda some: {"allOf": some})
        | either_of.map(lambda some: {"oneOf": some})
        | inner.map(lambda one: {"not": one})
    )


SCHEMAS = st.recursive(LEAVES, _wider, max_leaves=4)


def _pair(one: Any, other: Any, how: str) -> tuple[Any, Any]:
    if how == "option":
        return one, {"anyOf": [other, one]}
    if how == "less":
        return one, dict(list(one.items())[:-1])
    return ({"allOf": [one, other]}, other) if how == "part" else (one, other)


PAIRS = st.builds(_pair, SCHEMAS, SCHEMAS, st.sampled_from(["any", "option", "less", "part"]))


@given(pair=PAIRS, values=st.lists(VALUES, min_size=5, max_size=20))
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_is_said_to_fit_always_fits(pair: tuple[Any, Any], values: list[Any]) -> None:
    one, other = pair
    if misfits(one, other):
        return
    for value in values:
        if Draft202012Validator(one).is_valid(value):
            assert Draft202012Validator(other).is_valid(value), (one, other, value)


@given(one=SCHEMAS)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_schema_fits_itself(one: Any) -> None:
    assert misfits(one, one) == []
