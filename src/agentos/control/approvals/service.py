"""Ask people, record what they say, and use a yes exactly once for exactly the arguments that it was given for."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from agentos.control.approvals import store
from agentos.control.approvals.model import (
    Approval,
    ApprovalDecided,
    ApprovalDecidedAlready,
    ApprovalExpired,
    ApprovalNotUsable,
    ApprovalNotYours,
    ApprovalRequested,
    ApprovalStatus,
    ApprovalUnknown,
)
from agentos.kernel import ids
from agentos.kernel.canonical import digest_bytes
from agentos.kernel.unit_of_work import UnitOfWork

EXPIRES_AFTER: Final = timedelta(hours=24)  # a working day later somebody has seen it; denial is the safe end


async def ask(
    work: UnitOfWork,
    *,
    run_id: str,
    step: str,
    deployment_id: str,
    requested_by: str,
    skill: str,
    skill_version: str,
    effect: int,
    arguments: bytes,
    needed: int,
    at: datetime,
    expires_after: timedelta = EXPIRES_AFTER,
) -> Approval:
    """Open an approval for a call. Asking the same question again returns the first one."""
    digest = digest_bytes(arguments)
    values: dict[str, Any] = {
        "id": ids.new("apr"),
        "run_id": run_id,
        "step": step,
        "deployment_id": deployment_id,
        "requested_by": requested_by,
        "skill": skill,
        "skill_version": skill_version,
        "effect": effect,
        "arguments": arguments,
        "arguments_digest": digest,
        "needed": needed,
        "asked_at": at,
        "expires_at": at + expires_after,
    }
    if await store.add(work, values):
        await work.publish(ApprovalRequested(run_id, values["id"], skill, digest))
    found = await store.of_step(work, run_id, step)
    assert found is not None
    return found


async def answer(
    work: UnitOfWork, approval_id: str, *, person_id: str, handle: str, approved: bool, note: str, at: datetime
) -> Approval:
    """Record a person's answer. One no decides; a yes decides when as many different people as needed have said it.

    Raises ApprovalUnknown (NotFound), ApprovalNotYours (Forbidden), ApprovalDecidedAlready (Conflict).
    """
    asked = await store.get(work, approval_id, lock=True)
    if asked is None:
        raise ApprovalUnknown(f"no approval '{approval_id}'", then="See 'agentos approvals list'.")
    if asked.status is not ApprovalStatus.PENDING:
        raise ApprovalDecidedAlready(f"the approval is {asked.status} already", where=approval_id)
    if at >= asked.expires_at:
        raise ApprovalDecidedAlready("the approval has expired", where=approval_id)
    if approved and asked.requested_by == handle:
        raise ApprovalNotYours(
            "whoever asked for a run may not approve its effects", where=approval_id, then="Ask another person."
        )
    if not await store.answer(work, approval_id, person_id, approved, note, at):
        raise ApprovalDecidedAlready("you have answered this approval", where=approval_id)
    if not approved:
        await _decide(work, asked, ApprovalStatus.DENIED, handle, at)
    elif await store.approvers(work, approval_id) >= asked.needed:
        await _decide(work, asked, ApprovalStatus.APPROVED, handle, at)
    return await get(work, approval_id)


async def of_step(work: UnitOfWork, run_id: str, step: str, *, at: datetime) -> Approval:
    """The approval of a run's step, expired first when its time is over, and locked for whoever acts on it.

    Raises ApprovalUnknown (NotFound).
    """
    asked = await store.of_step(work, run_id, step)
    if asked is None:
        raise ApprovalUnknown(f"no approval for step '{step}'", where=run_id)
    if asked.status is ApprovalStatus.PENDING and at >= asked.expires_at:
        await _expire(work, asked, at)
        asked = await get(work, asked.id)
    return asked


async def consume(work: UnitOfWork, asked: Approval, arguments: bytes, *, at: datetime) -> None:
    """Use up a yes in the transaction that journals the intent. Raises ApprovalNotUsable (Conflict)."""
    if not await store.consume(work, asked.id, digest_bytes(arguments), at):
        raise ApprovalNotUsable("the approval was used already or is not for these arguments", where=asked.id)


async def get(work: UnitOfWork, approval_id: str) -> Approval:
    """One approval. Raises ApprovalUnknown (NotFound)."""
    found = await store.get(work, approval_id)
    if found is None:
        raise ApprovalUnknown(f"no approval '{approval_id}'", then="See 'agentos approvals list'.")
    return found


async def listed(work: UnitOfWork, *, status: str, run_id: str, after: str, most: int) -> list[Approval]:
    """Approvals, oldest first."""
    return await store.listed(work, status, run_id, after, most)


async def answers(work: UnitOfWork, approval_id: str) -> list[dict[str, Any]]:
    """Who answered what, in order."""
    return await store.answers(work, approval_id)


async def _decide(work: UnitOfWork, asked: Approval, status: ApprovalStatus, by: str, at: datetime) -> None:
    await store.decide(work, asked.id, status, at)
    await work.publish(ApprovalDecided(asked.run_id, asked.id, status.value, by))


async def _expire(work: UnitOfWork, asked: Approval, at: datetime) -> None:
    await store.decide(work, asked.id, ApprovalStatus.EXPIRED, at)
    await work.publish(ApprovalExpired(asked.run_id, asked.id))


async def withdraw(work: UnitOfWork, run_id: str, *, at: datetime) -> None:
    """Close what a run still asks, because the run is over."""
    for asked in await store.listed(work, ApprovalStatus.PENDING, run_id, "", 1000):
        await _expire(work, asked, at)
