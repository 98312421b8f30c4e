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
from typing import Any

import msgspec
import structlog

from agentos.control.policy.model import Decision, EffectClass, Verdict
from agentos.control.policy.rules import Proposed
from agentos.kernel.clock import elapsed
from agentos.kernel.errors import AgentOSError, Bug, Invalid, Unavailable, retryable
from agentos.kernel.telemetry.catalogue import ERRORS
from agentos.runtime.inference import Call, Result
from agentos.runtime.runs.journal import Entry, EpochsMoved
from agentos.runtime.runs.model import DeniedAndStopped, Reason, Waiting
from agentos.runtime.runs.segment import Effect, Park, Segment
from agentos.runtime.skills import Skill

log = structlog.get_logger(__name__)


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
        return await _denied(segment, key, call, segment.decide(key, proposed), {"version": "unknown"})
    try:
        arguments, data = segment.outside.arguments(one, call.arguments)
    except Invalid as error:
        return await _failed(
            segment, call, _entry(key, one, "error", {"version": one.version, "code": error.code}, _said(error)), error
        )
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
            meta = effect.meta(tries=tried, code=error.code, **_seconds(effect), **segment.told(decision))
            return await _failed(segment, call, _entry(effect.key, one, "error", meta, _said(error)), error)
        meta = effect.meta(tries=tried, **_seconds(effect), **segment.told(decision))
        entry = _entry(effect.key, one, "ok", meta, value)
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
                entry = _result(effect, "error", _said(error), code=error.code)
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
            await segment.outside.withdraw(effect)
            return denied
        if decision.verdict is Verdict.DRAFT:
            return _told(call, await segment.outside.draft(effect, decision))
        try:
            began = elapsed()
            if decision.verdict is Verdict.ALLOW:
                await segment.record(segment.intent(effect, decision))
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
    """None when people said yes and the intent is journaled; else what became of the call."""
    answered = await segment.outside.answer(effect, decision)
    if answered.is_yes:
        return None
    if answered.becomes_draft:
        late = Decision(Verdict.DRAFT, "approval_expired", "nobody answered in time", decision.policy_hash)
        return _told(call, await segment.outside.draft(effect, late))
    entry = _result(effect, "denied", answered.refusal, approval=answered.approval)
    return await _refused(segment, call, entry, answered.refusal["code"], answered.refusal["message"])


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
    await segment.outside.quiet(effect, send)
    one = effect.skill
    if one.repeatable:
        return None
    if one.lookup is not None and _decided(segment, effect).verdict is not Verdict.DENY:
        try:
            found = await segment.outside.lookup(effect)
        except Exception as error:  # a receiver that cannot be asked leaves the question to a person
            log.warning("lookup_failed", skill=one.name, step=effect.key, error=type(error).__name__)
        else:
            if found.happened is False:
                return None
            if found.happened:
                entry = _result(effect, "ok", found.value, source="receiver")
                await segment.record(entry)
                return _told(call, entry)
    return await segment.outside.ask_end(effect, send)


async def _sent(segment: Segment, effect: Effect) -> Any:
    """The answer to a call that is sent now. Raises Interrupted when a stop waits for it no longer."""
    if effect.skill.timeout.total_seconds() <= segment.parts.settings.stop_force_seconds:
        return await _timed(segment, effect)  # it ends in time by itself
    return await segment.interruptible(_timed(segment, effect), segment.forced)


async def _timed(segment: Segment, effect: Effect) -> Any:
    """The answer to a call, and how long the skill was at work for it in ``effect.seconds``, also when it fails."""
    began = elapsed()
    try:
        return await segment.outside.call(effect)
    finally:
        effect.seconds += elapsed() - began


def _seconds(effect: Effect) -> dict[str, float]:
    """What a call took, for its row; nothing where this attempt called nothing."""
    return {"seconds": round(effect.seconds, 4)} if effect.seconds else {}


def _decided(segment: Segment, effect: Effect) -> Decision:
    return segment.decide(effect.key, segment.proposed(effect))


def _result(effect: Effect, status: str, content: Any, **more: Any) -> Entry:
    return _entry(
        effect.key, effect.skill, status, effect.meta(sends=effect.sends, **_seconds(effect), **more), content
    )


def _entry(key: str, one: Skill, status: str, meta: dict[str, Any], content: Any) -> Entry:
    return Entry(key, "result", "skill", one.name, status, meta, content, one.effect)


async def _denied(
    segment: Segment, key: str, call: Call, decision: Decision, meta: dict[str, Any], one: Skill | None = None
) -> Result:
    said = {"code": decision.code, "message": f"policy says no: {decision.rule}"}
    effect = one.effect if one is not None else None
    entry = Entry(key, "result", "skill", call.skill[:200], "denied", meta | segment.told(decision), said, effect)
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
