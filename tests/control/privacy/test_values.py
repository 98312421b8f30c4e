"""Redaction of texts and JSON values: nothing is left, nothing else is touched, and doing it again changes nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from benchmarks.control.corpus import Corpus
from hypothesis import given, settings
from hypothesis import strategies as some

from agentos.control.privacy.finder import find
from agentos.control.privacy.model import (
    BadPrivacyRules,
    Finding,
    Kind,
    Mode,
    PrivacyKeyMissing,
    Rules,
    ValueTooDeep,
    key_of,
)
from agentos.control.privacy.values import masked, redact

KEY = key_of("k" * 32, "acme")
CORPUS = list(Corpus(31).positives(2))
VALUES = [one.text[p.start : p.end] for one in CORPUS for p in one.planted]
RULES = [
    Rules(),
    Rules(kinds=frozenset(Kind)),
    Rules(mode=Mode.HASH, key=KEY),
    Rules(mode=Mode.REMOVE),
    Rules(template="<{type}>"),
    Rules(modes={Kind.EMAIL: Mode.HASH, Kind.CARD: Mode.REMOVE}, key=KEY),
]
texts = some.lists(some.one_of(some.text(max_size=20), some.sampled_from(VALUES)), max_size=6).map(" ".join)
values = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda below: some.lists(below, max_size=4) | some.dictionaries(texts, below, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(values, some.sampled_from(RULES))
def test_redaction_is_idempotent_and_json_stays_json(value: Any, rules: Rules) -> None:
    once, counts = redact(value, rules)
    assert json.loads(json.dumps(once, allow_nan=False)) == once
    twice, again = redact(once, rules)
    assert twice == once
    assert not again
    if not counts:
        assert json.dumps(once) == json.dumps(value)


@settings(deadline=None)
@given(some.sampled_from(CORPUS), some.sampled_from(RULES))
def test_what_was_found_is_in_no_redacted_text(document: Any, rules: Rules) -> None:
    shown, _ = redact(document.text, rules)
    for one in find(document.text, rules):
        assert document.text[one.start : one.end] not in shown


def test_no_value_of_class_a_that_is_found_survives_in_json() -> None:
    for document in CORPUS:
        (planted,) = document.planted
        value = document.text[planted.start : planted.end]
        if planted.kind in ("email", "phone"):
            continue
        shown, counts = redact({"note": document.text, "in": [document.text]}, Rules())
        if counts and find(document.text, Rules())[0].start <= planted.start:
            assert value not in json.dumps(shown)


def test_numbers_and_names_of_fields_are_looked_at_too() -> None:
    given = {
        "ann@example.com": 1,
        "bob@example.com": 2,
        "card": 4111111111111111,
        "ssn": 123456789,
        "n": 12345,
        "x": 1.5,
    }
    shown, counts = redact(given, Rules())
    assert shown == {
        "[REDACTED: EMAIL]": 1,
        "[REDACTED: EMAIL] (2)": 2,
        "card": "[REDACTED: CARD]",
        "ssn": "[REDACTED: NATIONAL_ID]",
        "n": 12345,
        "x": 1.5,
    }
    assert counts == {Kind.EMAIL: 2, Kind.CARD: 1, Kind.NATIONAL_ID: 1}


def test_a_field_that_says_password_is_one_and_a_reference_is_none() -> None:
    shown, _ = redact({"dbPassword": "x", "client_secret": "y", "secret": "secret://stripe", "passwords": 3}, Rules())
    assert shown == {
        "dbPassword": "[REDACTED: PASSWORD]",
        "client_secret": "[REDACTED: KEY]",
        "secret": "secret://stripe",
        "passwords": 3,
    }


SCHEMA = {
    "properties": {
        "customer": {"$ref": "#/$defs/person"},
        "born": {"type": "string", "x-personal": "birth_date"},
        "others": {"items": {"anyOf": [{"$ref": "#/$defs/person"}, {"type": "null"}]}},
        "who": {"x-personal": "user_id"},
    },
    "$defs": {
        "person": {
            "properties": {
                "name": {"x-personal": "name"},
                "address": {"type": "object", "x-personal": "address"},
                "title": {"type": "string"},
            }
        }
    },
}


def test_what_a_schema_annotates_is_what_it_says() -> None:
    person = {"name": "Ann Lee", "address": {"street": "Hauptstr. 1"}, "title": "Dr"}
    given = {"customer": person, "born": "1970-01-01", "others": [person, None], "who": "ann", "name": "free"}
    shown, counts = redact(given, Rules(), schema=SCHEMA)
    hidden = {"name": "[REDACTED: NAME]", "address": "[REDACTED: ADDRESS]", "title": "Dr"}
    assert shown == {
        "customer": hidden,
        "born": "[REDACTED: BIRTH_DATE]",
        "others": [hidden, None],
        "who": "ann",  # class C: nobody asked for it
        "name": "free",
    }
    assert redact(shown, Rules(), schema=SCHEMA) == (shown, {})
    assert counts[Kind.NAME] == 2
    assert masked(given, Rules(), schema=SCHEMA)
    assert not masked({"n": 1}, Rules(), schema=SCHEMA)


def test_a_schema_that_refers_to_itself_ends() -> None:
    schema = {"properties": {"next": {"$ref": "#"}, "name": {"x-personal": "name"}}, "anyOf": [{"$ref": "#"}]}
    shown, _ = redact({"next": {"next": {"name": "Ann"}}}, Rules(), schema=schema)
    assert shown == {"next": {"next": {"name": "[REDACTED: NAME]"}}}


def test_hashes_join_equal_values_within_an_organization_and_nowhere_else() -> None:
    def hashed(text: str, organization: str) -> str:
        return str(redact(text, Rules(mode=Mode.HASH, key=key_of("k" * 32, organization)))[0])

    assert hashed("ann@example.com", "acme") == hashed("Ann@Example.com", "acme")
    assert hashed("4111 1111 1111 1111", "acme") == hashed("4111-1111-1111-1111", "acme")
    assert hashed("ann@example.com", "acme") != hashed("ann@example.com", "other")
    assert hashed("ann@example.com", "acme") != hashed("bob@example.com", "acme")
    with pytest.raises(PrivacyKeyMissing):
        redact("ann@example.com", Rules(mode=Mode.HASH))


@pytest.mark.parametrize(
    "template", ["", "gone", "{type}", "{type} {type}", "x" * 70 + "{type}.", "a@{type}.", '"{type}"', "1{type}."]
)
def test_a_template_that_could_be_taken_for_data_is_refused(template: str) -> None:
    with pytest.raises(BadPrivacyRules):
        Rules(template=template)


def test_class_a_cannot_be_switched_off() -> None:
    with pytest.raises(BadPrivacyRules):
        Rules(kinds=frozenset({Kind.EMAIL}))
    read = Rules.read({**Rules().document(), "kinds": []}, key=b"")
    assert read.kinds == {kind for kind in Kind if kind.sensitivity == "A"}


def test_a_marker_around_something_else_hides_nothing() -> None:
    assert redact("[REDACTED: 4111 1111 1111 1111]", Rules())[0] == "[REDACTED: [REDACTED: CARD]]"


def test_free_text_is_looked_through_by_a_recognizer_where_there_is_one() -> None:
    def recognizer(text: str) -> list[Finding]:
        at = text.find("Ann Lee")
        return [] if at < 0 else [Finding(at, at + 7, Kind.NAME)]

    assert redact("hello Ann Lee", Rules())[0] == "hello Ann Lee"
    assert redact("hello Ann Lee", Rules(), recognizer=recognizer)[0] == "hello [REDACTED: NAME]"


def test_what_is_nested_too_deep_is_refused() -> None:
    value: Any = "x"
    for _ in range(300):
        value = [value]
    with pytest.raises(ValueTooDeep):
        redact(value, Rules())
