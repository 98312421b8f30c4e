"""What the stub says in the place of a model: that it is the stub, in a form that fits."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from agentos.adapters.llm.stand_in import SAYS, stand_in
from agentos.adapters.llm.stub import Stub
from agentos.runtime.inference import Message, Question
from agentos.runtime.inference.model import ModelRejectedRequest


def question(schema: dict[str, Any] | None = None) -> Question:
    return Question("", "", (Message("user", "hello"),), schema=schema, options={"provider": "stub"})


async def test_without_a_script_the_stub_says_that_it_is_the_stub() -> None:
    answer = await Stub().ask(question())
    assert (answer.text, answer.provider, answer.calls) == (SAYS, "stub", ())


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"type": "string"}, "b": {}}, "required": ["a"]},
        {"type": "array", "items": {"type": "integer"}, "minItems": 3, "uniqueItems": True},
        {"type": "array", "prefixItems": [{"const": 1}, {"type": "string"}], "minItems": 2},
        {"type": "integer", "minimum": 7, "multipleOf": 5},
        {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        {"type": "string", "minLength": 60, "maxLength": 60},
        {"type": "string", "maxLength": 4},
        {"type": "string", "format": "date-time"},
        {"enum": ["yes", "no"]},
        {"const": {"a": [1]}},
        {"type": ["null", "boolean"]},
        {"anyOf": [{"type": "null"}, {"type": "integer"}]},
        {"oneOf": [{"type": "integer"}, {"type": "string"}]},
        {"allOf": [{"required": ["a"]}, {"required": ["b"], "properties": {"b": {"type": "null"}}}], "type": "object"},
        {
            "$ref": "#/$defs/one",
            "$defs": {"one": {"type": "object", "required": ["x"], "properties": {"x": {"type": "integer"}}}},
        },
        {"$defs": {"n": {"type": "array", "items": {"$ref": "#/$defs/n"}}}, "$ref": "#/$defs/n"},
    ],
    ids=lambda schema: next(iter(schema)),
)
def test_what_it_says_fits_the_output_schema_and_is_always_the_same(schema: dict[str, Any]) -> None:
    said = stand_in(question(schema))
    jsonschema.Draft202012Validator(schema).validate(json.loads(said))
    assert said == stand_in(question(schema))


@pytest.mark.parametrize("schema", [{"type": "string", "pattern": "^[0-9]{4}$"}, {"not": {}}, {"type": "none such"}])
def test_where_it_finds_nothing_that_fits_it_says_so(schema: dict[str, Any]) -> None:
    with pytest.raises(ModelRejectedRequest, match="stand_in"):
        stand_in(question(schema))


FOR_EVER: dict[str, dict[str, Any]] = {
    "an address": {"$ref": "http://127.0.0.1:1/schema"},
    "a circle": {"$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"},
    "itself twice": {"required": ["a", "b"], "properties": {"a": {"$ref": "#"}, "b": {"$ref": "#"}}},
    "lists of lists": {"minItems": 1000, "items": {"minItems": 1000, "items": {"minItems": 1000, "items": {}}}},
    "long texts": {"minItems": 1000, "items": {"type": "string", "minLength": 100_000}},
    "a large value again": {"minItems": 1000, "items": {"const": "x" * 10_000}},
    "a pattern": {"type": "string", "minLength": 5000, "pattern": "^(This is the stub: no model was asked(.+)+)+$x"},
    "a number over all": {"type": "integer", "minimum": 1, "multipleOf": 5e-324},
}


@pytest.mark.parametrize("name", FOR_EVER)
def test_a_schema_that_would_never_end_or_reach_out_is_refused(name: str) -> None:
    with pytest.raises(ModelRejectedRequest, match="finds no value"):
        stand_in(question({"type": "array"} | FOR_EVER[name] if "minItems" in FOR_EVER[name] else FOR_EVER[name]))
