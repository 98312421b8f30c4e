"""``agentos inbox …``."""

from __future__ import annotations

from typing import Annotated

import typer

from agentos.apps.cli import output
from agentos.apps.client import connect

ThreadName = Annotated[str, typer.Argument(metavar="THREAD", help="A thread's number or id.")]
Text = Annotated[str, typer.Argument(metavar="TEXT", help="What to say; 'approve 42 because …' answers thread 42.")]

_PATH = "/api/v1/inbox/threads"
_WORKSPACE = "/api/v1/inbox/slack/workspace"


def register(app: typer.Typer) -> None:
    """Add the verbs of the inbox."""
    verbs = typer.Typer(help="The inbox: what waits, and what was said about it.", no_args_is_help=True)
    verbs.command("list")(list_threads)
    verbs.command("open")(open_thread)
    for verb in (show, say, send):
        verbs.command(verb.__name__)(verb)
    slack = typer.Typer(help="The Slack workspace whose members may answer.", no_args_is_help=True)
    slack.command("show")(show_workspace)
    slack.command("connect")(connect_workspace)
    slack.command("disconnect")(disconnect_workspace)
    verbs.add_typer(slack, name="slack")
    app.add_typer(verbs, name="inbox")


def list_threads(
    state: Annotated[str, typer.Option("--state", help="open, closed or all.")] = "open",
    about: Annotated[str, typer.Option("--about", help="An approval's or a run's id.")] = "",
) -> None:
    """List threads, newest first."""
    found = connect().get(_PATH, state=state, about=about, limit=200)
    output.show(found["items"], columns=("number", "title", "state", "about", "opened_at", "alerted_at"))


def open_thread(
    title: Annotated[str, typer.Argument(metavar="TITLE", help="What it is about, in words.")],
    text: Text,
    about: Annotated[str, typer.Option("--about", help="A run's id.")] = "",
) -> None:
    """Open a thread with a first message."""
    output.show(connect().post(_PATH, {"title": title, "text": text, "about": about}))


def show(thread: ThreadName) -> None:
    """Show a thread with its first 200 messages."""
    client = connect()
    found = client.get(f"{_PATH}/{_reference(thread)}")
    messages = client.get(f"{_PATH}/{found['id']}/messages", limit=200)["items"]
    if output.as_json:
        output.show(found | {"messages": messages})
        return
    output.show(found)
    output.show(messages, columns=("at", "kind", "author", "text"))


def say(thread: ThreadName, text: Text) -> None:
    """Write in a thread. What becomes of an answer is written there, too."""
    output.show(connect().post(f"{_PATH}/{_reference(thread)}/messages", {"text": text}))


def send(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What the run is to know before it goes on.")],
    run: Annotated[str, typer.Option("--run", help="A run's id.")],
) -> None:
    """Write to a run. It reads this before it asks its model next; when it ends first, its thread says so."""
    output.show(connect().post(_PATH, {"title": f"Run {run}", "text": text, "about": run}))


def show_workspace() -> None:
    """Show the connected Slack workspace."""
    output.show(connect().get(_WORKSPACE))


def connect_workspace(
    team: Annotated[str, typer.Argument(metavar="TEAM", help="The workspace's id, as T024BE7LD.")],
    signing_secret: Annotated[str, typer.Option("--signing-secret", help="Of the app: secret://NAME.")],
    token: Annotated[str, typer.Option("--token", help="Of its bot: secret://NAME.")],
    shows: Annotated[
        bool, typer.Option("--shows", help="Show arguments there, and so take answers; else a link leads to them.")
    ] = False,
) -> None:
    """Connect a Slack workspace in place of the one before."""
    body = {"team": team, "signing_secret": signing_secret, "token": token, "shows": shows}
    output.show(connect().put(_WORKSPACE, body))


def disconnect_workspace() -> None:
    """Take nothing more from the connected Slack workspace."""
    connect().delete(_WORKSPACE)
    output.show({"disconnected": True})


def _reference(thread: str) -> str:
    return thread.removeprefix("#")
