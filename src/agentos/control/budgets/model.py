"""Caps, prices, what a call costs at most and what it cost; and what happens to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, ClassVar, Final

from agentos.kernel.errors import Exhausted, Forbidden, Invalid
from agentos.kernel.facts import Fact
from agentos.kernel.units import CURRENCY, MICROS, dollars

PER: Final = 1_000_000  # tokens in the unit of prices
MOST_COUNT: Final = 10**15  # of tokens, steps or seconds: times 100 it still fits a bigint


class BudgetInvalid(Invalid):
    """A cap or a price that cannot be one; ``where`` names the field."""

    code = "budget_invalid"


class BudgetExhausted(Exhausted):
    """A model call could pass a cap, so it is not made; the problem holds the figures."""

    code = "budget_exhausted"


class ModelUnpriced(Forbidden):
    """Nobody knows what the model costs, so it is not asked."""

    code = "model_unpriced"


def count(value: int, *, where: str) -> int:
    """A cap on tokens, steps or seconds. Raises BudgetInvalid (Invalid)."""
    if value < 0:
        raise BudgetInvalid(f"{value} is negative", where=where, then="Write 0 or more.")
    if value > MOST_COUNT:
        raise BudgetInvalid(f"{value} is over {MOST_COUNT}", where=where, then="Write less, or no cap.")
    return value


class Period(StrEnum):
    """What a cap is for: each run, a day or a month of UTC."""

    RUN = "run"
    DAY = "day"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class Limits:
    """Caps; None where there is none. Money in millionths of a dollar."""

    money: int | None = None
    tokens: int | None = None
    steps: int | None = None  # skill calls
    seconds: int | None = None  # wall time of runs, waiting included

    @property
    def empty(self) -> bool:
        """Whether nothing is capped."""
        return self == Limits()

    def shown(self) -> dict[str, Any]:
        """The caps as they are shown and written."""
        return {
            "money": None if self.money is None else dollars(self.money),
            "tokens": self.tokens,
            "steps": self.steps,
            "seconds": self.seconds,
        }


@dataclass(frozen=True, slots=True)
class Budget:
    """The caps of one subject for one period."""

    agent_id: str  # empty: the organization as a whole
    period: Period
    limits: Limits
    changed_by: str
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class Used:
    """What a subject used up in a day or a month, and what is reserved beside it."""

    agent_id: str
    period: Period
    since: date
    money: int
    tokens: int
    steps: int
    seconds: int
    calls: int
    unknown_calls: int
    overshot_calls: int
    reserved_money: int
    reserved_tokens: int
    peak_money: int


@dataclass(frozen=True, slots=True)
class Rate:
    """Millionths of a dollar for a million tokens; all of them at another once the input is over a tier."""

    base: int
    tiers: tuple[tuple[int, int], ...] = ()  # (tokens of input over which it holds, rate), rising

    def at(self, tokens: int) -> int:
        """The rate for an input of so many tokens."""
        return next((rate for start, rate in reversed(self.tiers) if tokens > start), self.base)

    def dearest(self, tokens: int) -> int:
        """The highest rate for any input of at most so many tokens."""
        return max(self.base, *(rate for start, rate in self.tiers if tokens > start), 0)


@dataclass(frozen=True, slots=True)
class Tokens:
    """What one call used, as the provider counted it. ``input`` counts all of it, cached parts included."""

    input: int
    output: int
    cache_read: int = 0
    cache_write: int = 0


@dataclass(frozen=True, slots=True)
class Tariff:
    """What a model's tokens cost. ``most_input`` and ``most_output`` are the rates that a reserve is made at."""

    input: Rate
    output: Rate
    cache_read: Rate
    cache_write: Rate
    reasoning: Rate  # the dearest kind of output

    def cost(self, used: Tokens) -> int:
        """What a call cost, rounded up to a millionth."""
        plain = max(used.input - used.cache_read - used.cache_write, 0)
        total = (
            plain * self.input.at(used.input)
            + used.cache_read * self.cache_read.at(used.input)
            + used.cache_write * self.cache_write.at(used.input)
            + used.output * self.output.at(used.input)
        )
        return -(-total // PER)

    def most(self, input_tokens: int, output_tokens: int) -> int:
        """What a call of at most so many tokens can cost: each of them at the dearest rate that may apply to it."""
        into = max(rate.dearest(input_tokens) for rate in (self.input, self.cache_read, self.cache_write))
        out = max(rate.dearest(input_tokens) for rate in (self.output, self.reasoning))
        return -(-(input_tokens * into + output_tokens * out) // PER)


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The most that one call of an unpriced model costs, as somebody declared it."""

    amount: int

    def most(self, input_tokens: int, output_tokens: int) -> int:  # noqa: ARG002  # as Tariff.most
        """The ceiling."""
        return self.amount


FREE: Final = Tariff(*(Rate(0),) * 5)


@dataclass(frozen=True, slots=True)
class Price:
    """What an organization says a model costs: rates for a million tokens, or a ceiling for a call."""

    provider: str
    model: str  # "*": every model of the provider that has no price of its own
    input: int | None = None
    output: int | None = None
    cache_read: int | None = None  # None: as input
    cache_write: int | None = None  # None: as input
    call_ceiling: int | None = None

    @property
    def tariff(self) -> Tariff | Ceiling:
        """What calls are charged by."""
        if self.call_ceiling is not None:
            return Ceiling(self.call_ceiling)
        assert self.input is not None
        assert self.output is not None
        read = self.input if self.cache_read is None else self.cache_read
        write = self.input if self.cache_write is None else self.cache_write
        return Tariff(Rate(self.input), Rate(self.output), Rate(read), Rate(write), Rate(self.output))

    def shown(self) -> dict[str, Any]:
        """The price as it is shown and written."""
        names = ("input", "output", "cache_read", "cache_write", "call_ceiling")
        given = {name: getattr(self, name) for name in names}
        amounts = {name: None if value is None else dollars(value) for name, value in given.items()}
        return {"provider": self.provider, "model": self.model, **amounts}


@dataclass(frozen=True, slots=True)
class Standing:
    """What an organization has set, as of an epoch of its own."""

    epoch: int = -1
    capped: frozenset[str] = frozenset()  # agents that have a cap; the empty one: the organization has
    prices: Mapping[tuple[str, str], Price] = field(default_factory=dict)

    def caps(self, agent_id: str) -> bool:
        """Whether any cap applies to runs of the agent."""
        return bool(self.capped) and ("" in self.capped or agent_id in self.capped)


@dataclass(frozen=True, slots=True)
class Cost:
    """What one answered call cost, as its journal row keeps it."""

    money: int
    tokens: int
    unknown: bool  # the provider did not say, so it counts as what was reserved for it
    steps: int = 0  # skill calls that the answer asks for


@dataclass(slots=True)
class Totals:
    """What the journal of a run adds up to."""

    money: int = 0
    tokens: int = 0
    steps: int = 0
    calls: int = 0
    unknown: int = 0

    def add(self, cost: Cost) -> None:
        """Count one more answer."""
        self.money += cost.money
        self.tokens += cost.tokens
        self.steps += cost.steps
        self.calls += 1
        self.unknown += cost.unknown


@dataclass(frozen=True, slots=True)
class Full:
    """The cap that has no room for a call, with the figures of the moment."""

    of: str  # organization | agent | version
    period: Period
    since: date | None
    resource: str
    most: int
    used: int
    reserved: int
    wanted: int

    def error(self, agent_id: str) -> BudgetExhausted:
        """The error that says so, with every figure."""
        money = self.resource == "money"
        figures = {
            name: dollars(value) if money else value
            for name, value in (
                ("limit", self.most),
                ("spent", self.used),
                ("reserved", self.reserved),
                ("wanted", self.wanted),
            )
        }
        unit = CURRENCY if money else self.resource
        owner = f"agent '{agent_id}'" if self.of == "agent" else f"the {self.of}"
        when = "each run" if self.period is Period.RUN else f"the {self.period} from {self.since} (UTC)"
        what = (
            f"the budget of {owner} for {when} has no room: limit {figures['limit']} {unit}, spent {figures['spent']}, "
            f"reserved {figures['reserved']}, wanted {figures['wanted']}"
        )
        if self.of == "version":
            then = f"Raise spec.budgets.{self.resource}, or lower spec.model.max_tokens."
        else:
            subject = f" --agent {agent_id}" if self.of == "agent" else ""
            wait = "" if self.period is Period.RUN else f", or wait for the next {self.period} (UTC)"
            then = f"Raise it: agentos budgets set {self.period}{subject}{wait}."
        return BudgetExhausted(
            what,
            then=then,
            cap={
                "of": self.of,
                "period": self.period.value,
                "since": None if self.since is None else self.since.isoformat(),
                "resource": self.resource,
                "currency": CURRENCY if money else None,
                **figures,
            },
        )


@dataclass(frozen=True, slots=True)
class BudgetChanged(Fact):
    """Somebody set or removed caps; money in millionths of a dollar, None where there is no cap."""

    key_field: ClassVar[str] = "subject"
    subject: str  # "organization" or "agent:" and its id
    period: str
    money: int | None
    tokens: int | None
    steps: int | None
    seconds: int | None
    by: str


@dataclass(frozen=True, slots=True)
class PriceChanged(Fact):
    """Somebody said what a model costs, or took that back."""

    key_field: ClassVar[str] = "provider"
    provider: str
    model: str
    removed: bool
    by: str


@dataclass(frozen=True, slots=True)
class BudgetReached(Fact):
    """A cap is spent to 75 %, or to 100 % or so far that a call had no room. Once for each day, month or run."""

    key_field: ClassVar[str] = "subject"
    subject: str
    period: str
    since: str  # of a run: the day on which it got so far
    resource: str
    percent: int
    most: int
    used: int
    run_id: str = ""  # of the period "run": which
    of_version: bool = False  # the cap is in the version of the agent, spec.budgets


@dataclass(frozen=True, slots=True)
class BudgetOvershot(Fact):
    """A call cost more than was reserved for it."""

    key_field: ClassVar[str] = "run_id"
    run_id: str
    step: str
    reserved_money: int
    billed_money: int
    reserved_tokens: int
    billed_tokens: int
    agent_id: str = ""
    since: str = ""  # the day that it is counted in


@dataclass(frozen=True, slots=True)
class ReserveLost(Fact):
    """A call was made and no answer of it was kept, so what was reserved for it counts as spent."""

    key_field: ClassVar[str] = "run_id"
    run_id: str
    step: str
    agent_id: str
    money: int
    tokens: int
    of_run: int  # tokens that the run has lost by then, these included: no two of a run are alike
    since: str  # the day that it is counted in


def rate(value: Decimal) -> int:
    """A vendor's price in dollars for a million tokens in millionths, rounded up."""
    return int((value * MICROS).to_integral_value(rounding="ROUND_CEILING"))
