"""What the built-in skills declare of themselves; policy and recovery rest on it."""

from __future__ import annotations

from agentos.runtime.skills import Reversibility
from tests.adapters.skills.conftest import SKILLS


def test_every_built_in_skill_declares_what_it_can_do() -> None:
    declared = {one.name: (one.version, one.effect.name, one.reversibility, one.repeatable) for one in SKILLS.every()}
    assert declared == {
        "file_write": ("1", "S2", Reversibility.COMPENSABLE, True),
        "git_log": ("1", "S0", Reversibility.REVERSIBLE, True),
        "http_get": ("1", "S0", Reversibility.REVERSIBLE, True),
        "http_request": ("1", "S3", Reversibility.IRREVERSIBLE, False),
        "json_transform": ("1", "S0", Reversibility.REVERSIBLE, True),
        "postgres_query": ("1", "S0", Reversibility.REVERSIBLE, True),
        "read_file": ("1", "S0", Reversibility.REVERSIBLE, True),
        "webhook_send": ("1", "S3", Reversibility.IRREVERSIBLE, True),
    }


def test_every_parameter_is_explained_to_the_model() -> None:
    for one in SKILLS.every():
        assert one.description
        assert one.input_schema["additionalProperties"] is False
        for name, schema in one.input_schema["properties"].items():
            assert schema.get("description"), f"{one.name}.{name}"
