"""How an answer is written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from agentos.intake.inbox.model import BadAnswer, Said, read_answer


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("approve 42 because it is due", Said(True, 42, "it is due")),
        ("deny 42 because\nit is not", Said(False, 42, "it is not")),
        ("  Approve #7  ", Said(True, 7, "")),
        ("DENY 7.", Said(False, 7, "")),
        ("deny 7, because no!", Said(False, 7, "no")),
    ],
)
def test_an_answer_names_the_thread_and_may_say_why(text: str, said: Said) -> None:
    assert read_answer(text) == said


@pytest.mark.parametrize("text", ["approve", "approve the plan", "I approve 42", "deny it", "approved 42", "42", ""])
def test_other_words_are_no_answer(text: str) -> None:
    assert read_answer(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "approve 42 if it is cheap",
        "approve 42 and 43",
        "deny 42 because",
        "approve 4 2",
        "approve 12345678901",
        "deny 7?",
    ],
)
def test_what_begins_as_an_answer_and_goes_on_otherwise_is_refused(text: str) -> None:
    with pytest.raises(BadAnswer):
        read_answer(text)


@given(some.text())
def test_any_text_is_read_soon(text: str) -> None:
    for given_text in (text, f"approve 1 because {text}"):
        try:
            read_answer(given_text)
        except BadAnswer:
            continue
