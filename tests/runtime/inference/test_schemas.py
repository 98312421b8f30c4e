"""Schemas of a question are looked at once each, and only their digests are kept."""

from __future__ import annotations

from typing import Any

import pytest

from agentos.kernel.schemas import MOST_BYTES
from agentos.runtime.inference import Message, Question, Tool, schemas
from agentos.runtime.inference.model import ModelRejectedRequest


def question(*tools: dict[str, Any], schema: dict[str, Any] | None = None) -> Question:
    offered = tuple(Tool(f"t{number}", "", one) for number, one in enumerate(tools))
    return Question("m", "", (Message("user", "hello"),), offered, schema=schema)


def test_a_schema_is_looked_at_once_and_only_its_digest_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    one = {"type": "object", "description": "looked at once"}
    schemas.check_schemas(question(one))
    monkeypatch.setattr(schemas, "faults", lambda *_a, **_k: pytest.fail("it was looked at again"))
    schemas.check_schemas(question(dict(one)))
    assert {len(key) for key in schemas._known} == {32}


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schemas, "KNOWN", len(schemas._known))
    for number in range(10):
        schemas.check_schemas(question({"type": "object", "description": f"bounded {number}"}))
    assert len(schemas._known) <= schemas.KNOWN + 1


@pytest.mark.parametrize(
    ("asked", "where"),
    [
        (question({"type": "object"}, {"type": "array"}), "tools[1].schema.type"),
        (question({"properties": {"a": {"$ref": "http://x/"}}}), "tools[0].schema.properties.a.$ref"),
        (question(schema={"pattern": "("}), "schema.pattern"),
        (
            question(*({"patternProperties": {f"{t}{n}": {} for n in range(50)}} for t in "abcdef")),
            "tools[4].schema",
        ),
        (question(schema={"description": "x" * MOST_BYTES}), "schema"),
        (question(*({"description": "x" * 60_000 + str(n)} for n in range(9))), "tools[8].schema"),
    ],
)
def test_a_schema_that_may_not_be_used_is_refused_with_its_place(asked: Question, where: str) -> None:
    with pytest.raises(ModelRejectedRequest) as refused:
        schemas.check_schemas(asked)
    assert refused.value.where == where
