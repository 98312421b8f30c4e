"""Approvals, answers, links and routing in the database."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from agentos.control.approvals.model import Answer, Approval, ApprovalStatus, Handover
from agentos.control.approvals.routing import Plan, Routing
from agentos.control.policy.model import EffectClass
from agentos.kernel.ids import ApprovalId, DeploymentId, RunId
from agentos.kernel.unit_of_work import UnitOfWork

_ADDED: Final = (
    *("id", "run_id", "step", "round", "deployment_id", "agent_id", "version", "requested_by", "starters", "skill"),
    *("skill_version", "skill_digest", "reversibility", "effect", "arguments", "arguments_digest", "rule"),
    *("policy_hash", "bound", "plan", "needed", "asked_at", "expires_at", "next_at"),
)
_COLUMNS: Final = ", ".join(
    (*_ADDED, "stage", "level", "reminded", "handovers", "status", "reason", "decided_by", "decided_at", "consumed_at")
)
_VALUES: Final = ", ".join("CAST(:plan AS jsonb)" if one == "plan" else f":{one}" for one in _ADDED)
# ruff: noqa: S608 -- the statements are put together from the constants here and nothing else
_ADD: Final = text(f"INSERT INTO approvals (org, status, {', '.join(_ADDED)}) VALUES (:org, 'pending', {_VALUES})")
_GET: Final = text(f"SELECT {_COLUMNS} FROM approvals WHERE id = :id")
_LOCK: Final = text(f"SELECT {_COLUMNS} FROM approvals WHERE id = :id FOR UPDATE")
_CLAIM: Final = text(
    f"SELECT {_COLUMNS} FROM approvals WHERE id = :id AND status = 'pending' AND next_at <= :at FOR UPDATE SKIP LOCKED"
)
_OF_STEP: Final = text(
    f"SELECT {_COLUMNS} FROM approvals WHERE run_id = :run_id AND step = :step ORDER BY round DESC LIMIT 1 FOR UPDATE"
)
_LIST: Final = text(
    f"SELECT {_COLUMNS} FROM approvals WHERE (:status = '' OR status = :status) AND id > :after "
    "AND (:run_id = '' OR run_id = :run_id) AND (:deployment_id = '' OR deployment_id = :deployment_id) "
    "ORDER BY id LIMIT :most"
)
_PENDING: Final = text(
    f"SELECT {_COLUMNS} FROM approvals WHERE status = 'pending' AND (:run_id = '' OR run_id = :run_id) "
    "AND (:deployment_id = '' OR deployment_id = :deployment_id) AND (:id = '' OR id = :id) "
    "ORDER BY id LIMIT :most FOR UPDATE"
)
_SIMILAR: Final = text(
    "SELECT id, run_id, status, decided_by, decided_at, arguments_digest = :arguments_digest AS same_arguments "
    "FROM approvals WHERE agent_id = :agent_id AND skill = :skill AND status <> 'pending' AND id <> :id "
    "ORDER BY id DESC LIMIT :most"
)
_COUNTED: Final = text(
    "SELECT status, count(*) AS n FROM approvals WHERE agent_id = :agent_id AND skill = :skill AND status <> 'pending' "
    "AND id <> :id GROUP BY status"
)
_ANSWER: Final = text(
    "INSERT INTO approval_answers (org, approval_id, person_id, approved, note, at, stage, channel) "
    "VALUES (:org, :approval_id, :person_id, :approved, :note, :at, :stage, :channel) ON CONFLICT DO NOTHING"
)
_APPROVED_BY: Final = text(
    "SELECT count(*) AS n FROM approval_answers WHERE approval_id = :id AND approved AND stage = :stage"
)
_ANSWERS: Final = text(
    "SELECT p.handle, a.approved, a.stage, a.channel, a.note, a.at FROM approval_answers a "
    "JOIN people p ON p.id = a.person_id WHERE a.approval_id = :id ORDER BY a.at, p.handle"
)
_DECIDE: Final = text(
    "UPDATE approvals SET status = :status, decided_at = :at, reason = :reason, decided_by = :by WHERE id = :id"
)
_STAGE: Final = text("UPDATE approvals SET stage = :stage WHERE id = :id")
_CLOCK: Final = text("UPDATE approvals SET level = :level, reminded = :reminded, next_at = :next_at WHERE id = :id")
_HAND_OVER: Final = text("UPDATE approvals SET handovers = handovers || CAST(:handover AS jsonb) WHERE id = :id")
_CONSUME: Final = text(
    "UPDATE approvals SET consumed_at = :at WHERE id = :id AND status = 'approved' AND consumed_at IS NULL"
)
_ROUTING: Final = text("SELECT body, changed_by, changed_at FROM approval_routing")
_SET_ROUTING: Final = text(
    "INSERT INTO approval_routing (org, body, changed_by, changed_at) VALUES (:org, CAST(:body AS jsonb), :by, :at) "
    "ON CONFLICT (org) DO UPDATE SET body = excluded.body, changed_by = excluded.changed_by, "
    "changed_at = excluded.changed_at"
)
_ADD_LINK: Final = text(
    "INSERT INTO approval_links (org, id, approval_id, handle, made_at, expires_at) "
    "VALUES (:org, :id, :approval_id, :handle, :made_at, :expires_at)"
)
_LINK: Final = text("SELECT id, approval_id, handle, expires_at, used_at FROM approval_links WHERE id = :id FOR UPDATE")
_USE_LINK: Final = text("UPDATE approval_links SET used_at = :at WHERE id = :id")
_DUE: Final = text("SELECT * FROM approvals_due(:at, :most)")


async def add(work: UnitOfWork, asked: dict[str, Any], plan: Plan) -> None:
    """Add a pending approval."""
    await work.run(_ADD, {"org": work.organization, **asked, "plan": json.dumps(plan.document())})


async def get(work: UnitOfWork, approval_id: str, *, lock: bool = False) -> Approval | None:
    """One approval, locked until the unit of work ends where asked."""
    return _read(await work.first(_LOCK if lock else _GET, {"id": approval_id}))


async def claim(work: UnitOfWork, approval_id: str, at: datetime) -> Approval | None:
    """An approval that the clock has to do something with, locked; None when another has it in hand or has done so."""
    return _read(await work.first(_CLAIM, {"id": approval_id, "at": at}))


async def of_step(work: UnitOfWork, run_id: str, step: str) -> Approval | None:
    """The last approval of a run's step, locked until the unit of work ends."""
    return _read(await work.first(_OF_STEP, {"run_id": run_id, "step": step}))


async def listed(
    work: UnitOfWork, *, status: str, run_id: str, deployment_id: str, after: str, most: int
) -> list[Approval]:
    """Approvals by id, which is by age."""
    values = {"status": status, "run_id": run_id, "deployment_id": deployment_id, "after": after, "most": most}
    return _all(await work.all(_LIST, values))


async def pending(
    work: UnitOfWork, *, run_id: str = "", deployment_id: str = "", approval_id: str = "", most: int = 1000
) -> list[Approval]:
    """Pending approvals, locked until the unit of work ends."""
    values = {"run_id": run_id, "deployment_id": deployment_id, "id": approval_id, "most": most}
    return _all(await work.all(_PENDING, values))


async def similar(work: UnitOfWork, asked: Approval, most: int) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """How earlier questions of this agent about this skill ended: how many of each, and the last ones."""
    values = {"agent_id": asked.agent_id, "skill": asked.skill, "id": asked.id}
    counted = {row.status: row.n for row in await work.all(_COUNTED, values)}
    last = await work.all(_SIMILAR, values | {"arguments_digest": asked.arguments_digest, "most": most})
    return counted, [dict(row._mapping) for row in last]


async def answer(
    work: UnitOfWork,
    asked: Approval,
    *,
    person_id: str,
    approved: bool,
    note: str,
    channel: str,
    at: datetime,
) -> bool:
    """Record a person's answer to the present stage; False when this person has answered."""
    values = {"approval_id": asked.id, "person_id": person_id, "approved": approved, "note": note, "at": at}
    return bool(await work.run(_ANSWER, {"org": work.organization, **values, "stage": asked.stage, "channel": channel}))


async def approvers(work: UnitOfWork, asked: Approval) -> int:
    """How many different people have said yes in the present stage."""
    row = await work.first(_APPROVED_BY, {"id": asked.id, "stage": asked.stage})
    return int(row.n) if row else 0


async def answers(work: UnitOfWork, approval_id: str) -> list[Answer]:
    """Who answered what, in order."""
    return [Answer(**row._mapping) for row in await work.all(_ANSWERS, {"id": approval_id})]


async def decide(
    work: UnitOfWork, approval_id: str, status: ApprovalStatus, *, reason: str, by: str, at: datetime
) -> None:
    """Set the status of an approval that is locked."""
    await work.run(_DECIDE, {"id": approval_id, "status": status.value, "reason": reason, "by": by, "at": at})


async def to_stage(work: UnitOfWork, approval_id: str, stage: int) -> None:
    """Ask the next stage of an approval that is locked."""
    await work.run(_STAGE, {"id": approval_id, "stage": stage})


async def set_clock(work: UnitOfWork, approval_id: str, *, level: int, reminded: bool, next_at: datetime) -> None:
    """Record what the clock has done with an approval that is locked, and when it is due again."""
    await work.run(_CLOCK, {"id": approval_id, "level": level, "reminded": reminded, "next_at": next_at})


async def hand_over(work: UnitOfWork, approval_id: str, handover: Handover) -> None:
    """Let others answer an approval that is locked, besides."""
    await work.run(_HAND_OVER, {"id": approval_id, "handover": json.dumps(asdict(handover))})


async def consume(work: UnitOfWork, approval_id: str, at: datetime) -> bool:
    """Use up an approval; False when it is no yes or was used already."""
    return bool(await work.run(_CONSUME, {"id": approval_id, "at": at}))


async def routing(work: UnitOfWork) -> tuple[Routing, str, datetime | None]:
    """The organization's routing, who set it and when; the defaults where nobody has."""
    row = await work.first(_ROUTING)
    return (Routing(), "", None) if row is None else (Routing.read(row.body), row.changed_by, row.changed_at)


async def set_routing(work: UnitOfWork, found: Routing, *, by: str, at: datetime) -> None:
    """Replace the organization's routing."""
    values = {"org": work.organization, "body": json.dumps(found.document()), "by": by, "at": at}
    await work.run(_SET_ROUTING, values)


async def add_link(work: UnitOfWork, values: dict[str, Any]) -> None:
    """Add a link: id, approval_id, handle, made_at, expires_at."""
    await work.run(_ADD_LINK, {"org": work.organization, **values})


async def link(work: UnitOfWork, link_id: str) -> Row[Any] | None:
    """One link, locked until the unit of work ends."""
    return await work.first(_LINK, {"id": link_id})


async def use_link(work: UnitOfWork, link_id: str, at: datetime) -> None:
    """Record that a link that is locked has been answered with."""
    await work.run(_USE_LINK, {"id": link_id, "at": at})


async def due(connection: AsyncConnection, at: datetime | None, most: int) -> Sequence[Row[Any]]:
    """Approvals by their next moment: org, approval_id, the seconds until then, and what time it is; as system role.

    ``at``: the time that it is taken to be; None for the database's.
    """
    return (await connection.execute(_DUE, {"at": at, "most": most})).all()


def _all(rows: Sequence[Row[Any]]) -> list[Approval]:
    return [found for row in rows if (found := _read(row))]


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
            "starters": tuple(row.starters),
            "effect": EffectClass(row.effect),
            "plan": Plan.read(row.plan),
            "handovers": tuple(Handover(tuple(one["to"]), one["by"], one["at"]) for one in row.handovers),
            "status": ApprovalStatus(row.status),
            "arguments": bytes(row.arguments),
        }
    )
