"""The command ``agentos``: nouns then verbs, --json on everything, exit codes by kind of error."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Final

import typer

from agentos import __version__
from agentos.apps import client
from agentos.apps.cli import output
from agentos.kernel.errors import AgentOSError, Bug

# The modules of this folder in the order of the help, and the words each adds to. A command imports its own modules
# only; all of them take several times as long.
WORDS: Final[dict[str, tuple[str, ...]]] = {
    "stack": ("up", "down", "ps", "status", "logs", "restart", "scale"),
    "agents": ("apply", "agents"),
    "deployments": ("deployments",),
    "rollouts": ("deployments",),
    "policy": ("policy",),
    "runs": ("run", "runs", "drafts"),
    "skills": ("skills", "registry"),
    "replay": ("replay", "golden"),
    "evals": ("eval",),
    "quality": ("quality",),
    "evidence": ("evidence", "ask"),
    "approvals": ("approvals",),
    "stops": ("kill", "pause", "degrade", "deny", "resume", "stops"),
    "effects": ("effects",),
    "budgets": ("budgets",),
    "cost": ("cost",),
    "models": ("models", "adapters"),
    "inbox": ("inbox",),
    "notifications": ("notifications",),
    "triggers": ("triggers",),
    "identity": ("whoami", "org", "people", "keys"),
    "privacy": ("privacy",),
    "subscriptions": ("subscriptions",),
    "audit": ("audit", "state"),
    "trace": ("trace",),
    "health": ("health",),
    "demo": ("demo",),
}


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


def command_line(word: str = "") -> typer.Typer:
    """The commands of the modules that know the word; all commands if none does."""
    app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.callback(invoke_without_command=True)(root)
    for name in [name for name, words in WORDS.items() if word in words] or WORDS:
        importlib.import_module(f"agentos.apps.cli.{name}").register(app)
    return app


def asked(arguments: Sequence[str]) -> str:
    """The first word that is neither an option nor the value of one; nothing where help is asked for before it."""
    words = iter(arguments)
    for word in words:
        if word == "--as":
            next(words, None)
        elif not word.startswith("-"):
            return word
        elif word == "--help":
            return ""
    return ""


def main() -> None:
    """Run the command line. Every error of ours ends in its problem text and its kind's exit code, never in a stack."""
    arguments = sys.argv[1:]
    if "--json" in arguments:  # accepted in any place, as every command has it
        arguments = ["--json", *(word for word in arguments if word != "--json")]
    try:
        command_line(asked(arguments))(args=arguments, standalone_mode=True)
    except AgentOSError as error:
        output.fail(error)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        output.fail(Bug(f"{type(error).__name__} in the command line", then="Run again with LOG_LEVEL=DEBUG."))


if __name__ == "__main__":
    main()
