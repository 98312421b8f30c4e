"""What a live run reaches beyond its journal: skills, what receives their effects, and people.

Each transaction that asks, uses up a yes or keeps a draft holds the run first, so that it is the owner's alone.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final, Never

import structlog

from agentos.control.approvals import service as approvals
from agentos.control.approvals.model import ApprovalStatus
from agentos.control.approvals.routing import OnTimeout
from agentos.control.policy.model import Decision
from agentos.kernel import ids
from agentos.kernel.canonical import digest_bytes
from agentos.kernel.clock import elapsed, now
from agentos.kernel.errors import AgentOSError
from agentos.kernel.telemetry.catalogue import EFFECTS_UNCERTAIN, SKILL_SECONDS
from agentos.runtime.inference import Call
from agentos.runtime.runs import asking, outcomes, store, traces
from agentos.runtime.runs.journal import Entry
from agentos.runtime.runs.model import DraftMade, EffectUncertain, Reason, RunStatus, Waiting
from agentos.runtime.runs.segment import Answered, Effect, Park, Parked, Segment
from agentos.runtime.skills import Lookup, Skill, SkillContext
from agentos.runtime.skills.service import canonical_arguments, execute

log = structlog.get_logger(__name__)

SHORT_WAIT_SECONDS: Final = 0.5  # a wait this short costs less inside the segment than as a timer of the engine


class Live:
    """The world as a segment under way reaches it; see ``segment.Outside``."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment

    def arguments(self, one: Skill, given: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        """The arguments as they will execute, and their canonical form."""
        return canonical_arguments(one, given)

    async def call(self, effect: Effect) -> Any:
        """Call the skill once, within its timeout."""
        segment, began, status = self._segment, elapsed(), "ok"
        try:
            with traces.called(segment, effect.skill, effect.key, effect.arguments):
                return await execute(effect.skill, self._context(effect), effect.arguments)
        except AgentOSError as error:
            status = error.code
            raise
        finally:
            seconds = elapsed() - began
            segment.parts.meter.observe(SKILL_SECONDS, seconds, skill=effect.skill.name, status=status)
            said = {"arguments": effect.arguments} if segment.parts.log_parameters else {}
            log.debug("skill_called", skill=effect.skill.name, step=effect.key, status=status, seconds=seconds, **said)

    async def lookup(self, effect: Effect) -> Lookup:
        """Ask the receiver, within the skill's timeout."""
        one = effect.skill
        assert one.lookup is not None
        asked = one.lookup(self._context(effect), effect.arguments)
        return await asyncio.wait_for(asked, one.timeout.total_seconds())

    def _context(self, effect: Effect) -> SkillContext:
        given = self._segment.context(effect.skill, effect.key)
        return replace(given, secret=effect.noting(given.secret))

    async def quiet(self, effect: Effect, send: str) -> None:
        """Return once the send can no longer be under way. Never waits longer than window plus timeout from now.

        The bound holds when the database's clock was set back since the intent was recorded.
        """
        segment = self._segment
        window, timeout = segment.parts.settings.send_window_seconds, effect.skill.timeout.total_seconds()
        if effect.sent_at is not None:
            left = effect.sent_at + window + timeout - elapsed()
        else:
            recorded = segment.journal.intent(send)
            to_send = recorded.seconds_to_send if recorded is not None else window
            left = min(to_send, window) + timeout - (elapsed() - segment.began)
        if left > SHORT_WAIT_SECONDS:
            raise Park(
                Waiting(Reason.SETTLING, f"settling:{send}", left, f"'{effect.skill.name}' may be on the wire", send)
            )
        if left > 0:
            await asyncio.sleep(left)

    async def answer(self, effect: Effect, decision: Decision) -> Answered:
        """Use up a yes together with the intent, in one transaction; ask and park where there is no answer yet."""
        segment, at, key = self._segment, now(), effect.key
        run = segment.run
        await segment.journal.flush()
        async with segment.parts.doors.open(run.organization) as work:
            await outcomes.hold(work, segment.claimed)
            connection = await work.driver()
            question = await asking.question(work, run, key, effect.skill, effect.data, decision)
            longest = timedelta(seconds=segment.parts.settings.approval_seconds)
            asked, is_new = await approvals.wanted(work, question, at=at, longest=longest)
            if is_new:
                meta = effect.meta(approval=asked.id, **segment.told(decision))
                name, ask = effect.skill.name, asking.ask_key(key, asked.round)
                row = Entry(ask, "result", "ask", name, "asked", meta, effect=effect.skill.effect)
                await segment.journal.append_within(connection, row)
            if asked.status is ApprovalStatus.PENDING:
                left = max(0.0, (asked.expires_at - at).total_seconds())
                waiting = Waiting(Reason.APPROVAL, f"approval:{asked.id}", left, asked.id, key)
                await outcomes.park(work, segment.claimed, waiting, RunStatus.WAITING_APPROVAL)
            elif asked.status is ApprovalStatus.APPROVED:
                await approvals.consume(work, asked, question, at=at, again=effect.sends > 0)
                intent = segment.intent(effect, decision, **asking.given(asked))
                await segment.journal.append_within(connection, intent)
        if asked.status is ApprovalStatus.PENDING:
            raise Parked(waiting)
        if asked.status is ApprovalStatus.APPROVED:
            return Answered(True, asked.id)
        late = asked.status is ApprovalStatus.EXPIRED and asked.ends_in is OnTimeout.DRAFT
        return Answered(False, asked.id, asking.refusal(asked), becomes_draft=late)

    async def draft(self, effect: Effect, decision: Decision) -> Entry:
        """Keep the draft with its row and its fact, in one transaction."""
        segment, draft_id = self._segment, ids.new("draft")
        run, arguments_digest = segment.run, digest_bytes(effect.data)
        entry = drafted(segment, effect, decision, draft_id)
        await segment.journal.flush()
        async with segment.parts.doors.open(run.organization) as work:
            await outcomes.hold(work, segment.claimed)
            await store.add_draft(
                work,
                {
                    "id": draft_id,
                    "run_id": run.id,
                    "step": effect.key,
                    "deployment_id": run.deployment_id,
                    "skill": effect.skill.name,
                    "skill_version": effect.skill.version,
                    "effect": effect.skill.effect,
                    "arguments": effect.data,
                    "arguments_digest": arguments_digest,
                },
            )
            await segment.journal.append_within(await work.driver(), entry)
            await asking.withdraw(work, segment, effect.key)
            await work.publish(DraftMade(run.id, draft_id, effect.skill.name, arguments_digest))
        return entry

    async def ask_end(self, effect: Effect, send: str) -> Never:
        """Park the run until a person says whether the effect happened."""
        segment, one = self._segment, effect.skill
        waiting = Waiting(Reason.UNCERTAIN_EFFECT, f"settle:{send}", None, f"did '{one.name}' happen?", send)
        async with segment.parts.doors.open(segment.run.organization) as work:
            before = await outcomes.hold(work, segment.claimed)
            if (before.waiting or {}).get("wake") != waiting.wake:
                await work.publish(EffectUncertain(segment.run.id, send, one.name))
                segment.count(EFFECTS_UNCERTAIN)
            await outcomes.park(work, segment.claimed, waiting, RunStatus.WAITING_APPROVAL)
        raise Parked(waiting)

    async def withdraw(self, effect: Effect) -> None:
        """Close what is still asked, where people were asked at all."""
        segment = self._segment
        if asking.is_asked(segment, effect.key):
            async with segment.parts.doors.open(segment.run.organization) as work:
                await asking.withdraw(work, segment, effect.key)

    async def submitted(self) -> Call:
        """The call that the draft holds."""
        run = self._segment.run
        assert run.draft_id is not None
        async with self._segment.parts.doors.open(run.organization) as work:
            draft = await store.draft(work, run.draft_id)
        assert draft is not None
        return Call("draft", draft.skill, json.loads(draft.arguments))


def drafted(segment: Segment, effect: Effect, decision: Decision, draft_id: str) -> Entry:
    """The row of a call that became a draft."""
    said = {"draft_id": draft_id, "message": "recorded as a draft; a person may submit it later"}
    meta = effect.meta(draft=draft_id, **segment.told(decision))
    return Entry(effect.key, "result", "draft", effect.skill.name, "drafted", meta, said, effect.skill.effect)
