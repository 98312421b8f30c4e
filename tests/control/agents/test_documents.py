"""Whatever YAML and JSON hold is read or told with its place, within limits, and reads the same from both."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from agentos.apps.cli.agents import placed
from agentos.control.agents import documents, manifest, schemas
from agentos.control.agents.documents import Node
from agentos.control.agents.model import Budgets, ManifestInvalid, Problem
from tests.control.agents.catalogues import document
from tests.control.agents.manifests import GOOD, told, with_lines


def test_broken_yaml_is_told_with_its_line() -> None:
    assert told("a: [1, 2\nb: 3\n")[0].startswith("a.yaml:2:2: ")
    assert told("a: *nowhere\n")[0].startswith("a.yaml:1:4: found undefined alias")


def test_a_byte_that_is_not_utf8_is_told_with_its_line() -> None:
    assert told(GOOD.encode().replace(b"team", b"t\xe9am")) == [
        "a.yaml:6:11: this byte is not UTF-8 — Save the file as UTF-8."
    ]


def test_a_character_that_yaml_forbids_is_told_with_its_line() -> None:
    assert told(GOOD.replace("team", "te\x07am")) == [
        "a.yaml:6:12: character U+0007 is not allowed in YAML — Remove it."
    ]


def test_a_byte_order_mark_is_accepted() -> None:
    assert manifest.read_text(GOOD.encode("utf-8-sig"), "a.yaml")


def test_aliases_that_multiply_are_refused_before_they_do() -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    assert "more than 50000 values" in told("\n".join(rows))[0]  # multiplied they would be 10^12


def test_an_alias_of_itself_is_refused() -> None:
    assert "nested more than 64 deep" in told("a: &a [*a]\n")[0]


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_deep_nesting_is_refused_before_the_stack_ends(opening: str) -> None:
    assert "nested more than 64 deep" in told(opening * 20_000)[0]


def test_json_that_nests_too_deep_is_refused() -> None:
    deep: Any = 1
    for _ in range(200):
        deep = [deep]
    with pytest.raises(ManifestInvalid, match="nested more than 64 deep"):
        manifest.read_documents([document(model={"provider": "stub", "x": deep})])


def test_a_schema_as_deep_as_documents_may_be_is_answered() -> None:
    schema: Any = {"type": "string"}
    for _ in range(25):
        schema = {"properties": {"a": schema}}
    assert manifest.read_documents([document(input={"schema": schema})])


def test_a_recursive_schema_that_enters_the_instance_is_accepted() -> None:
    schema = {
        "$defs": {"tree": {"type": "object", "additionalProperties": {"$ref": "#/$defs/tree"}}},
        "$ref": "#/$defs/tree",
    }
    (one,) = manifest.read_documents([document(input={"schema": schema})])
    assert one.input_schema == schema


def test_a_property_may_have_the_name_of_a_keyword() -> None:
    schema = {"type": "object", "properties": {"$id": {"type": "string"}, "$ref": {"type": "string"}}}
    assert manifest.read_documents([document(input={"schema": schema})])


def test_a_file_over_a_megabyte_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "big.yaml"
    file.write_bytes(b"#" * (documents.MOST_BYTES + 1))
    with pytest.raises(ManifestInvalid, match=r"big\.yaml:1:1: the file is over 1048576 bytes"):
        manifest.read_files([file])


def test_files_and_folders_are_read_in_order_and_each_once(tmp_path: Path) -> None:
    (tmp_path / "b.yml").write_text(GOOD.replace("writer", "beta") + "---\n" + GOOD.replace("writer", "gamma"))
    (tmp_path / "a.yaml").write_text(GOOD.replace("writer", "alpha"))
    (tmp_path / "notes.txt").write_text("no manifest")
    (tmp_path / ".hidden.yaml").write_text("nor this")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.yaml").write_text(GOOD.replace("writer", "delta"))
    found = manifest.read_files([tmp_path, tmp_path / "a.yaml"])
    assert [one.agent_id for one in found] == ["alpha", "beta", "gamma", "delta"]
    assert [one.path for one in found] == [f"documents[{i}]" for i in range(4)]


def test_faults_of_several_files_are_told_together(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(with_lines(tier="  tier: L9"))
    (tmp_path / "b.yaml").write_text(with_lines(kind="kind: Pod"))
    with pytest.raises(ManifestInvalid) as caught:
        manifest.read_files([tmp_path, tmp_path / "gone.yaml"])
    for said in ("a.yaml:10:9", "b.yaml:2:7", "gone.yaml: there is no such file", "'writer' is defined twice"):
        assert said in caught.value.what


def test_an_empty_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(ManifestInvalid, match=r"holds no \*\.yaml"):
        manifest.read_files([tmp_path])


def test_nothing_to_apply_is_told() -> None:
    with pytest.raises(ManifestInvalid, match="nothing to apply"):
        manifest.read_documents([])
    with pytest.raises(ManifestInvalid, match="more than 200 documents"):
        manifest.read_documents([document()] * 201)


def test_a_json_document_is_told_with_its_path() -> None:
    bad = [document(), document("other", tier="L9", skills=[{"name": "a", "version": 1}])]
    with pytest.raises(ManifestInvalid) as caught:
        manifest.read_documents(bad)
    assert [one["where"] for one in caught.value.extra["problems"]] == [
        "documents[1].spec.skills[0].version",
        "documents[1].spec.tier",
    ]


@pytest.mark.parametrize("strange", [None, 1, "x", [], {"": None}, {"spec": 1, "metadata": [], "kind": {}}])
def test_any_json_gets_an_answer(strange: Any) -> None:
    with pytest.raises(ManifestInvalid):
        manifest.read_documents([strange])


def test_what_a_client_sends_reads_as_what_it_read() -> None:
    text = (
        with_lines(owner="  owner: team\n  description: Says what.")
        + "  skills: [b@1, {name: a, version: 2}]\n"
        + "  budgets: {turns: 3, steps: 4, duration: 1h30m, tokens: 5, money: 1.50}\n"
        + "  output: {schema: {type: string}}\n  onDenied: stop\n  triggers: [{type: manual}, {type: schedule}]\n"
    )
    (one,) = manifest.read_text(text, "a.yaml")
    assert manifest.read_documents(json.loads(json.dumps([one.document()]))) == [one]
    assert one.budgets == Budgets(3, 4, 5400, 5, 1_500_000)


def test_a_servers_path_becomes_the_line_it_was_written_on() -> None:
    found = manifest.read_text(GOOD + "  skills:\n    - a@1\n    - name: b\n      version: '2'\n", "a.yaml")
    said = "2 problems:\n  documents[0].spec.skills[1]: unknown\n  documents[0].spec.model.script[0].text: no"
    assert placed(said, found) == "2 problems:\n  a.yaml:13:7: unknown\n  a.yaml:9:43: no"
    assert placed("documents[0].spec.tier: low", found) == "a.yaml:10:9: low"
    assert placed("documents[7].spec: x", found) == "documents[7].spec: x"


def shuffled(data: Any, chance: random.Random) -> Any:
    if isinstance(data, dict):
        items = [(key, shuffled(value, chance)) for key, value in data.items()]
        chance.shuffle(items)
        return dict(items)
    return [shuffled(each, chance) for each in data] if isinstance(data, list) else data


@given(st.randoms(use_true_random=False), st.booleans(), st.sampled_from([40, 80, 1000]))
def test_the_order_of_keys_and_the_style_of_yaml_mean_nothing(chance: Any, flow: bool, width: int) -> None:
    written = document(
        input={"schema": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "number"}}}},
        budgets={"turns": 2, "duration": "90s"},
    )
    (plain,) = manifest.read_documents([written])
    text = yaml.safe_dump(
        shuffled(copy.deepcopy(written), chance), default_flow_style=flow, width=width, sort_keys=False
    )
    assert manifest.read_text(text, "a.yaml") == [plain]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(json_values, st.sampled_from(["model", "skills", "tier", "budgets", "input", "output", "onDenied", "triggers"]))
def test_no_value_of_a_field_breaks_the_reader(value: Any, name: str) -> None:
    try:
        manifest.read_documents([document(**{name: value})])
    except ManifestInvalid as error:
        assert error.extra["problems"]


@given(
    st.dictionaries(
        st.sampled_from(["type", "$ref", "allOf", "properties", "$defs", "not", "items", "enum"]), json_values
    )
)
def test_no_schema_breaks_the_reader(schema: dict[str, Any]) -> None:
    problems: list[Problem] = []
    node = documents.from_json(schema, "documents[0]", problems)
    if node is not None:
        assert isinstance(node, Node)
        schemas.check(node, problems)


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode(errors="replace")))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    with pytest.raises(ManifestInvalid):
        manifest.read_text(data, "a.yaml")
