"""The world of a run that is executed again: its policy, its skills, their receivers and people, as they were then."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, Final, Never

from agentos.control.policy.model import Decision, Tier, Verdict
from agentos.control.policy.rules import Proposed, Rulebook, decide
from agentos.control.stops.model import Subject
from agentos.evidence.replay.content import Divergence, Kind, decision_row, verdict_of
from agentos.evidence.replay.plans import Diverged, Ends, Plan
from agentos.evidence.replay.recording import Recording, fitted
from agentos.evidence.replay.tape import Tape
from agentos.kernel.canonical import digest_bytes
from agentos.kernel.errors import Conflict
from agentos.kernel.telemetry.catalogue import Metric
from agentos.runtime.inference import Call
from agentos.runtime.runs.journal import Entry
from agentos.runtime.runs.outside import drafted
from agentos.runtime.runs.segment import Answered, Effect, Held, Segment
from agentos.runtime.skills import Lookup, Skill
from agentos.runtime.skills.service import canonical_arguments

NEW_DRAFT: Final = "draft_of_no_run"  # what a call is told that would have become a draft


class SkillSaid(Conflict):
    """What a skill said when it failed in a recording. It is told to the agent again, and never to a user."""

    code = "skill_said"

    def __init__(self, what: str, of: str = code) -> None:
        super().__init__(what)
        object.__setattr__(self, "code", of)  # of the error that it was


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
