"""What people read of quality on the command line: figures rounded, and what is not known in words."""

from __future__ import annotations

from typing import Any

import pytest

from agentos.apps.cli import output, quality
from agentos.evidence.quality.drift import measure
from agentos.evidence.quality.model import FreezeUnknown, ScopeInvalid
from agentos.evidence.quality.routes import _drift
from tests.evidence.quality.runs import scored


class Api:
    """Answers what it was given, and keeps what it was asked."""

    def __init__(self, *answers: Any) -> None:
        self.answers, self.asked = list(answers), list[Any]()

    def get(self, path: str, **query: Any) -> Any:
        self.asked.append((path, query))
        return self.answers.pop(0)

    def post(self, path: str, body: Any = None) -> Any:
        self.asked.append((path, body))
        return self.answers.pop(0)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """All that was shown."""
    shown: list[Any] = []
    monkeypatch.setattr(output, "show", lambda data, columns=(): shown.append(data))
    return shown


def asking(monkeypatch: pytest.MonkeyPatch, *answers: Any) -> Api:
    api = Api(*answers)
    monkeypatch.setattr(quality, "connect", lambda: api)
    return api


UNKNOWN = {"value": None, "low": None, "high": None, "samples": 0}


def test_a_part_that_is_not_known_is_said_to_be_unknown(monkeypatch: pytest.MonkeyPatch, said: list[Any]) -> None:
    parts = [{"part": "calls", "value": None, "weight": 2, "formula": "f"},
             {"part": "completed", "value": 1 / 3, "weight": 4, "formula": "f"}]  # fmt: skip
    names = ("run_id", "status", "score", "confidence", "feedback", "counted", "formula")
    grounds = [{"part": "judged", "value": None, "formula": "f"}]
    asking(monkeypatch, dict.fromkeys(names, 1) | {"parts": parts, "confidence_parts": grounds})
    quality.score("run_1")
    assert [(one["of"], one["part"], one["value"]) for one in said[1]] == [
        ("score", "calls", "unknown"),
        ("score", "completed", 0.333),
        ("confidence", "judged", "unknown"),
    ]


def test_figures_are_of_the_role_that_was_named(monkeypatch: pytest.MonkeyPatch, said: list[Any]) -> None:
    api = asking(monkeypatch, {"figures": {"success_rate": UNKNOWN | {"samples": 3}}, "unscored": 0})
    quality.figures(role="finance", last="1h")
    assert api.asked == [(f"{quality.PATH}/figures", {"scope": "role", "target": "finance", "seconds": 3600})]
    assert said == [[{"metric": "success_rate", "value": "unknown", "low": "unknown", "high": "unknown", "samples": 3}]]


def test_drift_is_shown_with_its_dimensions_and_causes(monkeypatch: pytest.MonkeyPatch, said: list[Any]) -> None:
    asking(monkeypatch, _drift(measure([scored(ok=False)] * 40, [scored()] * 90)))
    quality.drift()
    assert (said[0]["value"], said[0]["leading"]) == (1.0, "success")
    assert said[1][0]["dimension"] == "success"
    assert said[2][-1] == {"cause": "memory", "moved": "unknown", "explained": "unknown", "note": said[2][-1]["note"]}


def test_drift_that_is_unknown_says_why(monkeypatch: pytest.MonkeyPatch, said: list[Any]) -> None:
    asking(monkeypatch, _drift(measure([], [])))
    quality.drift()
    assert said == [said[0]]
    assert said[0]["value"] == "unknown"
    assert said[0]["unknown"] == "0 of 30 runs in the window and 0 of 30 in its baseline"


def test_calibration_is_shown_by_bins(monkeypatch: pytest.MonkeyPatch, said: list[Any]) -> None:
    bins = [{"low": 0.9, "high": 1.0, "confidence": 0.95, "accepted": UNKNOWN}]
    asking(monkeypatch, {"brier": UNKNOWN, "calibration_gap": UNKNOWN, "bins": bins})
    quality.calibration()
    assert [one["value"] for one in said[0]] == ["unknown", "unknown"]
    assert said[1][0]["bin"] == "0.9 to 1.0"


def test_a_judgement_names_what_blocks_what_warns_and_what_passes(
    monkeypatch: pytest.MonkeyPatch, said: list[Any]
) -> None:
    verdicts = [{"result": "passed", "reason": "good"}, {"result": "unknown", "reason": "unknown"}]
    found = {"version": "v", "may_be_promoted": False, "blocking": ["unknown"], "warnings": [], "verdicts": verdicts}
    asking(monkeypatch, found)
    quality.judge("dep_" + "0" * 26, "1")
    assert said[1] == [{"what": "blocks", "reason": "unknown"}, {"what": "passes", "reason": "good"}]


def test_what_is_not_frozen_is_not_lifted(monkeypatch: pytest.MonkeyPatch) -> None:
    asking(monkeypatch, {"items": [], "next_cursor": None})
    with pytest.raises(FreezeUnknown):
        quality.unfreeze("over", agent="tester")


def test_a_freeze_behind_the_first_page_is_listed_and_lifted(monkeypatch: pytest.MonkeyPatch, said: list[Any]) -> None:
    pages = [
        {"items": [{"id": f"frz_{target}", "scope": "agent", "target": target}], "next_cursor": cursor}
        for target, cursor in (("first", "more"), ("tester", None))
    ]
    asking(monkeypatch, *pages)
    quality.freezes()
    assert [one["target"] for one in said[0]] == ["first", "tester"]
    api = asking(monkeypatch, *pages, {})
    quality.unfreeze("over", agent="tester")
    assert api.asked[-1] == (f"{quality.PATH}/freezes/frz_tester/lift", {"reason": "over"})


def test_one_scope_is_named_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    asking(monkeypatch)
    with pytest.raises(ScopeInvalid):
        quality.figures(role="finance", deployment="tester")
    with pytest.raises(ScopeInvalid):
        quality.freeze("why", role="finance", agent="tester")
