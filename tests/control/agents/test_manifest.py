"""Bad manifests are told with file, line, column and what to do; good ones read as they were meant."""

from __future__ import annotations

import pytest

from agentos.control.agents import manifest
from agentos.control.agents.model import DEFAULT_INPUT, RESERVED, Budgets, ManifestInvalid, SkillWanted
from agentos.control.policy.model import Tier
from agentos.control.privacy.model import Mode
from agentos.kernel.schemas import DIALECT
from tests.control.agents.manifests import GOOD, told, with_lines


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
