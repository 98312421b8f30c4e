"""``agentos effects …``: what changed outside."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final

import typer

from agentos.apps.cli import output
from agentos.apps.cli.deployments import resolve
from agentos.apps.cli.times import From, To, Zone, moment, zone_of
from agentos.apps.client import connect
from agentos.kernel.clock import now

PATH: Final = "/api/v1/agents/effects"
PAGE: Final = 200
_COLUMNS: Final = (
    *("committed_at", "run_id", "step", "send", "skill", "effect", "reversibility", "status", "became_at"),
    *("approval_id", "version", "idempotency_key"),
)


def register(app: typer.Typer) -> None:
    """Add the verbs of effects."""
    effects = typer.Typer(help="Effects: what changed outside.", no_args_is_help=True)
    effects.command("list")(list_effects)
    app.add_typer(effects, name="effects")


def list_effects(
    deployment: Annotated[str, typer.Option(help="Only of this deployment: its id, AGENT or AGENT/ENVIRONMENT.")] = "",
    since: From = "",
    until: To = "",
    agent: Annotated[str, typer.Option(help="Only of this agent.")] = "",
    version: Annotated[str, typer.Option(help="Only of this version: its hash, or how it begins.")] = "",
    skill: Annotated[str, typer.Option(help="Only of this skill.")] = "",
    status: Annotated[str, typer.Option(help="sent (on the wire), ok, failed, uncertain or settled.")] = "",
    zone: Zone = "",
    most: Annotated[int, typer.Option("--most", min=1, help="How many at most.")] = 1000,
) -> None:
    """List effects that were committed within a time, else in the last day, newest first: every send of each."""
    client, at, where = connect(), now(), zone_of(zone)
    named: dict[str, Any] = {"agent": agent, "version": version, "skill": skill, "status": status}
    asked = {name: value for name, value in named.items() if value}
    for name, said in (("from", since), ("to", until)):
        if said:
            asked[name] = moment(said, at=at, zone=where, where=f"--{name}").isoformat()
    asked.setdefault("to", at.isoformat())  # one end for every page
    if deployment:
        asked["deployment"] = resolve(client, deployment)
    found: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None and len(found) < most:
        page = client.get(PATH, limit=min(PAGE, most - len(found)), cursor=cursor, **asked)
        found += page["items"]
        cursor = page["next_cursor"]
    if cursor is not None:
        output.progress(f"there may be more: these are the newest {len(found)}; name a shorter time, or more by --most")
    output.show(found if output.as_json else [_shown(one) for one in found], columns=_COLUMNS)


def _shown(one: dict[str, Any]) -> dict[str, Any]:
    times = {name: one[name] and _local(one[name]) for name in ("committed_at", "became_at")}
    return one | times


def _local(said: str) -> str:
    return datetime.fromisoformat(said).astimezone().isoformat(sep=" ", timespec="milliseconds")
