"""``agentos whoami``, ``agentos org …``, ``agentos people …`` and ``agentos keys …``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from agentos.apps.cli import output
from agentos.apps.client import connect
from agentos.intake.identity.model import PEOPLE_ONLY, ROLES, Permission

Handle = Annotated[str, typer.Argument(metavar="PERSON", help="A person's handle.")]
KeyId = Annotated[str, typer.Argument(metavar="KEY", help="A key's id.")]
RoleName = Annotated[str, typer.Option("--role", help=", ".join(ROLES) + ".")]


def register(app: typer.Typer) -> None:
    """Add the verbs of identity."""
    app.command("whoami")(whoami)
    org = typer.Typer(help="Organizations: show yours; list and create them at the machine.", no_args_is_help=True)
    org.command("show")(show_organization)
    org.command("list")(list_organizations)
    org.command("create")(create_organization)
    app.add_typer(org, name="org")
    people = typer.Typer(help="People and their roles.", no_args_is_help=True)
    people.command("list")(list_people)
    for change in (add, role, disable, enable, password, addresses, roles):
        people.command(change.__name__)(change)
    app.add_typer(people, name="people")
    keys = typer.Typer(help="Keys of people and machines.", no_args_is_help=True)
    keys.command("list")(list_keys)
    for one in (create, rotate, revoke, scopes):
        keys.command(one.__name__)(one)
    app.add_typer(keys, name="keys")


def whoami() -> None:
    """Show who you are to the platform, and what you may do."""
    output.show(connect().get("/api/v1/me"))


def show_organization() -> None:
    """Show your organization."""
    output.show(connect().get("/api/v1/organization"))


def list_organizations() -> None:
    """List every organization. Works at the machine only: it asks the database, not the API."""
    from agentos.apps.organizations import every_organization  # see create_organization

    output.show(every_organization(), columns=("org", "name", "people", "created_at"))


def create_organization(
    organization: Annotated[str, typer.Argument(metavar="ORG", help="Its id, which never changes.")],
    name: Annotated[str, typer.Option("--name", help="Its name; else its id.")] = "",
    admin: Annotated[str, typer.Option("--admin", help="Handle of its first admin.")] = "admin",
) -> None:
    """Create an organization and its first admin, whose key is shown once. Works at the machine only."""
    # Only here is the database's driver needed, which takes half a second of every other command's start.
    from agentos.apps.organizations import add_organization

    output.show(add_organization(organization, name=name or organization, admin=admin))


def list_people() -> None:
    """List people by handle."""
    _list("/api/v1/people", ("handle", "role", "enabled", "created_at", "id"))


def add(handle: Handle, role: RoleName = "viewer") -> None:
    """Add a person. They can do nothing before they have a key."""
    output.show(connect().post("/api/v1/people", {"handle": handle, "role": role}))


def role(handle: Handle, role: Annotated[str, typer.Argument(metavar="ROLE", help=", ".join(ROLES) + ".")]) -> None:
    """Give a person another role. It binds their next request."""
    output.show(connect().patch(f"/api/v1/people/{handle}", {"role": role}))


def disable(handle: Handle) -> None:
    """Withdraw a person's right to act: all their keys open nothing."""
    output.show(connect().patch(f"/api/v1/people/{handle}", {"enabled": False}))


def enable(handle: Handle) -> None:
    """Restore a person's right to act."""
    output.show(connect().patch(f"/api/v1/people/{handle}", {"enabled": True}))


def password(handle: Handle) -> None:
    """Give a person another password, typed here and shown nowhere. Their sessions end."""
    typed = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    connect().put(f"/api/v1/people/{handle}/password", {"password": typed})
    output.show({"handle": handle, "password": "set"})


def addresses(
    handle: Handle,
    email: Annotated[str | None, typer.Option("--email", help="Where to write to; '' removes it.")] = None,
    slack: Annotated[
        str | None,
        typer.Option("--slack", help="A member's id in Slack, who answers as this person; '' removes it."),
    ] = None,
) -> None:
    """Show where a person can be reached; with an option, change it."""
    path = f"/api/v1/people/{handle}/addresses"
    body = {name: given for name, given in (("email", email), ("slack", slack)) if given is not None}
    output.show(connect().patch(path, body) if body else connect().get(path))


def roles() -> None:
    """Show what each role may do."""
    table = [
        {"permission": one.value, "means": one.means}
        | {role.value: "yes" if one in allowed else "" for role, allowed in ROLES.items()}
        for one in Permission
    ]
    output.show(table)


def list_keys() -> None:
    """List keys, oldest first; never their secrets."""
    _list("/api/v1/keys", ("id", "holder", "scopes", "created_by", "created_at", "expires_at", "revoked_at"))


def create(
    person: Annotated[str, typer.Option("--person", help="Whom it is for.")] = "",
    machine: Annotated[str, typer.Option("--machine", help="Or which machine.")] = "",
    scope: Annotated[list[str] | None, typer.Option("--scope", help="What it is narrowed to; repeat it.")] = None,
    lasts: Annotated[str, typer.Option("--lasts", help="How long, as 30d. Machines' keys last 90d.")] = "",
) -> None:
    """Create a key. Its secret is shown once."""
    body = {"person": person or None, "machine": machine or None, "scopes": scope or None, "lasts": lasts or None}
    output.show(connect().post("/api/v1/keys", body))


def rotate(
    key: KeyId,
    overlap: Annotated[str, typer.Option("--overlap", help="How long the old one goes on, as 1d.")] = "1d",
) -> None:
    """Create a key that follows another; the old one goes on for a while. The new secret is shown once."""
    output.show(connect().post(f"/api/v1/keys/{key}/rotate", {"overlap": overlap}))


def revoke(key: KeyId) -> None:
    """Close a key: its next request is refused."""
    connect().post(f"/api/v1/keys/{key}/revoke")
    output.show({"id": key, "revoked": True})


def scopes() -> None:
    """Show what a key can be narrowed to."""
    output.show(
        [
            {"scope": one.value, "machines": "" if one in PEOPLE_ONLY else "yes", "means": one.means}
            for one in Permission
        ]
    )


def _list(path: str, columns: tuple[str, ...]) -> None:
    found: dict[str, Any] = connect().get(path, limit=200)
    output.show(found["items"], columns=columns)
