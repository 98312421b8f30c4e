"""Execute a recorded run again: the loop of live runs, over a journal in memory, with nothing live within reach.

    the loop asks its journal for an answer   → the recorded one, while all that the model was told is as it was
    it decides a call                         → as recorded; by the recorded rulebook where its policies are known
    it calls, asks people, drafts, settles    → what came of that very call then
    it appends                                → compared with the recorded row
    it wants what is not there                → the run ended here then, by what came from outside

What differs ends a replay at once (``Diverged``); a what-if goes on for as long as the recording can answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any, Final, Never, cast

import msgspec
import structlog

from agentos.control.agents.model import Definition
from agentos.control.budgets.spending import Spending
from agentos.control.policy.model import Decision, Tier, Verdict
from agentos.control.policy.rules import Proposed, Rulebook, decide
from agentos.control.stops.model import InForce, Subject
from agentos.evidence.replay.content import Content, Divergence, Kind, base_of, decision_row, verdict_of
from agentos.evidence.replay.recording import Recording, ReplayReachedOut, fitted
from agentos.kernel.canonical import digest_bytes
from agentos.kernel.database import Database
from agentos.kernel.errors import AgentOSError, Bug, Conflict, Unavailable, problem
from agentos.kernel.ids import OrgId
from agentos.kernel.telemetry import Meter
from agentos.kernel.telemetry.catalogue import Metric
from agentos.runtime.inference import Call
from agentos.runtime.inference.settings import RouterSettings
from agentos.runtime.runs import loop
from agentos.runtime.runs.journal import Entry, Journal
from agentos.runtime.runs.model import Claimed, RunStatus
from agentos.runtime.runs.outside import drafted
from agentos.runtime.runs.ports import Parts
from agentos.runtime.runs.segment import Answered, Effect, Held, Leave, Segment
from agentos.runtime.runs.settings import RunSettings
from agentos.runtime.skills import Lookup, Registry, Skill
from agentos.runtime.skills.service import canonical_arguments

log = structlog.get_logger(__name__)

# Ends that the loop itself comes to; after any other the recording may simply stop.
OF_THE_LOOP: Final = frozenset({"run_turns_used_up", "run_tokens_used_up", "model_answer_cut", "run_denied"})
NEW_DRAFT: Final = "draft_of_no_run"  # what a call is told that would have become a draft
# Whatever the environment says; reading it would take a quarter of a replay's time, too.
SETTINGS: Final = RunSettings.model_construct(send_window_seconds=inf)
ROUTING: Final = RouterSettings.model_construct()
NO_BOOK: Final = Rulebook(Subject("", "", ""))  # under which nothing is stopped and no read is asked about

# A call, what policy said of it then, and the row that tells so: what it says now, and at which tier.
Decide = Callable[[Proposed, Decision | None, Entry | None], tuple[Decision, Tier]]
COST: Final = frozenset({("answer", "tokens"), ("answer", "micros")})


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


class SkillSaid(Conflict):
    """What a skill said when it failed in a recording. It is told to the agent again, and never to a user."""

    code = "skill_said"

    def __init__(self, what: str, of: str = code) -> None:
        super().__init__(what)
        object.__setattr__(self, "code", of)  # of the error that it was


class _Nowhere:
    """Stands where a live run has its database, its models, its meter's page. Whoever touches it has a fault."""

    def __getattr__(self, name: str) -> Never:
        raise ReplayReachedOut(f"a replay reached for '{name}'", then="This is a fault of ours.")


class _Silent(Meter):
    """A replay is no work that was done: nothing of it is measured."""

    def __init__(self) -> None:
        """Make no series."""

    def count(self, metric: Metric, by: float = 1, **labels: str) -> None:
        """Count nothing."""

    def observe(self, metric: Metric, value: float, **labels: str) -> None:
        """Observe nothing."""


NOWHERE: Final[Any] = _Nowhere()
SILENT: Final = _Silent()


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


@dataclass(slots=True)
class Tape(Journal):
    """A journal in memory. Answers, people's words and lost sends come from the recording; all else is written anew."""

    recording: Recording = field(kw_only=True)
    plan: Plan = field(kw_only=True)
    rows: list[Entry] = field(default_factory=list)
    parted: bool = False  # what the agent was told is no longer what it was told then
    asked: int = 0

    def result(self, key: str) -> Entry | None:
        """The result of a step; of a step that the model answered then, its answer."""
        own = self.recorded.get((key, "result"))
        if own is not None:
            return own
        if base_of(key) is None:
            return None
        if "." not in key and key != "d":
            return self._answer(key)
        if key.endswith((".said", "!settled")):
            return self._given(key, "result")
        return None

    def intent(self, key: str) -> Entry | None:
        """An intent of a send that was lost: the last one is made again, unless its end was settled."""
        own = self.recorded.get((key, "intent"))
        if own is not None or self.parted:
            return own
        base = base_of(key)
        rows = self.recording.by_step.get(base or "", [])
        sends = [row for row in rows if row.phase == "intent"]
        settled = any(row.phase == "result" and row.key == base and "source" in row.meta for row in rows)
        if key in {row.key for row in (sends if settled else sends[:-1])}:
            return self._given(key, "intent")
        return None

    def _answer(self, key: str) -> Entry | None:
        known = not self.parted and not self.plan.ask_all
        if known and (found := self._given(key, "result")) is not None:
            return found
        if self.plan.may_ask is None:
            raise Ends("the recording has no further answer of the model", key)
        if not self.plan.may_ask:
            raise Ends("the model would have to be asked, and that was not allowed", key)
        self.asked += 1
        return None

    def ask_rows(self, key: str) -> None:
        """Take over what people were asked about a step."""
        for row in self.recording.by_step.get(key, ()):
            if row.kind == "ask" and (row.key, row.phase) not in self.recorded:
                self._given(row.key, row.phase)

    def _given(self, key: str, phase: str) -> Entry | None:
        base = base_of(key)
        for row in self.recording.by_step.get(base or "", ()):
            if row.key == key and row.phase == phase:
                self.rows.append(row)
                self.recorded[key, phase] = row
                return row
        return None

    async def append_within(self, connection: Any | None, *entries: Entry) -> None:
        """Keep the rows, and see whether what the agent is told is what it was told."""
        del connection
        for entry in entries:
            self.rows.append(entry)
            self.recorded[entry.key, entry.phase] = entry
            self.length += 1
            base = base_of(entry.key)
            if entry.phase != "result" or entry.key != base or entry.kind == "model":
                continue
            was = next((row for row in self.recording.by_step.get(base, ()) if row.key == base), None)
            if was is None or (was.status, was.content) != (entry.status, entry.content):
                self.parted = True
                if self.plan.strict:
                    raise Ends("the agent was told something else", base)


class Again(Segment):
    """A segment of a run that is executed again. No time runs out, nobody interrupts it, and no stop holds it but where
    it would ask a live model."""

    judged: int = 0
    taken: int = 0
    _plan: Plan
    _recording: Recording
    _tape: Tape
    _tier_is_told: bool = True

    def check_time(self) -> None:
        """A replay takes no time of the run's."""

    async def may_begin(self, *, surely: bool = False) -> None:  # noqa: ARG002  # it always looks
        """Begin: what withheld action then stands in the recording. What is asked now obeys the stops of now.

        Raises Held or DatabaseUnavailable.
        """
        if self._plan.stops is not None:
            self.rulebook = Rulebook(Subject("", "", ""), stops=await self._plan.stops())
            if self.stops.held is not None:
                raise Held(self.stops.held)

    def check_held(self) -> None:
        """Nothing holds a replay."""

    async def interruptible(self, work: Any, by: asyncio.Event | None = None) -> Any:
        """Await it: nobody interrupts a replay."""
        del by
        return await work

    def count(self, metric: Metric, **labels: str) -> None:
        """Count nothing."""

    def decide(self, key: str, proposed: Proposed) -> Decision:
        """What policy said of the call, or what the plan says of it."""
        rows = self._recording.by_step.get(key, [])
        row = decision_row(rows)
        recorded = None if row is None else _decision(row, rows)
        if self._plan.decide is not None:
            self.judged += 1
            decision, self.tier = self._plan.decide(proposed, recorded, row)
            return decision
        if row is None or recorded is None:
            raise Ends("the recording has no such call", key)
        self._tape.ask_rows(key)
        tier = row.meta.get("tier")
        self._tier_is_told = tier is not None
        if tier is not None:
            self.tier = Tier[tier]
        book = self._recording.books.get(recorded.policy_hash)
        if book is None or tier is None:
            self.taken += 1
            return recorded
        self.judged += 1
        return decide(replace(proposed, tier=self.tier), book)

    def told(self, decision: Decision) -> dict[str, Any]:
        """A decision as the journal kept it."""
        return Segment.told(self, decision) if self._tier_is_told else decision.record()


class Recorded:
    """The world of a run that is executed again: what came of its calls then. See ``segment.Outside``."""

    def __init__(self, segment: Again, recording: Recording, plan: Plan, tape: Tape) -> None:
        self._segment = segment
        self._recording = recording
        self._plan = plan
        self._tape = tape

    def arguments(self, one: Skill, given: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        """The arguments as they would execute, by the skill's code where that is loaded, else by its schema."""
        return canonical_arguments(one, given) if one.name in self._recording.loaded else fitted(one, given)

    async def call(self, effect: Effect) -> Any:
        """What the very call said then. Without one a replay has parted, and a what-if cannot go on."""
        found = self._found(effect)
        if found is None or found.status not in ("ok", "error"):
            raise Ends(f"nothing was recorded of '{effect.skill.name}' with these arguments", effect.key)
        if found.status == "error":
            said = found.content if isinstance(found.content, dict) else {}
            raise SkillSaid(str(said.get("message", "")), str(said.get("code", "")))
        return found.content

    async def lookup(self, effect: Effect) -> Lookup:
        """What the receiver said then: that a later send was made tells that it knew of none."""
        result = self._result(effect.key)
        if result is not None and result.meta.get("source") == "receiver":
            return Lookup(True, result.content)
        return Lookup(False)

    async def quiet(self, effect: Effect, send: str) -> None:
        """Nothing is on the wire."""

    async def answer(self, effect: Effect, decision: Decision) -> Answered:
        """What people answered then."""
        rows = self._recording.by_step.get(effect.key, [])
        asks = [row for row in rows if row.kind == "ask"]
        if not asks:
            was = decision_row(rows)
            verdict = None if was is None else verdict_of(was)
            parted = Divergence(effect.key, "verdict", Kind.POLICY, verdict, Verdict.ASK.value)
            raise Ends("a person would be asked", effect.key, parted)
        self._tape.ask_rows(effect.key)
        named = asks[-1].meta.get("approval")
        intents = [row for row in rows if row.phase == "intent"]
        if any("approval" in row.meta for row in intents):
            given = intents[-1].meta
            kept = {name: given[name] for name in ("approval", "bound", "asked_policy") if name in given}
            await self._tape.append(self._segment.intent(effect, decision, **kept))
            return Answered(True, str(named))
        result = self._result(effect.key)
        if result is not None and result.status == "denied" and result.meta.get("approval") == named:
            return Answered(False, str(named), dict(result.content))
        if result is not None and result.meta.get("decision") == "approval_expired":
            return Answered(False, str(named), becomes_draft=True)
        raise Ends("nobody had answered", effect.key)

    async def draft(self, effect: Effect, decision: Decision) -> Entry:
        """The draft under the id that it had then."""
        result = self._result(effect.key)
        draft_id = NEW_DRAFT if result is None else str(result.meta.get("draft", NEW_DRAFT))
        entry = drafted(self._segment, effect, decision, draft_id)
        await self._tape.append(entry)
        return entry

    async def ask_end(self, effect: Effect, send: str) -> Never:
        """Nobody said then whether it happened; where it was sent again, these rules part from those."""
        rows = self._recording.by_step.get(effect.key, [])
        sends = [row.key for row in rows if row.phase == "intent"]
        if send in sends[:-1]:
            raise Diverged(effect.key, "sends", Kind.RETRY, "sent again", "a person is asked whether it happened")
        raise Ends("nobody had said whether it happened", effect.key)

    async def withdraw(self, effect: Effect) -> None:
        """What people were asked in vain stands in the recording."""

    async def submitted(self) -> Call:
        """The call of the draft."""
        return self._recording.call()

    def _result(self, key: str) -> Entry | None:
        rows = self._recording.by_step.get(key, ())
        return next((row for row in rows if row.key == key and row.phase == "result"), None)

    def _found(self, effect: Effect) -> Entry | None:
        """The recorded result of this call; in a what-if, of any call like it."""
        digest = digest_bytes(effect.data)
        own = self._result(effect.key)
        if own is not None and own.name == effect.skill.name:
            named = own.meta.get("arguments_digest")
            if named == digest or (named is None and self._plan.strict):
                return own
            if self._plan.strict:
                raise Diverged(effect.key, "arguments", Kind.ARGUMENTS, named, digest)
        if self._plan.strict:
            return None
        alike = (
            row
            for rows in self._recording.by_step.values()
            for row in rows
            if row.phase == "result"
            and row.kind == "skill"
            and row.status in ("ok", "error")
            and row.name == effect.skill.name
            and row.meta.get("arguments_digest") == digest
        )
        return next(alike, None)


def _decision(row: Entry, rows: list[Entry]) -> Decision:
    """What policy said before people answered, as its row tells."""
    verdict = Verdict(verdict_of(row))
    if row.meta.get("decision") == "approval_expired":
        row = next((one for one in reversed(rows) if one.kind == "ask"), row)
    meta = row.meta
    return Decision(
        verdict,
        str(meta.get("decision", "")),
        str(meta.get("rule", "")),
        str(meta.get("policy", "")),
        tuple(meta.get("reasons", ())),
    )


class _Contracts(Registry):
    """The skills of a plan, and what was known of others then."""

    def __init__(self, recording: Recording, skills: dict[str, Skill]) -> None:
        super().__init__()
        self._by_name = skills
        self._recording = recording

    def pinned(self, name: str, version: str, digest: str) -> Skill:
        """The contract of a skill; whoever made the plan has seen that it is the very one."""
        del version, digest
        return self._by_name[name]

    def knows(self, name: str) -> bool:
        """Whether a skill of that name was loaded then."""
        rows = (row for some in self._recording.by_step.values() for row in some if row.name == name[:200])
        return all(row.meta.get("decision") != "skill_unregistered" for row in rows)


async def play(recording: Recording, plan: Plan | None = None) -> Outcome:
    """Execute a run again. Nothing live is called, read or written, but for models that the plan lets be asked.

    Raises DatabaseUnavailable, where the plan needs the database for those.
    """
    plan = plan or Plan(recording.definition, recording.skills)
    run = replace(recording.run(plan.definition), organization=plan.organization)
    claimed = Claimed(run, plan.definition.tier, "active", {}, inf)
    registry = _Contracts(recording, plan.skills)
    if plan.parts is None:
        parts = Parts(
            NOWHERE, registry, NOWHERE, SETTINGS, SILENT, NOWHERE, (), (), False, {}, NOWHERE, NOWHERE, NOWHERE,
            routing=ROUTING,
        )  # fmt: skip
    else:
        parts = replace(plan.parts, registry=registry)
    tape = Tape(cast(Database, NOWHERE), claimed, {}, 0, {}, recording=recording, plan=plan)
    segment = Again(
        parts=parts,
        claimed=claimed,
        definition=plan.definition,
        skills={},
        journal=tape,
        spending=plan.spending or NOWHERE,
        inline=False,
        tier=plan.definition.tier,
        deployment_state="active",
        rulebook=NO_BOOK,
    )
    segment._plan, segment._recording, segment._tape = plan, recording, tape
    segment.outside = Recorded(segment, recording, plan, tape)
    status, said, output, parted = RunStatus.COMPLETED, None, None, None
    why = left_at = ""
    untold: Divergence | None = None
    try:
        output = await loop.agent(segment)
        output = msgspec.json.decode(msgspec.json.encode(output))
    except Ends as ends:
        status, said, output = _end(recording, tape)
        if status is RunStatus.RUNNING:
            why, left_at, untold = ends.why, ends.step, ends.divergence
    except Diverged as diverged:
        status, why, parted = RunStatus.RUNNING, "it parted from its recording", diverged.divergence
    except Held as held:
        status, why = RunStatus.RUNNING, f"a stop withholds the model that would be asked: {held.stop.id}"
    except Leave as left:
        status, why = RunStatus.RUNNING, f"the run would wait: {left}"
    except Unavailable:  # the database is away: nothing is known of the run
        raise
    except AgentOSError as error:
        status, said = loop.ends_in(error), problem(error)
    except Exception as error:  # as in the loop: a fault of ours ends this run and no other
        log.warning("replay_failed", error=type(error).__name__)
        status, said = RunStatus.FAILED, {"code": Bug.code}
    rows = tape.rows if not tape.held else [*tape.rows, *tape.held]
    content = recording.content_with(rows, status, said, output, recording.version_of(plan.definition))
    whole = status is not RunStatus.RUNNING
    if parted is None and plan.strict:
        parted = recording.content.differs(content)
        if parted is not None and left_at and (parted.step == "run" or parted.field == "step"):
            parted = Divergence(left_at, "step", Kind.ORDER, None, left_at)
    elif parted is None:  # what it does differently first; what that costs only where it does the same
        parted = recording.content.differs(content, besides=plan.besides | COST, whole=whole)
        parted = parted or untold or recording.content.differs(content, besides=plan.besides, whole=whole)
    return Outcome(content, parted, whole, why, tape.asked, segment.judged, segment.taken)


def _end(recording: Recording, tape: Tape) -> tuple[RunStatus, dict[str, Any] | None, Any]:
    """The run's end where the recording has no more: the recorded one, where that came from outside."""
    code = str((recording.problem or {}).get("code", ""))
    own = recording.status is RunStatus.COMPLETED or code in OF_THE_LOOP
    if own or tape.parted or tape.plan.ask_all:
        return RunStatus.RUNNING, None, None
    return recording.status, recording.problem, recording.output
