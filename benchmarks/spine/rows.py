"""From figures to rows, with their targets."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final

from benchmarks.report import Row, middle

OURS: Final = "AgentOS"
DBOS: Final = "DBOS"
LANGGRAPH: Final = "LangGraph"
CLASSIC: Final = "Temporal"  # one activity for each step

INSIDE: Final = "in the process"
TWO: Final = "in the process; a worker process goes on"
EVENTS: Final = "over HTTP; follows the run's events"
POLLING: Final = "over HTTP; asks every 5 ms"

LONG, SHORT = 50, 5  # steps of the two runs whose difference is the price of a step


@dataclass
class Found:
    """What was measured: a figure for each round by measure and contender, and what was measured once."""

    rounds: dict[tuple[str, str], list[float | None]] = field(default_factory=lambda: defaultdict(list))
    approve_seconds: list[float] = field(default_factory=list)
    approve_p95_ms: float | None = None
    history_bytes: dict[str, float | None] = field(default_factory=dict)
    parked_mb: float | None = None
    empty_mb: float | None = None
    parked_seconds: float | None = None

    def of(self, measure: str, name: str) -> float | None:
        """The median of the rounds."""
        return middle(self.rounds.get((measure, name), [None]))

    def step(self, name: str, kind: str = "") -> float | None:
        """Milliseconds of a step: each round's long run less its short one, over the steps between; the median."""
        pairs = zip(self.rounds[f"{kind}{LONG}", name], self.rounds[f"{kind}{SHORT}", name], strict=True)
        each = [None if long is None or short is None else (long - short) / (LONG - SHORT) for long, short in pairs]
        return middle(each) if each else None


def rows(found: Found, peers: list[str]) -> list[Row]:
    """The rows, in the order in which they are read."""

    def of_peers(measure: str) -> dict[str, float | None]:
        return {name: found.of(measure, name) for name in peers if (measure, name) in found.rounds}

    def times(measure: str, **factors: float) -> tuple[float | None, str]:
        least = [(factor, name, found.of(measure, name)) for name, factor in factors.items()]
        rule = " and ".join(f"{factor:g}× {name}" for factor, name, _ in least)
        if any(value is None for _, _, value in least):
            return None, rule
        return max(factor * value for factor, _, value in least if value is not None), rule

    twenty, twenty_rule = times("20 by 20", LangGraph=1.5, DBOS=3)
    fifty, fifty_rule = times("50 by 20", DBOS=5)
    steps = {name: found.step(name) for name in peers}
    return [
        Row("journal, per step", "ms", found.step(OURS), 1.0, "lower", steps, INSIDE),
        Row("journal, per step, skills that only read", "ms", found.step(OURS, "reads "), where=INSIDE),
        Row("5-step run, 1 caller", "ms", found.of("5", OURS), 35, "lower", of_peers("5"), INSIDE),
        Row("20-step run, 1 caller", "ms", found.of("20", OURS), 50, "lower", of_peers("20"), INSIDE),
        Row("20-step run, 1 caller, skills that only read", "ms", found.of("reads 20", OURS), where=INSIDE),
        Row("20-step run, 1 caller, over HTTP", "ms", found.of("events", OURS), where=EVENTS),
        Row("20-step run, 1 caller, over HTTP, polling", "ms", found.of("polling", OURS), where=POLLING),
        Row(
            "20-step runs per second, 20 callers",
            "1/s",
            found.of("20 by 20", OURS),
            twenty,
            "higher",
            of_peers("20 by 20"),
            INSIDE,
            twenty_rule,
        ),
        Row(
            "20-step runs per second, 20 callers, skills that only read",
            "1/s",
            found.of("reads 20 by 20", OURS),
            better="higher",
            where=INSIDE,
        ),
        Row(
            "50-step runs per second, 20 callers",
            "1/s",
            found.of("50 by 20", OURS),
            fifty,
            "higher",
            of_peers("50 by 20"),
            INSIDE,
            fifty_rule,
        ),
        Row("approve to next step, p95", "ms", found.approve_p95_ms, 50, where=TWO),
        Row(
            "history per 50-step run",
            "bytes",
            found.history_bytes.get(OURS),
            2000,
            "lower",
            {name: found.history_bytes[name] for name in peers if name in found.history_bytes},
            INSIDE,
        ),
        Row("1,000 parked runs", "MB", found.parked_mb, 200, where="RSS of the worker process"),
    ]
