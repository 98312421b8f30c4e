"""One skill call of a run: decide, then read, act, ask, draft or deny; and settle what a lost worker left behind.

An effect is committed when its intent is journaled. Its key is ``<step>~<n>`` for the n-th time it was sent; all sends
of a step carry the same idempotency key. A recorded intent without a result is settled here and nowhere else:

    recorded intent, no result → wait until its last moment to be sent plus its timeout is over, then
        repeatable (read-only or idempotent)  → send again
        the receiver can be asked             → it happened: record that; it did not: send again
        nobody but a person can tell          → the run waits for one
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import msgspec
import structlog

from agentos.control.approvals import service as approvals
from agentos.control.approvals.model import ApprovalStatus
from agentos.control.approvals.routing import OnTimeout
from agentos.control.policy.hosts import hosts_of
from agentos.control.policy.model import Decision, EffectClass, Verdict
from agentos.control.policy.rules import Proposed, decide
from agentos.kernel import ids
from agentos.kernel.canonical import digest_bytes
from agentos.kernel.clock import elapsed, now
from agentos.kernel.errors import AgentOSError, Bug, Invalid, Unavailable, retryable
from agentos.kernel.telemetry.catalogue import DECISIONS, EFFECTS_UNCERTAIN, ERRORS, SKILL_SECONDS
from agentos.runtime.inference import Call, Result
from agentos.runtime.runs import asking, outcomes, store, traces
from agentos.runtime.runs.journal import Entry, EpochsMoved
from agentos.runtime.runs.model import DeniedAndStopped, DraftMade, EffectUncertain, Reason, RunStatus, Waiting
from agentos.runtime.runs.segment import Park, Parked, Segment
from agentos.runtime.skills import Skill
from agentos.runtime.skills.service import canonical_arguments, execute

log = structlog.get_logger(__name__)

SHORT_WAIT_SECONDS: Final = 0.5  # a wait this short costs less inside the segment than as a timer of the engine


@dataclass(slots=True)
class Effect:
    """A call under way: the skill, its canonical arguments, and how often it was sent."""

    key: str
    skill: Skill
    arguments: dict[str, Any]
    data: bytes  # the canonical form of the arguments
    submitted: bool
    hosts: tuple[str, ...] | None = None  # that the arguments name, once they were looked for
    sends: int = 0
    sent_at: float | None = None  # of the last send, when this attempt made it

    def meta(self, **more: Any) -> dict[str, Any]:
        """What every row of this call says."""
        return {"version": self.skill.version, "arguments_digest": digest_bytes(self.data), **more}


async def perform(segment: Segment, key: str, call: Call, *, submitted: bool = False) -> Result:
    """Carry out one call, or tell why not. A recorded result is returned and nothing is done.

    Raises Park, Parked or Held when the run must wait, Interrupted, SegmentLost, DatabaseUnavailable, StopsUnreadable,
    and DeniedAndStopped (Forbidden) where the version says so.
    """
    recorded = segment.journal.result(key)
    if recorded is not None:
        return _told(call, recorded)
    await segment.may_begin()
    one = segment.skills.get(call.skill)
    if one is None:
        registered = segment.parts.registry.knows(call.skill)
        proposed = Proposed(call.skill, EffectClass.S4, False, segment.tier, registered=registered)
        return await _denied(segment, key, call, _decide(segment, proposed), {"version": "unknown"})
    try:
        arguments, data = canonical_arguments(one, call.arguments)
    except Invalid as error:
        return await _failed(segment, call, _entry(key, one, "error", {"version": one.version}, _said(error)), error)
    effect = Effect(key, one, arguments, data, submitted)
    if one.read_only:
        return await _read(segment, call, effect)
    return await _write(segment, call, effect)


async def _read(segment: Segment, call: Call, effect: Effect) -> Result:
    decision = _decided(segment, effect)
    if decision.verdict is Verdict.DENY:
        return await _denied(segment, effect.key, call, decision, effect.meta(), effect.skill)
    if decision.verdict is not Verdict.ALLOW:
        return await _write(segment, call, effect)  # a read that takes an approval waits for it as an effect does
    one, tried = effect.skill, 0
    while True:
        tried += 1
        try:
            value = await segment.interruptible(_timed(segment, effect))
        except AgentOSError as error:
            if retryable(error) and tried < one.retry.attempts:
                await segment.interruptible(asyncio.sleep(_pause(one, tried, error)))
                await segment.may_begin()
                decision = _decided(segment, effect)
                if decision.verdict is not Verdict.ALLOW:
                    return await _denied(segment, effect.key, call, decision, effect.meta(), one)
                continue
            meta = effect.meta(tries=tried, **_record(segment, decision))
            return await _failed(segment, call, _entry(effect.key, one, "error", meta, _said(error)), error)
        entry = _entry(effect.key, one, "ok", effect.meta(tries=tried, **_record(segment, decision)), value)
        await segment.record(entry)
        return _told(call, entry)


async def _write(segment: Segment, call: Call, effect: Effect) -> Result:
    while segment.journal.intent(f"{effect.key}~{effect.sends + 1}") is not None:
        effect.sends += 1
    if effect.sends:
        settled = await _settled(segment, call, effect)
        if settled is not None:
            return settled
    while True:
        refused = await _permit(segment, call, effect)
        if refused is not None:
            return refused
        if effect.sent_at is None:  # too late to send: the intent stands in the journal, unsent, and is made again
            continue
        try:
            value = await _sent(segment, effect)
        except AgentOSError as error:
            if effect.skill.repeatable and retryable(error) and effect.sends < effect.skill.retry.attempts:
                await asyncio.sleep(_pause(effect.skill, effect.sends, error))
                continue
            if effect.skill.repeatable or not isinstance(error, (Unavailable, Bug)):
                entry = _result(effect, "error", _said(error))
                return await _failed(segment, call, entry, error)
            log.warning("effect_end_unknown", skill=effect.skill.name, step=effect.key, error=error.code)
            settled = await _settled(segment, call, effect)
            if settled is not None:
                return settled
            continue
        entry = _result(effect, "ok", value)
        await segment.record(entry, surely=True)
        return _told(call, entry)


async def _permit(segment: Segment, call: Call, effect: Effect) -> Result | None:
    """Journal the intent if policy says yes under what is true at that commit. A Result says why it must not be."""
    while True:
        segment.check_held()
        if segment.deployment_state != "active":
            run = segment.claimed.run  # the name is of this wait alone, so that an earlier resume does not end it
            raise Park(Waiting(Reason.DEPLOYMENT_PAUSED, f"deployment:{run.deployment_id}:{run.token.segment}"))
        decision = _decided(segment, effect)
        if decision.verdict is Verdict.DENY:
            denied = await _denied(segment, effect.key, call, decision, effect.meta(), effect.skill)
            if asking.is_asked(segment, effect.key):
                async with segment.parts.doors.open(segment.claimed.run.organization) as work:
                    await asking.withdraw(work, segment, effect.key)
            return denied
        if decision.verdict is Verdict.DRAFT:
            return await _drafted(segment, call, effect, decision)
        try:
            began = elapsed()
            if decision.verdict is Verdict.ALLOW:
                await segment.record(_intent(segment, effect, decision))
            else:
                refused = await _approved(segment, call, effect, decision)
                if refused is not None:
                    return refused
        except EpochsMoved:
            await segment.refresh()
            continue
        effect.sends += 1
        on_time = elapsed() - began < segment.parts.settings.send_window_seconds
        effect.sent_at = began if on_time else None
        return None


async def _approved(segment: Segment, call: Call, effect: Effect, decision: Decision) -> Result | None:
    """Use up a yes together with the intent, in one transaction; ask and park where there is no answer yet."""
    run, at, key = segment.claimed.run, now(), effect.key
    await segment.journal.flush()
    async with segment.parts.doors.open(run.organization) as work:
        await outcomes.hold(work, segment.claimed)
        connection = await work.driver()
        question = await asking.question(work, run, key, effect.skill, effect.data, decision)
        longest = timedelta(seconds=segment.parts.settings.approval_seconds)
        asked, is_new = await approvals.wanted(work, question, at=at, longest=longest)
        if is_new:
            meta = effect.meta(approval=asked.id, **_record(segment, decision))
            name, ask = effect.skill.name, asking.ask_key(key, asked.round)
            row = Entry(ask, "result", "ask", name, "asked", meta, effect=effect.skill.effect)
            await segment.journal.append_within(connection, row)
        if asked.status is ApprovalStatus.PENDING:
            left = max(0.0, (asked.expires_at - at).total_seconds())
            waiting = Waiting(Reason.APPROVAL, f"approval:{asked.id}", left, asked.id, key)
            await outcomes.park(work, segment.claimed, waiting, RunStatus.WAITING_APPROVAL)
        elif asked.status is ApprovalStatus.APPROVED:
            await approvals.consume(work, asked, question, at=at, again=effect.sends > 0)
            intent = _intent(segment, effect, decision, **asking.given(asked))
            await segment.journal.append_within(connection, intent)
    if asked.status is ApprovalStatus.PENDING:
        raise Parked(waiting)
    if asked.status is ApprovalStatus.APPROVED:
        return None
    if asked.status is ApprovalStatus.EXPIRED and asked.ends_in is OnTimeout.DRAFT:
        late = Decision(Verdict.DRAFT, "approval_expired", "nobody answered in time", decision.policy_hash)
        return await _drafted(segment, call, effect, late)
    said = asking.refusal(asked)
    entry = _result(effect, "denied", said, approval=asked.id)
    return await _refused(segment, call, entry, said["code"], said["message"])


async def _drafted(segment: Segment, call: Call, effect: Effect, decision: Decision) -> Result:
    run = segment.claimed.run
    draft_id = ids.new("draft")
    said = {"draft_id": draft_id, "message": "recorded as a draft; a person may submit it later"}
    meta = effect.meta(draft=draft_id, **_record(segment, decision))
    entry = Entry(effect.key, "result", "draft", effect.skill.name, "drafted", meta, said, effect.skill.effect)
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
                "arguments_digest": digest_bytes(effect.data),
            },
        )
        await segment.journal.append_within(await work.driver(), entry)
        await asking.withdraw(work, segment, effect.key)
        await work.publish(DraftMade(run.id, draft_id, effect.skill.name, digest_bytes(effect.data)))
    return _told(call, entry)


async def _settled(segment: Segment, call: Call, effect: Effect) -> Result | None:
    """The result of a call whose last send has none, or None when it is to be sent again."""
    send = f"{effect.key}~{effect.sends}"
    word = segment.journal.result(f"{send}!settled")
    if word is not None:
        if word.status == "not_happened":
            return None
        entry = _result(effect, "ok", word.content, source=word.meta.get("by", "person"))
        await segment.record(entry)
        return _told(call, entry)
    await _wire_is_quiet(segment, effect, send)
    one = effect.skill
    if one.repeatable:
        return None
    if one.lookup is not None and _decided(segment, effect).verdict is not Verdict.DENY:
        try:
            found = await asyncio.wait_for(
                one.lookup(segment.context(one, effect.key), effect.arguments), one.timeout.total_seconds()
            )
        except Exception as error:  # a receiver that cannot be asked leaves the question to a person
            log.warning("lookup_failed", skill=one.name, step=effect.key, error=type(error).__name__)
        else:
            if found.happened is False:
                return None
            if found.happened:
                entry = _result(effect, "ok", found.value, source="receiver")
                await segment.record(entry)
                return _told(call, entry)
    run = segment.claimed.run
    waiting = Waiting(Reason.UNCERTAIN_EFFECT, f"settle:{send}", None, f"did '{one.name}' happen?", send)
    async with segment.parts.doors.open(run.organization) as work:
        before = await outcomes.hold(work, segment.claimed)
        if (before.waiting or {}).get("wake") != waiting.wake:
            await work.publish(EffectUncertain(run.id, send, one.name))
            segment.count(EFFECTS_UNCERTAIN)
        await outcomes.park(work, segment.claimed, waiting, RunStatus.WAITING_APPROVAL)
    raise Parked(waiting)


async def _wire_is_quiet(segment: Segment, effect: Effect, send: str) -> None:
    """Return once the send can no longer be under way. Never waits longer than window plus timeout from now.

    The bound holds when the database's clock was set back since the intent was recorded.
    """
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


async def _sent(segment: Segment, effect: Effect) -> Any:
    """The answer to a call that is sent now. Raises Interrupted when a stop waits for it no longer."""
    if effect.skill.timeout.total_seconds() <= segment.parts.settings.stop_force_seconds:
        return await _timed(segment, effect)  # it ends in time by itself
    return await segment.interruptible(_timed(segment, effect), segment.forced)


async def _timed(segment: Segment, effect: Effect) -> Any:
    began, status = elapsed(), "ok"
    try:
        with traces.called(segment, effect.skill, effect.key, effect.arguments):
            return await execute(effect.skill, segment.context(effect.skill, effect.key), effect.arguments)
    except AgentOSError as error:
        status = error.code
        raise
    finally:
        seconds = elapsed() - began
        segment.parts.meter.observe(SKILL_SECONDS, seconds, skill=effect.skill.name, status=status)
        said = {"arguments": effect.arguments} if segment.parts.log_parameters else {}
        log.debug("skill_called", skill=effect.skill.name, step=effect.key, status=status, seconds=seconds, **said)


def _decided(segment: Segment, effect: Effect) -> Decision:
    if effect.hosts is None:
        effect.hosts = hosts_of(effect.arguments)
    one = effect.skill
    return _decide(segment, Proposed(one.name, one.effect, True, segment.tier, effect.submitted, hosts=effect.hosts))


def _decide(segment: Segment, proposed: Proposed) -> Decision:
    decision = decide(proposed, segment.rulebook)
    segment.count(DECISIONS, verdict=decision.verdict.value)
    return decision


def _record(segment: Segment, decision: Decision) -> dict[str, Any]:
    """A decision as the journal keeps it, with the tier that it was made at."""
    return decision.record() | {"tier": segment.tier.name}


def _intent(segment: Segment, effect: Effect, decision: Decision, **more: Any) -> Entry:
    run, send = segment.claimed.run, effect.sends + 1
    return Entry(
        key=f"{effect.key}~{send}",
        phase="intent",
        kind="skill",
        name=effect.skill.name,
        status="sent" if send == 1 else "sent_again",
        meta=effect.meta(**_record(segment, decision), **more),
        content=effect.arguments,
        effect=effect.skill.effect,
        idempotency_key=f"{run.id}.{effect.key}",
        window_seconds=segment.parts.settings.send_window_seconds,
    )


def _result(effect: Effect, status: str, content: Any, **more: Any) -> Entry:
    return _entry(effect.key, effect.skill, status, effect.meta(sends=effect.sends, **more), content)


def _entry(key: str, one: Skill, status: str, meta: dict[str, Any], content: Any) -> Entry:
    return Entry(key, "result", "skill", one.name, status, meta, content, one.effect)


async def _denied(
    segment: Segment, key: str, call: Call, decision: Decision, meta: dict[str, Any], one: Skill | None = None
) -> Result:
    said = {"code": decision.code, "message": f"policy says no: {decision.rule}"}
    effect = one.effect if one is not None else None
    entry = Entry(key, "result", "skill", call.skill[:200], "denied", meta | _record(segment, decision), said, effect)
    return await _refused(segment, call, entry, decision.code, decision.rule)


async def _refused(segment: Segment, call: Call, entry: Entry, code: str, why: str) -> Result:
    await segment.record(entry)
    if segment.definition.on_denied == "stop":
        raise DeniedAndStopped(
            f"'{call.skill[:200]}' was denied ({code}: {why}) and the version says to stop then",
            where=entry.key,
            then="See 'agentos runs show' for the decision.",
        )
    return _told(call, entry)


async def _failed(segment: Segment, call: Call, entry: Entry, error: AgentOSError) -> Result:
    await segment.record(entry, surely=True)
    segment.count(ERRORS, code=error.code)
    return _told(call, entry)


def _said(error: AgentOSError) -> dict[str, str]:
    return {"code": error.code, "message": str(error)[:2000]}


def _told(call: Call, entry: Entry) -> Result:
    """What the model is told of a step."""
    return Result(call.id, msgspec.json.encode(entry.content).decode(), failed=entry.status in ("error", "denied"))


def _pause(one: Skill, tried: int, error: AgentOSError) -> float:
    """Seconds before the next try: what the receiver asked for, else the skill's own back-off; at most its most."""
    wanted = one.retry.first * one.retry.factor ** (tried - 1)
    return min(max(wanted, error.retry_after or wanted), one.retry.most).total_seconds()
