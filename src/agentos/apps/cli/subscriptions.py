"""``agentos subscriptions …``."""

from __future__ import annotations

from typing import Annotated

import typer

from agentos.apps.cli import output
from agentos.apps.client import connect

SubscriptionId = Annotated[str, typer.Argument(metavar="SUBSCRIPTION", help="A subscription's id.")]
DeliveryId = Annotated[str, typer.Argument(metavar="DELIVERY", help="A delivery's id.")]

_PATH = "/api/v1/subscriptions"


def register(app: typer.Typer) -> None:
    """Add the verbs of subscriptions."""
    verbs = typer.Typer(help="Subscriptions: which outside systems are told of which facts.", no_args_is_help=True)
    verbs.command("list")(list_subscriptions)
    for verb in (add, show, enable, disable, remove, deliveries, retry, test):
        verbs.command(verb.__name__)(verb)
    app.add_typer(verbs, name="subscriptions")


def list_subscriptions() -> None:
    """List subscriptions, oldest first."""
    found = connect().get(_PATH, limit=200)
    output.show(found["items"], columns=("id", "name", "url", "facts", "enabled", "reason", "created_by"))


def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name, unique in the organization.")],
    url: Annotated[str, typer.Option("--url", help="Where to send: https, or http to a host the operator allows.")],
    fact: Annotated[list[str], typer.Option("--fact", help="A fact's name or a glob such as 'Run*'; repeat it.")],
    secret: Annotated[str, typer.Option("--secret", help="The secret that signs, by reference: secret://NAME.")],
    disabled: Annotated[bool, typer.Option("--disabled", help="Send nothing before it is enabled.")] = False,
) -> None:
    """Tell an outside system of facts from now on."""
    body = {"name": name, "url": url, "facts": fact, "secret": secret, "enabled": not disabled}
    output.show(connect().post(_PATH, body))


def show(subscription: SubscriptionId) -> None:
    """Show a subscription."""
    output.show(connect().get(f"{_PATH}/{subscription}"))


def enable(subscription: SubscriptionId) -> None:
    """Send again, also what waited meanwhile."""
    output.show(connect().patch(f"{_PATH}/{subscription}", {"enabled": True}))


def disable(subscription: SubscriptionId) -> None:
    """Send nothing more; what happens meanwhile is not sent later."""
    output.show(connect().patch(f"{_PATH}/{subscription}", {"enabled": False}))


def remove(subscription: SubscriptionId) -> None:
    """Remove a subscription and forget what it was owed."""
    connect().delete(f"{_PATH}/{subscription}")
    output.show({"id": subscription, "removed": True})


def deliveries(
    subscription: SubscriptionId,
    state: Annotated[str, typer.Option("--state", help="pending, delivered, dead or all.")] = "all",
    limit: Annotated[int, typer.Option("--limit", help="How many at most, 1 to 200.")] = 50,
    cursor: Annotated[str, typer.Option("--cursor", help="The next_cursor of the page before; see --json.")] = "",
) -> None:
    """List a subscription's deliveries, oldest first."""
    found = connect().get(f"{_PATH}/{subscription}/deliveries", state=state, limit=limit, cursor=cursor)
    columns = ("id", "fact", "key", "state", "tries", "status", "reason", "due_at", "ended_at")
    output.show(found if output.as_json else found["items"], columns=columns)


def retry(subscription: SubscriptionId, delivery: DeliveryId) -> None:
    """Send a dead letter again, for another day, with the same webhook-id."""
    output.show(connect().post(f"{_PATH}/{subscription}/deliveries/{delivery}/retry"))


def test(subscription: SubscriptionId) -> None:
    """Send an event agentos.Test at once and show what the receiver said."""
    output.show(connect().post(f"{_PATH}/{subscription}/test"))
