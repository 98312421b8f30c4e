"""One run's spending in the hands of one attempt: reserve before a model is asked, settle with its answer.

    reserve(step) → ask → settle(answer) → the bill goes into the transaction of the answer's journal row
                        → unanswered     → close: released where the call surely cost nothing, else spent as reserved

A bill holds the totals of the run's whole journal, so settling again, after a crash in between or by another attempt,
counts nothing twice and leaves nothing out: the journal is the truth. A run under no cap reserves nothing; it is
counted when its segment ends, in the transaction of the run's end where it is over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import msgspec

from agentos.control.budgets import store
from agentos.control.budgets.model import Ceiling, Cost, Full, ModelUnpriced, Standing, Tariff, Tokens, Totals
from agentos.control.budgets.prices import tariff_of
from agentos.kernel.clock import elapsed
from agentos.kernel.database import Database
from agentos.kernel.errors import Unavailable
from agentos.kernel.ids import OrgId
from agentos.kernel.unit_of_work import UnitOfWork

# How long a process goes by what it has read. A run that is claimed brings the organization's epoch with it, so only a
# segment that lasts asks again, and all runs of an organization ask once.
FRESH_SECONDS: Final = 1.0


FIRST: Final = (1, 1)  # the token of an attempt that none came before
UNKNOWN: Final = -1  # what an earlier attempt counted, and whether it left something reserved


class SpendingFenced(Unavailable):
    """Another attempt owns the run now; this one reserves nothing more."""

    code = "spending_fenced"


@dataclass(slots=True)
class Books:
    """What organizations have set, as a process has read it: caps are about whom, and their own prices."""

    read: dict[OrgId, tuple[Standing, float]] = field(default_factory=dict)

    def seen(self, organization: OrgId, epoch: int) -> None:
        """Take note of an organization's epoch that was just read: what was read under it is still so."""
        known = self.read.get(organization)
        if known is None:
            return
        if known[0].epoch >= epoch:
            self.read[organization] = (known[0], elapsed())
        else:
            del self.read[organization]

    async def standing(self, database: Database, organization: OrgId) -> Standing:
        """What the organization has set, as of at most a second ago. Raises DatabaseUnavailable."""
        known = self.read.get(organization)
        if known is not None and elapsed() - known[1] <= FRESH_SECONDS:
            return known[0]
        began = elapsed()
        found = await store.standing(database, organization)
        self.read[organization] = (found, began)
        return found


@dataclass(slots=True)
class _Asked:
    """A model call that is about to be made or under way."""

    step: str
    provider: str
    model: str
    standing: Standing
    tariff: Tariff | Ceiling
    most_input: Callable[[], int]
    most_output: int
    reserved: tuple[int, int] | None = None  # money and tokens
    released: bool = False  # it surely cost nothing

    def most(self) -> tuple[int, int]:
        """The most money and tokens that it can take."""
        into = self.most_input()
        return self.tariff.most(into, self.most_output), into + self.most_output


@dataclass(slots=True)
class Spending:
    """What one run spends, as the attempt sees it that owns the run. ``seconds`` tells the run's wall time."""

    database: Database
    books: Books
    organization: OrgId
    run_id: str
    agent_id: str
    token: tuple[int, int]  # segment and attempt
    allowed: tuple[int | None, int | None]  # money and tokens, by the run's version
    totals: Totals
    seconds: Callable[[], int]
    _asked: _Asked | None = None
    _counted: int = 0  # answers that are counted in the database or travel there

    def __post_init__(self) -> None:
        if self.token != FIRST:
            self._counted = UNKNOWN

    @property
    def reserved(self) -> tuple[int, int] | None:
        """Money and tokens that are reserved for the call under way, if they are."""
        return None if self._asked is None else self._asked.reserved

    async def reserve(
        self,
        step: str,
        provider: str,
        model: str,
        most_input: Callable[[], int],
        most_output: int,
        *,
        at: datetime,
        spent_on: datetime | None = None,
    ) -> Full | None:
        """Reserve the most that a call can cost, or tell which cap has no room. To ask another model, reserve again.

        ``most_input`` tells an upper bound of the input's tokens. ``spent_on`` says when it is; else the database's
        clock does, so that workers whose clocks differ share one day. Raises ModelUnpriced (Forbidden),
        DatabaseUnavailable, SpendingFenced (Unavailable).
        """
        standing = await self.books.standing(self.database, self.organization)
        tariff = await tariff_of(standing, provider, model, at=at)
        before, asked = self._asked, _Asked(step, provider, model, standing, tariff, most_input, most_output)
        if self.allowed == (None, None) and not standing.caps(self.agent_id):
            if before is not None and before.reserved is not None:
                await self.close(step, spent_on=spent_on)
            self._asked = asked
            return None
        bill, most = self._bill(step, released=before is not None and before.released), asked.most()
        said = await store.reserve(
            self.database,
            self.organization,
            self.run_id,
            self.token,
            step,
            bill,
            most,
            self.allowed,
            spent_on,
        )
        if said == "fenced":
            raise SpendingFenced("another attempt owns this run now", where=self.run_id)
        self._counted, self._asked = self.totals.calls, None
        if isinstance(said, Full):
            return said
        asked.reserved = most
        self._asked = asked
        return None

    def release(self) -> None:
        """Take note that the call under way surely cost nothing."""
        if self._asked is not None:
            self._asked.released = True

    async def settle(self, used: Tokens | None, model: str, steps: int, *, at: datetime) -> tuple[Cost, str | None]:
        """What the answer to the call under way cost, and the bill for the transaction of its journal row, if any.

        ``used`` is None where the provider did not say: the call counts as what was reserved for it, as unknown.
        """
        asked, self._asked = self._asked, None
        assert asked is not None
        tariff = await self._tariff_of_answer(asked, model, at)
        if used is None:
            cost = Cost(*(asked.reserved or asked.most()), unknown=True, steps=steps)
        elif isinstance(tariff, Ceiling):
            cost = Cost(tariff.amount, used.input + used.output, unknown=True, steps=steps)
        else:
            cost = Cost(tariff.cost(used), used.input + used.output, unknown=False, steps=steps)
        self.totals.add(cost)
        if asked.reserved is None:
            return cost, None
        self._counted = self.totals.calls
        return cost, self._bill(None)

    async def close(self, unanswered: str, *, spent_on: datetime | None = None) -> None:
        """Count what is not counted yet and close what is reserved, because the segment ends.

        ``unanswered`` is the step that would come next: what is reserved for it, here or by a lost attempt, has no
        answer. An attempt that was taken over changes nothing. Raises DatabaseUnavailable.
        """
        asked, self._asked = self._asked, None
        if (asked is None or asked.reserved is None) and self._counted == self.totals.calls:
            return
        bill = self._bill(unanswered, released=asked is not None and asked.released)
        await store.settle(self.database, self.organization, self.run_id, bill, spent_on)
        self._counted = self.totals.calls

    async def count(self, work: UnitOfWork) -> None:
        """Count what is not counted yet: an answer that was settled, of what is no run and goes on."""
        await store.settle_within(work, self.run_id, self._bill(""))
        self._counted = self.totals.calls

    async def finish(self, work: UnitOfWork, unanswered: str) -> None:
        """Count all of it and close what is reserved, for good: the end of what is no run and has no journal.

        ``unanswered`` as in ``close``; empty when the call under way was answered and settled.
        """
        await store.settle_within(work, self.run_id, self.last_bill(unanswered))

    def last_bill(self, unanswered: str) -> str:
        """The bill for the transaction of the run's end; ``unanswered`` as in ``close``."""
        released = self._asked is not None and self._asked.released
        return self._bill(unanswered, released=released, final=True)

    async def _tariff_of_answer(self, asked: _Asked, model: str, at: datetime) -> Tariff | Ceiling:
        """The tariff of the model that answered, which may be another than was asked; the organization's word wins."""
        if model == asked.model or (asked.provider, asked.model) in asked.standing.prices:
            return asked.tariff
        try:
            return await tariff_of(asked.standing, asked.provider, model, at=at)
        except ModelUnpriced:
            return asked.tariff

    def _bill(self, unanswered: str | None, *, released: bool = False, final: bool = False) -> str:
        totals = self.totals
        return msgspec.json.encode(
            {
                "agent": self.agent_id,
                "segment": self.token[0],
                "attempt": self.token[1],
                "money": totals.money,
                "tokens": totals.tokens,
                "steps": totals.steps,
                "seconds": self.seconds(),
                "calls": totals.calls,
                "unknown": totals.unknown,
                "most_money": self.allowed[0],
                "most_tokens": self.allowed[1],
                "unanswered": unanswered,
                "released": released,
                "final": final,
            }
        ).decode()
