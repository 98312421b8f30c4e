"""What people read of usage: what nobody knows is unknown, and what a line cannot tell has no figure."""

from __future__ import annotations

from typing import Any

import pytest

from agentos.apps.cli import cost, output
from agentos.evidence.usage.model import Counts, Dimension
from agentos.evidence.usage.routes import _counts

MODEL_CALL = Counts(calls=1, unpriced_calls=1, untold_calls=1, untimed_calls=1, unknown_money=70, unknown_tokens=9)


def shown(
    monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any], by: Dimension, skill: str = ""
) -> list[dict[str, Any]]:
    rows: list[Any] = []

    class Api:
        def get(self, _path: str, **_query: Any) -> Any:
            return answer

    monkeypatch.setattr(cost, "connect", Api)
    monkeypatch.setattr(output, "show", lambda data, columns=(): rows.extend(data))
    cost.told_by([by], skill=skill)
    return rows


def answer(counts: Counts, by: tuple[Dimension, ...], *, open_runs: int = 0) -> dict[str, Any]:
    items = [{one.value: "x" for one in by} | _counts(counts, by)] if counts != Counts() else []
    total = _counts(counts, (), open_runs=open_runs)
    return {"items": items, "total": total, "left_out": 0, "open_runs": open_runs}


@pytest.mark.parametrize(
    ("by", "silent"),
    [
        (Dimension.AGENT, set()),
        (Dimension.MODEL, {"runs", "run_seconds", "skill_calls", "skill_seconds"}),
        (Dimension.SKILL, {*cost._COUNTS} - {"skill_calls", "skill_seconds"}),
    ],
)
def test_what_nobody_knows_is_unknown_and_what_a_line_cannot_tell_has_no_figure(
    monkeypatch: pytest.MonkeyPatch, by: Dimension, silent: set[str]
) -> None:
    counts = Counts(runs=1, run_seconds=2.0, skill_calls=1, untimed_skills=1)
    counts.add(MODEL_CALL)
    line, total = shown(monkeypatch, answer(counts, (by,)), by)
    unknown = {"money", "input_tokens", "output_tokens", "model_seconds", "skill_seconds"}
    unknown |= {"cache_read_tokens", "cache_write_tokens", "reasoning_tokens"}
    assert {name for name in cost._COUNTS if line[name] == "unknown"} == unknown - silent
    assert {name for name in cost._COUNTS if line[name] is None} == silent
    assert {name for name in cost._COUNTS if total[name] == "unknown"} == unknown
    assert not [name for name in unknown if line[name] == 0 or total[name] == 0]


def test_of_one_skill_alone_there_are_no_figures_of_models(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = Counts(skill_calls=2, skill_seconds=0.5)
    answered = answer(counts, (Dimension.AGENT,))
    told = _counts(counts, (Dimension.SKILL,))
    answered |= {"items": [{"agent": "x"} | told], "total": told}
    for one in shown(monkeypatch, answered, Dimension.AGENT, skill="note"):
        assert {name for name in cost._COUNTS if one[name] is not None} == {"skill_calls", "skill_seconds"}


def test_what_runs_under_way_used_is_unknown_until_one_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    (total,) = shown(monkeypatch, answer(Counts(), (Dimension.AGENT,), open_runs=1), Dimension.AGENT)
    assert {total[name] for name in cost._COUNTS} == {"unknown"}
    assert shown(monkeypatch, answer(Counts(), (Dimension.AGENT,)), Dimension.AGENT) == []
    counted = Counts(runs=1, run_seconds=1.0)
    told = shown(monkeypatch, answer(counted, (Dimension.AGENT,), open_runs=1), Dimension.AGENT)
    assert [(one["runs"], one["money"]) for one in told] == [(1, "0.00"), (1, "0.00")]
