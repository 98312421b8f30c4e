"""What people call a time is one moment, or refused."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agentos.apps.cli import audit, cost, effects, evidence, policy
from agentos.apps.cli.main import command_line
from agentos.apps.cli.times import SAID, MomentUnclear, moment, terminals, zone_of

AT = datetime(2026, 11, 21, 16, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("now", "2026-11-21T16:30:00+00:00"),
        ("14:02", "2026-11-21T13:02:00+00:00"),
        ("9:05", "2026-11-21T08:05:00+00:00"),
        ("today", "2026-11-20T23:00:00+00:00"),
        ("yesterday", "2026-11-19T23:00:00+00:00"),
        ("yesterday 22:30", "2026-11-20T21:30:00+00:00"),
        ("2026-11-01 14:02", "2026-11-01T13:02:00+00:00"),
        ("2026-07-01T14:02:30", "2026-07-01T12:02:30+00:00"),
        ("2026-11-21T14:02Z", "2026-11-21T14:02:00+00:00"),
        ("2026-11-21T14:02:00-05:00", "2026-11-21T19:02:00+00:00"),
        ("90m ago", "2026-11-21T15:00:00+00:00"),
        ("90m", "2026-11-21T15:00:00+00:00"),
        ("1d", "2026-11-20T16:30:00+00:00"),
        ("1h 30m ago", "2026-11-21T15:00:00+00:00"),
        ("2026-10-25T02:30+02:00", "2026-10-25T00:30:00+00:00"),
    ],
)
def test_a_time_is_read_in_the_zone_that_is_meant(said: str, meant: str) -> None:
    assert moment(said, at=AT, zone=zone_of("Europe/Berlin")).astimezone(UTC).isoformat() == meant


def test_a_time_without_a_zone_is_the_terminals() -> None:
    assert moment("14:02", at=AT) == AT.astimezone().replace(hour=14, minute=2)


@pytest.mark.parametrize(
    "said",
    [
        *("", "soon", "25:00", "tomorrow", "2026-13-01", "14:02 yesterday", "9999-99-99T1"),
        *("long ago", "90", "999999999d"),
    ],
)
def test_what_is_no_time_is_refused_with_what_is_one(said: str) -> None:
    with pytest.raises(MomentUnclear) as caught:
        moment(said, at=AT, where="--from")
    assert caught.value.where == "--from" and SAID in caught.value.then


def test_every_example_of_a_time_is_one() -> None:
    for said in SAID.replace(" or ", ", ").split(", "):
        assert moment(said, at=AT)


@pytest.mark.parametrize(("said", "how"), [("2026-10-25 02:30", "twice"), ("2026-03-29 02:30", "not at all")])
def test_a_time_that_the_clocks_skipped_or_repeated_is_refused(said: str, how: str) -> None:
    with pytest.raises(MomentUnclear, match=how):
        moment(said, at=AT, zone=zone_of("Europe/Berlin"))


def test_a_zone_that_is_none_is_refused() -> None:
    with pytest.raises(MomentUnclear):
        zone_of("Berlin, I think")


def test_the_terminals_zone_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", ":Asia/Tokyo")
    assert terminals() == "Asia/Tokyo"
    monkeypatch.delenv("TZ")
    assert zone_of(terminals()) is not None


class Api:
    """Remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def get(self, _path: str, **query: Any) -> Any:
        self.asked.append(query)
        nothing: dict[str, Any] = {"items": [], "next_cursor": None, "changes": [], "left_out": 0, "open_runs": 0}
        nothing |= {"is_complete": True, "passed_over": 0}
        kinds = {name: dict[str, Any]() for name in audit.KINDS}
        return nothing | kinds | {"searched": {"because": None, "spelt": {}}, "total": {"unknown": {"said": []}}}

    def post(self, _path: str, body: dict[str, Any]) -> Any:
        self.asked.append(body)
        return {"stopped": [], "refused": []}


def commands(file: str) -> list[list[str]]:
    """Every command that takes a time, as it is typed, without the time."""
    return [
        ["audit", "search", "--from"],
        ["audit", "export", "--to"],
        ["state", "--at"],
        ["state", "--diff", "2026-01-01"],
        ["effects", "list", "--since"],
        ["evidence", "search", "words", "--from"],
        ["evidence", "list", "--until"],
        ["policy", "backtest", "--proposed", file, "--since"],
        ["cost", "top", "--from"],
        ["cost", "by", "day", "--to"],
    ]


@pytest.mark.parametrize("number", range(len(commands(""))))
def test_every_command_reads_the_same_times_and_says_what_is_one(
    number: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "proposed.yaml"
    file.write_text("{}")
    command, api = commands(str(file))[number], Api()
    for module in (audit, cost, effects, evidence, policy):
        monkeypatch.setattr(module, "connect", lambda: api)
    runner = CliRunner()

    for said in SAID.replace(" or ", ", ").split(", "):
        found = runner.invoke(command_line(), [*command, said])
        assert found.exit_code == 0, found.output + repr(found.exception)
        times = [str(one) for one in api.asked[-1].values() if re.fullmatch(r"\d{4}-\d\d-\d\d(T.+[+Z].*)?", str(one))]
        assert times, api.asked[-1]
    found = runner.invoke(command_line(), [*command, "the day before"])
    assert isinstance(found.exception, MomentUnclear) and found.exception.where.startswith("--")
    assert SAID in found.exception.then


@pytest.mark.parametrize("command", [["audit", "search"], ["audit", "export"], ["cost", "top"], ["cost", "by", "day"]])
def test_a_beginning_that_is_said_twice_is_refused(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    api = Api()
    for module in (audit, cost):
        monkeypatch.setattr(module, "connect", lambda: api)
    found = CliRunner().invoke(command_line(), [*command, "--last", "1d", "--from", "yesterday"])
    assert isinstance(found.exception, MomentUnclear) and found.exception.where == "--last"
    assert not api.asked
    for one in (["--last", "1d"], ["--from", "yesterday"], []):
        assert CliRunner().invoke(command_line(), [*command, *one]).exit_code == 0


def test_cost_without_a_beginning_is_of_seven_days(monkeypatch: pytest.MonkeyPatch) -> None:
    api = Api()
    monkeypatch.setattr(cost, "connect", lambda: api)
    assert CliRunner().invoke(command_line(), ["cost", "top"]).exit_code == 0
    assert api.asked[-1]["days"] == 7
