"""Approvals in the database."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, text

from agentos.control.approvals.model import Approval, ApprovalStatus
from agentos.control.policy.model import EffectClass
from agentos.kernel.ids import ApprovalId, DeploymentId, RunId
from agentos.kernel.unit_of_work import UnitOfWork

_COLUMNS: Final = (
    "id, run_id, step, deployment_id, requested_by, skill, skill_version, effect, arguments, arguments_digest, "
    "needed, level, status, asked_at, expires_at, decided_at, consumed_at"
)
_ADD: Final = text(
    "INSERT INTO approvals (org, id, run_id, step, deployment_id, requested_by, skill, skill_version, effect, "
    "arguments, arguments_digest, needed, status, asked_at, expires_at) VALUES (:org, :id, :run_id, :step, "
    ":deployment_id, :requested_by, :skill, :skill_version, :effect, :arguments, :arguments_digest, :needed, "
    "'pending', :asked_at, :expires_at) ON CONFLICT (org, run_id, step) DO NOTHING"
)
_GET: Final = text(f"SELECT {_COLUMNS} FROM approvals WHERE id = :id")  # noqa: S608  # constants only
_LOCK: Final = text(f"SELECT {_COLUMNS} FROM approvals WHERE id = :id FOR UPDATE")  # noqa: S608  # constants only
_OF_STEP: Final = text(
    f"SELECT {_COLUMNS} FROM approvals WHERE run_id = :run_id AND step = :step FOR UPDATE"  # noqa: S608
)
_LIST: Final = text(
    f"SELECT {_COLUMNS} FROM approvals WHERE (:status = '' OR status = :status) AND id > :after "  # noqa: S608
    "AND (:run_id = '' OR run_id = :run_id) ORDER BY id LIMIT :most"
)
_ANSWER: Final = text(
    "INSERT INTO approval_answers (org, approval_id, person_id, approved, note, at) "
    "VALUES (:org, :approval_id, :person_id, :approved, :note, :at) ON CONFLICT DO NOTHING"
)
_APPROVED_BY: Final = text("SELECT count(*) AS n FROM approval_answers WHERE approval_id = :id AND approved")
_ANSWERS: Final = text(
    "SELECT p.handle, a.approved, a.note, a.at FROM approval_answers a JOIN people p ON p.id = a.person_id "
    "WHERE a.approval_id = :id ORDER BY a.at"
)
_DECIDE: Final = text("UPDATE approvals SET status = :status, decided_at = :at WHERE id = :id")
_CONSUME: Final = text(
    "UPDATE approvals SET consumed_at = :at WHERE id = :id AND status = 'approved' AND consumed_at IS NULL "
    "AND arguments_digest = :digest"
)


async def add(work: UnitOfWork, values: dict[str, Any]) -> bool:
    """Add a pending approval; False when the step has one."""
    return bool(await work.run(_ADD, {"org": work.organization, **values}))


async def get(work: UnitOfWork, approval_id: str, *, lock: bool = False) -> Approval | None:
    """One approval, locked until the unit of work ends where asked."""
    return _read(await work.first(_LOCK if lock else _GET, {"id": approval_id}))


async def of_step(work: UnitOfWork, run_id: str, step: str) -> Approval | None:
    """The approval of a run's step, locked until the unit of work ends."""
    return _read(await work.first(_OF_STEP, {"run_id": run_id, "step": step}))


async def listed(work: UnitOfWork, status: str, run_id: str, after: str, most: int) -> list[Approval]:
    """Approvals by id, which is by age."""
    rows = await work.all(_LIST, {"status": status, "run_id": run_id, "after": after, "most": most})
    return [found for row in rows if (found := _read(row))]


async def answer(work: UnitOfWork, approval_id: str, person_id: str, approved: bool, note: str, at: datetime) -> bool:
    """Record a person's answer; False when this person has answered."""
    values = {"approval_id": approval_id, "person_id": person_id, "approved": approved, "note": note, "at": at}
    return bool(await work.run(_ANSWER, {"org": work.organization, **values}))


async def approvers(work: UnitOfWork, approval_id: str) -> int:
    """How many different people have said yes."""
    row = await work.first(_APPROVED_BY, {"id": approval_id})
    return int(row.n) if row else 0


async def answers(work: UnitOfWork, approval_id: str) -> list[dict[str, Any]]:
    """Who answered what, in order."""
    return [dict(row._mapping) for row in await work.all(_ANSWERS, {"id": approval_id})]


async def decide(work: UnitOfWork, approval_id: str, status: ApprovalStatus, at: datetime) -> None:
    """Set the status of an approval that is locked."""
    await work.run(_DECIDE, {"id": approval_id, "status": status.value, "at": at})


async def consume(work: UnitOfWork, approval_id: str, digest: str, at: datetime) -> bool:
    """Use up an approval for these arguments; False when it is not approved, used already, or for other arguments."""
    return bool(await work.run(_CONSUME, {"id": approval_id, "digest": digest, "at": at}))


def _read(row: Row[Any] | None) -> Approval | None:
    if row is None:
        return None
    values = dict(row._mapping)
    return Approval(
        **values
        | {
            "id": ApprovalId(row.id),
            "run_id": RunId(row.run_id),
            "deployment_id": DeploymentId(row.deployment_id),
            "effect": EffectClass(row.effect),
            "status": ApprovalStatus(row.status),
            "arguments": bytes(row.arguments),
        }
    )
