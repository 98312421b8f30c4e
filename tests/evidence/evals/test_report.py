"""Figures carry their samples and intervals; flaky cases are set apart, and what was left says nothing."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from agentos.evidence.evals import report
from agentos.evidence.evals.model import Latest, Outcome, Score, Side, Task
from agentos.kernel.statistics import mcnemar, wilson


def outcome(number: int, passed: bool | None, *, side: Side = Side.CANDIDATE, repeat: int = 0) -> tuple[str, Outcome]:
    task = Task(side, number, repeat)
    if passed is None:
        return f"c{number}", Outcome(task, "left", why="no fixture")
    return f"c{number}", Outcome(task, "completed", scores={"exact": Score(float(passed), passed)}, tokens=10, micros=3)


def test_every_mean_has_its_samples_and_its_interval() -> None:
    said = report.of([outcome(n, n < 9) for n in range(10)])["candidate"]
    interval = wilson(9, 10)
    assert interval is not None
    figure = {"mean": 0.9, "low": interval.low, "high": interval.high, "samples": 10}
    assert said["scores"] == {"exact": figure, "all": figure}
    assert (said["cases"], said["tokens"], said["micros"]) == (10, 100, 30)
    assert said["statuses"] == {"completed": 10}


def test_a_report_says_how_many_cases_would_find_a_loss_of_ten_points() -> None:
    said = report.of([outcome(n, n < 9) for n in range(10)])["candidate"]
    assert said["to_find_a_loss"] == {"loss": 0.1, "power": 0.9, "cases": 266}
    rare = report.of([outcome(n, n < 1) for n in range(20)])["candidate"]["to_find_a_loss"]
    assert rare["loss"] == 0.05 and rare["cases"] > 100
    assert report.of([outcome(0, False)])["candidate"]["to_find_a_loss"] is None
    assert report.of([outcome(0, None)])["candidate"]["to_find_a_loss"] is None


def test_a_case_passes_when_every_scorer_is_content() -> None:
    both = {"exact": Score(1.0, True), "judge": Score(0.5, False)}
    said = report.of([("c0", Outcome(Task(Side.CANDIDATE, 0, 0), "completed", scores=both))])["candidate"]["scores"]
    assert [(name, one["mean"]) for name, one in said.items()] == [("exact", 1), ("judge", 0.5), ("all", 0)]


def test_flaky_cases_are_set_apart_and_count_nowhere() -> None:
    said = report.of(
        [
            *(outcome(0, True, repeat=n) for n in range(4)),
            *(outcome(1, n > 0, repeat=n) for n in range(4)),
            *(outcome(2, False, repeat=n) for n in range(4)),
        ]
    )["candidate"]
    assert (said["scores"]["exact"]["mean"], said["scores"]["exact"]["samples"]) == (0.5, 2)
    interval = wilson(0.75, 1)
    assert interval is not None
    figure = {"mean": 0.75, "low": interval.low, "high": interval.high, "samples": 1}
    assert said["flaky"] == {"cases": 1, "scores": {"exact": figure, "all": figure}, "ids": ["c1"]}


def test_repeats_of_a_case_are_one_sample() -> None:
    said = report.of([outcome(0, True, repeat=n) for n in range(20)])["candidate"]
    assert said["scores"]["exact"]["samples"] == 1


def test_what_was_left_is_told_by_its_reason_and_is_no_sample() -> None:
    said = report.of([outcome(0, True), outcome(1, None), outcome(2, None)])["candidate"]
    assert said["left"] == {"cases": 2, "reasons": [{"why": "no fixture", "times": 2}]}
    assert said["scores"]["exact"]["samples"] == 1
    nothing = report.of([outcome(0, None)])
    assert nothing["candidate"]["scores"] == {}
    assert report.latest(nothing, "eval_1", datetime.now(UTC)) is None


def test_two_versions_are_compared_case_by_case() -> None:
    candidate = [outcome(n, n not in (0, 1, 2)) for n in range(40)]
    against = [outcome(n, n != 39, side=Side.AGAINST) for n in range(40)]
    said = report.of([*candidate, *against])["comparison"]
    exact = said["scores"]["exact"]
    assert (said["pairs"], said["won"], said["lost"], said["differing"]) == (40, 1, 3, 4)
    assert [one["case"] for one in said["differences"]] == ["c0", "c1", "c2", "c39"]
    assert exact["difference"] == pytest.approx(-0.05)
    assert exact["p"] == pytest.approx(mcnemar(1, 3))
    assert exact["low"] < -0.05 < exact["high"]


def test_a_case_that_is_flaky_for_either_version_is_not_compared() -> None:
    rows = [outcome(n, True, repeat=r) for n in range(3) for r in range(2)]
    others = [outcome(n, n > 0 or r > 0, side=Side.AGAINST, repeat=r) for n in range(3) for r in range(2)]
    said = report.of([*rows, *others])["comparison"]
    assert (said["pairs"], said["set_apart"], said["differing"]) == (2, 1, 0)


def test_gates_get_the_share_of_cases_that_passed_everything() -> None:
    at = datetime.now(UTC)
    said = report.of([outcome(n, n < 9) for n in range(10)])
    assert report.latest(report.of([outcome(n, None if n < 6 else True) for n in range(100)]), "eval_1", at) is None
    mostly = report.latest(report.of([outcome(n, None if n < 5 else True) for n in range(100)]), "eval_1", at)
    assert mostly is not None
    assert (mostly.value, mostly.samples) == (1.0, 95)
    flaky = [outcome(0, True), outcome(1, True, repeat=0), outcome(1, False, repeat=1)]
    half = report.latest(report.of(flaky), "eval_1", at)
    assert half is not None
    assert (half.value, half.samples) == (0.5, 2)  # set apart in the report, a miss to a gate
    none = report.latest(report.of(flaky[1:]), "eval_1", at)
    assert none is not None
    assert (none.value, none.samples) == (0.0, 1)
    found = report.latest(said, "eval_1", at)
    interval = wilson(9, 10)
    assert interval is not None
    assert found == Latest(0.9, interval.low, interval.high, 10, "eval_1", at)
    assert report.means(said) == {"exact": 0.9, "all": 0.9}
