"""``agentos approvals …``."""

from __future__ import annotations

from typing import Annotated

import typer

from agentos.apps.cli import output
from agentos.apps.client import connect

ApprovalId = Annotated[str, typer.Argument(metavar="APPROVAL", help="An approval's id.")]
Note = Annotated[str, typer.Option("--note", help="Why; kept with the answer.")]


def register(app: typer.Typer) -> None:
    """Add the verbs of approvals."""
    approvals = typer.Typer(help="Approvals: what waits for a person.", no_args_is_help=True)
    approvals.command("list")(list_approvals)
    for verb in (show, approve, deny):
        approvals.command(verb.__name__)(verb)
    app.add_typer(approvals, name="approvals")


def list_approvals(
    status: Annotated[str, typer.Option(help="pending, approved, denied, expired or all.")] = "pending",
) -> None:
    """List approvals, oldest first."""
    found = connect().get("/api/v1/approvals", status=status, limit=200)
    output.show(
        found["items"], columns=("id", "run_id", "skill", "effect", "requested_by", "status", "expires_at", "arguments")
    )


def show(approval: ApprovalId) -> None:
    """Show an approval with its arguments and answers."""
    output.show(connect().get(f"/api/v1/approvals/{approval}"))


def approve(approval: ApprovalId, note: Note = "") -> None:
    """Say yes to just the arguments that the approval shows."""
    output.show(connect().post(f"/api/v1/approvals/{approval}/approve", {"note": note}))


def deny(approval: ApprovalId, note: Note = "") -> None:
    """Say no."""
    output.show(connect().post(f"/api/v1/approvals/{approval}/deny", {"note": note}))
