"""``agentos run``, ``agentos runs …`` and ``agentos drafts …``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from agentos.apps.cli import output
from agentos.apps.client import Client, connect
from agentos.kernel.errors import Invalid

RunId = Annotated[str, typer.Argument(metavar="RUN", help="A run's id.")]


class InputUnreadable(Invalid):
    """The input given to a run is no JSON, or its file cannot be read."""

    code = "input_unreadable"


def register(app: typer.Typer) -> None:
    """Add the verbs of runs and drafts."""
    app.command("run")(start)
    runs = typer.Typer(help="Runs: list, show, order, settle.", no_args_is_help=True)
    for verb in (list_runs, show, why, cancel, pause, resume, settle):
        runs.command(verb.__name__.removesuffix("_runs"))(verb)
    app.add_typer(runs, name="runs")
    drafts = typer.Typer(help="Drafts: what agents recommended and a person may submit.", no_args_is_help=True)
    drafts.command("list")(list_drafts)
    drafts.command("submit")(submit)
    drafts.command("discard")(discard)
    app.add_typer(drafts, name="drafts")


def start(
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="The agent to run.")],
    given: Annotated[
        str, typer.Option("--input", help="JSON, @FILE, '-' for standard input, or plain text as the task.")
    ] = "{}",
    environment: Annotated[
        str, typer.Option("--environment", "-e", help="The deployment's environment.")
    ] = "production",
    key: Annotated[str, typer.Option("--idempotency-key", help="The same key gives the same run.")] = "",
    follow: Annotated[bool, typer.Option("--follow", help="Show every step until the run ends.")] = False,
) -> None:
    """Run an agent."""
    client = connect()
    body = {"agent": agent, "environment": environment, "input": _input(given)}
    run = client.post("/api/v1/runs", body, {"Idempotency-Key": key})
    if follow:
        output.progress(f"{run['id']}  accepted")
        run = followed(client, run["id"])
    output.show(run)
    if run["status"] in ("failed", "blocked"):
        raise typer.Exit(1)


def followed(client: Client, run_id: str) -> dict[str, Any]:
    """Show a run's steps on stderr until it ends; its last state."""
    run: dict[str, Any] = {}
    for name, data in client.events(f"/api/v1/runs/{run_id}/events"):
        if name == "step":
            output.progress(
                f"  {data['seq']:>4}  {data['kind']:<7} {data['phase']:<7} {data['name']:<24} {data['status']}"
            )
        elif name == "status":
            run = data
            waiting = (data.get("waiting") or {}).get("reason")
            output.progress(f"        {data['status']}" + (f", waiting: {waiting}" if waiting else ""))
    return run


def list_runs(
    status: Annotated[str, typer.Option(help="Only runs of this status.")] = "",
    agent: Annotated[str, typer.Option(help="Only runs of this agent.")] = "",
    limit: Annotated[int, typer.Option(help="How many at most.", min=1, max=200)] = 20,
) -> None:
    """List runs, newest first."""
    found = connect().get("/api/v1/runs", status=status, agent=agent, limit=limit)
    output.show(found["items"], columns=("id", "agent_id", "status", "version", "requested_by", "accepted_at"))


def show(
    run: RunId, journal: Annotated[bool, typer.Option("--journal", help="Show every step of its journal.")] = False
) -> None:
    """Show a run."""
    client = connect()
    found = client.get(f"/api/v1/runs/{run}")
    if journal:
        found["journal"] = _whole_journal(client, run)
    if journal and not output.as_json:
        output.show(found.pop("journal"), columns=("seq", "at", "key", "phase", "kind", "name", "status", "segment"))
    output.show(found)


def why(run: RunId) -> None:
    """Tell why a run does not move, and what would make it."""
    output.show(connect().get(f"/api/v1/runs/{run}/why"))


def cancel(run: RunId) -> None:
    """Cancel a run: no further effect is committed."""
    output.show(connect().post(f"/api/v1/runs/{run}/cancel"))


def pause(run: RunId) -> None:
    """Pause a run before its next effect."""
    output.show(connect().post(f"/api/v1/runs/{run}/pause"))


def resume(run: RunId) -> None:
    """Let a paused run go on."""
    output.show(connect().post(f"/api/v1/runs/{run}/resume"))


def settle(
    run: RunId,
    step: Annotated[str, typer.Argument(metavar="STEP", help="The send that 'why' names, e.g. t1.c0~1.")],
    happened: Annotated[str, typer.Option("--happened", help="yes or no: what the receiver says.")],
    value: Annotated[str, typer.Option("--value", help="The result as JSON, when it happened.")] = "null",
) -> None:
    """Say whether an uncertain effect happened, after asking whoever received it."""
    if happened not in ("yes", "no"):
        raise InputUnreadable("--happened is yes or no")
    body = {"happened": happened == "yes", "value": _json(value, "--value")}
    output.show(connect().post(f"/api/v1/runs/{run}/effects/{step}/settle", body))


def list_drafts(status: Annotated[str, typer.Option(help="open, submitted, discarded or all.")] = "open") -> None:
    """List drafts, oldest first."""
    found = connect().get("/api/v1/drafts", status=status, limit=200)
    output.show(found["items"], columns=("id", "run_id", "skill", "status", "drafted_at", "arguments"))


def submit(draft: Annotated[str, typer.Argument(metavar="DRAFT", help="A draft's id.")]) -> None:
    """Submit a draft: its call executes under approval, once."""
    output.show(connect().post(f"/api/v1/drafts/{draft}/submit"))


def discard(draft: Annotated[str, typer.Argument(metavar="DRAFT", help="A draft's id.")]) -> None:
    """Close a draft for good."""
    connect().post(f"/api/v1/drafts/{draft}/discard")
    output.show({"id": draft, "status": "discarded"})


def _whole_journal(client: Client, run: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = client.get(f"/api/v1/runs/{run}/journal", limit=200, cursor=cursor)
        rows += page["items"]
        cursor = page["next_cursor"]
        if not cursor:
            return rows


def _input(given: str) -> Any:
    if given == "-":
        given = sys.stdin.read()
    elif given.startswith("@"):
        try:
            given = Path(given[1:]).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise InputUnreadable(f"the input file cannot be read: {error}", where=given[1:]) from None
    if given.lstrip()[:1] in ("{", "["):
        return _json(given, "--input")
    return {"task_description": given}


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise InputUnreadable(f"this is not JSON: {error}", where=where) from None
