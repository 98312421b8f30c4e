"""What an answer is worth, by each scorer that asks nobody."""

from __future__ import annotations

from typing import Any

import pytest

from agentos.evidence.evals import scorers
from agentos.evidence.evals.model import Score


def score(wanted: Any, expected: Any, output: Any, calls: list[dict[str, Any]] | None = None) -> Score:
    scorer = scorers.read({"kind": wanted} if isinstance(wanted, str) else wanted, expected, has_expected=True)
    return scorers.score(scorer, expected, output, calls or [])


@pytest.mark.parametrize(
    ("expected", "output", "passes"),
    [
        ("x", "x", True),
        ("x", "X", False),
        (1, 1.0, True),
        (1, True, False),
        (0, False, False),
        (None, None, True),
        ({"a": [1, {"b": 2}]}, {"a": [1.0, {"b": 2}]}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ([1, 2], [2, 1], False),
        ([True], [1], False),
    ],
)
def test_exact_is_equality_of_json(expected: Any, output: Any, passes: bool) -> None:
    assert score("exact", expected, output).passed is passes


def test_exact_may_overlook_case_and_space_around() -> None:
    assert score({"kind": "exact", "ignore_case": True, "trim": True}, "Yes", " yES\n").passed
    assert not score({"kind": "exact", "trim": True}, "Yes", " yES\n").passed


@pytest.mark.parametrize(
    ("expected", "output", "passes"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, True),
        ({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}}, True),
        ({"a": 1}, {"b": 1}, False),
        ([1, 3], [1, 2, 3], True),
        ([3, 1], [1, 2, 3], False),
        ([1, 1], [1], False),
        ([{"a": 1}], [{"b": 1}, {"a": 1, "c": 1}], True),
        ({}, {"a": 1}, True),
        ({}, [], False),
        ("x", "x y", False),
    ],
)
def test_subset_wants_members_of_objects_and_elements_in_their_order(expected: Any, output: Any, passes: bool) -> None:
    assert score("subset", expected, output).passed is passes


def test_a_pattern_is_searched_in_text_or_in_canonical_json() -> None:
    assert score({"kind": "regex", "pattern": "^a+$"}, None, "aaa").passed
    assert score({"kind": "regex", "pattern": '"b":2'}, None, {"b": 2, "a": 1}).passed
    assert score("regex", "B+", "abba").passed is False
    assert score({"kind": "regex", "ignore_case": True}, "B+", "abba").passed


def test_no_pattern_takes_more_time_than_the_text_is_long() -> None:
    assert not score({"kind": "regex", "pattern": "^(a+)+$"}, None, "a" * 50_000 + "!").passed
    schema = {"type": "string", "pattern": "^(a|a)*$"}
    assert not score({"kind": "json_schema", "schema": schema}, None, "a" * 50_000 + "!").passed
    # Python's own engine would outlast the universe, and the limit of a test.


def test_a_schema_matches_as_that_of_a_manifest_does() -> None:
    schema = {"type": "string", "pattern": r"^\p{L}+$"}
    assert score({"kind": "json_schema", "schema": schema}, None, "Grüße").passed
    assert not score({"kind": "json_schema", "schema": schema}, None, "42").passed


def test_a_schema_is_held_against_the_output_and_the_fault_is_told() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    assert score({"kind": "json_schema", "schema": schema}, None, {"n": 1}).passed
    found = score("json_schema", schema, {"n": "1"})
    assert (found.passed, found.why) == (False, "$.n: '1' is not of type 'integer'")


@pytest.mark.parametrize(
    ("options", "output", "passes"),
    [
        ({}, 10, True),
        ({}, 10.1, False),
        ({"tolerance": 0.5}, 10.4, True),
        ({"tolerance": 0.5}, 9.4, False),
        ({"relative": 0.1}, 11, True),
        ({"relative": 0.1}, 11.1, False),
        ({"tolerance": 1}, "10.5", True),
        ({"tolerance": 1}, "ten", False),
        ({"tolerance": 1}, True, False),
        ({"tolerance": 1}, "nan", False),
        ({"tolerance": 1}, None, False),
    ],
)
def test_a_number_may_be_away_as_far_as_is_said(options: dict[str, Any], output: Any, passes: bool) -> None:
    assert score({"kind": "number", **options}, 10, output).passed is passes


def test_a_scorer_may_look_at_a_part_of_the_output_or_at_the_calls() -> None:
    assert score({"kind": "exact", "at": "/a/1/b~1c"}, 7, {"a": [0, {"b/c": 7}]}).passed
    missing = score({"kind": "exact", "at": "/a/2"}, 7, {"a": [0]})
    assert (missing.passed, missing.why) == (False, "there is nothing at /a/2")
    made = [{"skill": "look", "arguments": {"n": 1}, "status": "ok"}]
    assert score({"kind": "subset", "of": "calls"}, [{"skill": "look"}], "said", made).passed
    assert not score({"kind": "exact", "of": "calls"}, [], "said", made).passed
