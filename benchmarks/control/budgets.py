"""Fifty runs at once under three caps: what is reserved never passes a cap; bills over their reserve may.

The runs belong to two agents and share four pools of connections, as if they were in four workers. Each reserves, is
answered and settles until a cap has no room. One call in ten loses its worker and is reserved again by another attempt,
one in twenty does not say what it used. In the rounds for ``reserved over cap`` no bill is over its reserve; the
database keeps the most that was ever spent and reserved together under each cap. In those for ``spend over cap`` two
bills in a hundred are three times their reserve, which no platform can foresee.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from pydantic import SecretStr
from sqlalchemy import text

from agentos.control.budgets import store
from agentos.control.budgets.model import Budget, Limits, Period, Price, Tokens, Totals
from agentos.control.budgets.spending import Books, Spending
from agentos.intake.identity import service as identity
from agentos.kernel.database import Database
from agentos.kernel.ids import OrgId
from agentos.kernel.settings import DatabaseSettings
from agentos.kernel.unit_of_work import Doors
from agentos.kernel.units import MICROS
from benchmarks.report import Row, middle, percentile

RUNS: Final = 50
WORKERS: Final = 4
ROUNDS: Final = 3
MOST_CALL: Final = 20_000  # millionths of a dollar: what a call reserves at most
LIARS: Final = 0.02
PROVIDER: Final = "elsewhere"
CAPS: Final = {("", Period.DAY): 3_000_000, ("a", Period.DAY): 1_500_000, ("b", Period.MONTH): 1_800_000}
WHERE: Final = f"{RUNS} runs at once in {WORKERS} pools, 3 caps"

_PEAKS: Final = text("SELECT agent_id, period, money, peak_money FROM budget_periods")


@dataclass
class Found:
    """Over each cap, in millionths of a dollar, the worst of a round; and how long a reserve took, in seconds."""

    reserved_over: list[int] = field(default_factory=list)
    spent_over: list[int] = field(default_factory=list)
    reserves: list[float] = field(default_factory=list)


async def measure(database_url: str, *, rounds: int = ROUNDS) -> Found:
    """Run the rounds in a migrated database, each in an organization of its own."""
    found = Found()
    pools = [Database(DatabaseSettings(url=SecretStr(database_url), pool_size=5)) for _ in range(WORKERS)]
    try:
        for number in range(rounds):
            peaks = await _round(pools, OrgId(f"honest_{number}"), 0.0, found.reserves, number)
            found.reserved_over.append(max(peak - CAPS[key] for key, (_, peak) in peaks.items()))
            peaks = await _round(pools, OrgId(f"liars_{number}"), LIARS, found.reserves, number)
            found.spent_over.append(max(spent - CAPS[key] for key, (spent, _) in peaks.items()))
    finally:
        for pool in pools:
            await pool.close()
    return found


def rows(found: Found) -> list[Row]:
    """The rows, in the order in which they are read."""
    reserve = percentile(found.reserves, 0.95) * 1000 if found.reserves else None
    return [
        Row("reserved over cap", "USD", _over(found.reserved_over), 0, where=WHERE),
        Row(
            "spend over cap",
            "USD",
            _over(found.spent_over),
            where=f"{WHERE}, {LIARS:.0%} of bills thrice their reserve",
        ),
        Row("reserve, p95", "ms", middle([reserve]), where=WHERE),
    ]


def _over(rounds: Sequence[int]) -> float | None:
    return max(0, *rounds) / MICROS if rounds else None


async def _round(
    pools: Sequence[Database], organization: OrgId, liars: float, reserves: list[float], seed: int
) -> dict[tuple[str, Period], tuple[int, int]]:
    """What was spent, and the most that was spent and reserved together, under each cap."""
    await identity.found_organization(pools[0], organization, name=organization)
    doors, at = Doors(pools[0]), datetime.now(UTC)
    async with doors.open(organization) as work:
        await store.put_price(work, Price(PROVIDER, "*", input=MICROS, output=0), "bench", at)
        for (agent, period), most in CAPS.items():
            await store.put(work, Budget(agent, period, Limits(money=most), "bench", at))
    chance = random.Random(seed)
    await asyncio.gather(
        *(_run(pools[n % WORKERS], organization, f"run_{n}", "ab"[n % 2], liars, chance, reserves) for n in range(RUNS))
    )
    async with doors.open(organization) as work:
        found = {(row.agent_id, Period(row.period)): (row.money, row.peak_money) for row in await work.all(_PEAKS)}
    return {key: found[key] for key in CAPS}


async def _run(
    pool: Database,
    organization: OrgId,
    run_id: str,
    agent: str,
    liars: float,
    chance: random.Random,
    reserves: list[float],
) -> None:
    """Spend until a cap has no room."""
    books, totals, attempt = Books(), Totals(), 1
    spending = Spending(pool, books, organization, run_id, agent, (1, attempt), (None, None), totals, lambda: 0)
    while True:
        most = chance.randrange(1, MOST_CALL)
        began = time.perf_counter()
        at = datetime.now(UTC)
        full = await spending.reserve(f"t{totals.calls}", PROVIDER, "any", lambda most=most: most, 0, at=at)
        reserves.append(time.perf_counter() - began)
        if full is not None:
            return
        kind = chance.random()
        if kind < 0.1:
            attempt += 1
            spending = Spending(pool, books, organization, run_id, agent, (1, attempt), (None, None), totals, lambda: 0)
            continue
        billed = 3 * most if kind > 1 - liars else chance.randrange(most + 1)
        used = None if kind < 0.15 else Tokens(billed, 0)
        _, bill = await spending.settle(used, "any", 0, at=at)
        assert bill is not None
        await store.settle(pool, organization, run_id, bill, None)
