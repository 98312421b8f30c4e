"""Spending without models: a price of a millionth of a dollar for each token of input, and nothing for output.

So a call of ``money`` and ``tokens`` is one of that much input, and as much output as is left.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import text

from agentos.control.budgets import store
from agentos.control.budgets.model import Budget, Full, Limits, Period, Price, Tokens, Totals
from agentos.control.budgets.spending import Books, Spending
from agentos.kernel import epochs
from agentos.kernel.database import Database
from agentos.kernel.ids import OrgId
from agentos.kernel.unit_of_work import Doors

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
PROVIDER, MODEL = "elsewhere", "tester"
PRICE = Price(PROVIDER, MODEL, input=1_000_000, output=0)


@dataclass
class Purse:
    """One run's spending, as a test moves it: reserve, answer, leave, or lose the worker."""

    doors: Doors
    organization: OrgId
    run_id: str
    agent_id: str = "tester"
    allowed: tuple[int | None, int | None] = (None, None)
    attempt: int = 1
    at: datetime = NOON
    wall: int = 0
    totals: Totals = field(default_factory=Totals)  # of the run's journal
    books: Books = field(default_factory=Books)
    spending: Spending = field(init=False)

    def __post_init__(self) -> None:
        self.spending = self._spending()

    def _spending(self) -> Spending:
        return Spending(
            self.doors.database,
            self.books,
            self.organization,
            self.run_id,
            self.agent_id,
            (1, self.attempt),
            self.allowed,
            Totals(**{name: getattr(self.totals, name) for name in Totals.__slots__}),
            lambda: self.wall,
        )

    def lose(self) -> None:
        """The worker is gone; another attempt takes over, with what the journal holds."""
        self.attempt += 1
        self.spending = self._spending()

    @property
    def step(self) -> str:
        return f"t{self.totals.calls}"

    async def reserve(self, money: int, tokens: int) -> Full | None:
        return await self.spending.reserve(
            self.step, PROVIDER, MODEL, lambda: money, tokens - money, at=self.at, spent_on=self.at
        )

    async def answer(self, money: int | None, tokens: int = 0, *, steps: int = 0) -> None:
        """The model answered, and the journal and the bill are committed together. None: usage is not known."""
        used = None if money is None else Tokens(money, tokens - money)
        cost, bill = await self.spending.settle(used, MODEL, steps, at=self.at)
        self.totals.add(cost)
        if bill is not None:
            await store.settle(self.doors.database, self.organization, self.run_id, bill, self.at)

    async def close(self) -> None:
        await self.spending.close(self.step, spent_on=self.at)

    async def end(self) -> None:
        bill = self.spending.last_bill(self.step)
        await store.settle(self.doors.database, self.organization, self.run_id, bill, self.at)


async def priced(doors: Doors, organization: OrgId) -> None:
    async with doors.open(organization) as work:
        await store.put_price(work, PRICE, "admin", NOON)
        await epochs.bump(work, epochs.ORGANIZATION)


async def cap(doors: Doors, organization: OrgId, period: Period, agent: str = "", **limits: int) -> None:
    async with doors.open(organization) as work:
        await store.put(work, Budget(agent, period, Limits(**limits), "admin", NOON))
        await epochs.bump(work, epochs.ORGANIZATION)


async def periods(database: Database, organization: OrgId) -> dict[tuple[str, str, str], dict[str, Any]]:
    """What is spent and reserved, by subject, period and its first day."""
    async with Doors(database).open(organization) as work:
        rows = await work.all(text("SELECT * FROM budget_periods"))
    return {(row.agent_id, row.period, row.since.isoformat()): dict(row._mapping) for row in rows}


async def told(doors: Doors, organization: OrgId, name: str) -> list[dict[str, Any]]:
    """The facts of this name, in order."""
    async with doors.open(organization) as work:
        return [
            row.body
            for row in await work.all(text("SELECT body FROM outbox WHERE name = :n ORDER BY seq"), {"n": name})
        ]
