"""``agentos kill|pause|degrade|deny|resume`` and ``agentos stops …``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlencode

import typer

from agentos.apps.cli import output
from agentos.apps.cli.deployments import resolve
from agentos.apps.client import Client, connect
from agentos.control.stops.model import StopScope
from agentos.kernel.errors import Invalid, NotFound

PATH: Final = "/api/v1/stops"
_COLUMNS: Final = ("id", "kind", "scope", "target", "ordered_at", "ordered_by", "reason", "lifted_at")

StopId = Annotated[str, typer.Argument(metavar="STOP", help="A stop's id.")]
Named = Annotated[list[str] | None, typer.Argument(metavar="DEPLOYMENT", help="Ids, or AGENT, or AGENT/ENVIRONMENT.")]
OfAgent = Annotated[list[str] | None, typer.Option("--agent", help="Every deployment of this agent; repeat it.")]
OfCategory = Annotated[list[str] | None, typer.Option("--category", help="Every agent of this category; repeat it.")]
Organization = Annotated[bool, typer.Option("--organization", help="Everything of your organization.")]
Everything = Annotated[bool, typer.Option("--global", help="Every organization of the platform.")]
Confirm = Annotated[str, typer.Option("--confirm", help="The word that is asked for, where one is.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept with the stop.")]
Skill = Annotated[list[str] | None, typer.Option("--skill", help="A skill's id, or a glob; repeat it.")]
Domain = Annotated[list[str] | None, typer.Option("--domain", help="A host and everything below it; repeat it.")]
Provider = Annotated[list[str] | None, typer.Option("--provider", help="A provider of models; repeat it.")]


class NothingNamed(Invalid):
    """The command was not told what to stop or to release."""

    code = "nothing_named"


class NotStopped(NotFound):
    """No stop in force is about what was named."""

    code = "not_stopped"


class ProofUnreadable(Invalid):
    """The file of a proof cannot be read, or holds no document."""

    code = "proof_unreadable"


def register(app: typer.Typer) -> None:
    """Add the verbs of stops."""
    for verb in (kill, pause, degrade, deny, resume):
        app.command(verb.__name__)(verb)
    stops = typer.Typer(help="Stops: what withholds action, and the proof that it did.", no_args_is_help=True)
    stops.command("list")(list_stops)
    for what in (show, denylist, proof, verify):
        stops.command(what.__name__)(what)
    app.add_typer(stops, name="stops")


def kill(
    deployments: Named = None,
    agent: OfAgent = None,
    category: OfCategory = None,
    organization: Organization = False,
    everything: Everything = False,
    confirm: Confirm = "",
    reason: Reason = "",
) -> None:
    """Let nothing act any more, at once: no effect is committed, and runs are held where they are."""
    _order("kill", _about(deployments, agent, category, organization, everything), confirm, reason)


def pause(
    deployments: Named = None,
    agent: OfAgent = None,
    category: OfCategory = None,
    organization: Organization = False,
    everything: Everything = False,
    confirm: Confirm = "",
    reason: Reason = "",
) -> None:
    """Hold runs before their next step."""
    _order("pause", _about(deployments, agent, category, organization, everything), confirm, reason)


def degrade(
    deployments: Named = None,
    agent: OfAgent = None,
    category: OfCategory = None,
    organization: Organization = False,
    everything: Everything = False,
    confirm: Confirm = "",
    reason: Reason = "",
) -> None:
    """Let agents read and recommend, and nothing else; nothing starts by the clock."""
    _order("degrade", _about(deployments, agent, category, organization, everything), confirm, reason)


def deny(
    skill: Skill = None,
    domain: Domain = None,
    agent: OfAgent = None,
    provider: Provider = None,
    confirm: Confirm = "",
    reason: Reason = "",
) -> None:
    """Add entries to the emergency denylist; they bind runs that are under way, too."""
    _order("deny", _entries(skill, domain, agent, provider), confirm, reason)


def resume(
    deployments: Named = None,
    agent: OfAgent = None,
    category: OfCategory = None,
    organization: Organization = False,
    everything: Everything = False,
    skill: Skill = None,
    domain: Domain = None,
    provider: Provider = None,
    stop: Annotated[list[str] | None, typer.Option("--stop", help="Just this stop, by its id; repeat it.")] = None,
    confirm: Confirm = "",
    reason: Reason = "",
) -> None:
    """Lift the stops in force that are about just this; held runs go on. A wider stop goes on holding."""
    client = connect()
    wanted = _entries(skill, domain, None, provider)
    wanted += _about(deployments, agent, category, organization, everything)
    found = list(stop or [])
    if wanted:
        names = {(scope.value, _target(client, scope, target)) for scope, target in wanted}
        there = _in_force(client)
        found += [one["id"] for one in there if (one["scope"], one["target"]) in names]
    elif not found:
        raise _nothing()
    if not found:
        raise NotStopped("no stop in force is about just this", then="See 'agentos stops list' for what holds it.")
    if everything and not confirm:
        confirm = _typed("release every organization")
    query = {name: value for name, value in (("reason", reason), ("confirm", confirm)) if value}
    lifted = [client.delete(f"{PATH}/{one}?{urlencode(query)}" if query else f"{PATH}/{one}") for one in found]
    output.show(lifted, columns=_COLUMNS)


def list_stops(
    every: Annotated[bool, typer.Option("--all", help="Those that were lifted, too.")] = False,
    kind: Annotated[str, typer.Option(help="kill, pause, degrade or deny.")] = "",
) -> None:
    """List stops, newest first."""
    asked = {"kind": kind, "in_force": "false" if every else "true", "limit": 200}
    output.show(connect().get(PATH, **asked)["items"], columns=_COLUMNS)


def show(stop: StopId) -> None:
    """Show a stop."""
    output.show(connect().get(f"{PATH}/{stop}"))


def denylist() -> None:
    """Show the emergency denylist."""
    output.show(connect().get("/api/v1/agents/policies/denylist"))


def proof(stop: StopId) -> None:
    """Print the signed proof of what a kill or a pause let through, as JSON."""
    found = connect().get(f"{PATH}/{stop}/proof")
    sys.stdout.write(json.dumps(found, indent=2, ensure_ascii=False) + "\n")


def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A proof.")],
    key: Annotated[str, typer.Option("--key", help="The public key that must have signed it, as base64.")] = "",
) -> None:
    """Check a proof offline: its signature, that it agrees with itself, and that no effect came after the order."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ProofUnreadable(f"the proof cannot be read: {type(error).__name__}", where=str(file)) from None
    if not isinstance(document, dict):
        raise ProofUnreadable("the file holds no document", where=str(file))
    # Of the commands only this one needs it, and the database's driver behind it takes half a second to load.
    from agentos.evidence.effects import service as effects

    output.show(effects.check(document, pinned=key or None) | {"key": "pinned" if key else "not compared: see --key"})


def _about(
    deployments: list[str] | None,
    agents: list[str] | None,
    categories: list[str] | None,
    organization: bool,
    everything: bool,
) -> list[tuple[StopScope, str]]:
    return [
        *((StopScope.DEPLOYMENT, one) for one in deployments or ()),
        *((StopScope.AGENT, one) for one in agents or ()),
        *((StopScope.CATEGORY, one) for one in categories or ()),
        *([(StopScope.ORGANIZATION, "")] if organization else []),
        *([(StopScope.GLOBAL, "")] if everything else []),
    ]


def _entries(
    skills: list[str] | None, domains: list[str] | None, agents: list[str] | None, providers: list[str] | None
) -> list[tuple[StopScope, str]]:
    return [
        *((StopScope.SKILL, one) for one in skills or ()),
        *((StopScope.DOMAIN, one) for one in domains or ()),
        *((StopScope.AGENT, one) for one in agents or ()),
        *((StopScope.PROVIDER, one) for one in providers or ()),
    ]


def _order(kind: str, wanted: list[tuple[StopScope, str]], confirm: str, reason: str) -> None:
    if not wanted:
        raise _nothing()
    client = connect()
    if (StopScope.GLOBAL, "") in wanted and not confirm:
        confirm = _typed(f"{kind} every organization")
    made = [
        client.post(
            PATH,
            {
                "kind": kind,
                "scope": scope.value,
                "target": _target(client, scope, target),
                "reason": reason,
                "confirm": confirm,
            },
        )
        for scope, target in wanted
    ]
    output.show(made, columns=_COLUMNS)


def _typed(what: str) -> str:
    """What a person types to confirm; nothing where nobody sits, and then the API refuses."""
    return str(typer.prompt(f"Type 'global' to {what}", err=True)) if sys.stdin.isatty() else ""


def _target(client: Client, scope: StopScope, target: str) -> str:
    return resolve(client, target) if scope is StopScope.DEPLOYMENT else target


def _in_force(client: Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = client.get(PATH, limit=200, cursor=cursor)
        found += page["items"]
        cursor = page["next_cursor"]
        if not cursor:
            return found


def _nothing() -> NothingNamed:
    return NothingNamed("nothing was named", then="Name a deployment, or see --help for agents, categories and more.")
