"""``agentos audit …`` and ``agentos state``: the ledger searched, exported and verified, and what was in force when."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from agentos.apps.cli import output
from agentos.apps.cli.deployments import resolve
from agentos.apps.cli.times import SAID, From, To, Zone, exact, only_one
from agentos.apps.client import Client, connect
from agentos.apps.embedded.home import LEDGER_KEY, Home
from agentos.evidence.ledger.model import Unread
from agentos.evidence.ledger.past import KINDS
from agentos.kernel.clock import now
from agentos.kernel.errors import Conflict, Invalid
from agentos.kernel.seals import promote_key, rotate_key
from agentos.kernel.units import duration

BASE: Final = "/api/v1/audit"
_PAGE: Final = 200
_COLUMNS: Final = ("number", "at", "fact", "key", "person", "run_id", "deployment_id")

Fact = Annotated[str, typer.Option("--fact", help="Its name, as VersionPromoted.")]
Key = Annotated[str, typer.Option("--key", help="The id that the fact is about.")]
Person = Annotated[str, typer.Option("--person", help="Who did it.")]
Run = Annotated[str, typer.Option("--run", help="A run's id.")]
Deployment = Annotated[str, typer.Option("--deployment", "-d", help="AGENT, AGENT/ENVIRONMENT or a deployment's id.")]
Last = Annotated[str, typer.Option("--last", help="In place of --from: how long before now, as 1h or 30d.")]


class LedgerBroken(Conflict):
    """A link of the ledger does not hold: it was changed past the platform."""

    code = "ledger_broken"


class LedgerUnread(Conflict):
    """Links of the ledger cannot be verified, as the key that they were made with is absent."""

    code = "ledger_unread"


class StateRefused(Invalid):
    """The state was asked for at no moment, or at one and between two."""

    code = "state_refused"


class Form(StrEnum):
    """How an export is written: a JSON document a line."""

    JSONL = "jsonl"
    CLOUDEVENTS = "cloudevents"


def register(app: typer.Typer) -> None:
    """Add the verbs of the ledger, and that of its time travel."""
    ledger = typer.Typer(help="The ledger: what happened, chained so that changes show.", no_args_is_help=True)
    for verb in (verify, search, export):
        ledger.command(verb.__name__)(verb)
    ledger.command("rotate-key")(rotate)
    app.add_typer(ledger, name="audit")
    app.command("state")(state)


def verify(
    nobodys: Annotated[
        bool, typer.Option("--nobodys", help="The chain of logins with unknown keys; at the machine only.")
    ] = False,
) -> None:
    """Verify every link of the ledger, its columns and its anchors; name the first link that does not hold, exit 5."""
    part, cursor, checked, earlier, amiss, unread = _nobodys() if nobodys else _own(), "", 0, 0, [], []
    while True:
        found = part(cursor)
        checked += found["checked"]
        earlier += found["earlier"]
        unread += found["unread"]
        cursor = found.pop("next_cursor")
        if cursor is None:
            break
        if found["broken"] is None:
            output.progress(f"{checked:,} of {found['entries']:,} entries hold")
        else:  # of a fact: the links behind it are looked at all the same
            amiss.append(found["broken"])
            checked += 1
    broken = found["broken"] or next(iter(amiss), None)
    holds = False if broken is not None else "unknown" if unread else True
    told = {"checked": checked, "holds": holds, "earlier": earlier, "unread": unread}
    output.show(found | told | {"facts_amiss": [one["number"] for one in amiss]})
    if broken is not None:
        raise LedgerBroken(
            f"{broken['kind']} at entry {broken['number']}: {broken['what']}",
            then="Compare with a backup from before; see docs/audit.md.",
        )
    if unread:
        raise LedgerUnread(
            "; ".join(str(Unread(**one)) for one in unread),
            then="Put the line of that key back into the file of AGENTOS_LEDGER_KEY; see docs/audit.md.",
        )


def _own() -> Callable[[str], Any]:
    client = connect()
    return lambda cursor: client.post(f"{BASE}/verify", {"cursor": cursor})


def _nobodys() -> Callable[[str], Any]:
    # Only here is the database's driver needed, which takes half a second of every other command's start.
    from agentos.apps.ledger import verified_of_nobody

    return verified_of_nobody


def rotate(
    file: Annotated[
        str, typer.Option("--file", help="The file; else AGENTOS_LEDGER_KEY, or that of AGENTOS_HOME.")
    ] = "",
    promote: Annotated[bool, typer.Option("--promote", help="Use the key that was added before.")] = False,
) -> None:
    """Add a new key to those of the ledger, on this machine, and use it with --promote; the old ones still verify."""
    # Only here are settings needed, whose library takes a while of every other command's start.
    from agentos.apps.embedded.settings import EmbeddedSettings
    from agentos.kernel.settings import DatabaseSettings

    path = file or DatabaseSettings.read().ledger_key or str(Home(EmbeddedSettings.read().home).path / LEDGER_KEY)
    keys = promote_key(Path(path)) if promote else rotate_key(Path(path))
    output.show({"file": path, "key_id": keys.now.id, "others": [one.id for one in keys.every[1:]]})
    if promote:
        output.progress("copy the file to every machine of the platform, then start its processes anew, one by one")
    else:
        output.progress(
            "copy the file to every machine of the platform, then use the key: 'audit rotate-key --promote'"
        )


def search(
    fact: Fact = "",
    key: Key = "",
    person: Person = "",
    run: Run = "",
    deployment: Deployment = "",
    since: From = "",
    until: To = "",
    last: Last = "",
    zone: Zone = "",
    most: Annotated[int, typer.Option("--most", help="How many, at most.", min=1)] = 50,
) -> None:
    """Search the ledger, newest first."""
    client, found = connect(), []
    words = _words(client, fact, key, person, run, deployment, _times(since, until, last, zone))
    for one in _every(client, words | {"limit": min(most, _PAGE)}):
        found.append(one)
        if len(found) == most:
            break
    output.show(found, columns=_COLUMNS)


def export(
    file: Annotated[str, typer.Option("--output", "-o", help="The file to write; else standard output.")] = "",
    form: Annotated[Form, typer.Option("--format", help="Entries, or CloudEvents 1.0 of their facts.")] = Form.JSONL,
    fact: Fact = "",
    key: Key = "",
    person: Person = "",
    run: Run = "",
    deployment: Deployment = "",
    since: From = "",
    until: To = "",
    last: Last = "",
    zone: Zone = "",
) -> None:
    """Export entries, oldest first, one JSON document a line."""
    client = connect()
    words = _words(client, fact, key, person, run, deployment, _times(since, until, last, zone))
    words |= {"order": "oldest", "limit": _PAGE, "form": "cloudevents" if form is Form.CLOUDEVENTS else "entry"}
    lines = (json.dumps(one, ensure_ascii=False, separators=(",", ":")) + "\n" for one in _every(client, words))
    if not file:
        sys.stdout.writelines(lines)
        return
    with Path(file).open("w", encoding="utf-8") as opened:
        count = 0
        for line in lines:
            opened.write(line)
            count += 1
    output.show({"file": file, "entries": count})


def state(
    at: Annotated[str, typer.Option("--at", help=f"{SAID}; else now.")] = "",
    diff: Annotated[
        tuple[str, str], typer.Option("--diff", metavar="A B", help="Two moments: show what changed between them.")
    ] = ("", ""),
    zone: Zone = "",
) -> None:
    """Show the versions, tiers, stops, policies, budgets and gates of a moment, or what changed between two."""
    client = connect()
    if any(diff):
        if at:
            raise StateRefused("--at and --diff are two questions", then="Ask one of them.")
        if not all(diff):
            raise StateRefused("--diff takes two moments", then="Name both, the earlier one first.")
        before, after = (exact(one, where="--diff", zone=zone) for one in diff)
        found = client.get(f"{BASE}/state/diff", before=before, after=after)
        if output.as_json or not isinstance(found["changes"], list):
            output.show(found)
        else:
            output.show(found["changes"], columns=("kind", "id", "before", "after"))
            if not found["is_complete"] or found["passed_over"]:
                left = f"{found['passed_over']} entries passed over as they are not as they were chained"
                output.progress(f"the ledger is complete: {str(found['is_complete']).lower()}; {left}")
        return
    found = client.get(f"{BASE}/state", at=exact(at, where="--at", zone=zone))
    if output.as_json:
        output.show(found)
        return
    kinds = [(name, found.pop(name)) for name in KINDS]
    output.show(found)
    for name, held in kinds:
        output.show(f"\n{name}:")
        output.show(held if isinstance(held, str) else [{"id": one, **known} for one, known in held.items()])


def _words(
    client: Client, fact: str, key: str, person: str, run: str, deployment: str, times: dict[str, str]
) -> dict[str, Any]:
    words = {"fact": fact, "key": key, "person": person, "run": run}
    named = resolve(client, deployment) if deployment else ""
    return words | {"deployment": named} | times


def _times(since: str, until: str, last: str, zone: str) -> dict[str, str]:
    only_one(since, last)
    from_ = (now() - duration(last)).isoformat() if last else exact(since, where="--from", zone=zone)
    return {"from": from_, "to": exact(until, where="--to", zone=zone)}


def _every(client: Client, words: dict[str, Any]) -> Iterator[Any]:
    cursor = ""
    while cursor is not None:
        found = client.get(f"{BASE}/entries", **words, cursor=cursor)
        yield from found["items"]
        cursor = found["next_cursor"]
