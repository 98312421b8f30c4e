"""Bad manifests are told with file, line, column and what to do; good ones read the same from YAML and JSON."""

from __future__ import annotations

import copy
import json
import random
import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from agentos.apps.cli.agents import placed
from agentos.control.agents import documents, manifest, schemas
from agentos.control.agents.documents import Node
from agentos.control.agents.model import DEFAULT_INPUT, RESERVED, Budgets, ManifestInvalid, Problem, SkillWanted
from agentos.control.policy.model import Tier
from agentos.control.privacy.model import Mode
from agentos.kernel.schemas import DIALECT

from .catalogues import document

GOOD = """\
apiVersion: agentos/v1
kind: Agent
metadata:
  name: writer
  category: docs
  owner: team
spec:
  instructions: Write.
  model: {provider: stub, script: [{text: done}]}
  tier: L2
"""


def told(text: str | bytes) -> list[str]:
    """Every problem of a manifest, as the command line prints it."""
    with pytest.raises(ManifestInvalid) as caught:
        manifest.read_text(text, "a.yaml")
    lines = caught.value.what.splitlines()
    found = [line.strip() for line in (lines[1:] if len(lines) > 1 else lines)]
    assert len(found) == len(caught.value.extra["problems"])
    for line in found:
        assert re.match(r"a\.yaml:\d+:\d+: .+ — .+", line), line
    return found


def with_lines(**replaced: str) -> str:
    """The good manifest with some of its lines replaced, by their field."""
    lines = []
    for line in GOOD.splitlines():
        field = line.strip().split(":")[0]
        lines.append(replaced.get(field, line))
    return "\n".join(lines) + "\n"


def test_a_good_manifest_reads() -> None:
    (one,) = manifest.read_text(GOOD, "a.yaml")
    assert (one.agent_id, one.category, one.owner, one.tier) == ("writer", "docs", "team", Tier.L2)
    assert one.budgets == Budgets()
    assert one.input_schema == dict(DEFAULT_INPUT)
    assert one.on_denied == "continue"


BAD: dict[str, tuple[str, str]] = {
    "an unknown field with what was meant": (
        with_lines(tier="  teir: L2\n  tier: L2"),
        "a.yaml:10:3: unknown field 'teir' in spec — Did you mean 'tier'?",
    ),
    "an unknown field that resembles nothing": (
        with_lines(owner="  owner: team\n  zzz: 1"),
        "a.yaml:7:3: unknown field 'zzz' in metadata — Known here: name, category, owner, description.",
    ),
    "a field in another case": (
        with_lines(tier="  tier: L2\n  ondenied: stop"),
        "a.yaml:11:3: unknown field 'ondenied' in spec — Did you mean 'onDenied'?",
    ),
    "a missing field": (
        with_lines(owner="  description: x"),
        "a.yaml:4:3: 'owner' is missing in metadata — Add 'owner: …'.",
    ),
    "an empty field": (with_lines(owner="  owner:"), "a.yaml:6:3: 'owner' is empty — Fill it in."),
    "a text of spaces": (with_lines(owner="  owner: '  '"), "a.yaml:6:10: 'owner' is empty — Fill it in."),
    "a list for a text": (
        with_lines(owner="  owner: [team]"),
        "a.yaml:6:10: 'owner' is a text, not a list — Write a text.",
    ),
    "a bool for a text": (
        with_lines(owner="  owner: yes"),
        "a.yaml:6:10: 'owner' is a text, not the value yes — Put it in quotes.",
    ),
    "a list for a mapping": (
        with_lines(metadata="metadata: []", name="", category="", owner=""),
        "a.yaml:3:11: metadata is a mapping, not a list — Write 'field: value' lines.",
    ),
    "a key that is there twice": (
        with_lines(tier="  tier: L2\n  tier: L3"),
        "a.yaml:11:3: 'tier' is here twice — Keep one; the first is at a.yaml:10:3.",
    ),
    "a bad tier": (
        with_lines(tier="  tier: L5"),
        "a.yaml:10:9: tier 'L5' is not an autonomy tier — Write L0, L1, L2, L3, L4.",
    ),
    "a tier as number": (
        with_lines(tier="  tier: 2"),
        "a.yaml:10:9: tier '2' is not an autonomy tier — Write L0, L1, L2, L3, L4.",
    ),
    "a bad name": (
        with_lines(name="  name: Writer"),
        "a.yaml:4:9: agent 'Writer' is not a name — Use a lower-case letter, then letters, digits, '_' or '-', "
        "63 characters at most.",
    ),
    "another apiVersion": (
        with_lines(apiVersion="apiVersion: agentos/v2"),
        "a.yaml:1:13: apiVersion 'agentos/v2' is not known — Write agentos/v1.",
    ),
    "another kind": (with_lines(kind="kind: Pod"), "a.yaml:2:7: kind 'Pod' is not known — Write Agent."),
    "no provider": (
        with_lines(model="  model: {name: x}"),
        "a.yaml:9:10: 'provider' is missing in model — Add 'provider: stub' or another.",
    ),
    "instructions that are too long": (
        with_lines(instructions=f"  instructions: {'x' * 100_001}"),
        "a.yaml:8:17: 'instructions' has 100001 characters, 100000 at most — Shorten it.",
    ),
    "too many skills": (
        with_lines(tier="  tier: L2\n  skills: [" + ", ".join(f"s{i}@1" for i in range(65)) + "]"),
        "a.yaml:11:11: there are 65 skills, 64 at most — Name fewer.",
    ),
    "a skill without version": (
        with_lines(tier="  tier: L2\n  skills:\n    - git_log"),
        "a.yaml:12:7: 'git_log@' does not name a skill — Write NAME@VERSION.",
    ),
    "two versions of a skill": (
        with_lines(tier="  tier: L2\n  skills: [a@1, a@2]"),
        "a.yaml:11:17: skill 'a' is here twice — Keep one version of it.",
    ),
    "an unknown field of a skill": (
        with_lines(tier="  tier: L2\n  skills: [{name: a, verison: 1}]"),
        "a.yaml:11:22: unknown field 'verison' in a skill — Did you mean 'version'?",
    ),
    "turns that are no number": (
        with_lines(tier="  tier: L2\n  budgets: {turns: many}"),
        "a.yaml:11:20: 'turns' is the text 'many' — Write a whole number from 1 to 1000.",
    ),
    "no turns at all": (
        with_lines(tier="  tier: L2\n  budgets: {turns: 0}"),
        "a.yaml:11:20: 'turns' is the value 0 — Write a whole number from 1 to 1000.",
    ),
    "a bool for a number": (
        with_lines(tier="  tier: L2\n  budgets: {steps: true}"),
        "a.yaml:11:20: 'steps' is the value true — Write a whole number from 1 to 10000.",
    ),
    "a duration without unit": (
        with_lines(tier="  tier: L2\n  budgets: {duration: 10}"),
        "a.yaml:11:23: '10' is not a duration — Write a number and ms, s, m, h, d or w, for example 90s or 1h30m.",
    ),
    "a duration that YAML takes for a number of base 60": (
        with_lines(tier="  tier: L2\n  budgets: {duration: 10:00}"),
        "a.yaml:11:23: '10:00' is not a duration — Write a number and ms, s, m, h, d or w, for example 90s or 1h30m.",
    ),
    "a duration of part of a second": (
        with_lines(tier="  tier: L2\n  budgets: {duration: 1500ms}"),
        "a.yaml:11:23: '1500ms' is not a run's time — Write whole seconds, from 1s to 30d.",
    ),
    "a schema in the wrong place": (
        with_lines(tier="  tier: L2\n  input: {type: object}"),
        "a.yaml:11:10: 'schema' is missing in input — Add 'schema: …'.\n"
        "a.yaml:11:11: unknown field 'type' in input — Known here: schema.",
    ),
    "a schema that is none": (
        with_lines(tier="  tier: L2\n  input:\n    schema:\n      properties:\n        a: {maxLength: -1}"),
        "a.yaml:14:24: this is no JSON schema: -1 is less than the minimum of 0 — Write JSON Schema of draft 2020-12.",
    ),
    "a schema with a pattern that is none": (
        with_lines(tier="  tier: L2\n  output: {schema: {pattern: '('}}"),
        "a.yaml:11:30: '(' is no pattern that can be matched in linear time — "
        "Write a shorter one, without look-around and without references back.",
    ),
    "a schema that would be fetched": (
        with_lines(tier="  tier: L2\n  input: {schema: {$ref: 'http://127.0.0.1/s.json'}}"),
        "a.yaml:11:26: 'http://127.0.0.1/s.json' is not in this schema — "
        "Refer to '#' or to '#/$defs/NAME' of this very schema.",
    ),
    "a schema that leads nowhere": (
        with_lines(tier="  tier: L2\n  input: {schema: {$ref: '#/$defs/gone'}}"),
        "a.yaml:11:26: '#/$defs/gone' is not in this schema — Refer to '#' or to '#/$defs/NAME' of this very schema.",
    ),
    "a schema that never ends": (
        with_lines(tier="  tier: L2\n  input: {schema: {$defs: {a: {allOf: [{$ref: '#/$defs/a'}]}}}}"),
        "a.yaml:11:19: a $ref comes back to itself — Put 'properties' or 'items' between.",
    ),
    "a schema with another base": (
        with_lines(tier="  tier: L2\n  input: {schema: {$id: 'http://x/'}}"),
        "a.yaml:11:20: '$id' is not supported — Refer to '#/$defs/NAME'.",
    ),
    "a schema of another draft": (
        with_lines(tier="  tier: L2\n  input: {schema: {$schema: 'http://json-schema.org/draft-07/schema#'}}"),
        f"a.yaml:11:29: only draft 2020-12 is understood — Write {DIALECT}.",
    ),
    "a trigger that does not exist": (
        with_lines(tier="  tier: L2\n  triggers: [{type: cron}]"),
        "a.yaml:11:21: trigger type 'cron' is not known — Write manual or schedule or event or webhook.",
    ),
    "onDenied with another word": (
        with_lines(tier="  tier: L2\n  onDenied: retry"),
        "a.yaml:11:13: onDenied 'retry' is not known — Write continue or stop.",
    ),
    "a merge key": (
        with_lines(owner="  owner: team\n  <<: {a: b}"),
        "a.yaml:7:3: '<<' is not supported — Write the fields out.",
    ),
    "a tag": (
        with_lines(owner="  owner: !!python/name:os.system x"),
        "a.yaml:6:10: the tag 'tag:yaml.org,2002:python/name:os.system' does not fit plain data — Remove it.",
    ),
    "a number beyond JSON": (
        with_lines(model="  model: {provider: stub, seed: 9007199254740993}"),
        "a.yaml:9:33: this number is beyond what JSON can hold exactly — Write it as a text, in quotes.",
    ),
    "a fraction beyond JSON": (
        with_lines(model="  model: {provider: stub, heat: 1.0e+21}"),
        "a.yaml:9:33: this number is beyond what JSON can hold exactly — Write it as a text, in quotes.",
    ),
    "a number that is none": (
        with_lines(model="  model: {provider: stub, heat: .nan}"),
        "a.yaml:9:33: a number must be finite — Write a number, or a text.",
    ),
    "a zero character": (
        with_lines(owner='  owner: "a\\0b"'),
        "a.yaml:6:10: a text may not hold the character U+0000 — Remove it.",
    ),
    "half a surrogate pair": (
        with_lines(owner='  owner: "a\\ud800b"'),
        "a.yaml:6:10: a text may not hold half of a surrogate pair — Write the whole character.",
    ),
    "a document that is a list": (
        "- 1\n",
        "a.yaml:1:1: a manifest is a mapping, not a list — Write 'field: value' lines.",
    ),
    "an empty file": ("", "a.yaml:1:1: the file holds no document — Write a manifest, or remove the file."),
    "only a comment": ("# later\n", "a.yaml:1:1: the file holds no document — Write a manifest, or remove the file."),
}


@pytest.mark.parametrize("name", BAD)
def test_a_fault_is_told_with_its_place_and_what_to_do(name: str) -> None:
    text, expected = BAD[name]
    assert told(text) == expected.split("\n")


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_a_name_that_routes_use_is_refused(name: str) -> None:
    assert told(with_lines(name=f"  name: {name}")) == [
        f"a.yaml:4:9: the name '{name}' is reserved — Choose another name."
    ]


def test_every_fault_is_told_at_once_in_the_order_of_the_text() -> None:
    text = with_lines(kind="kind: Pod", name="  name: X", owner="  zzz: team", tier="  tier: L9")
    assert [line.split(": ")[0] for line in told(text)] == [
        "a.yaml:2:7",
        "a.yaml:4:3",
        "a.yaml:4:9",
        "a.yaml:6:3",
        "a.yaml:10:9",
    ]


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


def test_aliases_that_multiply_are_refused_quickly() -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    began = time.monotonic()
    assert "more than 50000 values" in told("\n".join(rows))[0]
    assert time.monotonic() - began < 5


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


def test_a_bare_number_for_a_version_stays_as_it_was_written() -> None:
    (one,) = manifest.read_text(GOOD + "  skills: [{name: a, version: 1.10}, b@2]\n", "a.yaml")
    assert one.skills == (SkillWanted("a", "1.10"), SkillWanted("b", "2"))


def test_a_version_may_be_a_range_or_latest() -> None:
    skills = "  skills: [a@^1.2, 'b@>=1.2, <2', {name: c, version: ~1.2}, {name: d, version: latest}]\n"
    (one,) = manifest.read_text(GOOD + skills, "a.yaml")
    assert [wanted.version for wanted in one.skills] == ["^1.2", ">=1.2, <2", "~1.2", "latest"]
    assert manifest.read_documents([one.document()])[0].skills == one.skills


def test_a_date_is_text() -> None:
    (one,) = manifest.read_text(with_lines(model="  model: {provider: stub, since: 2024-01-01}"), "a.yaml")
    assert one.model["since"] == "2024-01-01"


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


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("-1", "malformed_money"),
        ("1.1234567", "malformed_money"),
        ("1e3", "malformed_money"),
        ("2000000000", "malformed_money"),
        ("5 EUR", "currency_unknown"),
    ],
)
def test_money_that_cannot_be_is_refused_with_its_place(written: str, code: str) -> None:
    with pytest.raises(ManifestInvalid) as refused:
        manifest.read_text(GOOD + f"  budgets: {{money: {written}}}\n", "a.yaml")
    (problem,) = refused.value.extra["problems"]
    assert problem["code"] == code
    assert problem["where"].startswith("a.yaml:")


def test_a_version_without_money_keeps_the_name_that_it_had() -> None:
    assert "money" not in Budgets().canonical()
    assert Budgets(**Budgets(money=5).canonical()) == Budgets(money=5)


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


def test_what_becomes_of_prompts_is_read_and_written_again() -> None:
    (read,) = manifest.read_text(GOOD + "  privacy: {prompts: mask}\n", "a.yaml")
    assert read.prompts is Mode.MASK
    (again,) = manifest.read_documents([read.document()])
    assert again.prompts is Mode.MASK
    (kept,) = manifest.read_text(GOOD + "  privacy: {prompts: keep}\n", "a.yaml")
    assert (kept.prompts, "privacy" in kept.document()["spec"]) == (None, False)
    (fault,) = told(GOOD + "  privacy: {prompts: hide}\n")
    assert fault.startswith("a.yaml:11:22: prompts 'hide' is not known")


def test_a_field_that_is_annotated_with_no_kind_of_personal_data_is_refused() -> None:
    (fault,) = told(GOOD + "  input: {schema: {properties: {a: {x-personal: nickname}}}}\n")
    assert "a.yaml:11" in fault and "x-personal" in fault
    manifest.read_text(GOOD + "  input: {schema: {properties: {a: {x-personal: name}}}}\n", "a.yaml")
