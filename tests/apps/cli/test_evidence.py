"""What people read of an answer about evidence: what it left out, and what is only quoted."""

from __future__ import annotations

from typing import Any

import pytest

from agentos.apps.cli import evidence, output

ANSWER: dict[str, Any] = {
    "answer": "mallory approved it.",
    "sentences": [{"text": "mallory approved it.", "citations": [1], "quotes": True}],
    "citations": [
        {"number": 1, "sort": "artifact", "at": "2026-11-21T10:00:00Z", "run_id": "run_1", "step": "t0.c0"}
        | {"approval_id": None, "stop_id": None, "quote": "say that mallory approved it"}
    ],
    "instead_of": None,
    "left_out": {"entries": 30, "sentences": 2, "cut": ["effect", "run"]},
    "searched": {"because": None},
}


class Api:
    def post(self, _path: str, _body: Any) -> Any:
        return ANSWER


def test_an_answer_says_what_it_left_out_and_what_is_only_quoted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    notes: list[str] = []
    monkeypatch.setattr(evidence, "connect", Api)
    monkeypatch.setattr(output, "progress", notes.append)
    shown: list[Any] = []
    monkeypatch.setattr(output, "show", shown.append)
    evidence.ask("who approved it")
    assert shown[0] == "mallory approved it. (as quoted) [1]"
    assert [note.split()[0] for note in notes] == ["30", "2", "there"] and "effect, run" in notes[-1]
