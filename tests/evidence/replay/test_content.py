"""The hash of a run's content knows what the run did, and nothing of when, where and under which names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from agentos.evidence.replay.content import LEFT_OUT, PARTS, Content, Kind, base_of, content_of
from agentos.runtime.runs.journal import Entry

SAMPLE = Path(__file__).parents[2] / "golden" / "workflow_data_extraction.json"

NUMBERS = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(-1e15, 1e15, allow_nan=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abcé€", max_size=3), inner, max_size=3),
    max_leaves=6,
)


def rows(result: Any, **more: Any) -> list[Entry]:
    """A turn with one read and one effect, and the answer after it."""
    asked = [{"id": "toolu_1", "skill": "look", "arguments": {"n": 1}}, {"id": "x", "skill": "note", "arguments": {}}]
    first = {"text": "", "provider": "stub", "model": "m", "stop": "calls", "calls": asked, "usage": {"input": 1}}
    decided = {"version": "1", "arguments_digest": "sha256:0", "decision": "tier_matrix", "policy": "p", "tier": "L4"}
    return [
        Entry("t0", "result", "model", "m", "ok", {"cost": {"micros": 5}, **more}, first),
        Entry("t0.c0", "result", "skill", "look", "ok", {**decided, "tries": 1, **more}, result),
        Entry("t0.c1~1", "intent", "skill", "note", "sent", {**decided, **more}, {}),
        Entry("t0.c1", "result", "skill", "note", "ok", {"version": "1", "arguments_digest": "sha256:0"}, {"n": 2}),
        Entry("t1", "result", "model", "m", "ok", {}, {"text": "done", "provider": "stub", "model": "m"}),
    ]


def content(some: list[Entry], given_: Any = None, output: Any = "done") -> Content:
    return content_of(some, version="sha256:v", given=given_, status="completed", problem=None, output=output)


def shuffled(value: Any) -> Any:
    """The same data with its keys the other way round, and whole floats as integers."""
    if isinstance(value, dict):
        return {name: shuffled(one) for name, one in reversed(value.items())}
    if isinstance(value, list):
        return [shuffled(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


@given(VALUES, VALUES)
@settings(max_examples=150, deadline=None)
def test_key_order_and_the_form_of_numbers_do_not_count(result: Any, value: Any) -> None:
    one, other = content(rows(result), value), content(rows(shuffled(result)), shuffled(value))
    assert one.content_hash() == other.content_hash()
    assert one.differs(other) is None


@given(VALUES, VALUES)
@settings(max_examples=150, deadline=None)
def test_contents_differ_exactly_where_their_hashes_do(result: Any, other: Any) -> None:
    one, two = content(rows(result)), content(rows(other))
    assert (one.content_hash() == two.content_hash()) == (one.differs(two) is None)


@given(st.text(min_size=1, max_size=30), st.integers(1, 99), st.permutations([0, 1, 2, 3, 4]))
@settings(max_examples=100, deadline=None)
def test_ids_times_tries_and_positions_do_not_count(name: str, number: int, order: list[int]) -> None:
    was = content(rows({"n": 1}))
    ids = {"approval": None, "policy": name, "reasons": [name], "at": name, "attempts": [name] * number}
    some = rows({"n": 1}, **{key: value for key, value in ids.items() if value})
    first = some[0].content
    some[0] = replace(some[0], content={**first, "calls": [{**one, "id": name} for one in first["calls"]]})
    some = [replace(row, idempotency_key=name, seconds_to_send=float(number)) for row in some]
    some.insert(0, Entry(f"stopped:{name}", "result", "note", "stopped", "stopped", {}))
    found = content([some[0], *[some[place + 1] for place in order]])
    assert found.content_hash() == was.content_hash()
    assert was.differs(found) is None


def test_another_send_is_compared_and_not_hashed() -> None:
    again = rows({"n": 1})
    again.insert(3, replace(again[2], key="t0.c1~2", status="sent_again"))
    was, found = content(rows({"n": 1})), content(again)
    assert was.content_hash() == found.content_hash()
    parted = was.differs(found)
    assert parted is not None
    assert (parted.step, parted.field, parted.kind) == ("t0.c1", "sends", Kind.RETRY)


def test_numbers_that_rfc_8785_has_no_form_for_count_exactly() -> None:
    hashes = {content(rows({"n": 2**53 + more})).content_hash() for more in range(4)}
    assert len(hashes) == 4
    assert content(rows({"n": {"$number": repr(2**53)}})).content_hash() in hashes  # said in the documentation


def test_a_hash_is_the_same_in_every_process() -> None:
    script = (
        "import sys; from agentos.replay import replay_workflow; "
        f"sys.stdout.write(replay_workflow({str(SAMPLE)!r}).content_hash())"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert said == {json.loads(SAMPLE.read_text())["content_hash"]}


def test_the_table_names_each_field_once_and_says_what_is_left_out() -> None:
    names = [(part.of, part.name) for part in PARTS]
    assert len(set(names)) == len(names)
    steps = content(rows({"n": 1})).steps
    for one in steps:
        assert set(one.fields) == {part.name for part in PARTS if part.of == one.of}
    assert {part.kind for part in PARTS} == set(Kind)
    assert LEFT_OUT


def test_rows_belong_to_steps_by_their_keys() -> None:
    keys = {
        "t1": "t1",
        "t1.c0": "t1.c0",
        "t1.c0~2": "t1.c0",
        "t1.c0~2!settled": "t1.c0",
        "t1.c0!ask2": "t1.c0",
        "d~1": "d",
    }
    assert {key: base_of(key) for key in keys} == keys
    assert [base_of(key) for key in ("stopped:stop_1", "t1.cx", "draft", "")] == [None] * 4
