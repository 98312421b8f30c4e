"""The command ``agentos``: nouns then verbs, --json on everything, exit codes by kind of error."""

from __future__ import annotations

import sys

import typer

from agentos import __version__
from agentos.apps import client
from agentos.apps.cli import (
    agents,
    approvals,
    audit,
    budgets,
    cost,
    demo,
    deployments,
    effects,
    evals,
    evidence,
    health,
    identity,
    inbox,
    models,
    notifications,
    output,
    policy,
    privacy,
    quality,
    replay,
    rollouts,
    runs,
    skills,
    stack,
    stops,
    subscriptions,
    trace,
    triggers,
)
from agentos.kernel.errors import AgentOSError, Bug

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def root(
    json: bool = typer.Option(False, "--json", help="Print the result as JSON."),
    acting_as: str = typer.Option("", "--as", help="Act as this person of the credentials file."),
    version: bool = typer.Option(False, "--version", help="Print the version and leave."),
) -> None:
    """Run AI agents that somebody has to answer for."""
    output.as_json = json
    client.acting_as = acting_as
    if version:
        output.show({"version": __version__})
        raise typer.Exit


for verbs in (
    stack,
    agents,
    deployments,
    rollouts,
    policy,
    runs,
    skills,
    replay,
    evals,
    quality,
    evidence,
    approvals,
    stops,
    effects,
    budgets,
    cost,
    models,
    inbox,
    notifications,
    triggers,
    identity,
    privacy,
    subscriptions,
    audit,
    trace,
    health,
    demo,
):
    verbs.register(app)


def main() -> None:
    """Run the command line. Every error of ours ends in its problem text and its kind's exit code, never in a stack."""
    arguments = sys.argv[1:]
    if "--json" in arguments:  # accepted in any place, as every command has it
        arguments = ["--json", *(word for word in arguments if word != "--json")]
    try:
        app(args=arguments, standalone_mode=True)
    except AgentOSError as error:
        output.fail(error)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        output.fail(Bug(f"{type(error).__name__} in the command line", then="Run again with LOG_LEVEL=DEBUG."))


if __name__ == "__main__":
    main()
