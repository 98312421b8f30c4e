"""``agentos triggers …``: what starts runs by the clock, a webhook or an event."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from agentos.apps.cli import output
from agentos.apps.client import connect
from agentos.kernel.errors import Invalid

PATH = "/api/v1/agents/triggers"
TriggerId = Annotated[str, typer.Argument(metavar="TRIGGER", help="A trigger's id.")]
Input = Annotated[str, typer.Option("--input", help="The fields of the input that are always the same, as JSON.")]
Take = Annotated[list[str] | None, typer.Option("--take", help="FIELD=PATH into what came (JMESPath); repeat it.")]
Overlap = Annotated[str, typer.Option("--overlap", help="allow, queue, skip or replace while --most-open are open.")]
MostOpen = Annotated[int, typer.Option("--most-open", min=1, max=1000, help="Runs of it that may be open at once.")]
Environment = Annotated[str, typer.Option("--environment", "-e", help="The deployment's environment.")]


class EventUnreadable(Invalid):
    """An event that is given to the command line is no JSON, or its file cannot be read."""

    code = "event_unreadable"


def register(app: typer.Typer) -> None:
    """Add the verbs of triggers."""
    triggers = typer.Typer(help="Triggers: start runs by the clock, a webhook or an event.", no_args_is_help=True)
    triggers.command("list")(list_triggers)
    for verb in (show, schedule, webhook, event, enable, disable, remove, firings, simulate):
        triggers.command(verb.__name__)(verb)
    app.add_typer(triggers, name="triggers")


def list_triggers(agent: Annotated[str, typer.Option(help="Only of this agent.")] = "") -> None:
    """List triggers, oldest first."""
    found = connect().get(PATH, agent=agent, limit=200)["items"]
    output.show(found, columns=("id", "name", "kind", "agent", "on", "is_enabled", "overlap", "next_at"))


def show(trigger: TriggerId) -> None:
    """Show a trigger."""
    output.show(connect().get(f"{PATH}/{trigger}"))


def schedule(
    name: Annotated[str, typer.Argument(help="The trigger's name.")],
    agent: Annotated[str, typer.Argument(help="The agent to run.")],
    cron: Annotated[str, typer.Argument(help="minute hour day month weekday")],
    zone: Annotated[str, typer.Option("--zone", help="The time zone, as Europe/Berlin.")] = "UTC",
    catch_up: Annotated[str, typer.Option("--catch-up", help="How long ago a missed moment may be.")] = "1h",
    given: Input = "{}",
    overlap: Overlap = "allow",
    most_open: MostOpen = 1,
    environment: Environment = "production",
) -> None:
    """Start runs by the clock."""
    on = {"schedule": {"cron": cron, "time_zone": zone, "catch_up": catch_up}}
    _add(name, agent, environment, on, given, None, overlap, most_open, 0)


def webhook(
    name: Annotated[str, typer.Argument(help="The trigger's name.")],
    agent: Annotated[str, typer.Argument(help="The agent to run.")],
    secret: Annotated[str, typer.Option("--secret", help="Its signing secret by reference, secret://NAME.")],
    given: Input = "{}",
    take: Take = None,
    overlap: Overlap = "allow",
    most_open: MostOpen = 1,
    environment: Environment = "production",
) -> None:
    """Start runs by calls that are signed by Standard Webhooks. The address is shown once."""
    _add(name, agent, environment, {"webhook": {"secret": secret}}, given, take, overlap, most_open, 0)


def event(
    name: Annotated[str, typer.Argument(help="The trigger's name.")],
    agent: Annotated[str, typer.Argument(help="The agent to run.")],
    kind: Annotated[str, typer.Option("--type", help="Of the CloudEvent; * and ? match anything.")] = "*",
    source: Annotated[str, typer.Option("--source", help="Of the CloudEvent, likewise.")] = "*",
    subject: Annotated[str, typer.Option("--subject", help="Of the CloudEvent, likewise.")] = "*",
    priority: Annotated[int, typer.Option("--priority", help="Of those that match, the highest fires.")] = 0,
    given: Input = "{}",
    take: Take = None,
    overlap: Overlap = "allow",
    most_open: MostOpen = 1,
    environment: Environment = "production",
) -> None:
    """Start runs by CloudEvents that match."""
    on = {"event": {"type": kind, "source": source, "subject": subject}}
    _add(name, agent, environment, on, given, take, overlap, most_open, priority)


def enable(trigger: TriggerId) -> None:
    """Let a trigger fire again. A schedule goes on with its next moment."""
    output.show(connect().patch(f"{PATH}/{trigger}", {"is_enabled": True}))


def disable(
    trigger: TriggerId,
    cancel_runs: Annotated[bool, typer.Option("--cancel-runs", help="Cancel the runs that it started, too.")] = False,
) -> None:
    """Stop a trigger at once, also the firing that has no run yet."""
    output.show(connect().patch(f"{PATH}/{trigger}", {"is_enabled": False, "cancel_runs": cancel_runs}))


def remove(trigger: TriggerId) -> None:
    """Remove a trigger and its firings. Runs that it started go on."""
    connect().delete(f"{PATH}/{trigger}")
    output.show({"id": trigger, "removed": True})


def firings(trigger: TriggerId, state: Annotated[str, typer.Option(help="Only of this state.")] = "") -> None:
    """List a trigger's firings, newest first, with what became of each."""
    found = connect().get(f"{PATH}/{trigger}/firings", state=state, limit=200)["items"]
    output.show(found, columns=("id", "due_at", "fired_at", "state", "reason", "run_id"))


def simulate(
    event: Annotated[str, typer.Argument(metavar="EVENT", help="A CloudEvent as JSON, or @FILE.")],
) -> None:
    """Show which trigger would fire on an event, and with what input. Nothing is fired."""
    try:
        said = json.loads(Path(event[1:]).read_text() if event.startswith("@") else event)
    except (OSError, ValueError) as error:
        raise EventUnreadable(f"the event cannot be read: {error}", where=event[:80]) from None
    if not isinstance(said, dict):
        raise EventUnreadable("an event is a JSON object", where=event[:80])
    kept = {name: said[name] for name in ("id", "source", "type", "subject", "data") if name in said}
    output.show(connect().post(f"{PATH}/simulate", kept))


def _add(
    name: str,
    agent: str,
    environment: str,
    on: dict[str, Any],
    given: str,
    take: list[str] | None,
    overlap: str,
    most_open: int,
    priority: int,
) -> None:
    try:
        fixed = json.loads(given)
    except ValueError as error:
        raise EventUnreadable(f"--input is no JSON: {error}") from None
    taken = dict(one.partition("=")[::2] for one in take or ())
    body = {"name": name, "agent": agent, "environment": environment, "input": fixed, "take": taken, **on}
    body |= {"overlap": overlap, "most_open": most_open, "priority": priority}
    output.show(connect().post(PATH, body))
