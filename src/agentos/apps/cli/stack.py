"""The verbs of the embedded stack: up, down, ps, status, logs, restart, scale."""

from __future__ import annotations

import json
import sys

import typer

from agentos.apps.cli import output
from agentos.apps.embedded.home import Home, State
from agentos.apps.home import credentials_file, home_folder
from agentos.kernel.errors import EXIT_CODE, Unavailable

_COLUMNS = ("service", "pid", "state", "port", "restarts", "since")


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    for verb in (up, down, ps, status, logs, restart, scale):
        app.command()(verb)


def up(
    workers: int | None = typer.Option(None, "--workers", help="How many workers, remembered. A new home has 2."),
    foreground: bool = typer.Option(False, "--foreground", help="Stay attached; Ctrl-C stops the stack."),
) -> None:
    """Start PostgreSQL, Temporal, the API and workers, or find them running."""
    from agentos.apps.embedded import verbs
    from agentos.apps.embedded.settings import EmbeddedSettings

    settings = EmbeddedSettings.read()
    home = Home(settings.home)
    if foreground:
        verbs.foreground(home, settings, workers=workers, say=output.progress)
        return
    file = credentials_file(home.path)
    known = file.exists()
    summary = _summary(home, verbs.up(home, workers=workers, say=output.progress))
    if file.exists() and not known:  # shown this once; from now on it lies there, for its owner alone
        summary |= {"credentials": str(file), "admin_key": json.loads(file.read_text())["keys"]["admin"]}
    output.show(summary)


def down() -> None:
    """Stop the stack. Data stay."""
    from agentos.apps.embedded import verbs

    home = _home()
    output.show({"stopped": ", ".join(verbs.down(home, say=output.progress)) or "nothing was running"})


def ps() -> None:
    """List the services."""
    from agentos.apps.embedded import verbs

    output.show(verbs.ps(_home()), columns=_COLUMNS)


def status() -> None:
    """Show the whole stack and ask each service whether it is ready. Exit code 7 if one is not."""
    from agentos.apps.embedded import verbs

    picture = verbs.status(_home())
    if output.as_json:
        output.show(picture)
    else:
        services = picture.pop("services")
        output.show({name: value for name, value in picture.items() if value not in (None, {})})
        output.show(services, columns=(*_COLUMNS, "ready"))
        picture["services"] = services
    if not picture["ready"]:
        raise typer.Exit(EXIT_CODE[Unavailable])


def logs(
    service: str = typer.Argument(help="A service, or supervisor, migrate, bootstrap."),
    tail: int = typer.Option(50, "--tail", min=0, help="How many of the last lines."),
    follow: bool = typer.Option(False, "--follow", help="Go on with new lines until Ctrl-C."),
) -> None:
    """Show the log of a service."""
    from agentos.apps.embedded import verbs

    home = _home()
    lines = verbs.logs(home, service, tail)
    if output.as_json and not follow:
        output.show({"service": service, "lines": lines})
        return
    for line in lines:
        print(line)
    if follow:
        sys.stdout.flush()
        for line in verbs.follow(home, service):
            print(line, flush=True)


def restart(service: str = typer.Argument(help="The service to end and start again.")) -> None:
    """Restart a service and wait until it serves."""
    from agentos.apps.embedded import verbs

    home = _home()
    verbs.restart(home, service)
    output.show(next(row for row in verbs.ps(home) if row["service"] == service))


def scale(
    service: str = typer.Argument(help="worker"), count: int = typer.Argument(help="How many, remembered.")
) -> None:
    """Change the number of workers and wait until they serve."""
    from agentos.apps.embedded import verbs

    home = _home()
    verbs.scale(home, service, count)
    output.show(verbs.ps(home), columns=_COLUMNS)


def _home() -> Home:
    return Home(home_folder())


def _summary(home: Home, state: State) -> dict[str, str]:
    return {
        "api": state.api,
        "services": ", ".join([entry.name for entry in state.services]),
        "given": ", ".join(f"{name} at {address}" for name, address in state.given.items()) or "none",
        "home": str(home.path),
    }
