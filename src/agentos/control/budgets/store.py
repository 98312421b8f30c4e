"""Caps, prices, and what was used up, in the database."""

from __future__ import annotations

import json
from datetime import date, datetime
from typing import Any, Final

from sqlalchemy import Row, text

from agentos.control.budgets.model import Budget, Full, Limits, Period, Price, Standing, Used
from agentos.kernel.database import Database
from agentos.kernel.ids import OrgId
from agentos.kernel.unit_of_work import UnitOfWork

_PUT: Final = text(
    "INSERT INTO budgets (org, agent_id, period, money, tokens, steps, seconds, changed_by, changed_at) "
    "VALUES (:org, :agent_id, :period, :money, :tokens, :steps, :seconds, :by, :at) "
    "ON CONFLICT (org, agent_id, period) DO UPDATE SET money = excluded.money, tokens = excluded.tokens, "
    "steps = excluded.steps, seconds = excluded.seconds, changed_by = excluded.changed_by, "
    "changed_at = excluded.changed_at"
)
_REMOVE: Final = text("DELETE FROM budgets WHERE agent_id = :agent_id AND period = :period")
_LIST: Final = text(
    "SELECT agent_id, period, money, tokens, steps, seconds, changed_by, changed_at FROM budgets "
    "ORDER BY agent_id, array_position(ARRAY['run', 'day', 'month'], period)"
)
_PUT_PRICE: Final = text(
    "INSERT INTO model_prices (org, provider, model, input, output, cache_read, cache_write, call_ceiling, changed_by, "
    "changed_at) VALUES (:org, :provider, :model, :input, :output, :cache_read, :cache_write, :call_ceiling, :by, :at) "
    "ON CONFLICT (org, provider, model) DO UPDATE SET input = excluded.input, output = excluded.output, "
    "cache_read = excluded.cache_read, cache_write = excluded.cache_write, call_ceiling = excluded.call_ceiling, "
    "changed_by = excluded.changed_by, changed_at = excluded.changed_at"
)
_REMOVE_PRICE: Final = text("DELETE FROM model_prices WHERE provider = :provider AND model = :model")
_PRICES: Final = text(
    "SELECT provider, model, input, output, cache_read, cache_write, call_ceiling FROM model_prices "
    "ORDER BY provider, model"
)
_USED: Final = text(
    "SELECT agent_id, period, since, money, tokens, steps, seconds, calls, unknown_calls, overshot_calls, "
    "reserved_money, reserved_tokens, peak_money FROM budget_periods WHERE since = :day AND period = 'day' "
    "OR since = :month AND period = 'month' ORDER BY agent_id, period"
)

_STANDING: Final = "SELECT epoch, capped, prices::text AS prices FROM budget_standing($1)"
_RESERVE: Final = (
    "SELECT verdict, cap_of, period, since, resource, most, used, reserved, wanted "
    "FROM budget_reserve($1, $2, $3, $4, $5, $6::jsonb, $7, $8, $9, $10, $11)"
)
_SETTLE: Final = "SELECT budget_settle($1, $2, $3::jsonb, $4) AS overshot"
_SETTLE_WITHIN: Final = text("SELECT budget_settle(:org, :run_id, CAST(:bill AS jsonb), NULL) AS overshot")


async def put(work: UnitOfWork, budget: Budget) -> None:
    """Set a subject's caps for a period; its row stays locked until the unit of work ends."""
    limits = budget.limits
    values = {
        "agent_id": budget.agent_id,
        "period": budget.period.value,
        "money": limits.money,
        "tokens": limits.tokens,
        "steps": limits.steps,
        "seconds": limits.seconds,
        "by": budget.changed_by,
        "at": budget.changed_at,
    }
    await work.run(_PUT, {"org": work.organization, **values})


async def remove(work: UnitOfWork, agent_id: str, period: Period) -> None:
    """Take away a subject's caps for a period."""
    await work.run(_REMOVE, {"agent_id": agent_id, "period": period.value})


async def budgets(work: UnitOfWork) -> list[Budget]:
    """Every cap: the organization's first, then those of agents by name."""
    return [
        Budget(
            row.agent_id,
            Period(row.period),
            Limits(row.money, row.tokens, row.steps, row.seconds),
            row.changed_by,
            row.changed_at,
        )
        for row in await work.all(_LIST)
    ]


async def put_price(work: UnitOfWork, price: Price, by: str, at: datetime) -> None:
    """Set what a model costs; its row stays locked until the unit of work ends."""
    values = {
        "provider": price.provider,
        "model": price.model,
        "input": price.input,
        "output": price.output,
        "cache_read": price.cache_read,
        "cache_write": price.cache_write,
        "call_ceiling": price.call_ceiling,
        "by": by,
        "at": at,
    }
    await work.run(_PUT_PRICE, {"org": work.organization, **values})


async def remove_price(work: UnitOfWork, provider: str, model: str) -> None:
    """Take back what was said of a model."""
    await work.run(_REMOVE_PRICE, {"provider": provider, "model": model})


async def prices(work: UnitOfWork) -> list[Price]:
    """What the organization says that models cost."""
    return [Price(**row._mapping) for row in await work.all(_PRICES)]


async def used(work: UnitOfWork, day: date) -> list[Used]:
    """What was used up in a day and in its month."""
    rows = await work.all(_USED, {"day": day, "month": day.replace(day=1)})
    return [_used(row) for row in rows]


async def standing(database: Database, organization: OrgId) -> Standing:
    """What an organization has set, as of an epoch that was read before it."""
    row = await database.group.row(_STANDING, organization)
    names = ("provider", "model", "input", "output", "cache_read", "cache_write", "call_ceiling")
    found = [Price(**{name: one[name] for name in names}) for one in json.loads(row["prices"])]
    return Standing(row["epoch"], frozenset(row["capped"]), {(one.provider, one.model): one for one in found})


async def reserve(
    database: Database,
    organization: OrgId,
    run_id: str,
    token: tuple[int, int],
    step: str,
    bill: str,
    wanted: tuple[int, int],
    allowed: tuple[int | None, int | None],
    at: datetime | None,
) -> str | Full:
    """Reserve money and tokens for a step: ``ok``, ``fenced``, or the cap that has no room. See budget_reserve."""
    row = await database.group.row(_RESERVE, organization, run_id, *token, step, bill, *wanted, *allowed, at)
    if row["verdict"] != "exhausted":
        return str(row["verdict"])
    return Full(
        row["cap_of"],
        Period(row["period"]),
        row["since"],
        row["resource"],
        row["most"],
        row["used"],
        row["reserved"],
        row["wanted"],
    )


async def settle(database: Database, organization: OrgId, run_id: str, bill: str, at: datetime | None) -> bool:
    """Count a run's totals and close what is reserved for it; whether more was billed than reserved."""
    return bool((await database.group.row(_SETTLE, organization, run_id, bill, at))["overshot"])


async def settle_within(work: UnitOfWork, run_id: str, bill: str) -> bool:
    """The same in the transaction of this unit of work."""
    row = await work.first(_SETTLE_WITHIN, {"org": work.organization, "run_id": run_id, "bill": bill})
    return row is not None and bool(row.overshot)


def _used(row: Row[Any]) -> Used:
    return Used(**{**row._mapping, "period": Period(row.period)})
