"""A journal in memory: what the recording holds is given back, and all else is written and compared with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from agentos.evidence.replay.content import base_of
from agentos.evidence.replay.plans import Ends, Plan
from agentos.evidence.replay.recording import Recording
from agentos.runtime.runs.journal import Entry, Journal


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
