"""Deployments and revisions in the database."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, text

from agentos.control.agents.model import Definition, Version
from agentos.control.deployments.model import Canary, Deployment, Revision, Serving, State, Status
from agentos.control.policy.model import Tier
from agentos.kernel.ids import AgentId, DeploymentId
from agentos.kernel.unit_of_work import UnitOfWork

_ADD: Final = text(
    "INSERT INTO deployments (org, id, agent_id, environment, tier, state, revision, created_at) "
    "VALUES (:org, :id, :agent_id, :environment, :tier, 'active', 0, :at) "
    "ON CONFLICT (org, agent_id, environment) WHERE state <> 'retired' DO NOTHING"
)
# Locks are taken by statements of their own: a join in the statement that waits would see revisions of before the wait.
_LOCK: Final = text("SELECT id FROM deployments WHERE id = :id FOR UPDATE")
_LOCK_LIVE: Final = text(
    "SELECT id FROM deployments WHERE agent_id = :agent_id AND environment = :environment AND state <> 'retired' "
    "FOR UPDATE"
)
_COLUMNS: Final = (
    "d.id, d.agent_id, d.environment, d.tier, d.state, d.revision, d.etag, d.created_at, r.version, "
    "d.canary, d.canary_percent, c.version AS canary_version"
)
_JOINS: Final = (
    "LEFT JOIN revisions r ON r.org = d.org AND r.deployment_id = d.id AND r.number = d.revision "
    "LEFT JOIN revisions c ON c.org = d.org AND c.deployment_id = d.id AND c.number = d.canary "
)
# ruff: noqa: S608 -- the statements are put together from the constants here and nothing else
_DEPLOYMENT: Final = f"SELECT {_COLUMNS} FROM deployments d {_JOINS}"
_GET: Final = text(_DEPLOYMENT + "WHERE d.id = :id")
_LIST: Final = text(
    _DEPLOYMENT + "WHERE d.id > :after AND (:agent_id = '' OR d.agent_id = :agent_id) "
    "AND (:environment = '' OR d.environment = :environment) AND (:state = '' OR d.state = :state) "
    "ORDER BY d.id LIMIT :most"
)
_RETIRED: Final = text(
    _DEPLOYMENT + "WHERE d.agent_id = :agent_id AND d.environment = :environment AND d.state = 'retired' "
    "ORDER BY d.id DESC LIMIT 1"
)
_LAST_SERVED: Final = text(
    "SELECT r.version FROM deployments d JOIN revisions r ON r.org = d.org AND r.deployment_id = d.id "
    "WHERE d.agent_id = :agent_id AND r.served_from IS NOT NULL "
    "ORDER BY (d.environment = :environment) DESC, r.served_from DESC, r.number DESC LIMIT 1"
)
_SERVING: Final = (
    f"SELECT {_COLUMNS}, v.number AS version_number, v.definition, v.created_by AS version_created_by, "
    f"v.created_at AS version_created_at FROM deployments d {_JOINS}"
    "LEFT JOIN versions v ON v.org = r.org AND v.agent_id = r.agent_id AND v.hash = r.version "
)
_SERVING_LIVE: Final = text(
    _SERVING + "WHERE d.agent_id = :agent_id AND d.environment = :environment AND d.state <> 'retired'"
)
_SERVING_ALL: Final = text(_SERVING + "WHERE d.state = 'active' AND r.version IS NOT NULL ORDER BY d.id LIMIT :most")
_CHANGE: Final = text(
    "UPDATE deployments SET tier = :tier, state = :state, revision = :revision, etag = etag + 1 WHERE id = :id"
)
_SET_CANARY: Final = text(
    "UPDATE deployments SET canary = :number, canary_percent = :percent, etag = etag + 1 WHERE id = :id"
)
_END_CANARY: Final = text(
    "UPDATE revisions SET status = :status, reason = :reason "
    "WHERE deployment_id = :id AND number = :number AND status = 'canary'"
)
_HISTORY: Final = text(
    "SELECT r.number, r.version, v.number AS version_number, r.status, r.reason, r.created_by, r.created_at, "
    "r.served_from, r.served_until FROM revisions r "
    "JOIN versions v ON v.org = r.org AND v.agent_id = r.agent_id AND v.hash = r.version "
    "WHERE r.deployment_id = :id ORDER BY r.number DESC"
)
_ADD_REVISION: Final = text(
    "INSERT INTO revisions (org, deployment_id, number, agent_id, version, status, reason, created_by, created_at, "
    "served_from) VALUES (:org, :id, :number, :agent_id, :version, :status, :reason, :by, :at, :served_from)"
)
_ACTIVATE: Final = text(
    "UPDATE revisions SET status = 'active', reason = :reason, served_from = :at "
    "WHERE deployment_id = :id AND number = :number AND status IN ('draft', 'canary')"
)
_END: Final = text(
    "UPDATE revisions SET status = :status, served_until = :at "
    "WHERE deployment_id = :id AND number = :number AND status = 'active'"
)
_DROP_DRAFTS: Final = text(
    "UPDATE revisions SET status = :status WHERE deployment_id = :id AND status = 'draft' AND number < :below"
)


async def add(
    work: UnitOfWork, deployment_id: DeploymentId, agent_id: str, environment: str, tier: Tier, at: datetime
) -> bool:
    """Add a deployment that serves nothing yet; False when the agent has a live one in that environment."""
    values = {"id": deployment_id, "agent_id": agent_id, "environment": environment, "tier": int(tier), "at": at}
    return bool(await work.run(_ADD, {"org": work.organization, **values}))


async def get(work: UnitOfWork, deployment_id: str, *, lock: bool = False) -> Deployment | None:
    """One deployment, locked until the unit of work ends where asked."""
    if lock and await work.first(_LOCK, {"id": deployment_id}) is None:
        return None
    row = await work.first(_GET, {"id": deployment_id})
    return _deployment(row) if row else None


async def live(work: UnitOfWork, agent_id: str, environment: str) -> Deployment | None:
    """The agent's deployment in that environment that is not retired, locked until the unit of work ends."""
    row = await work.first(_LOCK_LIVE, {"agent_id": agent_id, "environment": environment})
    return await get(work, row.id) if row else None


async def retired(work: UnitOfWork, agent_id: str, environment: str) -> Deployment | None:
    """The agent's last retired deployment in that environment."""
    row = await work.first(_RETIRED, {"agent_id": agent_id, "environment": environment})
    return _deployment(row) if row else None


async def last_served(work: UnitOfWork, agent_id: str, environment: str) -> str | None:
    """The hash of the version that served last in an environment, of one that never served there: anywhere."""
    row = await work.first(_LAST_SERVED, {"agent_id": agent_id, "environment": environment})
    return row.version if row else None


async def listed(
    work: UnitOfWork, agent_id: str, environment: str, state: str, after: str, most: int
) -> list[Deployment]:
    """Deployments by id, which is by age; an empty filter lets everything through."""
    values = {"agent_id": agent_id, "environment": environment, "state": state, "after": after, "most": most}
    return [_deployment(row) for row in await work.all(_LIST, values)]


async def serving_live(work: UnitOfWork, agent_id: str, environment: str) -> tuple[Deployment, Serving | None] | None:
    """The agent's live deployment in that environment and what it serves."""
    return _serving(await work.first(_SERVING_LIVE, {"agent_id": agent_id, "environment": environment}))


async def serving_all(work: UnitOfWork, most: int) -> list[Serving]:
    """What each active deployment serves, by age."""
    found = [_serving(row) for row in await work.all(_SERVING_ALL, {"most": most})]
    return [one[1] for one in found if one is not None and one[1] is not None]


async def change(work: UnitOfWork, deployment_id: str, *, tier: Tier, state: State, revision: int) -> None:
    """Set what may change of a deployment that is locked; its etag rises."""
    values = {"id": deployment_id, "tier": int(tier), "state": state.value, "revision": revision}
    await work.run(_CHANGE, values)


async def history(work: UnitOfWork, deployment_id: str) -> list[Revision]:
    """The deployment's revisions, newest first."""
    rows = await work.all(_HISTORY, {"id": deployment_id})
    return [Revision(**{**row._mapping, "status": Status(row.status)}) for row in rows]


async def add_revision(
    work: UnitOfWork,
    deployment: Deployment,
    number: int,
    version: str,
    status: Status,
    reason: str,
    by: str,
    at: datetime,
) -> None:
    """Add a revision, as a draft or serving from now on, to a deployment that is locked."""
    await work.run(
        _ADD_REVISION,
        {
            "org": work.organization,
            "id": deployment.id,
            "number": number,
            "agent_id": deployment.agent_id,
            "version": version,
            "status": status.value,
            "reason": reason,
            "by": by,
            "at": at,
            "served_from": at if status is Status.ACTIVE else None,
        },
    )


async def activate(work: UnitOfWork, deployment_id: str, number: int, reason: str, at: datetime) -> None:
    """Let a draft or a canary serve from now on."""
    await work.run(_ACTIVATE, {"id": deployment_id, "number": number, "reason": reason, "at": at})


async def end(work: UnitOfWork, deployment_id: str, number: int, status: Status, at: datetime) -> None:
    """Let the revision that serves end so."""
    await work.run(_END, {"id": deployment_id, "number": number, "status": status.value, "at": at})


async def set_canary(work: UnitOfWork, deployment_id: str, number: int | None, percent: int | None) -> None:
    """Name the canary of a deployment that is locked, and its share; None for no canary. Its etag rises."""
    await work.run(_SET_CANARY, {"id": deployment_id, "number": number, "percent": percent})


async def end_canary(work: UnitOfWork, deployment_id: str, number: int, status: Status, reason: str) -> None:
    """Let a canary's revision end so."""
    await work.run(_END_CANARY, {"id": deployment_id, "number": number, "status": status.value, "reason": reason})


async def drop_drafts(work: UnitOfWork, deployment_id: str, status: Status, *, below: int) -> None:
    """Give drafts below this number the status in which they will stay."""
    await work.run(_DROP_DRAFTS, {"id": deployment_id, "status": status.value, "below": below})


def _deployment(row: Row[Any]) -> Deployment:
    return Deployment(
        id=DeploymentId(row.id),
        agent_id=AgentId(row.agent_id),
        environment=row.environment,
        tier=Tier(row.tier),
        state=State(row.state),
        revision=row.revision,
        etag=row.etag,
        created_at=row.created_at,
        version=row.version,
        canary=None if row.canary is None else Canary(row.canary, row.canary_version, row.canary_percent),
    )


def _serving(row: Row[Any] | None) -> tuple[Deployment, Serving | None] | None:
    if row is None:
        return None
    deployment = _deployment(row)
    if row.version is None:
        return deployment, None
    version = Version(
        agent_id=deployment.agent_id,
        number=row.version_number,
        hash=row.version,
        definition=Definition.read(row.definition),
        created_by=row.version_created_by,
        created_at=row.version_created_at,
    )
    return deployment, Serving(deployment, deployment.revision, version)
