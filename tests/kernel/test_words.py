"""Errors, ids, units, canonical data and settings say what they promise."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentos.kernel import errors, ids, units
from agentos.kernel.canonical import NotCanonical, canonical, canonical_parsed, digest
from agentos.kernel.settings import BadSetting, TemporalSettings
from agentos.runtime.runs.settings import RunSettings


def test_every_kind_has_its_row_in_the_three_tables() -> None:
    for table in (errors.HTTP_STATUS, errors.RETRYABLE, errors.EXIT_CODE):
        assert set(table) == set(errors.KINDS)
    assert [errors.EXIT_CODE[kind] for kind in errors.KINDS] == [2, 3, 4, 5, 6, 7, 70]
    assert [errors.HTTP_STATUS[kind] for kind in errors.KINDS] == [422, 403, 404, 409, 429, 503, 500]


def test_a_problem_says_what_where_and_what_next() -> None:
    error = errors.Conflict("it is taken", where="x.yaml:3", then="Choose another.")
    assert errors.problem(error) == {
        "type": "urn:agentos:error:conflict",
        "title": "Conflict",
        "status": 409,
        "code": "conflict",
        "detail": "it is taken",
        "where": "x.yaml:3",
        "next": "Choose another.",
    }


def test_ids_sort_by_the_time_they_were_made_also_when_the_clock_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [ids.new("run") for _ in range(200)]
    import time

    monkeypatch.setattr(time, "time", lambda: 1.0)
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000_000)
    made += [ids.new("run") for _ in range(200)]
    assert made == sorted(made)
    assert len(set(made)) == 400


@pytest.mark.parametrize("text", ["", "run_", "run_x", "dep_01m7y3jdhbeycse6s7f0x9362p", "run_01m7'; DROP TABLE runs"])
def test_a_malformed_id_is_refused(text: str) -> None:
    with pytest.raises(ids.MalformedId):
        ids.checked("run", text)


@given(st.integers(min_value=0, max_value=10**11))
def test_durations_are_read_as_they_are_written(milliseconds: int) -> None:
    length = timedelta(milliseconds=milliseconds)
    assert units.duration(units.written(length)) == length


@pytest.mark.parametrize("text", ["", "5", "s", "5 s", "-5s", "5x", "5s5", "1h 30m", "9" * 20 + "s"])
def test_a_malformed_duration_is_refused(text: str) -> None:
    with pytest.raises(units.MalformedDuration):
        units.duration(text)


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(_json)
def test_equal_data_has_one_canonical_form(data: object) -> None:
    shuffled = json.loads(json.dumps(data))
    try:
        assert canonical(data) == canonical(shuffled)
    except NotCanonical:  # a lone surrogate has none
        assert "\\ud" in json.dumps(data)


_numbers = (
    st.floats()
    | st.integers()
    | st.sampled_from([1.0, -0.0, 1e21, 0.1, 2**53 - 1, 2**53, 1e15, math.inf, -math.inf, math.nan])
)
_parsed = st.recursive(
    _numbers | st.text() | st.sampled_from(["5e3", ":1.5", "\u007f\u2028", "\U0001f600", "\ue000"]) | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


@given(_parsed)
def test_the_quick_way_to_the_canonical_form_is_the_same_form(data: object) -> None:
    def of(form: Callable[[object], bytes]) -> bytes | None:
        try:
            return form(data)
        except NotCanonical:
            return None

    assert of(canonical_parsed) == of(canonical)


BEYOND = [2**53, -(2**53), float(2**53), 9007199254740993.0, 1e22, -1e300, {"a": [{"b": 1e16}]}]


@pytest.mark.parametrize("data", [float("nan"), float("inf"), 2**60, {1: 2}, *BEYOND])
def test_data_without_a_canonical_form_is_refused(data: object) -> None:
    with pytest.raises(NotCanonical):
        digest(data)


@given(st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(-(2.0**53) + 1, 2.0**53 - 1))
def test_a_number_that_has_a_canonical_form_is_read_back_from_it_unrounded(number: float) -> None:
    assert json.loads(canonical({"n": number})) == {"n": number}


def test_a_bad_setting_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTOS_RUN_SEGMENT_SECONDS", "soon")
    with pytest.raises(BadSetting, match="AGENTOS_RUN_SEGMENT_SECONDS"):
        RunSettings.read()


def test_settings_are_frozen() -> None:
    settings = TemporalSettings.read(address="127.0.0.1:1")
    with pytest.raises(Exception, match="frozen"):
        settings.address = "elsewhere"
