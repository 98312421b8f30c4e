"""What a case can reach: models that are asked for real, fixtures, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Final, Never, TypeVar

from agentos.control.agents.model import Definition
from agentos.control.policy.model import Decision
from agentos.control.policy.rules import Proposed, Rulebook, decide
from agentos.control.stops import service as stops
from agentos.control.stops.model import Subject
from agentos.evidence.evals import scorers, store
from agentos.evidence.evals.model import Case, EvalHeld, EvalReachedOut, EvalWaits, Side
from agentos.evidence.replay.world import SkillSaid
from agentos.kernel.clock import elapsed
from agentos.kernel.ids import OrgId
from agentos.kernel.schemas import misfit
from agentos.kernel.telemetry.catalogue import DECISIONS, ERRORS, STEPS, Metric
from agentos.runtime.inference import Call
from agentos.runtime.runs.journal import Entry, Journal
from agentos.runtime.runs.model import RunTimedOut
from agentos.runtime.runs.outside import drafted
from agentos.runtime.runs.ports import Parts
from agentos.runtime.runs.segment import Answered, Effect, Leave, Segment
from agentos.runtime.skills import Lookup, Skill
from agentos.runtime.skills.service import canonical_arguments

T = TypeVar("T")

FRESH_SECONDS: Final = 1.0  # how long an eval goes by the stops that it has read
NO_DRAFT: Final = "draft_of_no_run"
_NOT_OURS: Final = frozenset({STEPS, DECISIONS, ERRORS})  # what runs did in production is measured by these


class Over(Leave):
    """The eval is over, or another attempt has it: nothing more is written."""


class NotGiven(Leave):
    """The case says nothing of what a call is answered with."""


@dataclass(slots=True)
class Examination:
    """What the tasks of one eval share, in the hands of one attempt."""

    parts: Parts
    organization: OrgId
    eval_id: str
    attempt: int
    definitions: dict[Side, Definition]
    answers: dict[str, list[Entry]]  # those that an earlier attempt committed, by talk
    leaving: asyncio.Event  # set: this attempt asks nothing more
    _books: dict[Subject, tuple[Rulebook, float]] = field(default_factory=dict)
    _looking: asyncio.Lock = field(default_factory=asyncio.Lock)

    def check_leaving(self) -> None:
        """Raises EvalWaits (Unavailable) once this attempt is to ask nothing more."""
        if self.leaving.is_set():
            raise EvalWaits("this worker shuts down", where=self.eval_id)

    def takes(self, side: Side, given: Any) -> bool:
        """Whether the input fits the version's schema."""
        return misfit(self.definitions[side].input_schema, given) is None

    async def book(self, definition: Definition) -> Rulebook:
        """The stops of now, and no policy. Raises EvalHeld (Forbidden), DatabaseUnavailable."""
        subject = Subject("", definition.agent_id, definition.category)
        known = self._books.get(subject)
        if known is None or elapsed() - known[1] > FRESH_SECONDS:
            async with self._looking:  # what is due for all tasks at once is read by one of them
                known = self._books.get(subject)
                if known is None or elapsed() - known[1] > FRESH_SECONDS:
                    began = elapsed()
                    async with self.parts.doors.open(self.organization) as work:
                        known = Rulebook(subject, await stops.in_force(work, subject)), began
                    self._books[subject] = known
        held = known[0].stops.held
        if held is not None:
            raise EvalHeld(
                f"stop {held.id} withholds the models of '{definition.agent_id}'",
                where=held.id,
                then=f"Lift it, then resume: agentos eval resume {self.eval_id}.",
            )
        return known[0]


@dataclass(slots=True)
class Notes(Journal):
    """The journal of one talk. Answers that cost are committed with what they cost before anything else happens."""

    talk: str = field(kw_only=True)
    examination: Examination = field(kw_only=True)
    is_free: bool = field(kw_only=True)

    async def append_within(self, connection: Any | None, *entries: Entry) -> None:
        """Keep the rows; those of models durably, unless they are free."""
        del connection
        answers = [one for one in entries if one.kind == "model"]
        if answers and not self.is_free:
            held = self.examination
            bill, self.bill = self.bill, None
            if not await store.note(
                self.database, held.organization, held.eval_id, held.attempt, self.talk, answers, bill
            ):
                raise Over(self.talk)
        for entry in entries:
            self.recorded[entry.key, entry.phase] = entry
            self.length += 1


class Examined(Segment):
    """A segment of a task. No person, no order and no hand-over ends it; stops do."""

    examination: Examination

    def check_time(self) -> None:
        """Raises RunTimedOut (Exhausted) when the time is up that the version allows a run."""
        if elapsed() - self.began > self.claimed.seconds_left:
            raise RunTimedOut(f"the case took longer than the {self.definition.budgets.seconds} s of its version")

    async def may_begin(self, *, surely: bool = False) -> None:
        """Return when another step may begin. Raises EvalHeld (Forbidden), EvalWaits, DatabaseUnavailable."""
        del surely
        self.examination.check_leaving()
        self.rulebook = await self.examination.book(self.definition)

    def check_held(self) -> None:
        """What holds it was looked at before the model was asked, and nothing is sent."""

    async def interruptible(self, work: Coroutine[Any, Any, T], by: Any = None) -> T:
        """Await it: nobody interrupts a task."""
        del by
        return await work

    def decide(self, key: str, proposed: Proposed) -> Decision:
        """What the tier alone says of the call, and the denylist."""
        del key
        return decide(proposed, self.rulebook)

    def count(self, metric: Metric, **labels: str) -> None:
        """Count what models cost, and nothing that tells of runs in production."""
        if metric not in _NOT_OURS:
            Segment.count(self, metric, **labels)


class Given:
    """The world of a task: the fixtures of its case. See ``segment.Outside``."""

    def __init__(self, segment: Examined, case: Case) -> None:
        self._segment = segment
        self._case = case

    def arguments(self, one: Skill, given: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        """The arguments as they would execute, and their canonical form."""
        return canonical_arguments(one, given)

    async def call(self, effect: Effect) -> Any:
        """What the first fixture says whose arguments are in the call's. Raises NotGiven, or the fixture's error."""
        for one in self._case.fixtures:
            if one.skill != effect.skill.name:
                continue
            if one.arguments is None or scorers.is_subset(one.arguments, effect.arguments):
                if one.error:
                    raise SkillSaid(one.error, "fixture")
                return one.answer
        raise NotGiven(f"no fixture answers '{effect.skill.name}' with {effect.data.decode()[:300]}")

    async def draft(self, effect: Effect, decision: Decision) -> Entry:
        """A draft that is kept nowhere."""
        entry = drafted(self._segment, effect, decision, NO_DRAFT)
        await self._segment.journal.append(entry)
        return entry

    async def withdraw(self, effect: Effect) -> None:
        """Nobody was asked."""

    async def lookup(self, effect: Effect) -> Lookup:
        """Nothing was sent."""
        raise _reached("a receiver", effect)

    async def quiet(self, effect: Effect, send: str) -> None:
        """Nothing is on the wire."""

    async def answer(self, effect: Effect, decision: Decision) -> Answered:
        """Nobody is asked at L1."""
        raise _reached(f"people ({decision.code})", effect)

    async def ask_end(self, effect: Effect, send: str) -> Never:
        """Nothing was sent."""
        raise _reached(f"people about {send}", effect)

    async def submitted(self) -> Call:
        """A task is no draft."""
        raise EvalReachedOut("a case of an eval reached for a draft", then="This is a fault of ours.")


def _reached(what: str, effect: Effect) -> EvalReachedOut:
    return EvalReachedOut(f"a case reached for {what}", where=effect.key, then="This is a fault of ours.")
