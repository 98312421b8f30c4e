"""From calls to figures, and from figures to rows with their targets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from benchmarks.report import Row, middle, percentile

OURS: Final = "AgentOS"
RAW: Final = "aiohttp"
LITELLM: Final = "LiteLLM"
CLAUDE: Final = "anthropic"
OPENAI: Final = "openai"

ALONE: Final = "in the process; the router alone"
HOP: Final = "429 or 500, the slower; over a plain call"
EVERYTHING: Final = "runs of 10 calls in the process, 50 at once"

Call = tuple[float, str]  # its seconds, and who answered it or what it failed with


@dataclass
class Found:
    """What was measured: a figure for each round by measure and contender, and what was measured once."""

    rounds: dict[tuple[str, str], list[float | None]] = field(default_factory=lambda: defaultdict(list))
    success: dict[str, float | None] = field(default_factory=dict)
    spared: dict[str, float | None] = field(default_factory=dict)
    replays: float | None = None

    def of(self, measure: str, name: str) -> float | None:
        """The median of the rounds."""
        return middle(self.rounds.get((measure, name), [None]))

    def slower(self, name: str) -> float | None:
        """Falling back from the fault that costs more."""
        figures = [self.of(fault, name) for fault in ("429", "500")]
        return None if None in figures else max(one for one in figures if one is not None)

    def worst(self, measure: str, name: str) -> float | None:
        """The largest of the rounds."""
        known = self.rounds.get((measure, name), [None])
        return None if None in known else max(value for value in known if value is not None)

    def over(self, name: str) -> float | None:
        """Milliseconds that a call takes longer than the bare one, in the median of the rounds."""
        pairs = zip(self.rounds["one", name], self.rounds["one", RAW], strict=True)
        return middle([None if theirs is None or bare is None else theirs - bare for theirs, bare in pairs])


def answered(calls: Sequence[Call], who: str = "") -> list[float]:
    """The seconds of the calls that were answered, by the one named or by anyone."""
    return [seconds for seconds, by in calls if by in ((who,) if who else ("first", "second"))]


def hop(calls: Sequence[Call], usual: float) -> float | None:
    """Milliseconds that a call takes longer when the second model answers it than when the first does.

    ``usual``: milliseconds of a call that the first answers, where none of these is one. None when all were.
    """
    second, first = answered(calls, "second"), answered(calls, "first")
    if not second:
        return None
    return median(second) * 1000 - (median(first) * 1000 if first else usual)


def after_open(calls: Sequence[Call], timeout: float) -> tuple[float, int]:
    """Milliseconds of the slow calls (p95) from the first one on that no longer waited for the timeout, and how many
    waited for it in all."""
    waited = [seconds >= timeout for seconds, _ in calls]
    begin = waited.index(False) if False in waited else 0
    return percentile([seconds for seconds, _ in calls[begin:]], 0.95) * 1000, sum(waited)


def rows(found: Found, peers: list[str]) -> list[Row]:
    """The rows of the router alone, in the order in which they are read."""

    def of_peers(measure: str) -> dict[str, float | None]:
        return {name: found.of(measure, name) for name in peers if (measure, name) in found.rounds}

    over = {name: found.over(name) for name in peers if name != RAW and ("one", name) in found.rounds}
    sixth = None if over.get(LITELLM) is None else min(0.7, over[LITELLM] / 6)  # type: ignore[operator]
    many = found.of("fifty", LITELLM)
    return [
        Row("overhead, 1 caller", "ms", found.over(OURS), sixth, "lower", over, ALONE, "LiteLLM / 6, 0.7"),
        Row("a call, 1 caller", "ms", found.of("one", OURS), None, "lower", of_peers("one"), ALONE),
        Row(
            "requests per second, 50 callers",
            "1/s",
            found.of("fifty", OURS),
            None if many is None else 8 * many,
            "higher",
            of_peers("fifty"),
            ALONE,
            "8× LiteLLM",
        ),
        Row("fallback", "ms", found.slower(OURS), 5, "lower", _of_routers(found.slower, peers), f"{ALONE}; {HOP}"),
        Row("failover after breaker", "ms", found.of("open", OURS), 5, "lower", of_peers("open"), f"{ALONE}; p95"),
        Row("failover, calls that waited", "calls", found.of("waited", OURS), None, "lower", of_peers("waited"), ALONE),
        Row(
            "recovery",
            "s",
            found.worst("recovery", OURS),
            5,
            "lower",
            _of_routers(lambda name: found.worst("recovery", name), peers),
            f"{ALONE}; the slowest round",
        ),
        Row(
            "success under faults",
            "%",
            found.success.get(OURS),
            99.9,
            "higher",
            {name: value for name, value in found.success.items() if name != OURS},
            "10,000 calls, 50 callers, 20% faults",
        ),
        Row("replay, runs per second", "1/s", found.replays, 500, "higher", where="two processes, runs of 20 steps"),
        Row(
            "with journal, budget and shared limit, 1 caller",
            "ms",
            found.of("journaled one", OURS),
            None,
            "lower",
            of_peers("one"),
            "a call of a run, its read and its commits",
        ),
        Row(
            "with journal, budget and shared limit, 50 callers",
            "1/s",
            found.of("journaled fifty", OURS),
            None,
            "higher",
            of_peers("fifty"),
            EVERYTHING,
        ),
    ]


def _of_routers(figure: Callable[[str], float | None], peers: list[str]) -> dict[str, float | None]:
    return {name: figure(name) for name in peers if name == LITELLM}
