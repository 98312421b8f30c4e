"""Runs that spend: an agent behind two models that say what a test wants, and the facts of an organization counted."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, timedelta
from typing import Any

from sqlalchemy import text

from agentos.adapters.llm.stub import Stub
from agentos.control.budgets import service as budgets
from agentos.control.budgets.model import Limits, Period, Price
from agentos.evidence.usage import service
from agentos.evidence.usage.counting import Counting
from agentos.evidence.usage.model import Counts, Dimension, Question, Usage
from agentos.kernel.clock import now
from agentos.kernel.database import Database
from agentos.kernel.facts import Fact
from agentos.kernel.ids import OrgId
from agentos.kernel.outbox import Delivery, Position
from agentos.kernel.units import MICROS
from tests.runtime.inference.fakes import Fake, Fakes
from tests.runtime.runs.harness import Harness, harness

MODEL = {
    "provider": "claude",
    "name": "large",
    "max_tokens": 100,
    "fallback": [{"provider": "claude", "name": "small"}],
}
RATES = {"large": 10, "small": 1}  # millionths of a dollar for a token


async def fleet(database: Database, organization: OrgId, says: Callable[[Any], Any], **limits: int) -> Harness:
    """An organization whose models say what ``says`` makes of a question; ``limits``: its cap for the day."""
    held = harness(database, organization)
    fakes = Fakes(Fake("claude", else_=says))
    fakes.by_name["stub"] = Stub()  # type: ignore[assignment]
    held.parts.models = fakes
    async with held.doors.open(organization) as work:
        for name, rate in RATES.items():
            price = Price("claude", name, input=rate * MICROS, output=rate * MICROS)
            await budgets.set_price(work, "claude", name, price, by="admin", at=now())
        if limits:
            await budgets.set_budget(work, "", Period.DAY, Limits(**limits), by="admin", at=now())
    return held


async def count(held: Harness) -> None:
    """Hand every fact of the organization to the consumer, as the outbox would: in order, and some of them again."""
    handle = Counting(held.doors).consumer()
    async with held.doors.open(held.organization) as work:
        rows = await work.all(text("SELECT txid::text AS txid, seq, name, body, at FROM outbox ORDER BY txid, seq"))
    found = []
    for row in [*rows, *rows[-3:]]:
        fact = Fact.read(row.name, row.body)
        if fact is not None and type(fact) in handle.facts:
            found.append(Delivery(Position(int(row.txid), row.seq), held.organization, fact, row.at))
    for start in range(0, len(found), handle.together):
        await handle.handle(found[start : start + handle.together])


def today() -> date:
    return now().astimezone(UTC).date()


async def usage(held: Harness, *by: Dimension, **asked: Any) -> Usage:
    """What was used yesterday and today: a test may begin before midnight."""
    question = Question(today() - timedelta(days=1), today(), by, **asked)
    async with held.doors.open(held.organization) as work:
        return await service.usage(work, question, most=1000)


async def lines(held: Harness, by: Dimension, **asked: Any) -> dict[str, Counts]:
    return {one.of[by.value]: one.counts for one in (await usage(held, by, **asked)).lines}
