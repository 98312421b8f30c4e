"""``agentos approvals …``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from agentos.apps.cli import output
from agentos.apps.client import connect
from agentos.kernel.errors import Invalid

PATH = "/api/v1/approvals"
ApprovalId = Annotated[str, typer.Argument(metavar="APPROVAL", help="An approval's id.")]
Note = Annotated[str, typer.Option("--note", help="Why; kept with the answer.")]


class FileUnreadable(Invalid):
    """A file that is given to the command line is not there, or holds no such document."""

    code = "file_unreadable"


def register(app: typer.Typer) -> None:
    """Add the verbs of approvals."""
    approvals = typer.Typer(help="Approvals: what waits for a person.", no_args_is_help=True)
    approvals.command("list")(list_approvals)
    for verb in (show, approve, deny, reroute, routing, receipt, verify):
        approvals.command(verb.__name__)(verb)
    app.add_typer(approvals, name="approvals")


def list_approvals(
    status: Annotated[str, typer.Option(help="pending, approved, denied, expired or all.")] = "pending",
    deployment: Annotated[str, typer.Option(help="Only of this deployment.")] = "",
) -> None:
    """List approvals, oldest first."""
    found = connect().get(PATH, status=status, deployment=deployment, limit=200)
    columns = ("id", "run_id", "skill", "effect", "requested_by", "status", "level", "expires_at", "arguments")
    output.show(found["items"], columns=columns)


def show(approval: ApprovalId) -> None:
    """Show the card: who asks, what exactly will happen, how far it reaches, what was said before."""
    output.show(connect().get(f"{PATH}/{approval}"))


def approve(approval: ApprovalId, note: Note = "") -> None:
    """Say yes to just the arguments that the approval shows."""
    output.show(connect().post(f"{PATH}/{approval}/approve", {"note": note}))


def deny(approval: ApprovalId, note: Note = "") -> None:
    """Say no."""
    output.show(connect().post(f"{PATH}/{approval}/deny", {"note": note}))


def reroute(
    approval: Annotated[str, typer.Option(help="Only this one.")] = "",
    deployment: Annotated[str, typer.Option(help="Only what waits of this deployment.")] = "",
    to: Annotated[list[str] | None, typer.Option(help="A person or role:NAME; repeat it. Nobody: the backups.")] = None,
) -> None:
    """Hand what waits to the backup approvers, or to whom is named. Whoever was asked may still answer."""
    body = {"approval": approval, "deployment": deployment, "to": to or []}
    found = connect().post(f"{PATH}/reroute", body)
    if output.as_json:
        output.show(found)
    else:
        output.show(found["items"], columns=("id", "run_id", "skill", "effect", "level", "expires_at"))


def routing(
    file: Annotated[Path | None, typer.Option("--set", help="YAML or JSON that is to hold from now on.")] = None,
) -> None:
    """Show who is asked to approve, and by when; or replace it."""
    if file is None:
        output.show(connect().get(f"{PATH}/routing"))
    else:
        output.show(connect().put(f"{PATH}/routing", _document(file)))


def receipt(approval: ApprovalId) -> None:
    """Print the signed receipt of a decision, for a file."""
    print(json.dumps(connect().get(f"{PATH}/{approval}/receipt"), indent=2, ensure_ascii=False))


def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A receipt.")],
    key: Annotated[str, typer.Option("--key", help="The public key that must have signed it, as base64.")] = "",
) -> None:
    """Check a receipt offline: its signature, and that it agrees with itself. Exit code 2 when it does not."""
    from agentos.control.approvals import receipts

    output.show(receipts.check(_document(file), pinned=key or None))


def _document(file: Path) -> dict[str, Any]:
    import yaml

    try:
        text = file.read_text(encoding="utf-8")
        found = yaml.safe_load(text) if file.suffix in (".yaml", ".yml") else json.loads(text)
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        said = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise FileUnreadable(f"the file cannot be read: {said}", where=str(file)) from None
    if not isinstance(found, dict):
        raise FileUnreadable("the file holds no document", where=str(file))
    return found
