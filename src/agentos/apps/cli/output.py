"""How the command line speaks: tables for people, JSON for programs, problems with their exit code.

A command returns plain data and hands it to ``show``; nothing else prints a result. Progress goes to stderr, so a piped
result stays clean.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

from rich.console import Console
from rich.table import Table

from agentos.kernel.errors import AgentOSError, exit_code, problem

PIPED_WIDTH: Final = 400  # for programs that read lines: a row stays on one

_out = Console(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)
_err = Console(stderr=True, soft_wrap=True, highlight=False)

as_json = False  # set once by the root command's --json, before any subcommand runs


def progress(text: str) -> None:
    """Say on stderr how a long piece of work goes; silent with --json."""
    if not as_json:
        _err.print(text, markup=False)


def show(data: Any, *, columns: Sequence[str] = ()) -> None:
    """Print a result: JSON with --json, else a table for a list of records and aligned lines for one record."""
    if as_json:
        sys.stdout.write(json.dumps(data, indent=2, default=str, ensure_ascii=False) + "\n")
    elif isinstance(data, str):
        _out.print(data, markup=False)
    elif isinstance(data, Mapping):
        width = max((len(str(key)) for key in data), default=0)
        for key, value in data.items():
            _out.print(f"{key!s:<{width}}  {_cell(value)}", markup=False)
    else:
        _table(list(data), columns)


def fail(error: AgentOSError) -> NoReturn:
    """Print what was wrong, where and what to do next to stderr, and leave with the exit code of the error's kind."""
    if as_json:
        sys.stderr.write(json.dumps(problem(error), ensure_ascii=False) + "\n")
    else:
        _err.print(f"{error.code}: {error.what}", markup=False, style="red")
        if error.where:
            _err.print(f"  where: {error.where}", markup=False)
        if error.then:
            _err.print(f"  next:  {error.then}", markup=False)
    sys.exit(exit_code(error))


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, (dict, list)):
        return json.dumps(value, default=str, ensure_ascii=False)
    return str(value)


def _short(value: Any) -> str:
    """A cell of a table: long structures are cut, as 'show' has the whole; ids and texts are not."""
    cell = _cell(value)
    return cell[:80] + "…" if isinstance(value, (dict, list)) and len(cell) > 80 else cell


def _table(rows: list[Mapping[str, Any]], columns: Sequence[str]) -> None:
    names = list(columns) or (list(rows[0]) if rows else [])
    if not rows:
        _err.print("nothing to show")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        table.add_column(name, overflow="fold")  # an id is copied from here: it is never cut
    for row in rows:
        table.add_row(*(_short(row.get(name)) for name in names))
    _out.print(table)
