"""What is executed again: a run as it was or with something else in its place, how it may end, and what came of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from agentos.control.agents.model import Definition
from agentos.control.budgets.spending import Spending
from agentos.control.policy.model import Decision, Tier
from agentos.control.policy.rules import Proposed
from agentos.control.stops.model import InForce
from agentos.evidence.replay.content import Content, Divergence, Kind
from agentos.kernel.ids import OrgId
from agentos.runtime.runs.journal import Entry
from agentos.runtime.runs.ports import Parts
from agentos.runtime.runs.segment import Leave
from agentos.runtime.skills import Skill

# A call, what policy said of it then, and the row that tells so: what it says now, and at which tier.
Decide = Callable[[Proposed, Decision | None, Entry | None], tuple[Decision, Tier]]


class Ends(Leave):
    """The recording has no more: ``why`` in words."""

    def __init__(self, why: str, step: str = "", divergence: Divergence | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.step = step
        self.divergence = divergence  # which no row can tell, as none was written


class Diverged(Leave):
    """The run has parted from its recording."""

    def __init__(self, step: str, name: str, kind: Kind, recorded: Any, found: Any) -> None:
        super().__init__(step)
        self.divergence = Divergence(step, name, kind, recorded, found)


@dataclass(slots=True)
class Plan:
    """What is executed: the run as it was, or with something else in its place."""

    definition: Definition
    skills: dict[str, Skill]
    decide: Decide | None = None  # None: as recorded
    may_ask: bool | None = None  # whether models may be asked anew; None: this is a replay, where none is
    ask_all: bool = False  # the model is told something else from the start, or is another one
    strict: bool = True  # end at the first difference
    besides: frozenset[tuple[str, str]] = frozenset()  # fields that differ because that is what is tried
    parts: Parts | None = None  # to ask models with
    spending: Spending | None = None
    organization: OrgId = field(default=OrgId(""))  # whose prices and rules hold for what is asked anew
    stops: Callable[[], Awaitable[InForce]] | None = None  # those of now, where live models may be asked


@dataclass(slots=True)
class Outcome:
    """What came of executing a run again."""

    content: Content
    divergence: Divergence | None
    whole: bool  # it came to an end, and was not left where the recording could not answer
    why: str  # it was left, else empty
    asked: int  # answers that a model gave anew
    judged: int  # decisions that the rules were asked for again
    taken: int  # decisions that were taken as they were recorded
