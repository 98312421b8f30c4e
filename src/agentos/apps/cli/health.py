"""``agentos health``."""

from __future__ import annotations

from typing import Annotated

import typer

from agentos.apps.cli import output
from agentos.apps.client import connect
from agentos.kernel.errors import EXIT_CODE, Unavailable


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("health")(health)


def health(agent: Annotated[str, typer.Option("--agent", help="Show this agent's health.")] = "") -> None:
    """Show what was probed just now: database and its role, engine, a worker; or one agent's health."""
    client = connect()
    if agent:
        output.show(client.get(f"/api/v1/agents/{agent}/health"))
        return
    found = client.probe("/health/ready")
    if output.as_json:
        output.show(found)
    else:
        rows = [{"check": name, **check} for name, check in found["checks"].items()]
        output.show(rows, columns=("check", "status", "code", "detail"))
    if not found["ready"]:
        raise typer.Exit(EXIT_CODE[Unavailable])
