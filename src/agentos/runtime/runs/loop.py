"""The agent loop: one segment of a run, from where the journal ends to a wait, a hand-over or the end.

    read messages → ask the model → journal the answer
                  → for each call it wants: decide → (ask, draft, deny) or act → journal → again

Every turn looks into the journal first: what is recorded is taken from there and nothing is done twice.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
import structlog

from agentos.control.privacy.model import PersonalDataRedacted
from agentos.control.stops.model import Stop as StopOrder
from agentos.control.stops.model import StopKind
from agentos.kernel.epochs import GLOBAL, ORGANIZATION
from agentos.kernel.errors import AgentOSError, Bug, Exhausted, Forbidden, Unavailable, problem
from agentos.kernel.telemetry.catalogue import (
    ERRORS,
    RUN_SECONDS,
    RUNS,
    STOP_SECONDS,
    TAKEOVERS,
)
from agentos.runtime.inference import Call, Message, Result, Tool
from agentos.runtime.runs import bills, calls, messages, outcomes, service, store, traces, turns
from agentos.runtime.runs.journal import Journal, Ordered
from agentos.runtime.runs.model import (
    FORMAT,
    AnswerCut,
    DeniedAndStopped,
    JournalTooNew,
    Reason,
    Run,
    RunStatus,
    SegmentLost,
    TurnsUsedUp,
    Waiting,
)
from agentos.runtime.runs.outside import Live
from agentos.runtime.runs.ports import Parts
from agentos.runtime.runs.prompts import input_text
from agentos.runtime.runs.segment import HandOver, Held, Interrupted, Leave, Park, Parked, Segment, rulebook_of
from agentos.runtime.runs.workflow import SegmentEnd
from agentos.runtime.skills.model import SkillChanged, SkillUnknown, SkillWithheld

log = structlog.get_logger(__name__)

SCOPES: Final = (GLOBAL, ORGANIZATION, "category:*", "deployment:*")
SKILL_WAIT_SECONDS: Final = 30.0  # for a worker that has the pinned skill; a rolling deployment takes minutes

Watch = Callable[[Segment], None]


async def run_segment(
    parts: Parts, organization: str, run_id: str, number: int, *, inline: bool, watch: Watch | None = None
) -> SegmentEnd:
    """Execute one segment of a run and leave the run in the state that it ended in.

    ``watch`` receives the segment as soon as it can be interrupted. Raises SegmentLost or DatabaseUnavailable, which
    are tried again; every other end of a run is recorded, never raised.
    """
    claimed = await store.claim(parts.database, organization, run_id, number, SCOPES)
    if claimed is None:
        return await _elsewhere(parts, organization, run_id, number)
    run = claimed.run
    if run.token.attempt > 1:
        parts.meter.count(TAKEOVERS)
    log_as = structlog.contextvars.bound_contextvars(run_id=run.id, org=run.organization, request_id=run.request_id)
    with log_as, traces.worked_on(parts.traces, run):
        version = await service.version_of(parts, run)
        rulebook = await rulebook_of(parts, run, claimed.epochs)
        if (run.waiting or {}).get("reason") == Reason.STOPPED:  # the time that a stop took is not the run's
            claimed = await store.give_back_time(parts.database, claimed)
        journal = await Journal.open(parts.database, claimed)
        segment = Segment(
            parts=parts,
            claimed=claimed,
            definition=version.definition,
            skills={},
            journal=journal,
            spending=bills.spending(parts, claimed, version.definition, journal),
            inline=inline,
            tier=min(claimed.tier, version.definition.tier),
            deployment_state=claimed.deployment_state,
            rulebook=rulebook,
        )
        segment.outside = Live(segment)
        if parts.router.switches.replace_model_of(version.definition.model):
            segment.recommend_only()
        if watch is not None:
            watch(segment)
        parts.halts.begins(segment)
        try:
            return await _live(segment, number)
        except Ordered as ordered:
            return await _obey(segment, ordered.order, number)
        finally:
            parts.halts.ends(segment)


async def _live(segment: Segment, number: int) -> SegmentEnd:
    """Run the agent and settle how the segment ended. Raises Ordered when an order came first."""
    if segment.claimed.run.ordered:
        raise Ordered(segment.claimed.run.ordered)
    if segment.stops.held is not None:
        return await _rest(segment, segment.stops.held, number, live=False)
    try:
        try:
            output = await agent(segment)
        except Unavailable:  # the attempt is lost, and what it holds with it
            raise
        except Exception as left:  # however it leaves: what it holds is kept
            await segment.journal.flush()
            if isinstance(left, Leave):
                await segment.spending.close(bills.next_step(segment))
            raise
        return await _ended(segment, RunStatus.COMPLETED, number, output=output)
    except Parked as parked:
        return _waits(parked.waiting, number)
    except Park as park:
        async with segment.parts.doors.open(segment.claimed.run.organization) as work:
            await outcomes.park(work, segment.claimed, park.waiting, park.status)
        return _waits(park.waiting, number)
    except Held as held:
        return await _rest(segment, held.stop, number, live=True)
    except Interrupted:
        async with segment.parts.doors.open(segment.claimed.run.organization) as work:
            ordered = (await outcomes.hold(work, segment.claimed)).ordered
        if ordered:
            raise Ordered(ordered) from None
        await segment.refresh()
        if segment.stops.held is not None:
            return await _rest(segment, segment.stops.held, number, live=True)
        return SegmentEnd("continue", number)
    except HandOver:
        return SegmentEnd("continue", number)
    except SegmentLost:
        raise
    except AgentOSError as error:
        if isinstance(error, Unavailable):
            raise
        return await _ended(segment, ends_in(error), number, error=error)
    except Ordered:
        raise
    except Exception as error:  # a fault of ours ends this run and no other
        log.exception("run_failed", error=type(error).__name__)
        bug = Bug(f"the loop raised {type(error).__name__}", then="See the worker's log; this is a fault of ours.")
        return await _ended(segment, RunStatus.FAILED, number, error=bug)


def ends_in(error: AgentOSError) -> RunStatus:
    """The status of a run that ends in this error."""
    stopped = isinstance(error, (Exhausted, Forbidden)) and not isinstance(error, AnswerCut)
    return RunStatus.BLOCKED if stopped else RunStatus.FAILED


async def agent(segment: Segment) -> Any:
    """What the agent makes of its input: the run's output."""
    run, definition, parts = segment.claimed.run, segment.definition, segment.parts
    if run.format > FORMAT:
        raise JournalTooNew(f"the journal has format {run.format}, this worker reads up to {FORMAT}")
    try:
        segment.skills = {
            ref.name: parts.registry.pinned(ref.name, ref.version, ref.digest) for ref in definition.skills
        }
    except (SkillChanged, SkillUnknown, SkillWithheld) as error:
        raise Park(Waiting(Reason.SKILL, "skill", SKILL_WAIT_SECONDS, str(error))) from None
    segment.tools = tuple(Tool(one.name, one.description, one.input_schema) for one in segment.skills.values())
    if run.draft_id is not None:
        return await _submitted_draft(segment, run)
    conversation = [Message("user", input_text(run.input))]
    spent = made = 0
    for turn in range(definition.budgets.turns):
        segment.check_time()
        conversation += await messages.heard(segment, turn)
        answer = await turns.ask(segment, f"t{turn}", tuple(conversation))
        conversation.append(Message("assistant", answer.text, calls=answer.calls, opaque=answer.opaque))
        spent += (answer.usage.input or 0) + (answer.usage.output or 0)
        turns.check_answer(segment, answer, spent)
        if not answer.calls:
            output, fault = turns.read_output(definition.output_schema, answer.text)
            if fault is None:
                if not messages.go_on(segment, turn):
                    return output
                continue
            conversation.append(Message("user", f"Your answer does not fit the output schema: {fault}. Answer again."))
            continue
        made += len(answer.calls)
        if made > definition.budgets.steps:
            raise TurnsUsedUp(
                f"the run wants more than the {definition.budgets.steps} skill calls that its version allows",
                then="Raise spec.budgets.steps, or look at the journal for what the agent repeats.",
            )
        results = await _perform_all(segment, turn, answer.calls)
        conversation.append(Message("tool", results=tuple(results)))
    raise TurnsUsedUp(
        f"the run used up the {definition.budgets.turns} turns that its version allows",
        then="Raise spec.budgets.turns, or look at the journal for what the agent repeats.",
    )


async def _perform_all(segment: Segment, turn: int, wanted: tuple[Call, ...]) -> list[Result]:
    """Carry out one turn's calls in order; reads that stand next to each other at the same time."""
    results: list[Result] = []
    batch: list[Awaitable[Result]] = []
    for number, call in enumerate(wanted):
        one, key = segment.skills.get(call.skill), f"t{turn}.c{number}"
        if one is not None and one.read_only and not segment.rulebook.asks_of_reads:
            batch.append(calls.perform(segment, key, call))
            continue
        results += await _all(batch)
        batch = []
        segment.check_time()
        results.append(await calls.perform(segment, key, call))
    return results + await _all(batch)


async def _all(batch: list[Awaitable[Result]]) -> list[Result]:
    """Every result; an exception is raised only after all have come to rest, so that none goes on by itself."""
    ended = await asyncio.gather(*batch, return_exceptions=True)
    for one in ended:
        if isinstance(one, BaseException):
            raise one
    return [one for one in ended if not isinstance(one, BaseException)]


async def _submitted_draft(segment: Segment, run: Run) -> Any:
    """Make the one call of a draft that a person submitted; it executes under approval, once."""
    result = await calls.perform(segment, "d", await segment.outside.submitted(), submitted=True)
    if result.failed:
        said = json.loads(result.text)
        raise DeniedAndStopped(said.get("message", "refused"), where=run.draft_id or "", refused=said.get("code"))
    return json.loads(result.text)


async def _obey(segment: Segment, order: str, number: int) -> SegmentEnd:
    """End or pause the run as it was ordered."""
    if order == "cancel":
        return await _ended(segment, RunStatus.CANCELLED, number)
    await segment.spending.close(bills.next_step(segment))
    async with segment.parts.doors.open(segment.claimed.run.organization) as work:
        run = await outcomes.hold(work, segment.claimed)
        if run.ordered != "pause":  # taken back, or overtaken by a cancel, before the run came to rest
            return SegmentEnd("continue", number)
        waiting = Waiting(Reason.PAUSED, f"resume:{run.orders}")
        await store.wait(work, run.id, RunStatus.PAUSED, waiting, "")
    return _waits(waiting, number)


async def _rest(segment: Segment, stop: StopOrder, number: int, *, live: bool) -> SegmentEnd:
    """Let the run wait until the stop is lifted. ``live``: it was at work, and the stop has brought it to rest."""
    await segment.spending.close(bills.next_step(segment))
    resting = await outcomes.rest(
        segment.parts.doors,
        segment.claimed,
        segment.journal,
        stop,
        live=live,
        recheck_seconds=segment.parts.settings.stop_recheck_seconds,
    )
    if resting is None:  # what decisions stand on moved meanwhile: the next segment sees what holds now
        return SegmentEnd("continue", number)
    waiting, seconds = resting
    if live and stop.kind is not StopKind.DENY:
        segment.parts.meter.observe(STOP_SECONDS, seconds, kind=stop.kind.value, scope=stop.scope.value)
    return _waits(waiting, number)


async def _ended(
    segment: Segment, status: RunStatus, number: int, *, output: Any = None, error: AgentOSError | None = None
) -> SegmentEnd:
    said = problem(error) if error is not None else None
    data = msgspec.json.encode(output) if status is RunStatus.COMPLETED else None
    await _tell_redacted(segment)
    asked = any(entry.kind == "ask" for entry in segment.journal.recorded.values())
    bill = segment.spending.last_bill(bills.next_step(segment))
    read = messages.answered(segment.journal)
    seconds = await outcomes.end(segment.parts.doors, segment.claimed, status, data, said, bill, asked=asked, read=read)
    segment.count(RUNS, status=status.value)
    segment.parts.meter.observe(RUN_SECONDS, seconds, **segment.labels, status=status.value)
    traces.ended(segment.parts.traces, segment.run, segment.definition, status, seconds, error)
    if error is not None:
        segment.count(ERRORS, code=error.code)
        log.info("run_ended", status=status.value, code=error.code, what=error.what)
    return SegmentEnd("done", number)


async def _tell_redacted(segment: Segment) -> None:
    """Publish what was kept from the run's model: one fact, at the run's end."""
    counts: Counter[str] = Counter()
    for entry in segment.journal.recorded.values():
        counts.update(entry.meta.get("redacted") or {})
    if counts:
        run = segment.claimed.run
        async with segment.parts.doors.open(run.organization) as work:
            await outcomes.hold(work, segment.claimed)
            await work.publish(PersonalDataRedacted(run.id, "prompts", dict(counts)))


async def _elsewhere(parts: Parts, organization: str, run_id: str, number: int) -> SegmentEnd:
    """Why a run could not be claimed: it is over, or it is past this segment already."""
    at = await store.position(parts.database, organization, run_id)
    if at is None or at[1].terminal:
        return SegmentEnd("done", number)
    return SegmentEnd("continue", max(at[0], number))


def _waits(waiting: Waiting, number: int) -> SegmentEnd:
    return SegmentEnd("wait", number, waiting.wake, waiting.seconds)
