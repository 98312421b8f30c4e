"""``agentos models …`` and ``agentos adapters``: which models there are, how they do, and which serves what."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from agentos.apps.cli import output
from agentos.apps.client import connect
from agentos.kernel.errors import EXIT_CODE, Invalid, Unavailable

PATH = "/api/v1/models"


def register(app: typer.Typer) -> None:
    """Add the verbs of models."""
    models = typer.Typer(help="Models: which there are, whether one answers, and which serves a step.")
    models.command("list")(list_models)
    models.command("test")(test_model)
    models.command("route")(route)
    app.add_typer(models, name="models")
    app.command("adapters")(adapters)


def adapters() -> None:
    """Show every provider of models: whether it is asked, how it did last, and what the switches say."""
    found = connect().probe("/health/adapters")
    if output.as_json:
        output.show(found)
        return
    output.show({"says": found["says"], **found["switches"]})
    columns = ("name", "state", "local", "last", "at", "breaker", "rate_limit")
    output.show([*found["adapters"], *found["not_asked"]], columns=columns)


def list_models() -> None:
    """Show the models that serving versions name: what they cost, and how they did last."""
    found = connect().get(PATH)
    columns = ("provider", "model", "configured", "local", "price", "last", "breaker", "used_by")
    output.show(found if output.as_json else found["items"], columns=columns)


def test_model(
    model: Annotated[str, typer.Argument(help="PROVIDER/NAME, as in spec.model.")],
    text: Annotated[str, typer.Option("--text", help="What it is told.")] = "ping",
) -> None:
    """Ask a model one word, for at most 16 tokens, and show what came of it. It counts in the budgets."""
    provider, slash, name = model.partition("/")
    if not provider or (not slash and provider != "stub"):
        raise Invalid(f"'{model[:80]}' names no model", then="Write PROVIDER/NAME, as claude/claude-….")
    found: dict[str, Any] = connect().post(f"{PATH}/test", {"provider": provider, "model": name, "text": text})
    output.show(found)
    if not found["answered"]:
        raise typer.Exit(EXIT_CODE[Unavailable])


def route(
    deployment: Annotated[str, typer.Option("--deployment", help="The deployment whose agent would ask.")],
    explain: Annotated[bool, typer.Option("--explain", help="Show every model and why; else the first only.")] = False,
    task: Annotated[str, typer.Option("--task", help="The label of the task.")] = "",
    private: Annotated[bool, typer.Option("--private", help="As if the run's input said so.")] = False,
    tokens: Annotated[int, typer.Option("--tokens", help="About how long the question is.")] = 1000,
) -> None:
    """Show which model would serve a step, and with --explain why each other one would not."""
    found = connect().get(f"{PATH}/route/{deployment}", task=task, private=private, tokens=tokens)
    if output.as_json:
        output.show(found)
        return
    names = ("agent", "mode", "would_ask", "acts_at_most_at")
    output.show({name: found[name] for name in names})
    if explain:
        asked = [{**one, "place": place} for place, one in enumerate(found["models"], 1)]
        left = [{"place": "-", "model": one["model"], "asked": False, "why": one["why"]} for one in found["left_out"]]
        output.show([*asked, *left], columns=("place", "model", "asked", "why", "but"))
