"""What a question says is read as it was meant: agents, times, and what is asked for."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentos.evidence.artifacts.model import EVER, BadEvidenceQuery
from agentos.evidence.artifacts.questions import MOST_QUESTION, Topic, understood

AT = datetime(2026, 11, 21, 16, 30, tzinfo=UTC)  # a Saturday


def time(day: int, hour: int = 0, minute: int = 0, month: int = 11) -> datetime:
    return datetime(2026, month, day, hour, minute, tzinfo=UTC)


@pytest.mark.parametrize(
    ("words", "since", "until"),
    [
        ("yesterday", time(20), time(21)),
        ("today", time(21), time(22)),
        ("in the last 24 h", time(20, 16, 30), AT),
        ("in the last 90 minutes", time(21, 15), AT),
        ("in the past 2 weeks", time(7, 16, 30), AT),
        ("last week", time(9), time(16)),
        ("this week", time(16), AT),
        ("last month", time(1, month=10), time(1)),
        ("between 14:02 and 14:31", time(21, 14, 2), time(21, 14, 32)),
        ("yesterday between 14:02 and 14:31?", time(20, 14, 2), time(20, 14, 32)),
        ("between 23:50 and 00:10 yesterday", time(20, 23, 50), time(21, 0, 11)),
        ("from 2026-11-01 to 2026-11-03", time(1), time(4)),
        ("on 2026-11-19", time(19), time(20)),
        ("on 19 november", time(19), time(20)),
        ("last friday", time(20), time(21)),
        ("since monday", time(16), AT),
        ("since 2026-11-21T03:00Z", time(21, 3), AT),
        ("since 09:15", time(21, 9, 15), AT),
        ("before yesterday", EVER, time(20)),
        ("the day before yesterday", time(19), time(20)),
        ("at 09:15", time(21, 9, 15), time(21, 9, 16)),
        ("3 hours ago", time(21, 13), time(21, 14)),
        ("2 days ago", time(19), time(20)),
        ("since 3 hours ago", time(21, 13, 30), AT),
        ("this morning", time(21), time(21, 12)),
        ("last night", time(20, 18), time(21, 6)),
        ("at 3pm", time(21, 15), time(21, 16)),
        ("at 3:15 pm", time(21, 15, 15), time(21, 15, 16)),
        ("yesterday at 3pm", time(20, 15), time(20, 16)),
        ("between 2pm and 3pm", time(21, 14), time(21, 15)),
    ],
)
def test_the_words_of_a_time_are_the_time_that_is_meant(words: str, since: datetime, until: datetime) -> None:
    for question in (f"what did tester publish {words}", f"{words}, what did tester publish"):
        window = understood(question, at=AT).window
        assert (window.since, window.until) == (since, until), question
        assert window.words


@pytest.mark.parametrize(
    "words",
    [
        *("in the morning", "at noon", "last year", "at 17pm", "long ago"),
        *("yesterday after 3pm", "after 14:00 yesterday", "since yesterday 14:00", "before 10:00 on 2026-11-20"),
        *("since monday until wednesday", "after 14:02 and before 14:31", "today at 25:00", "at 2026-11-20T14:02Z"),
        *("on 11/20/2026", "on 20.11.2026", "on monday, not yesterday"),
    ],
)
def test_a_time_that_is_not_understood_is_said_and_never_another_time(words: str) -> None:
    with pytest.raises(BadEvidenceQuery, match="not understood"):
        understood(f"what did tester publish {words}", at=AT)


def test_a_day_is_that_of_the_one_who_asks() -> None:
    window = understood("what ran yesterday", at=AT, zone="Asia/Tokyo").window  # where the 22nd has begun
    assert (window.since, window.until) == (time(20, 15), time(21, 15))


@pytest.mark.parametrize("question", ["what may it do", "what did march_agent do", "what did it send to second"])
def test_words_that_could_be_a_time_and_are_none_are_left_alone(question: str) -> None:
    assert not understood(question, at=AT).window.words


@pytest.mark.parametrize(
    ("question", "topics"),
    [
        ("what did x publish, and who approved it", {Topic.EFFECTS, Topic.APPROVALS}),
        ("which runs failed", {Topic.RUNS}),
        ("why was it denied", {Topic.DECISIONS}),
        ("who stopped x", {Topic.STOPS}),
        ("anything about harbours", set()),
    ],
)
def test_what_is_asked_for_is_told_by_its_words(question: str, topics: set[Topic]) -> None:
    assert understood(question, at=AT).topics == topics


def test_ids_and_names_are_found_however_a_name_is_written() -> None:
    run = "run_01m7y3jdhbeycse6s7f0x9362p"
    found = understood(f"what did the Release Notes Agent do in {run}?", at=AT)
    assert found.of("run") == (run,)
    assert "release_notes_agent" in found.names and "release-notes-agent" in found.names
    assert understood("what did ghost_agent do", at=AT).like_agents == ("ghost_agent",)


@pytest.mark.parametrize("question", ["", "?!", "\0", "x" * (MOST_QUESTION + 1)])
def test_what_is_no_question_is_refused(question: str) -> None:
    with pytest.raises(BadEvidenceQuery):
        understood(question, at=AT)


SOME = "between and from to since before last past on at yesterday monday days may 14:02 31 99999 2026-11-20 ? 24 h"
FAR = ["9999-12-31", "0001-01-01", "tester", "march 99", "25:61", "999999999999 days ago", "\u202e"]
WORDS = st.sampled_from([*SOME.split(" "), *FAR])


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(st.text(max_size=80), st.lists(WORDS, max_size=8).map(" ".join)), st.sampled_from(["UTC", "Asia/Tokyo"])
)
def test_whatever_is_asked_is_understood_or_refused(question: str, zone: str) -> None:
    try:
        found = understood(question, at=AT, zone=zone)
    except BadEvidenceQuery:
        return
    assert found.window.since < found.window.until


def test_an_unknown_zone_is_refused() -> None:
    for zone in ("Mars/Olympus", "../../etc/passwd", ""):
        with pytest.raises(BadEvidenceQuery):
            understood("what ran today", at=AT, zone=zone)
