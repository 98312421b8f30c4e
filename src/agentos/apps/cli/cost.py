"""``agentos cost …``: what was used, and how fast budgets are used up."""

from __future__ import annotations

import math
from datetime import UTC, timedelta
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo

import typer

from agentos.apps.cli import output
from agentos.apps.cli.times import moment, only_one
from agentos.apps.client import connect
from agentos.evidence.usage.model import Dimension, Measure
from agentos.kernel.clock import now
from agentos.kernel.units import duration

PATH: Final = "/api/v1/usage"
_OF_RUNS: Final = frozenset({"runs", "run_seconds"})
_OF_SKILLS: Final = frozenset({"skill_calls", "skill_seconds"})
_COUNTS: Final = (
    *("money", "calls", "fallback_calls", "failed_calls", "input_tokens", "output_tokens", "cache_read_tokens"),
    *("cache_write_tokens", "reasoning_tokens", "model_seconds", "skill_calls", "skill_seconds", "runs", "run_seconds"),
)

USUAL: Final = "7d"

Last = Annotated[
    str, typer.Option("--last", help=f"How far back, in days of UTC: 4w; else {USUAL}. Today, or --to, is the last.")
]
Since = Annotated[
    str, typer.Option("--from", "--since", help="The first day of UTC, as yesterday or 2026-11-01; instead of --last.")
]
Until = Annotated[str, typer.Option("--to", "--until", help="The last day of UTC, which counts; else today.")]
Agent = Annotated[str, typer.Option("--agent", help="Only of this agent.")]
Version = Annotated[str, typer.Option("--version", help="Only of this version: its hash, or how it begins.")]
Model = Annotated[str, typer.Option("--model", help="Only of this model: PROVIDER/NAME.")]
Skill = Annotated[str, typer.Option("--skill", help="Only of this skill.")]
Source = Annotated[str, typer.Option("--source", help="Only of: run, ask (direct questions), replay or eval.")]


def register(app: typer.Typer) -> None:
    """Add the verbs of usage."""
    cost = typer.Typer(help="Cost: tokens, money and seconds.", no_args_is_help=True)
    cost.command("top")(top)
    cost.command("by")(told_by)
    cost.command("burn")(burn)
    app.add_typer(cost, name="cost")


def top(
    by: Annotated[Dimension, typer.Option("--by", help="What to compare.")] = Dimension.AGENT,
    first: Annotated[Measure, typer.Option("--first", help="What comes first is most of this.")] = Measure.MONEY,
    most: Annotated[int, typer.Option("--most", min=1, max=1000, help="How many lines at most.")] = 10,
    last: Last = "",
    since: Since = "",
    until: Until = "",
    agent: Agent = "",
    version: Version = "",
    model: Model = "",
    skill: Skill = "",
    source: Source = "",
) -> None:
    """Show what used most: agents, versions, models, skills or days. What nobody knows is unknown, never 0."""
    only = {"agent": agent, "version": version, "model": model, "skill": skill, "source": source}
    _show([by], {"first": first.value, "limit": most, **_days(last, since, until), **only})


def told_by(
    dimensions: Annotated[list[Dimension], typer.Argument(metavar="DIMENSION...", help="In this order.")],
    last: Last = "",
    since: Since = "",
    until: Until = "",
    agent: Agent = "",
    version: Version = "",
    model: Model = "",
    skill: Skill = "",
    source: Source = "",
) -> None:
    """Show usage told apart by organization, day, source, agent, version, model or skill, or by several of them."""
    only = {"agent": agent, "version": version, "model": model, "skill": skill, "source": source}
    _show(dimensions, {"limit": 1000, **_days(last, since, until), **only})


def burn() -> None:
    """Show how much of each cap is used and reserved, and when it runs out at the rates of the last hour and day."""
    found = connect().get(f"{PATH}/burn")
    rows = [
        {**one, **{f"last {name}": _outlook(rate) for name, rate in one["rates"].items()}} for one in found["items"]
    ]
    columns = ("of", "agent", "period", "resource", "limit", "used", "reserved", "part", "last hour", "last day")
    output.show(found if output.as_json else rows, columns=columns)


def _show(by: list[Dimension], asked: dict[str, Any]) -> None:
    given = {name: value for name, value in asked.items() if value != ""}
    found = connect().get(PATH, by=[one.value for one in by], **given)
    if output.as_json:
        output.show(found)
        return
    only = [one for one in (Dimension.MODEL, Dimension.SKILL) if one.value in given]
    rows = [_told(one, [*by, *only]) for one in found["items"]]
    if rows or found["open_runs"]:
        rows.append({by[0].value: "in all", **_told(found["total"], only)})
    output.show(rows, columns=(*(one.value for one in by), *_COUNTS))
    notes = list(found["total"]["unknown"]["said"])
    if found["left_out"]:
        notes.append(f"{found['left_out']} lines more are only in the sum")
    if found["open_runs"]:
        notes.append(f"{found['open_runs']} runs are not over and not counted yet")
    for note in notes:
        output.progress(note)


def _days(last: str, since: str, until: str) -> dict[str, Any]:
    only_one(since, last)
    days: dict[str, Any] = {"days": max(1, math.ceil(duration(last or USUAL) / timedelta(days=1)))}
    return {**({"from": _day(since, "--from")} if since else days), "to": _day(until, "--to")}


def _told(line: dict[str, Any], by: list[Dimension]) -> dict[str, Any]:
    """A line as people read it: what nobody knows is unknown; what lines by these cannot tell has no figure."""
    silent: set[str] = set()
    if Dimension.MODEL in by:
        silent |= _OF_RUNS | _OF_SKILLS
    if Dimension.SKILL in by:
        silent |= set(_COUNTS) - _OF_SKILLS
    unknown = {name: "unknown" for name in _COUNTS if line[name] is None and name not in silent}
    return {**line, **unknown}


def _day(said: str, where: str) -> str:
    """The day of UTC of a time, since that is what is counted."""
    if not said:
        return ""
    return moment(said, at=now(), zone=ZoneInfo("UTC"), where=where).astimezone(UTC).date().isoformat()


def _outlook(rate: dict[str, Any]) -> str:
    if rate["per_hour"] is None:
        return str(rate["outlook"])
    told = {"runs_out": f"runs out at {rate['runs_out_at']}"}.get(rate["outlook"], rate["outlook"])
    return f"{rate['per_hour']} an hour: {told}"
