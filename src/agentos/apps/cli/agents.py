"""``agentos apply`` and ``agentos agents …``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote, urlencode

import typer

from agentos.apps.cli import output
from agentos.apps.client import connect

if TYPE_CHECKING:
    from agentos.control.agents.model import Manifest

Agent = Annotated[str, typer.Argument(metavar="AGENT", help="An agent's name.")]


def register(app: typer.Typer) -> None:
    """Add ``apply`` and the verbs of agents."""
    app.command()(apply)
    agents = typer.Typer(help="Agents and their versions.", no_args_is_help=True)
    agents.command("list")(list_agents)
    agents.command("show")(show)
    app.add_typer(agents, name="agents")


def apply(
    file: Annotated[list[Path], typer.Option("--file", "-f", help="A manifest, or a folder of them. May be repeated.")],
    environment: Annotated[str, typer.Option(help="Where to put the versions forward.")] = "production",
) -> None:
    """Apply manifests, all or none. An agent's first version serves at once; promote the later ones."""
    from agentos.control.agents import manifest
    from agentos.control.agents.model import ManifestInvalid

    manifests = manifest.read_files(file)
    body = {"documents": [one.document() for one in manifests]}
    try:
        done = connect().post(f"/api/v1/agents?{urlencode({'environment': environment})}", body)
    except ManifestInvalid as error:
        raise ManifestInvalid(placed(error.what, manifests), then=error.then) from None
    columns = ("agent_id", "number", "version", "result", "environment", "revision", "status")
    output.show(done if output.as_json else [_short(one) for one in done["applied"]], columns=columns)
    for one in done["applied"]:
        if one["status"] == "draft":
            output.progress(
                f"To let it serve: agentos deployments promote {one['agent_id']}/{environment} {one['number']}"
            )


def list_agents() -> None:
    """List agents."""
    found = connect().get("/api/v1/agents", limit=200)["items"]
    columns = ("id", "category", "owner", "versions", "latest", "created_at")
    output.show(found if output.as_json else [_short(one) for one in found], columns=columns)


def show(
    agent: Agent,
    version: Annotated[str, typer.Option(help="A number, a hash or its beginning. Else the latest.")] = "",
) -> None:
    """Show an agent: a version's definition, all versions, and where the agent is deployed."""
    client = connect()
    path = f"/api/v1/agents/{quote(agent, safe='')}"
    found = client.get(path)
    if version:
        found["definition"] = client.get(f"{path}/versions/{quote(version, safe='')}")["definition"]
    versions = client.get(f"{path}/versions", limit=200)["items"]
    deployments = client.get("/api/v1/agents/deployments", agent=agent, limit=200)["items"]
    if output.as_json:
        output.show(found | {"version_list": versions, "deployments": deployments})
        return
    definition = found.pop("definition")
    output.show(found)
    output.show("")
    output.show(definition)
    output.show("")
    output.show([_short(one) for one in versions], columns=("number", "hash", "tier", "created_by", "created_at"))
    output.show("")
    output.show(
        [_short(one) for one in deployments],
        columns=("id", "environment", "state", "tier", "revision", "version"),
    )


def placed(text: str, manifests: Sequence[Manifest]) -> str:
    """A server's problems with ``file:line:column`` in the place of the paths that lead each line."""

    def place(found: re.Match[str]) -> str:
        number = int(found[2])
        known = manifests[number].place(found[3]) if number < len(manifests) else found[0]
        return f"{found[1]}{known}"

    return re.sub(r"^( *)documents\[(\d+)\]\.?([^\s:]*)(?=:)", place, text, flags=re.MULTILINE)


def _short(one: dict[str, Any]) -> dict[str, Any]:
    """A row whose hashes are short enough for a table and long enough to name a version."""
    return {
        key: value.removeprefix("sha256:")[:12] if isinstance(value, str) and value.startswith("sha256:") else value
        for key, value in one.items()
    }
