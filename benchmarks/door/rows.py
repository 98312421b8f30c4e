"""From figures to rows, with their targets."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Final

from benchmarks.report import Row, middle, percentile

OURS: Final = "AgentOS"
BARE: Final = "bare FastAPI"
ALONE: Final = "alone"
BESIDE: Final = "beside"
HOOKS: Final = "webhooks"

TWICE: Final = 2  # what a neighbour's noise may cost at most
MOST_GROWTH_MB: Final = 20
MANY: Final = "{callers} callers over HTTP"
HOOK_CALLERS: Final = 20
ONE: Final = "1 caller over HTTP"


@dataclass
class Found:
    """What was measured: for each round, and once."""

    per_second: dict[str, list[float | None]] = field(default_factory=lambda: defaultdict(list))
    p95: dict[str, list[float | None]] = field(default_factory=lambda: defaultdict(list))
    errors: int = 0
    growth_mb: float | None = None

    def take(self, what: str, said: dict[str, Any]) -> None:
        """Keep what callers found."""
        self.per_second[what].append(len(said["latencies"]) / said["elapsed"])
        self.p95[what].append(percentile(said["latencies"], 0.95) * 1000 if said["latencies"] else None)


def rows(found: Found, callers: int) -> list[Row]:
    """The rows, in the order in which they are read."""
    many = MANY.format(callers=callers)
    alone = middle(found.p95[ALONE])
    return [
        Row(
            "requests per second",
            "1/s",
            middle(found.per_second[OURS]),
            better="higher",
            peers={BARE: middle(found.per_second[BARE])},
            where=many,
        ),
        Row("p95", "ms", middle(found.p95[OURS]), peers={BARE: middle(found.p95[BARE])}, where=many),
        Row("quiet organization's p95 alone", "ms", alone, where=ONE),
        Row(
            "quiet organization's p95 under a noisy one",
            "ms",
            middle(found.p95[BESIDE]),
            None if alone is None else TWICE * alone,
            where=f"{ONE}, beside {callers} of another organization",
            rule=f"{TWICE}× its p95 alone",
        ),
        Row(
            "webhook accepted, p95",
            "ms",
            middle(found.p95[HOOKS]),
            where=f"{HOOK_CALLERS} callers, signed calls over HTTP",
        ),
        Row("errors", "requests", found.errors, 0, where="all of ours"),
        Row("memory growth of the API process", "MB", found.growth_mb, MOST_GROWTH_MB, where="from warm-up to the end"),
    ]
