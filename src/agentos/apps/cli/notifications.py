"""``agentos notifications …``."""

from __future__ import annotations

from typing import Annotated

import typer

from agentos.apps.cli import output
from agentos.apps.client import connect

_PATH = "/api/v1/notifications"


def register(app: typer.Typer) -> None:
    """Add the verbs of messages to people."""
    verbs = typer.Typer(help="Messages to people: who was told of what.", no_args_is_help=True)
    verbs.command("list")(list_notifications)
    verbs.command("retry")(retry)
    app.add_typer(verbs, name="notifications")


def list_notifications(
    state: Annotated[str, typer.Option("--state", help="pending, sent, moot, dead or all.")] = "all",
    about: Annotated[str, typer.Option("--about", help="An approval's id.")] = "",
    limit: Annotated[int, typer.Option("--limit", help="How many at most, 1 to 200.")] = 50,
    cursor: Annotated[str, typer.Option("--cursor", help="The next_cursor of the page before; see --json.")] = "",
) -> None:
    """List messages to people, oldest first."""
    found = connect().get(_PATH, state=state, about=about, limit=limit, cursor=cursor)
    columns = ("id", "kind", "about", "person", "channel", "state", "tries", "reason", "due_at")
    output.show(found if output.as_json else found["items"], columns=columns)


def retry(
    notification: Annotated[str, typer.Argument(metavar="NOTIFICATION", help="A message's id.")],
) -> None:
    """Send a dead letter again, for another day, under the same key."""
    output.show(connect().post(f"{_PATH}/{notification}/retry"))
