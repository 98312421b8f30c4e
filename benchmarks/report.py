"""What a benchmark says: rows with their target, kept as ``build/bench/NAME.json`` and printed as one table.

A figure that could not be taken is None: it is shown as missing, with the reason, and its target is unknown, not met.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final, Literal

from rich.console import Console
from rich.table import Table

FOLDER: Final = Path(__file__).parent.parent / "build" / "bench"


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of ours beside the peers'. ``where`` says where the caller stands, ``rule`` how the target arose."""

    row: str
    unit: str
    ours: float | None
    target: float | None = None
    better: Literal["lower", "higher"] = "lower"
    peers: Mapping[str, float | None] = field(default_factory=dict)
    where: str = ""
    rule: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without a target or a figure."""
        if self.ours is None or self.target is None:
            return None
        return self.ours <= self.target if self.better == "lower" else self.ours >= self.target

    def document(self) -> dict[str, object]:
        """The row as it is kept."""
        return {
            "row": self.row,
            "unit": self.unit,
            "ours": _rounded(self.ours),
            "peers": {name: _rounded(value) for name, value in self.peers.items()},
            "target": _rounded(self.target),
            "better": self.better,
            "met": self.met,
        }


def write(name: str, rows: Sequence[Row], *, title: str = "", missing: Mapping[str, str] | None = None) -> Path:
    """Keep the rows under ``build/bench``, print them as a table, and say what is missing and why; the file."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    file = FOLDER / f"{name}.json"
    file.write_text(json.dumps([row.document() for row in rows], indent=2) + "\n")
    console = Console(width=None if Console().is_terminal else 150)
    console.print(_table(rows, title or name))
    for peer, reason in (missing or {}).items():
        console.print(f"missing: {peer}: {reason}", markup=False)
    missed = [row.row for row in rows if row.met is False]
    console.print(f"targets missed: {', '.join(missed)}" if missed else "every target that has a figure is met")
    console.print(f"written to {file}", markup=False)
    return file


def middle(values: Sequence[float | None]) -> float | None:
    """The median of the figures of all rounds; None when a round has none."""
    known = [value for value in values if value is not None]
    return median(known) if known and len(known) == len(values) else None


def percentile(values: Sequence[float], ratio: float) -> float:
    """The smallest value that at least this part of the values does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * ratio - 1e-9) - 1)]


def _table(rows: Sequence[Row], title: str) -> Table:
    peers = list(dict.fromkeys(name for row in rows for name in row.peers))
    table = Table(title=title)
    for name in ("row", "the caller stands", "unit", "AgentOS", *peers, "target", "met"):
        table.add_column(name, justify="right" if name in ("AgentOS", "target", *peers) else "left", overflow="fold")
    for row in rows:
        sign = "≤" if row.better == "lower" else "≥"
        target = "–" if row.target is None else f"{sign} {shown(row.target)}{f' ({row.rule})' if row.rule else ''}"
        met = {True: "yes", False: "NO", None: "–" if row.target is None and not row.rule else "unknown"}[row.met]
        figures = [shown(row.peers[name]) if name in row.peers else "–" for name in peers]
        table.add_row(row.row, row.where, row.unit, shown(row.ours), *figures, target, met)
    return table


def shown(value: float | None) -> str:
    """A figure with three significant digits."""
    if value is None:
        return "missing"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
