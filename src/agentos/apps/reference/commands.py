"""The page of the command line, one heading for each command."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer.main

from agentos.apps.cli.main import command_line
from agentos.apps.cli.times import SAID
from agentos.apps.reference import markdown


def page() -> str:
    """The page as text."""
    root = typer.main.get_command(command_line())
    body = [
        "# Command line\n",
        "Every command takes `--json`, in any place. Its exit code is 0 or that of the [kind of error](errors.md).\n",
        f"Every command reads a time alike: {SAID}. A length of time alone, as 24h, is so long ago; a day alone is its "
        "beginning. What names no zone is this terminal's, or that of `--zone`. A time that the clocks skipped or "
        "repeated is refused: write it with its offset. A time ends before what `--to` says, so `--to yesterday` "
        "leaves yesterday out; but `agentos cost` counts whole days of UTC, and the day of `--to` with them. "
        "Lengths, as after `--last`, are written 90s, 1h30m, 7d or 2w.\n",
    ]
    for path, command in _commands("agentos", root):
        shown = [parameter for parameter in command.params if not parameter.hidden and parameter.name != "help"]
        is_group = bool(getattr(command, "commands", None))
        if is_group and path != "agentos" and not shown:
            continue  # its commands speak for it
        arguments = [parameter for parameter in shown if not parameter.opts[0].startswith("-")]
        usage = [path, "COMMAND" if is_group else "", "[OPTIONS]" if len(shown) > len(arguments) else ""]
        usage += [_argument(argument) for argument in arguments]
        body += [f"## {path}\n", "```\n" + " ".join(word for word in usage if word) + "\n```\n"]
        body += [(command.help or "").strip() + "\n"]
        if shown:
            body += markdown.table(
                ("parameter", "default", "meaning"),
                ((_spelled(parameter), markdown.code(_given(parameter)), parameter.help or "") for parameter in shown),
            )
    return markdown.page(body)


def _commands(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    if command.hidden:
        return
    yield path, command
    for name, sub in sorted(getattr(command, "commands", {}).items()):
        yield from _commands(f"{path} {name}", sub)


def _argument(parameter: Any) -> str:
    name = str(parameter.metavar or parameter.name).upper() + ("..." if parameter.nargs != 1 else "")
    return name if parameter.required else f"[{name}]"


def _spelled(parameter: Any) -> str:
    if not parameter.opts[0].startswith("-"):
        return f"`{_argument(parameter)}`"
    return ", ".join(f"`{option}`" for option in (*parameter.opts, *parameter.secondary_opts))


def _given(parameter: Any) -> str:
    if parameter.required:
        return "required"
    default = parameter.default
    if default is None or default is False or default in ((), [], ""):
        return ""
    if isinstance(default, bool):
        return "on"
    return "computed" if callable(default) else str(getattr(default, "value", default))
