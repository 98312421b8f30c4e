"""``agentos budgets …``: caps on what agents may spend, what models cost, and what is used up."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from agentos.apps.cli import output
from agentos.apps.client import connect
from agentos.control.budgets.model import Period
from agentos.kernel.units import duration

PATH = "/api/v1/budgets"
Agent = Annotated[str, typer.Option("--agent", help="An agent; else the organization as a whole.")]


def register(app: typer.Typer) -> None:
    """Add the verbs of budgets."""
    budgets = typer.Typer(help="Budgets: what agents may spend.", no_args_is_help=True)
    budgets.command("set")(set_budget)
    for verb in (show, usage, prices, price):
        budgets.command(verb.__name__)(verb)
    app.add_typer(budgets, name="budgets")


def show() -> None:
    """Show every cap. Money is in US dollars."""
    found = connect().get(PATH)
    output.show(
        found if output.as_json else found["items"],
        columns=("of", "agent", "period", "money", "tokens", "steps", "seconds", "changed_by", "changed_at"),
    )


def set_budget(
    period: Annotated[Period, typer.Argument(help="run, day or month (UTC).")],
    agent: Agent = "",
    money: Annotated[str | None, typer.Option("--money", help="Dollars, as 12.50.")] = None,
    tokens: Annotated[int | None, typer.Option("--tokens", help="Tokens in and out.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Skill calls.")] = None,
    time: Annotated[str | None, typer.Option("--time", help="Wall time of runs, as 8h.")] = None,
) -> None:
    """Replace the caps for each run, a day or a month. What is not given is not capped; nothing given removes all."""
    seconds = None if time is None else int(duration(time).total_seconds())
    body = {"agent": agent, "period": period, "money": money, "tokens": tokens, "steps": steps, "seconds": seconds}
    output.show(connect().put(PATH, body))


def usage(on: Annotated[str, typer.Option("--on", help="A day of UTC, as 2026-11-21; else today.")] = "") -> None:
    """Show what is used up in a day and its month, what is reserved beside it, and the caps in force."""
    found = connect().get(f"{PATH}/usage", on=on)
    columns = ("of", "agent", "period", "since", "money", "reserved_money", "tokens", "steps", "seconds", "calls")
    output.show(
        found if output.as_json else found["items"], columns=(*columns, "unknown_calls", "overshot_calls", "limits")
    )


def prices() -> None:
    """Show what your organization says that models cost. Of others the list price holds."""
    found = connect().get(f"{PATH}/prices")
    columns = ("provider", "model", "input", "output", "cache_read", "cache_write", "call_ceiling")
    output.show(found if output.as_json else found["items"], columns=columns)


def price(
    provider: Annotated[str, typer.Argument(help="As in spec.model.provider.")],
    model: Annotated[str, typer.Argument(help="As in spec.model.name; '*' for every other.")],
    input: Annotated[str | None, typer.Option("--input", help="Dollars for a million tokens in.")] = None,
    output_rate: Annotated[str | None, typer.Option("--output", help="Dollars for a million tokens out.")] = None,
    cache_read: Annotated[str | None, typer.Option("--cache-read", help="For those read from a cache.")] = None,
    cache_write: Annotated[str | None, typer.Option("--cache-write", help="For those written to a cache.")] = None,
    ceiling: Annotated[str | None, typer.Option("--ceiling", help="Dollars that a call costs at most.")] = None,
) -> None:
    """Say what a model costs: rates, or a ceiling for a call. Nothing given takes it back."""
    body: dict[str, Any] = {"provider": provider, "model": model, "input": input, "output": output_rate}
    body |= {"cache_read": cache_read, "cache_write": cache_write, "call_ceiling": ceiling}
    output.show(connect().put(f"{PATH}/prices", body))
