"""Ask people, record what they say, and use a yes exactly once for exactly the arguments that it was given for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from agentos.control.approvals import store
from agentos.control.approvals.model import (
    Answer,
    Approval,
    ApprovalDecided,
    ApprovalDecidedAlready,
    ApprovalDigestDiffers,
    ApprovalEscalated,
    ApprovalExpired,
    ApprovalMasked,
    ApprovalNotForYou,
    ApprovalNotUsable,
    ApprovalNotYours,
    ApprovalPassed,
    ApprovalReminded,
    ApprovalRequested,
    ApprovalRerouted,
    ApprovalSlaMissed,
    ApprovalStatus,
    ApprovalUnknown,
    Channel,
    Handover,
    Hides,
    NobodyToRerouteTo,
    Question,
    RerouteToOneself,
    RoutingChanged,
)
from agentos.control.approvals.routing import ROLE, BadRouting, Plan, Requirement, Routing, bound, check_ref
from agentos.intake.identity import service as identity
from agentos.intake.identity.model import NotAllowed, Permission, Person, PersonUnknown, Role
from agentos.kernel import epochs, ids
from agentos.kernel.canonical import digest, digest_bytes
from agentos.kernel.unit_of_work import UnitOfWork

TIMEOUT: Final = "timeout"
LONGEST: Final = timedelta(hours=24)  # a working day later somebody has seen it; denial is the safe end


def nothing_hidden(_asked: Approval) -> bool:
    """Nothing in the arguments is kept from the person."""
    return False


async def wanted(
    work: UnitOfWork, question: Question, *, at: datetime, longest: timedelta = LONGEST
) -> tuple[Approval, bool]:
    """The approval that stands for a question, locked, and whether it was opened now.

    Putting the same question again returns the same approval, whatever became of it. A question that requires more than
    the last approval of its step gave opens another one; what still waited is withdrawn.
    """
    last = await store.of_step(work, question.run_id, question.step)
    plan = await _plan(work, question)
    if last is not None:
        last = await _clocked(work, last, at)
        fell_away = last.status is ApprovalStatus.EXPIRED and last.reason != TIMEOUT
        is_no = last.status is ApprovalStatus.DENIED or (last.status is ApprovalStatus.EXPIRED and not fell_away)
        covered = last.requirement.covers(Requirement(question.rule, question.effect, plan.stages))
        if is_no or (covered and not fell_away):
            return last, False
        if last.status is ApprovalStatus.PENDING:
            await _expire(work, last, "superseded", at)
    return await _open(work, question, plan, 1 if last is None else last.round + 1, at, longest), True


async def answer(
    work: UnitOfWork,
    approval_id: str,
    *,
    person_id: str,
    handle: str,
    approved: bool,
    note: str,
    at: datetime,
    channel: Channel = Channel.API,
    hides: Hides = nothing_hidden,
) -> Approval:
    """Record the answer of a person who may answer approvals. One no decides; a yes when all stages have theirs.

    ``hides``: whether the arguments hold what the person may not see; nobody decides on that.
    Raises ApprovalUnknown (NotFound); ApprovalNotYours, ApprovalNotForYou, ApprovalMasked (Forbidden);
    ApprovalDecidedAlready (Conflict). A refused answer changes nothing.
    """
    asked = await store.get(work, approval_id, lock=True)
    if asked is None:
        raise _unknown(approval_id)
    await _may_answer(work, asked, handle, approved, hides, at)
    if not await store.answer(
        work, asked, person_id=person_id, approved=approved, note=note, channel=channel.value, at=at
    ):
        raise ApprovalDecidedAlready("you have answered this approval", where=approval_id)
    if not approved:
        await _decide(work, asked, ApprovalStatus.DENIED, handle, note, channel, at)
    elif await store.approvers(work, asked) >= asked.plan.stages[asked.stage].needed:
        if asked.stage + 1 < len(asked.plan.stages):
            await store.to_stage(work, asked.id, asked.stage + 1)
            passed = await get(work, approval_id)
            await work.publish(ApprovalPassed(asked.run_id, asked.id, passed.stage, list(passed.asks())))
        else:
            await _decide(work, asked, ApprovalStatus.APPROVED, handle, note, channel, at)
    return await get(work, approval_id)


async def _may_answer(
    work: UnitOfWork, asked: Approval, handle: str, approved: bool, hides: Hides, at: datetime
) -> None:
    if asked.status is not ApprovalStatus.PENDING:
        raise ApprovalDecidedAlready(f"the approval is {asked.status} already", where=asked.id)
    if at >= asked.expires_at:
        raise ApprovalDecidedAlready("the approval has expired", where=asked.id)
    if approved and handle in asked.starters:
        raise ApprovalNotYours(
            "whoever asked for a run may not approve its effects", where=asked.id, then="Ask another person."
        )
    if not asked.is_for(handle, await _role(work, handle, asked.asks())):
        raise ApprovalNotForYou(
            f"the approval waits for {', '.join(asked.asks())}",
            where=asked.id,
            then=f"Hand it over: agentos approvals reroute --approval {asked.id}.",
        )
    if hides(asked):
        raise ApprovalMasked(
            "the arguments hold personal data that you may not see, and nobody decides on what they cannot see",
            where=asked.id,
            then="Let somebody decide who may see it, or ask an admin for that right.",
        )


async def answer_as(
    work: UnitOfWork,
    approval_id: str,
    *,
    handle: str,
    approved: bool,
    note: str,
    at: datetime,
    channel: Channel,
    hides: Hides = nothing_hidden,
    sees: bool = True,
) -> Approval:
    """The same for a person who is known by handle alone, because they wrote in a channel or came by a link.

    ``hides``: what it is for a person without the right to see personal data. ``sees``: whether the key that they
    came with lets them see it; their role has to as well.
    Raises what ``answer`` and ``answerer`` raise.
    """
    person = await answerer(work, handle)
    sees = sees and Permission.SEE_PERSONAL_DATA in person.role.permissions
    return await answer(
        work,
        approval_id,
        person_id=person.id,
        handle=handle,
        approved=approved,
        note=note,
        at=at,
        channel=channel,
        hides=nothing_hidden if sees else hides,
    )


async def answerer(work: UnitOfWork, handle: str) -> Person:
    """The person of that handle, who may answer approvals now.

    Raises PersonUnknown (NotFound), NotAllowed (Forbidden).
    """
    person = await identity.seen(work, handle)
    if person is None:
        raise PersonUnknown(f"no person '{handle[:63]}'", then="See 'agentos people list'.")
    if person.disabled_at is not None or Permission.ANSWER_APPROVALS not in person.role.permissions:
        raise NotAllowed(f"'{handle}' may not answer approvals", then="Ask an admin for another role.")
    return person


async def consume(work: UnitOfWork, asked: Approval, question: Question, *, at: datetime, again: bool = False) -> None:
    """Use up a yes in the transaction that journals the intent.

    ``again``: the call has been sent before; a yes that was used for it covers the effect, however often it is sent.
    Raises ApprovalDigestDiffers or ApprovalNotUsable (Conflict).
    """
    now = _bound(question, asked.requirement)
    if asked.arguments_digest != digest_bytes(question.arguments) or asked.bound not in (None, now):
        raise ApprovalDigestDiffers(
            "the yes was given to another call than this one", where=asked.id, then="Start the run again."
        )
    if again and asked.consumed_at is not None:
        return
    if not await store.consume(work, asked.id, at):
        raise ApprovalNotUsable("the approval was used already or is no yes", where=asked.id)


async def advance(work: UnitOfWork, approval_id: str, *, at: datetime) -> bool:
    """Do what the clock has to do with an approval: remind, escalate, end. False when another does it or did."""
    asked = await store.claim(work, approval_id, at)
    if asked is None:
        return False
    await _clocked(work, asked, at)
    return True


async def reroute(
    work: UnitOfWork,
    *,
    approval_id: str = "",
    deployment_id: str = "",
    to: Sequence[str] = (),
    by: str,
    at: datetime,
) -> list[Approval]:
    """Let others answer what waits, besides: an approval's, a deployment's or the organization's, at most 1,000.

    ``to``: handles and roles; nobody: the backups. Whoever was asked may still answer; times stay as they are.
    Raises BadRouting (Invalid), RerouteToOneself (Forbidden), NobodyToRerouteTo, ApprovalDecidedAlready (Conflict),
    ApprovalUnknown (NotFound).
    """
    found, _, _ = await store.routing(work)
    others = tuple(to) or found.backups
    if not others:
        raise NobodyToRerouteTo(
            "the routing names no backups", then="Name whom: agentos approvals reroute --to PERSON."
        )
    await _check_named(work, set(others))
    if by in others:
        raise RerouteToOneself("nobody hands approvals to themselves", then="Name somebody else, or ask somebody to.")
    waiting = await store.pending(work, approval_id=approval_id, deployment_id=deployment_id)
    if approval_id and not waiting:
        raise ApprovalDecidedAlready(f"the approval is {(await get(work, approval_id)).status}", where=approval_id)
    for asked in waiting:
        await store.hand_over(work, asked.id, Handover(others, by, at.isoformat()))
        await work.publish(ApprovalRerouted(asked.run_id, asked.id, list(others), by))
    return [await get(work, asked.id) for asked in waiting]


async def withdraw(work: UnitOfWork, run_id: str, *, step: str = "", reason: str = "run_ended", at: datetime) -> None:
    """Close what a run, or one step of it, still asks: the run is over, or policy no longer asks."""
    for asked in await store.pending(work, run_id=run_id):
        if step in ("", asked.step):
            await _expire(work, asked, reason, at)


async def get(work: UnitOfWork, approval_id: str) -> Approval:
    """One approval. Raises ApprovalUnknown (NotFound)."""
    found = await store.get(work, approval_id)
    if found is None:
        raise _unknown(approval_id)
    return found


async def listed(
    work: UnitOfWork, *, status: str, run_id: str, after: str, most: int, deployment_id: str = ""
) -> list[Approval]:
    """Approvals, oldest first."""
    return await store.listed(work, status=status, run_id=run_id, deployment_id=deployment_id, after=after, most=most)


async def answers(work: UnitOfWork, approval_id: str) -> list[Answer]:
    """Who answered what, in order."""
    return await store.answers(work, approval_id)


async def similar(work: UnitOfWork, asked: Approval, *, most: int = 5) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """How earlier questions of this agent about this skill ended: how many of each, and the last ones."""
    return await store.similar(work, asked, most)


async def routing(work: UnitOfWork) -> tuple[Routing, str, datetime | None]:
    """The organization's routing, who set it and when; the defaults where nobody has."""
    return await store.routing(work)


async def set_routing(work: UnitOfWork, found: Routing, *, by: str, at: datetime) -> None:
    """Replace the routing. Open questions keep their plan; the next effect is decided under the new one.

    Raises BadRouting (Invalid).
    """
    await _check_named(work, found.named())
    await store.set_routing(work, found, by=by, at=at)
    await epochs.bump(work, epochs.ORGANIZATION)
    await work.publish(RoutingChanged(digest(found.document()), by))


async def _plan(work: UnitOfWork, question: Question) -> Plan:
    found, _, _ = await store.routing(work)
    return found.plan(
        effect=question.effect,
        skill=question.skill,
        category=question.category,
        agent=question.agent_id,
        needed=question.needed,
    )


async def _open(
    work: UnitOfWork, question: Question, plan: Plan, number: int, at: datetime, longest: timedelta
) -> Approval:
    requirement = Requirement(question.rule, question.effect, plan.stages)
    approval_id, expires_at = ids.new("apr"), plan.expires_at(at, longest)
    arguments_digest = digest_bytes(question.arguments)
    values = {
        "id": approval_id,
        "run_id": question.run_id,
        "step": question.step,
        "round": number,
        "deployment_id": question.deployment_id,
        "agent_id": question.agent_id,
        "version": question.version,
        "requested_by": question.requested_by,
        "starters": list(question.starters),
        "skill": question.skill,
        "skill_version": question.skill_version,
        "skill_digest": question.skill_digest,
        "reversibility": question.reversibility,
        "effect": question.effect,
        "arguments": question.arguments,
        "arguments_digest": arguments_digest,
        "rule": question.rule,
        "policy_hash": question.policy_hash,
        "bound": _bound(question, requirement),
        "needed": plan.needed,
        "asked_at": at,
        "expires_at": expires_at,
        "next_at": plan.next_at(at, 0, False, expires_at),
    }
    await store.add(work, values, plan)
    asked = await get(work, approval_id)
    await work.publish(
        ApprovalRequested(
            asked.run_id,
            asked.id,
            asked.skill,
            arguments_digest,
            asked.deployment_id,
            asked.effect.name,
            list(asked.asks()),
            expires_at.isoformat(),
        )
    )
    return asked


def _bound(question: Question, requirement: Requirement) -> str:
    return bound(
        arguments_digest=digest_bytes(question.arguments),
        skill=question.skill,
        skill_version=question.skill_version,
        skill_digest=question.skill_digest,
        version=question.version,
        requirement=requirement,
    )


async def _clocked(work: UnitOfWork, asked: Approval, at: datetime) -> Approval:
    """A locked approval after the clock has done with it all that it had to do until then."""
    plan = asked.plan
    while asked.status is ApprovalStatus.PENDING and asked.next_at <= at:
        level_ends = plan.next_at(asked.asked_at, asked.level, True, asked.expires_at)
        missed = asked.level == 0 and plan.after is not None and asked.asked_at + plan.after <= at
        if missed:
            await work.publish(
                ApprovalSlaMissed(asked.run_id, asked.id, asked.deployment_id, asked.skill, asked.effect.name)
            )
        if at >= asked.expires_at:
            await _expire(work, asked, TIMEOUT, at)
        elif at < level_ends:
            await _set_clock(work, asked, asked.level, True)
            await work.publish(ApprovalReminded(asked.run_id, asked.id, asked.level, list(asked.asks())))
        else:
            await _set_clock(work, asked, asked.level + 1, False)
            rung = list(plan.ladder[asked.level])
            await work.publish(ApprovalEscalated(asked.run_id, asked.id, asked.level + 1, rung))
        asked = await get(work, asked.id)
    return asked


async def _set_clock(work: UnitOfWork, asked: Approval, level: int, reminded: bool) -> None:
    next_at = asked.plan.next_at(asked.asked_at, level, reminded, asked.expires_at)
    await store.set_clock(work, asked.id, level=level, reminded=reminded, next_at=next_at)


async def _decide(
    work: UnitOfWork, asked: Approval, status: ApprovalStatus, by: str, note: str, channel: Channel, at: datetime
) -> None:
    await store.decide(work, asked.id, status, reason=note, by=by, at=at)
    await work.publish(ApprovalDecided(asked.run_id, asked.id, status.value, by, channel.value))


async def _expire(work: UnitOfWork, asked: Approval, reason: str, at: datetime) -> None:
    await store.decide(work, asked.id, ApprovalStatus.EXPIRED, reason=reason, by="", at=at)
    await work.publish(ApprovalExpired(asked.run_id, asked.id, reason, asked.ends_in.value))


async def _role(work: UnitOfWork, handle: str, refs: Sequence[str]) -> Role | None:
    """A person's role, where anybody is asked by role at all."""
    if not any(one.startswith(ROLE) for one in refs):
        return None
    person = await identity.seen(work, handle)
    return None if person is None else person.role


async def _check_named(work: UnitOfWork, refs: set[str]) -> None:
    """Raises BadRouting (Invalid) when somebody who is named is not here, or may not answer approvals."""
    for ref in sorted(refs):
        check_ref(ref)
        if ref.startswith(ROLE):
            continue
        person = await identity.seen(work, ref)
        if person is None:
            raise BadRouting(f"there is no person '{ref[:63]}'", then="See 'agentos people list'.")
        if Permission.ANSWER_APPROVALS not in person.role.permissions:
            raise BadRouting(f"'{ref}' may not answer approvals", then="Give them another role, or name another.")


def _unknown(approval_id: str) -> ApprovalUnknown:
    return ApprovalUnknown(f"no approval '{approval_id[:80]}'", then="See 'agentos approvals list'.")
