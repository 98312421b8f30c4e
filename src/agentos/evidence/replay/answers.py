"""What models answered, put before a proposal in the order of time: which answers nobody would have asked for.

An answer counts with the cost that its journal row recorded, so a proposed cap refuses here at the latest: in force it
reserves the most that a call can cost, and refuses earlier. A run whose call is refused asks no model again, and what
it would have spent is not spent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from typing import Final, NamedTuple

from agentos.control.budgets.model import Period
from agentos.control.stops.model import InForce
from agentos.evidence.replay.model import Proposal
from agentos.kernel.units import CURRENCY, dollars

BUDGET: Final = "budget"
PROVIDER: Final = "provider"


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer of a model, as the journal tells it."""

    run_id: str
    agent_id: str
    deployment_id: str
    seq: int  # of its row in the run's journal
    step: str
    at: datetime
    provider: str
    model: str
    money: int | None  # None: of a release that kept no cost
    tokens: int


@dataclass(slots=True)
class Refused:
    """A run that would have gone no further: its first answer that nobody would have asked for, and how many follow."""

    first: Answered
    code: str
    reason: str
    answers: int = 0
    money: int = 0


@dataclass(slots=True)
class Answers:
    """What a proposal would have made of the answers in a window."""

    looked: int = 0
    unpriced: int = 0  # of these: the journal tells no cost, so they count as free
    refused: dict[str, Refused] = field(default_factory=dict)  # by run

    def cut(self, run_id: str, seq: int) -> Refused | None:
        """The refusal that would have kept a run from coming as far as this row of its journal, if any."""
        found = self.refused.get(run_id)
        return found if found is not None and found.first.seq < seq else None


def begins(proposal: Proposal, since: datetime) -> datetime:
    """From when on answers count, so that the days and months that the window begins in are whole."""
    days = [_first_day(cap.period, since) for cap in proposal.caps]
    return datetime.combine(min(days), time(), UTC) if days else since


def replayed(rows: Iterable[Answered], proposal: Proposal, since: datetime, *, deployment_id: str = "") -> Answers:
    """Put answers before a proposal. ``rows`` are in the order of time, and whole for each run.

    What was answered before ``since`` counts as it was. Answers of other deployments than ``deployment_id`` count
    towards caps, too, but are not told.
    """
    found, others = Answers(), Answers()
    spent: Counter[tuple[str, ...]] = Counter()
    stops = InForce(tuple(proposal.denylist.stops(since)))
    for one in rows:
        told = found if deployment_id in ("", one.deployment_id) else others
        if one.at >= since:
            told.looked += 1
            told.unpriced += one.money is None
            refused = told.refused.get(one.run_id) or _refused(one, proposal, stops, spent)
            if refused is not None:
                refused.answers += 1
                refused.money += one.money or 0
                told.refused[one.run_id] = refused
                continue
        spent.update({counted.key: counted.wanted for counted in _counted(one, proposal)})
    return found


class _Counted(NamedTuple):
    """What an answer is counted in: which counter, what that may hold, and what the answer adds to it."""

    key: tuple[str, ...]
    resource: str
    most: int
    wanted: int
    words: str

    def reason(self, spent: int) -> str:
        """Why it has no room."""
        figures = (spent, self.wanted, self.most)
        used, more, most = (dollars(one) if self.resource == "money" else str(one) for one in figures)
        unit = CURRENCY if self.resource == "money" else self.resource
        return f"{self.words}: {used} spent and {more} more is over {most} {unit}"


def _refused(one: Answered, proposal: Proposal, stops: InForce, spent: Counter[tuple[str, ...]]) -> Refused | None:
    if stops.denies_provider(one.provider) is not None:
        return Refused(one, PROVIDER, f"the provider '{one.provider}' is on the proposed denylist")
    for counted in _counted(one, proposal):
        used = spent[counted.key]
        if counted.wanted and used + counted.wanted > counted.most:
            return Refused(one, BUDGET, counted.reason(used))
    return None


def _counted(one: Answered, proposal: Proposal) -> Iterator[_Counted]:
    for resource, wanted in (("money", one.money or 0), ("tokens", one.tokens)):
        most = getattr(proposal.budgets, resource)
        if most is not None:
            yield _Counted(("run", one.run_id, resource), resource, most, wanted, "each run")
        for cap in proposal.caps:
            most = getattr(cap, resource)
            if most is None or cap.agent_id not in ("", one.agent_id):
                continue
            since = _first_day(cap.period, one.at).isoformat()
            whose = f"agent '{cap.agent_id}'" if cap.agent_id else "the organization"
            words = f"the {cap.period} from {since} (UTC) of {whose}"
            yield _Counted((cap.period, cap.agent_id, since, resource), resource, most, wanted, words)


def _first_day(period: Period, at: datetime) -> date:
    day = at.astimezone(UTC).date()
    return day.replace(day=1) if period is Period.MONTH else day
