"""``agentos deployments …``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from agentos.apps.cli import output
from agentos.apps.client import Client, connect
from agentos.control.deployments.model import PRODUCTION, DeploymentUnknown

Named = Annotated[str, typer.Argument(metavar="DEPLOYMENT", help="An id, or AGENT, or AGENT/ENVIRONMENT.")]
IfMatch = Annotated[str, typer.Option("--if-match", help="Only if this is the present ETag.")]

group = typer.Typer(help="Deployments: which version serves where.", no_args_is_help=True)

BASE = "/api/v1/agents/deployments"
_COLUMNS = ("id", "agent_id", "environment", "state", "tier", "revision", "version")
_HISTORY = ("number", "version_number", "version", "status", "reason", "created_by", "served_from", "served_until")


def register(app: typer.Typer) -> None:
    """Add the verbs of deployments."""
    group.command("list")(list_deployments)
    for verb in (show, create):
        group.command(verb.__name__)(verb)
    app.add_typer(group, name="deployments")


def list_deployments(
    agent: Annotated[str, typer.Option(help="Only of this agent.")] = "",
    environment: Annotated[str, typer.Option(help="Only in this environment.")] = "",
    state: Annotated[str, typer.Option(help="Only active, paused or retired ones.")] = "",
) -> None:
    """List deployments."""
    found = connect().get(BASE, agent=agent, environment=environment, state=state, limit=200)["items"]
    output.show(found if output.as_json else [_short(one) for one in found], columns=_COLUMNS)


def show(deployment: Named) -> None:
    """Show a deployment with its history and its last known good revision."""
    client = connect()
    show_deployment(client.get(f"{BASE}/{resolve(client, deployment)}"))


def create(
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="An agent's name.")],
    environment: Annotated[str, typer.Argument(metavar="ENVIRONMENT", help="A name such as staging.")],
    version: Annotated[str, typer.Option(help="A number, a hash or its beginning. Else the latest.")] = "",
    tier: Annotated[str, typer.Option(help="L0 to L4. Else the version's highest.")] = "",
    serve: Annotated[bool, typer.Option("--serve", help="Let the version serve at once.")] = False,
) -> None:
    """Give an agent a place in an environment."""
    body = {
        "agent_id": agent,
        "environment": environment,
        "version": version or None,
        "tier": tier or None,
        "serve": serve,
    }
    show_deployment(connect().post(BASE, body))


def resolve(client: Client, named: str) -> str:
    """The id of a deployment that is named by id, by ``AGENT`` (in production) or by ``AGENT/ENVIRONMENT``.

    Of several by that name, the one that is not retired. Raises DeploymentUnknown (NotFound).
    """
    if named.startswith("dep_") and "/" not in named and len(named) == 30:
        return named
    agent, _, environment = named.partition("/")
    found: list[dict[str, Any]] = client.get(BASE, agent=agent, environment=environment or PRODUCTION, limit=200)[
        "items"
    ]
    if not found:
        raise DeploymentUnknown(
            f"agent '{agent}' has no deployment in '{environment or PRODUCTION}'",
            then="See 'agentos deployments list'.",
        )
    return str(next((one for one in found if one["state"] != "retired"), found[-1])["id"])


def match_headers(if_match: str) -> dict[str, str]:
    """The header of a change that is made only to this state; none where any state will do."""
    tag = if_match.strip('"')
    return {"If-Match": tag if tag == "*" else f'"{tag}"'} if tag else {}


def show_deployment(found: dict[str, Any]) -> None:
    """Show a deployment with its history, and what a change of it leaves open."""
    if output.as_json:
        output.show(found)
        return
    history, good = found.pop("history"), found.pop("last_known_good")
    left, gates = found.pop("impact", {}), found.pop("gates", [])
    known = good if isinstance(good, str) else f"revision {good['number']}, version {good['version_number']}"
    output.show(found | {"last_known_good": known})
    output.show("")
    output.show([_short(one) for one in history], columns=_HISTORY)
    for line in [*left.get("said", []), *(one["reason"] for one in gates)]:
        output.show(line)


def _short(one: dict[str, Any]) -> dict[str, Any]:
    return one | {"version": one["version"].removeprefix("sha256:")[:12] if one["version"] else None}
