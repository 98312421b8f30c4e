"""``agentos evidence …`` and ``agentos ask``: what runs produced and read, and questions about it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any
from urllib.parse import quote

import typer

from agentos.apps.cli import output
from agentos.apps.cli.times import From, To, Zone, exact, terminals
from agentos.apps.client import connect

_PATH = "/api/v1/agents/evidence"

Agent = Annotated[str, typer.Option("--agent", help="Only of this agent.")]
Run = Annotated[str, typer.Option("--run", help="Only of this run.")]
Kind = Annotated[
    str,
    typer.Option("--kind", help="Only input, read, effect, result, refusal, draft, message, answer or output."),
]


def register(app: typer.Typer) -> None:
    """Add the verbs of evidence."""
    verbs = typer.Typer(help="Evidence: what runs produced and read.", no_args_is_help=True)
    verbs.command("search")(search)
    verbs.command("list")(list_artifacts)
    verbs.command("show")(show)
    app.add_typer(verbs, name="evidence")
    app.command("ask")(ask)


def search(
    words: Annotated[str, typer.Argument(metavar="WORDS", help='Words; also "a phrase", or, and -without.')],
    agent: Agent = "",
    run: Run = "",
    kind: Kind = "",
    since: From = "",
    until: To = "",
    zone: Zone = "",
    limit: Annotated[int, typer.Option("--limit", help="How many at most.", min=1, max=50)] = 10,
) -> None:
    """Find what runs produced and read, by words and by likeness, the best first."""
    filters = {"agent": agent, "run": run, "kind": kind, **_times(since, until, zone)}
    found = connect().get(f"{_PATH}/search", q=words, limit=limit, **filters)
    if output.as_json:
        output.show(found)
        return
    for said, meant in found["searched"]["spelt"].items():
        output.progress(f"nothing holds '{said}': looked for '{meant}'; put it in quotes to look for just that")
    if found["searched"]["because"]:
        output.progress(f"likeness was not looked at: {found['searched']['because']}")
    columns = ("at", "agent_id", "kind", "name", "run_id", "step", "snippet")
    output.show([one | {"snippet": " ".join(one["snippet"].split())} for one in found["items"]], columns=columns)


def list_artifacts(
    agent: Agent = "",
    run: Run = "",
    kind: Kind = "",
    since: From = "",
    until: To = "",
    zone: Zone = "",
    limit: Annotated[int, typer.Option("--limit", help="How many at most, 1 to 200.", min=1, max=200)] = 50,
    cursor: Annotated[str, typer.Option("--cursor", help="The next_cursor of the page before; see --json.")] = "",
) -> None:
    """List what runs produced and read, newest first."""
    filters = {"agent": agent, "run": run, "kind": kind, **_times(since, until, zone)}
    found = connect().get(f"{_PATH}/artifacts", limit=limit, cursor=cursor, **filters)
    columns = ("at", "agent_id", "kind", "name", "run_id", "step", "size", "digest")
    output.show(found if output.as_json else found["items"], columns=columns)


def show(
    digest: Annotated[str, typer.Argument(metavar="DIGEST", help="An artifact's digest, sha256:….")],
) -> None:
    """Show an artifact: what it holds, and where it was used."""
    found = connect().get(f"{_PATH}/artifacts/{quote(digest)}")
    if output.as_json:
        output.show(found)
        return
    uses = found.pop("uses")
    output.show(found)
    output.show("")
    output.show(uses, columns=("at", "agent_id", "kind", "name", "run_id", "step", "version"))


def ask(
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="In English: what did AGENT publish yesterday?")],
    extract: Annotated[bool, typer.Option("--extract", help="Ask no model, also where one is set.")] = False,
    zone: Zone = "",
) -> None:
    """Ask what agents did. Every sentence of the answer names the entries that it stands on; else it is 'unknown'."""
    found = connect().post(f"{_PATH}/ask", {"question": question, "extract": extract, "zone": zone or terminals()})
    if output.as_json:
        output.show(found)
        return
    if found["instead_of"]:
        output.progress(f"{found['instead_of']['model']} did not answer: {found['instead_of']['why']}")
    for one in found["sentences"]:
        quoted = " (as quoted)" if one["quotes"] else ""
        output.show(f"{one['text']}{quoted} {''.join(f'[{number}]' for number in one['citations'])}")
    if found["searched"]["because"]:
        output.progress(f"contents were looked for by their words alone: {found['searched']['because']}")
    for note in _left_out(found["left_out"]):
        output.progress(note)
    if not found["sentences"]:
        output.show(found["answer"])
        output.show({name: value for name, value in found["searched"].items() if value})
        return
    output.show("")
    for one in found["citations"]:
        output.show(f"[{one['number']}] {_place(one)}")
        if one["quote"]:
            output.show("    " + " ".join(one["quote"].split()))


def _times(since: str, until: str, zone: str) -> dict[str, str]:
    said = {"since": ("--from", since), "until": ("--to", until)}
    return {name: exact(one, where=where, zone=zone) for name, (where, one) in said.items()}


def _left_out(one: dict[str, Any]) -> Iterator[str]:
    if one["entries"]:
        yield f"{one['entries']} entries more were found and are not told; ask about a shorter time"
    if one["sentences"]:
        yield f"{one['sentences']} sentences more were said and are not shown"
    if one["cut"]:
        yield f"there may be more than the newest or best that were looked at: {', '.join(one['cut'])}"


def _place(one: dict[str, Any]) -> str:
    places = ("sort", "at", "run_id", "step", "approval_id", "stop_id")
    return "  ".join(str(one[name]) for name in places if one[name])
