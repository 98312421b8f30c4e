"""A file of cases: good lines are read, broken ones are named with their reasons, and nothing else is lost."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentos.evidence.evals import datasets
from agentos.evidence.evals.model import MOST_CASE_BYTES, MOST_CASES, MOST_FILE_BYTES, DatasetBroken, DatasetTooLarge

GOOD: dict[str, Any] = {"id": "one", "input": {"n": 1}, "expected": "x", "scorer": "exact"}


def lines(*rows: Any) -> bytes:
    return b"\n".join(one if isinstance(one, bytes) else json.dumps(one).encode() for one in rows)


def reason(row: Any) -> str:
    """Why this line is no case, in a file whose first line is one."""
    cases, broken = datasets.read(lines(GOOD, row))
    assert [one.id for one in cases] == ["one"]
    (found,) = broken
    assert found.line == 2
    return found.reason


def test_broken_lines_are_named_by_number_and_reason_and_the_others_are_read() -> None:
    cases, broken = datasets.read(lines(GOOD, b"{", b"", GOOD | {"id": "two"}, [1], b"\xff"))
    assert [(one.id, one.number, one.line) for one in cases] == [("one", 0, 1), ("two", 1, 4)]
    assert [one.line for one in broken] == [2, 5, 6]
    assert [one.reason.split(":")[0] for one in broken] == ["it is not JSON", "it is no JSON object", "it is not UTF-8"]


def test_a_file_may_begin_with_a_byte_order_mark_and_end_lines_as_windows_does() -> None:
    cases, broken = datasets.read(b"\xef\xbb\xbf" + lines(GOOD, GOOD | {"id": "two"}).replace(b"\n", b"\r\n"))
    assert len(cases) == 2 and not broken


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"id": "one"}, "its id 'one' is that of line 1"),
        ({"id": ""}, "its 'id' is no text"),
        ({"id": 7}, "its 'id' is no text"),
        ({"scorer": "vibes"}, "there is no scorer 'vibes'"),
        ({"scorers": ["exact"]}, "either 'scorer' or 'scorers'"),
        ({"more": 1}, "there is no field 'more'"),
        ({"scorer": {"kind": "exact", "tolerance": 1}}, "has no option 'tolerance'"),
        ({"scorer": {"kind": "regex", "pattern": "("}}, "the pattern is none of RE2"),
        ({"scorer": {"kind": "regex", "pattern": r"(a)\1"}}, "the pattern is none of RE2"),
        ({"scorer": {"kind": "number"}}, "needs a number that is 'expected'"),
        ({"scorer": {"kind": "number", "tolerance": -1}, "expected": 1}, "'tolerance' is a number of 0 or more"),
        ({"scorer": {"kind": "json_schema", "schema": {"type": "nothing"}}}, "no JSON schema"),
        ({"scorer": {"kind": "json_schema", "schema": {"$ref": "http://x/"}}}, "is not in this schema"),
        ({"scorer": {"kind": "json_schema", "schema": {"pattern": "(?=a)"}}}, "pattern"),
        ({"scorer": {"kind": "judge", "rubric": "Is it kind?"}}, "a judge needs a 'model'"),
        ({"scorer": {"kind": "judge", "model": {"provider": "stub"}}}, "a judge needs a 'rubric'"),
        ({"scorer": {"kind": "exact", "at": "total"}}, "'at' is a JSON pointer"),
        ({"scorer": {"kind": "exact", "name": "all"}}, "a scorer's 'name'"),
        ({"fixtures": [{"skill": "look"}]}, "needs either an 'answer' or an 'error'"),
        ({"fixtures": [{"answer": 1}]}, "a fixture names its 'skill'"),
        ({"tags": [1]}, "a tag is a text"),
        ({"input": "x" * MOST_CASE_BYTES}, "bytes, at most"),
        ({"input": 2**60}, "no canonical form"),
        ({"id": "a\0b"}, "its 'id' is no text"),
    ],
)
def test_each_fault_of_a_line_is_told(change: dict[str, Any], said: str) -> None:
    assert said in reason(GOOD | {"id": "two"} | change)


def test_what_a_line_lacks_is_told() -> None:
    assert reason({"id": "two", "expected": 1, "scorer": "exact"}) == "it has no 'input'"
    assert reason({"id": "two", "input": 1, "scorer": "exact"}) == "the case says nothing of what is 'expected'"
    assert reason({"id": "two", "input": 1, "expected": 1}) == "it needs either 'scorer' or 'scorers'"


def test_two_scorers_of_one_kind_need_names() -> None:
    twice = [{"kind": "regex", "pattern": "a"}, {"kind": "regex", "pattern": "b"}]
    said = reason({"id": "two", "input": 1, "scorers": twice})
    assert said == "two scorers are named 'regex'; give one a 'name'"
    cases, _ = datasets.read(lines({"id": "two", "input": 1, "scorers": [twice[0], twice[1] | {"name": "b"}]}))
    assert [one.name for one in cases[0].scorers] == ["regex", "b"]


def test_numbers_that_json_has_not_are_told() -> None:
    assert reason(b'{"id": "two", "input": NaN}') == "NaN is no number of JSON"
    assert reason(b'{"id": "two", "input": 1e999}') == "1e999 is no number of JSON"
    assert "no canonical form" in reason(b'{"id": "two", "input": "\\ud800"}')


def test_json_that_nests_too_deep_costs_its_line_and_no_stack() -> None:
    assert "deeper" in reason(b'{"id": "two", "input": ' + b"[" * 100_000 + b"]" * 100_000 + b"}")
    assert "deeper" in reason(b'{"id": "two", "input": ' + b"[" * 100 + b"]" * 100 + b"}")


def test_a_file_without_a_case_is_refused_with_its_lines() -> None:
    with pytest.raises(DatasetBroken, match="line 1: it is no JSON object") as refused:
        datasets.read(b"1\n2\n")
    assert refused.value.extra["problems"] == [
        {"line": 1, "reason": "it is no JSON object"},
        {"line": 2, "reason": "it is no JSON object"},
    ]
    with pytest.raises(DatasetBroken, match="it is empty"):
        datasets.read(b"\n\n")


def test_a_file_has_limits() -> None:
    with pytest.raises(DatasetTooLarge, match="bytes"):
        datasets.read(b" " * (MOST_FILE_BYTES + 1))
    with pytest.raises(DatasetTooLarge, match="cases"):
        datasets.read(
            lines(*({"id": str(n), "input": 1, "expected": 1, "scorer": "exact"} for n in range(MOST_CASES + 1)))
        )
    with pytest.raises(DatasetBroken, match="more than 1000 lines"):
        datasets.read(lines(GOOD, *([1] * 2000)))
