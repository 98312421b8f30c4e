"""One task executed: the loop of live runs over one case, with the models of its version and nothing else of the world.

it asks a model       → that very model, under stops, caps and limits; an answer that costs is committed at once
it calls a skill
  that only reads     → the fixture of the case whose arguments are in the call's; without one the task is left
  any other           → a draft that nobody can submit: the tier is L1 at most, and no policy is looked at
a judge is wanted     → an agent without skills, made of the rubric, is executed in the same way
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, cast

import msgspec
import structlog

from agentos.control.agents.model import Definition
from agentos.control.budgets.model import BudgetExhausted, Cost, ModelUnpriced, Totals
from agentos.control.budgets.spending import Spending
from agentos.control.policy.model import Tier
from agentos.control.policy.rules import Rulebook
from agentos.control.stops.model import Subject
from agentos.evidence.evals import judges, scorers
from agentos.evidence.evals.model import (
    Case,
    EvalHeld,
    EvalWaits,
    Outcome,
    Score,
    Scorer,
    Task,
)
from agentos.evidence.evals.world import Examination, Examined, Given, Notes, NotGiven, Over
from agentos.evidence.replay.recording import run_of_none
from agentos.evidence.replay.what_if import Free
from agentos.kernel.canonical import canonical_parsed
from agentos.kernel.clock import elapsed
from agentos.kernel.errors import AgentOSError, Bug, Unavailable
from agentos.kernel.ids import RunId
from agentos.runtime.inference import routing
from agentos.runtime.runs import loop
from agentos.runtime.runs.journal import Entry
from agentos.runtime.runs.model import Claimed, RunStatus, Token
from agentos.runtime.runs.segment import Held, Leave, Park

log = structlog.get_logger(__name__)

MOST_CALLS: Final = 200  # that an outcome tells; all of them are scored


@dataclass(slots=True)
class _Talk:
    """What one agent made of one input."""

    status: RunStatus
    output: Any
    error: AgentOSError | None
    segment: Examined
    name: str

    @property
    def answers(self) -> list[Entry]:
        """The answers of models."""
        return [one for one in self.segment.journal.recorded.values() if one.kind == "model"]


async def execute(held: Examination, case: Case, task: Task) -> tuple[Outcome, dict[str, str]]:
    """What a version makes of a case, scored; and the bills of its talks, to be settled with it.

    Raises Over, and what ends the eval for now: EvalHeld, BudgetExhausted, ModelUnpriced, EvalWaits and the other
    kinds of Unavailable. What it spent until then is counted.
    """
    began, definition = elapsed(), held.definitions[task.side]
    outcome = Outcome(task, RunStatus.COMPLETED)
    talks: list[_Talk] = []
    try:
        if not held.takes(task.side, case.input):
            raise NotGiven("the case's input does not fit the version's input schema")
        await _talk(held, definition, case, canonical_parsed(case.input), task.key, talks)
        await _take(held, case, outcome, talks)
    except NotGiven as left:
        outcome.status, outcome.why, outcome.scores = "left", str(left), {}
    except BaseException:
        for talk in talks:
            await _close(talk.segment)
        raise
    for talk in talks:
        costs = [_cost(one) for one in talk.answers]
        outcome.asked += len(costs)
        outcome.tokens += sum(one.tokens for one in costs)
        outcome.micros += sum(one.money for one in costs)
    outcome.seconds = elapsed() - began
    bills = {one.name: one.segment.spending.last_bill("") for one in talks if not _notes(one.segment).is_free}
    return outcome, bills


async def _take(held: Examination, case: Case, outcome: Outcome, talks: list[_Talk]) -> None:
    """Take over what the agent did, and score it."""
    talk = talks[0]
    outcome.status, outcome.output = talk.status.value, talk.output
    if talk.error is not None:
        outcome.code, outcome.why = talk.error.code, talk.error.what[:500]
    calls = _calls(talk)
    outcome.calls = calls[:MOST_CALLS]
    for scorer in case.scorers:
        if talk.status is not RunStatus.COMPLETED:
            outcome.scores[scorer.name] = Score(0.0, False, f"the run would have {talk.status}: {outcome.code}")
        elif scorer.kind == "judge":
            outcome.scores[scorer.name] = await _judged(held, case, outcome, scorer, talks, calls)
        else:
            outcome.scores[scorer.name] = _scored(scorer, case.expected, talk.output, calls)


def _scored(scorer: Scorer, expected: Any, output: Any, calls: list[dict[str, Any]]) -> Score:
    try:
        return scorers.score(scorer, expected, output, calls)
    except RecursionError:
        return Score(0.0, False, "the output nests too deep")


async def _judged(
    held: Examination, case: Case, outcome: Outcome, scorer: Scorer, talks: list[_Talk], calls: list[dict[str, Any]]
) -> Score:
    try:
        answer = scorers.looked_at(scorer, outcome.output, calls)
    except scorers.Nothing as missing:
        return Score(0.0, False, str(missing))
    between = judges.mark()
    definition = judges.judge(scorer, held.definitions[outcome.task.side], between)
    material = judges.material(case, answer, between)
    talk = await _talk(held, definition, case, material, f"{outcome.task.key}.{scorer.name}", talks)
    if talk.error is not None:
        raise NotGiven(f"the judge '{scorer.name}' gave no grade: {talk.error.what[:300]}")
    grade = talk.output["grade"]
    passed = grade >= scorer.options.get("pass", scorers.PASSING_GRADE)
    return Score(grade / scorers.TOP_GRADE, passed, str(talk.output["reason"])[:1000])


async def _talk(
    held: Examination, definition: Definition, case: Case, given: bytes, name: str, talks: list[_Talk]
) -> _Talk:
    """What an agent makes of an input, added to the talks with what it cost, however it ends."""
    segment = _segment(held, definition, case, given, name)
    talk = _Talk(RunStatus.COMPLETED, None, None, segment, name)
    talks.append(talk)
    try:
        segment.rulebook = await held.book(definition)
        if segment.parts.router.switches.replace_model_of(definition.model):
            raise NotGiven("a switch puts the stub in the place of the version's model")
        talk.output = msgspec.json.decode(msgspec.json.encode(await loop.agent(segment)))
        if segment.stood_in:
            raise NotGiven("the stub stood in for the version's model")
        await segment.journal.flush()
    except BaseException as left:
        if not isinstance(left, Over):
            await segment.journal.flush()
        talk.error = _ended(left)
        if talk.error is None:
            raise _passed_on(left) from left
        talk.status = loop.ends_in(talk.error)
    return talk


def _ended(left: BaseException) -> AgentOSError | None:
    """The error that the run would have ended in; None: it tells nothing of the version."""
    if isinstance(left, (Leave, Unavailable, EvalHeld, ModelUnpriced)) or not isinstance(left, Exception):
        return None
    if isinstance(left, BudgetExhausted):
        cap = left.extra.get("cap", {})
        return left if cap.get("of") == "version" or cap.get("period") == "run" else None
    if isinstance(left, AgentOSError):
        return left
    log.warning("eval_case_failed", error=type(left).__name__)  # as in the loop: a fault of ours ends this run only
    return Bug(f"the loop raised {type(left).__name__}")


def _passed_on(left: BaseException) -> BaseException:
    match left:
        case Park():
            waiting = left.waiting
            after = None if waiting.seconds is None else timedelta(seconds=waiting.seconds)
            return EvalWaits(waiting.detail or str(waiting.reason), where=waiting.reason, retry_after=after)
        case Held():
            return EvalHeld(
                f"stop {left.stop.id} denies the version's models", where=left.stop.id, then="Lift it, then resume."
            )
        case _:
            return left


async def _close(segment: Examined) -> None:
    """Count what was spent and close what is reserved, of a task that has no outcome for now."""
    if not _notes(segment).is_free:
        await segment.spending.close(f"t{segment.spending.totals.calls}")


def _segment(held: Examination, definition: Definition, case: Case, given: bytes, name: str) -> Examined:
    parts, began = held.parts, elapsed()
    recorded = {(one.key, one.phase): one for one in held.answers.get(name, ())}
    totals = Totals()
    for one in recorded.values():
        totals.add(_cost(one))
    run_id, token = f"{held.eval_id}.{name}", Token(1, held.attempt)
    is_free = all(parts.router.instant(one) for one in routing.read(definition.model).every)
    spending = (Free if is_free else Spending)(
        parts.database,
        parts.books,
        held.organization,
        run_id,
        definition.agent_id,
        (token.segment, token.attempt),
        (definition.budgets.money, definition.budgets.tokens),
        totals,
        lambda: int(elapsed() - began),
    )
    run = run_of_none(definition, id=RunId(run_id), input=given, organization=held.organization, token=token)
    claimed = Claimed(run, Tier.L1, "active", {}, definition.budgets.seconds)
    segment = Examined(
        parts=parts,
        claimed=claimed,
        definition=definition,
        skills={},
        journal=Notes(
            parts.database, claimed, recorded, len(recorded), {}, talk=name, examination=held, is_free=is_free
        ),
        spending=spending,
        inline=False,
        tier=min(Tier.L1, definition.tier),
        deployment_state="active",
        rulebook=Rulebook(Subject("", definition.agent_id, definition.category)),
    )
    segment.examination, segment.outside = held, Given(segment, case)
    return segment


def _notes(segment: Examined) -> Notes:
    return cast(Notes, segment.journal)


def _cost(entry: Entry) -> Cost:
    said = entry.meta["cost"]
    return Cost(said["micros"], said["tokens"], said["unknown"], said["steps"])


def _calls(talk: _Talk) -> list[dict[str, Any]]:
    """The calls that the agent wanted, in order, and what became of each."""
    recorded = talk.segment.journal.recorded
    found = []
    for answer in talk.answers:
        for number, call in enumerate((answer.content or {}).get("calls") or ()):
            result = recorded.get((f"{answer.key}.c{number}", "result"))
            status = "unanswered" if result is None else result.status
            found.append({"skill": call["skill"], "arguments": call["arguments"], "status": status})
    return found
