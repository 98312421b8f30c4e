"""Set caps and prices, and tell what is used up. A change binds every model call from a second after its commit on."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Final

from agentos.control.agents import service as agents
from agentos.control.budgets import store
from agentos.control.budgets.model import (
    Budget,
    BudgetChanged,
    BudgetInvalid,
    Limits,
    Period,
    Price,
    PriceChanged,
    Used,
    count,
)
from agentos.kernel import epochs
from agentos.kernel.unit_of_work import UnitOfWork
from agentos.kernel.units import CURRENCY, CurrencyUnknown, micros

MOST_PRICES: Final = 1000  # of an organization: every worker keeps them in memory


def limits(
    money: str | None, tokens: int | None, steps: int | None, seconds: int | None, *, currency: str = CURRENCY
) -> Limits:
    """Caps as somebody wrote them. Raises BudgetInvalid, MalformedMoney or CurrencyUnknown
    (Invalid) naming the field."""
    _check(currency)
    counts = {"tokens": tokens, "steps": steps, "seconds": seconds}
    return Limits(
        money=None if money is None else micros(money, where="money"),
        **{name: None if value is None else count(value, where=name) for name, value in counts.items()},
    )


async def set_budget(
    work: UnitOfWork, agent_id: str, period: Period, wanted: Limits, *, by: str, at: datetime
) -> Budget:
    """Replace the caps of an agent, or with an empty id of the organization, for a period; empty caps are removed.

    Raises AgentUnknown (NotFound), MalformedId (Invalid).
    """
    if agent_id:
        await agents.get_agent(work, agent_id)
    budget = Budget(agent_id, period, wanted, by, at)
    await epochs.bump(work, epochs.ORGANIZATION)
    if wanted.empty:
        await store.remove(work, agent_id, period)
    else:
        await store.put(work, budget)
    subject = f"agent:{agent_id}" if agent_id else "organization"
    await work.publish(
        BudgetChanged(subject, period.value, wanted.money, wanted.tokens, wanted.steps, wanted.seconds, by)
    )
    return budget


async def list_budgets(work: UnitOfWork) -> list[Budget]:
    """Every cap: the organization's first, then those of agents by name."""
    return await store.budgets(work)


def price(provider: str, model: str, amounts: Mapping[str, str | None], *, currency: str = CURRENCY) -> Price | None:
    """What a model costs, as somebody wrote it; None when no amount is given. Raises BudgetInvalid,
    MalformedMoney or CurrencyUnknown (Invalid)."""
    _check(currency)
    for name, text in (("provider", provider), ("model", model)):
        if not text.strip() or not text.isprintable():
            raise BudgetInvalid(f"the {name} has no name", where=name, then="Name it as the agents' spec.model does.")
    given = {name: micros(text, where=name) for name, text in amounts.items() if text is not None}
    if not given:
        return None
    if "call_ceiling" in given and len(given) > 1:
        raise BudgetInvalid(
            "a price is either rates or a ceiling for a call", where="call_ceiling", then="Give one of them."
        )
    if "call_ceiling" not in given and not {"input", "output"} <= set(given):
        missing = "input" if "input" not in given else "output"
        raise BudgetInvalid(
            f"the rate for {missing} is missing", where=missing, then="Give both, in dollars for a million tokens."
        )
    return Price(provider, model, **given)


async def set_price(
    work: UnitOfWork, provider: str, model: str, wanted: Price | None, *, by: str, at: datetime
) -> None:
    """Say what a model costs the organization, or with None take that back. Raises BudgetInvalid (Invalid)."""
    await epochs.bump(work, epochs.ORGANIZATION)  # whoever comes second waits here, so the count below holds
    if wanted is None:
        await store.remove_price(work, provider, model)
    else:
        known = {(one.provider, one.model) for one in await store.prices(work)}
        if len(known) >= MOST_PRICES and (provider, model) not in known:
            raise BudgetInvalid(f"there are {MOST_PRICES} prices already", then="Use the model '*', or remove one.")
        await store.put_price(work, wanted, by, at)
    await work.publish(PriceChanged(provider, model, wanted is None, by))


async def list_prices(work: UnitOfWork) -> list[Price]:
    """What the organization says that models cost."""
    return await store.prices(work)


async def used(work: UnitOfWork, *, on: date | None, at: datetime) -> list[Used]:
    """What was used up in a day of UTC (today when not named) and in its month; nothing for whoever used nothing."""
    return await store.used(work, on or at.astimezone(UTC).date())


def _check(currency: str) -> None:
    if currency.upper() != CURRENCY:
        raise CurrencyUnknown(
            f"money is in {CURRENCY} here, not {currency[:10]}", where="currency", then="Convert the amounts."
        )
