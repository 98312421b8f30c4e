"""What is counted and asked for, and how fast a cap is used up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Final

from agentos.control.budgets.model import Budget, Used
from agentos.kernel.errors import Invalid
from agentos.kernel.units import CURRENCY, dollars

MOST_DAYS: Final = 400  # of one question: a year and a month


class BadUsageQuestion(Invalid):
    """A question about usage that has no answer: days that are none, or more of them than are looked at at once."""

    code = "bad_usage_question"


class Source(StrEnum):
    """What used it: a run, a direct question to a model, a run that was executed again with live models, or an eval."""

    RUN = "run"
    ASK = "ask"
    REPLAY = "replay"
    EVAL = "eval"


class Dimension(StrEnum):
    """What usage is told apart by."""

    ORGANIZATION = "organization"
    DAY = "day"
    SOURCE = "source"
    AGENT = "agent"
    VERSION = "version"
    MODEL = "model"
    SKILL = "skill"


class Measure(StrEnum):
    """What comes first."""

    MONEY = "money"
    TOKENS = "tokens"
    SECONDS = "seconds"
    CALLS = "calls"


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where something is counted. With a model, or a skill, or neither."""

    day: date
    source: str
    agent_id: str = ""
    version: str = ""
    provider: str = ""
    model: str = ""
    skill: str = ""


@dataclass(slots=True)
class Counts:
    """What was used. The table usage_days tells what each of them is; None: nobody said."""

    runs: int = 0
    run_seconds: float = 0.0
    calls: int = 0
    fallback_calls: int = 0
    failed_calls: int = 0
    lost_calls: int = 0
    untold_calls: int = 0
    unpriced_calls: int = 0
    untimed_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    unknown_tokens: int = 0
    money: int = 0
    unknown_money: int = 0
    model_seconds: float = 0.0
    skill_calls: int = 0
    untimed_skills: int = 0
    skill_seconds: float = 0.0

    def add(self, other: Counts) -> None:
        """Count the other in."""
        for name in COUNTERS:
            here, there = getattr(self, name), getattr(other, name)
            if there is not None:
                setattr(self, name, there if here is None else here + there)

    def said(self) -> list[str]:
        """What is not known, in words."""
        counted = f"budgets count {dollars(self.unknown_money)} {CURRENCY} and {self.unknown_tokens} tokens for them"
        parts = (
            (self.untold_calls + self.lost_calls, "did not say what they used", counted),
            (self.unpriced_calls - self.untold_calls, "have a price that is only a ceiling", counted),
            (self.failed_calls - self.lost_calls, "had no answer", "a provider may bill what it began"),
            (self.untimed_calls + self.untimed_skills, "were not timed", ""),
        )
        return [f"{_calls(many)} {what}" + (f"; {then}" if then else "") for many, what, then in parts if many > 0]


COUNTERS: Final = tuple(one.name for one in fields(Counts))


def _calls(many: int) -> str:
    return f"{many} call" + ("" if many == 1 else "s")


@dataclass(frozen=True, slots=True)
class Question:
    """Which usage is asked for: days of UTC, both included; what is empty says nothing."""

    since: date
    until: date
    by: tuple[Dimension, ...] = ()
    first: Measure = Measure.MONEY
    agent: str = ""
    version: str = ""
    model: str = ""  # provider/model
    skill: str = ""
    source: Source | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """Usage of one value of each dimension that was asked by."""

    of: Mapping[str, str]
    counts: Counts


@dataclass(frozen=True, slots=True)
class Usage:
    """The answer: lines, the sum of all there are, and runs that are not in it because they are not over."""

    lines: tuple[Line, ...]
    left_out: int  # lines beyond those that were asked for
    total: Counts
    open_runs: int


class Outlook(StrEnum):
    """What becomes of a cap at a rate."""

    UNKNOWN = "unknown"  # nothing was measured
    FULL = "full"  # there is no room now
    RUNS_OUT = "runs_out"
    LASTS = "lasts"  # until its period is over


@dataclass(frozen=True, slots=True)
class Rate:
    """How fast something was used up over a while that ends now, and what follows for the cap."""

    over: timedelta
    per_hour: float | None  # None: unknown
    outlook: Outlook
    runs_out_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Burn:
    """A cap that is in force for a day or a month, how much of it is used and reserved, and for how long it lasts."""

    agent_id: str  # empty: the organization as a whole
    period: str
    since: date
    resource: str
    most: int
    used: int
    reserved: int
    rates: Mapping[str, Rate] = field(default_factory=dict)

    @property
    def part(self) -> float:
        """How much of the cap is used or reserved; 1 where it is full."""
        return 1.0 if self.most == 0 else (self.used + self.reserved) / self.most


WINDOWS: Final = {"hour": timedelta(hours=1), "day": timedelta(days=1)}
RESOURCES: Final = ("money", "tokens", "steps", "seconds")


def burns(
    caps: Iterable[Budget], used: Iterable[Used], spent: Mapping[str, Mapping[str, Mapping[str, int]]], at: datetime
) -> list[Burn]:
    """Each cap on a day or a month, and when it runs out at the rates of the last hour and day.

    ``spent``: by window and subject, how much of each resource was used within the window; of whom nothing was ever
    counted in it is not there.
    """
    present = {(one.agent_id, one.period): one for one in used}
    today = at.astimezone(UTC).date()
    found = []
    for cap in caps:
        limits = {name: getattr(cap.limits, name) for name in RESOURCES if getattr(cap.limits, name) is not None}
        if cap.period == "run":
            continue
        now = present.get((cap.agent_id, cap.period))
        since = today if cap.period == "day" else today.replace(day=1)
        for name, most in limits.items():
            taken = 0 if now is None else getattr(now, name)
            held = 0 if now is None else getattr(now, f"reserved_{name}", 0)
            rates = {
                window: _rate(
                    length, spent[window].get(cap.agent_id, {}).get(name), most - taken - held, cap.period, at
                )
                for window, length in WINDOWS.items()
            }
            found.append(Burn(cap.agent_id, cap.period.value, since, name, most, taken, held, rates))
    return found


def _rate(over: timedelta, spent: int | None, left: int, period: str, at: datetime) -> Rate:
    per_hour = None if spent is None else spent / (over / timedelta(hours=1))
    if left <= 0:
        return Rate(over, per_hour, Outlook.FULL, at)
    if per_hour is None:
        return Rate(over, None, Outlook.UNKNOWN)
    hours = left / per_hour if per_hour else float("inf")
    if hours >= (_end(period, at) - at) / timedelta(hours=1):
        return Rate(over, per_hour, Outlook.LASTS)
    return Rate(over, per_hour, Outlook.RUNS_OUT, at + timedelta(hours=hours))


def _end(period: str, at: datetime) -> datetime:
    """When a day or a month of UTC is over."""
    began = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "day":
        return began + timedelta(days=1)
    return (began.replace(day=1) + timedelta(days=32)).replace(day=1)
