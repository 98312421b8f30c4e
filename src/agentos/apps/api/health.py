"""Health that was probed: liveness, readiness, an agent's health, and metrics of all processes on one page.

Whatever was not probed or has no data is "unknown", never "fine".
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import aiohttp
from fastapi import APIRouter, Request, Response
from sqlalchemy import text
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest

from agentos import __version__
from agentos.apps.embedded.home import Home
from agentos.apps.embedded.settings import EmbeddedSettings
from agentos.apps.parts import Process
from agentos.control.agents import service as agents
from agentos.control.deployments import service as deployments
from agentos.evidence.ledger import service as ledger
from agentos.evidence.quality import watch as quality
from agentos.evidence.replay import again
from agentos.intake.identity.routes import Reader
from agentos.kernel.clock import now
from agentos.kernel.database import Database
from agentos.kernel.errors import AgentOSError
from agentos.kernel.http import DoorsDep
from agentos.kernel.openapi import lets_in
from agentos.kernel.telemetry.catalogue import (
    APPROVALS_PENDING,
    CANARY_RATIO,
    DELIVERIES_DEAD,
    DELIVERIES_PENDING,
    DETERMINISM_DRIFT,
    LEDGER_ANCHOR_AGE,
    LEDGER_ENTRIES,
    LEDGER_LAG,
    LEDGER_SOUND,
    LEDGER_VERIFIED_AGE,
    LEDGER_WAITING,
    NOTIFICATIONS_DEAD,
    NOTIFICATIONS_PENDING,
    OUTBOX_FAILURES,
    OUTBOX_LAG,
    QUALITY_DRIFT,
    REGISTRY_SIZE,
    RUNS_OPEN,
)
from agentos.kernel.telemetry.metrics import merged
from agentos.runtime.inference import service as inference

router = APIRouter(tags=["health"])

PROBE_SECONDS: Final = 2.0  # a healthy engine or database answers in milliseconds
LATE_SECONDS: Final = 10.0  # until a fact is chained it has its seal alone; the chainer looks five times a second
UNANCHORED_SECONDS: Final = 30.0  # ends of chains are anchored every five seconds
MINIMUM_RUNS: Final = 20  # below it a success rate is noise: its 95 % interval is wider than ±20 points

_ROLE: Final = text(
    "SELECT current_user AS role, r.rolsuper OR r.rolbypassrls AS strong, "
    "pg_has_role(current_user, 'agentos_owner', 'USAGE') AS owner FROM pg_roles r WHERE r.rolname = current_user"
)
_GAUGES: Final = text("SELECT * FROM gauges()")
_DELIVERIES: Final = text("SELECT * FROM deliveries_counted()")
_NOTIFICATIONS: Final = text("SELECT * FROM notifications_counted()")
_CANARIES: Final = text("SELECT * FROM canary_shares()")
_LAG: Final = text("SELECT * FROM outbox_lag()")
_REGISTERED: Final = text("SELECT skills_counted()")
_RECENT: Final = text(
    "SELECT status, count(*) AS n, "
    "percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM ended_at - accepted_at)) AS p95 "
    "FROM runs WHERE agent_id = :agent AND ended_at > clock_timestamp() - interval '15 minutes' "
    "GROUP BY GROUPING SETS ((status), ())"
)

STORED: Final = (
    RUNS_OPEN,
    CANARY_RATIO,
    APPROVALS_PENDING,
    OUTBOX_LAG,
    OUTBOX_FAILURES,
    DELIVERIES_PENDING,
    DELIVERIES_DEAD,
    NOTIFICATIONS_PENDING,
    NOTIFICATIONS_DEAD,
    REGISTRY_SIZE,
    DETERMINISM_DRIFT,
    QUALITY_DRIFT,
    LEDGER_ENTRIES,
    LEDGER_WAITING,
    LEDGER_LAG,
    LEDGER_ANCHOR_AGE,
    LEDGER_SOUND,
    LEDGER_VERIFIED_AGE,
)


@router.get("/health")
async def health() -> dict[str, str]:
    """This process serves. It says nothing about what it depends on: see /health/ready."""
    return {"status": "healthy", "version": __version__}


@router.get("/health/ready", responses={503: {"description": "Not now: the same document says what is missing."}})
async def ready(request: Request, response: Response) -> dict[str, Any]:
    """Whether requests can be carried out: database and its role, engine, and a worker that takes runs.

    ``models`` says what the switches make of them: where it begins with stub, no live model is asked.
    """
    held: Process = request.app.state.process
    names = ("database", "engine", "worker")
    found = await asyncio.gather(*(_probe(check) for check in (_database(held), _engine(held), _worker(held))))
    checks = dict(zip(names, found, strict=True))
    good = all(check["status"] == "ok" for check in checks.values())
    response.status_code = 200 if good else 503
    if not good:
        response.headers["Retry-After"] = "2"
    return {"ready": good, "checks": checks, "models": inference.says(held.parts.router)}


@router.get("/health/adapters")
async def adapters(request: Request) -> dict[str, Any]:
    """Every provider of models: whether it is asked, how it did last, and what the switches of this process say."""
    held: Process = request.app.state.process
    parts = held.parts
    return await inference.adapters(parts.router, held.models.listing(), parts.board, held.limiter, at=now())


@router.get("/health/registry")
async def registry_health(request: Request) -> dict[str, Any]:
    """Whether this process serves every skill that it loaded, and whether the registry takes new ones."""
    held: Process = request.app.state.process
    withheld = len(held.parts.registry.withheld)
    return {
        "status": ("degraded" if withheld else "ok") if held.keeper.settled else "unknown",
        "read_only": held.keeper.read_only,
        "loaded": len(held.parts.registry.every()),
        "withheld": withheld if held.keeper.settled else "unknown",
    }


@router.get("/health/determinism", openapi_extra=lets_in(503))
async def determinism(request: Request) -> dict[str, Any]:
    """Whether runs that were executed again came to the same: the last replay's hash, and how many parted.

    Before the first replay everything is unknown.
    """
    held: Process = request.app.state.process
    return await again.standing(held.parts.database)


@router.get("/health/ledger", openapi_extra=lets_in(503))
async def ledger_health(request: Request) -> dict[str, Any]:
    """Whether facts are chained in time and anchored, and whether a chain was found broken when it was last verified.

    Without a key there is no ledger, and its state is unknown; so it is while a chain was never verified.
    """
    held: Process = request.app.state.process
    if held.chainer is None:
        return {"status": "unknown", "detail": "AGENTOS_LEDGER_KEY is not set: facts are neither sealed nor chained"}
    found = await ledger.standing(held.parts.database, held.anchors)
    chains, anchored = found["chains"], found["anchored_at"]
    unread = sum(1 for one in chains if one.verified_broken and one.verified_broken.startswith(ledger.UNKNOWN))
    broken = sum(1 for one in chains if one.verified_broken) - unread
    known = [one.verified_seconds for one in chains if one.verified_seconds is not None]
    unverified = len(chains) - len(known)
    late = found["waiting_seconds"] > LATE_SECONDS
    wrong = {
        "a chain is broken": broken,
        "entries of a chain cannot be verified, as a key is absent": unread,
        "facts wait to be chained": late,
        "the chainer's cursor is not behind the last entry's fact": found["is_astray"],
        "facts are set aside, as their chain does not go on from its end": found["set_aside"],
        "entries are not anchored": found["unanchored_seconds"] > UNANCHORED_SECONDS,
        "anchors cannot be used": bool(found["anchors_unusable"]),
    }
    because = [what for what, it_is in wrong.items() if it_is]
    return {
        "status": "degraded" if because else "unknown" if unverified or not chains else "ok",
        "because": because,
        "chains": len(chains),
        "entries": sum(one.number for one in chains),
        "waiting": found["waiting"],
        "lag_seconds": round(found["waiting_seconds"], 3),
        "anchored_at": anchored or "unknown",
        "unanchored_seconds": "unknown" if found["anchors_unusable"] else round(found["unanchored_seconds"], 3),
        "broken_chains": broken if known else "unknown",
        "unverified_chains": unverified,
        "verified_seconds_ago": round(min(known), 3) if known else "unknown",
    }


@router.get("/metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """Prometheus's page: this process and, in the embedded stack, its workers, merged by the label ``process``."""
    held: Process = request.app.state.process
    await _set_gauges(held)
    own = (held.app.service, held.parts.meter.page().decode())
    body = merged([own, *await _workers_pages()])
    return Response(body, media_type="text/plain; version=0.0.4")


@router.get("/api/v1/agents/{agent_id}/health")
async def agent_health(agent_id: str, request: Request, caller: Reader, doors: DoorsDep) -> dict[str, Any]:
    """How an agent does: what serves, and its runs of the last 15 minutes; figures without enough runs are unknown.

    ``models`` says so where a switch puts a stub in the place of a serving version's model.
    """
    held: Process = request.app.state.process
    switches, replaced = held.parts.router.switches, False
    async with doors.open(caller.organization) as work:
        await agents.get_agent(work, agent_id)
        found = await deployments.list_deployments(work, agent_id=agent_id)
        rows = await work.all(_RECENT, {"agent": agent_id})
        for one in found:
            if one.version is not None:
                version = await agents.get_version(work, agent_id, one.version)
                replaced = replaced or switches.replace_model_of(version.definition.model)
    counts = {row.status: row.n for row in rows if row.status is not None}
    total = sum(counts.values())
    p95 = next((row.p95 for row in rows if row.status is None), None)
    enough = total >= MINIMUM_RUNS
    rate = counts.get("completed", 0) / total if enough else None
    active = [one for one in found if one.state == "active"]
    status = "unknown" if rate is None else "healthy" if rate >= 0.9 else "degraded"
    return {
        "agent_id": agent_id,
        "status": status if active else "unhealthy" if found else "unknown",
        "deployments": [{"id": one.id, "environment": one.environment, "state": one.state} for one in found],
        "models": inference.says(held.parts.router) if replaced else "its own",
        "window_seconds": 900,
        "runs": counts,
        "success_ratio": rate if enough else "unknown",
        "p95_seconds": float(p95) if enough and p95 is not None else "unknown",
        "minimum_runs": MINIMUM_RUNS,
    }


async def _probe(check: Any) -> dict[str, Any]:
    try:
        return {"status": "ok", **await asyncio.wait_for(check, PROBE_SECONDS)}
    except AgentOSError as error:
        return {"status": "failed", "code": error.code, "detail": error.what}
    except Exception as error:
        return {"status": "failed", "code": "probe_failed", "detail": type(error).__name__}


async def _database(held: Process) -> dict[str, Any]:
    return await role_check(held.parts.database)


async def role_check(database: Database) -> dict[str, Any]:
    """The role that use cases run as. Raises a Bug when row-level security would not bind it."""
    async with database.connection("agentos_app") as connection:
        row = (await connection.execute(_ROLE)).one()
    if row.strong or row.owner or row.role != "agentos_app":
        return {"status": "failed", "code": "role_too_strong", "detail": f"use cases would run as {row.role}"}
    return {"role": row.role}


async def _engine(held: Process) -> dict[str, Any]:
    client = await held.link.client()
    good = await client.service_client.check_health()
    return {} if good else {"status": "failed", "code": "engine_not_serving"}


async def _worker(held: Process) -> dict[str, Any]:
    client = await held.link.client()
    answer = await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(
            namespace=held.temporal.namespace,
            task_queue=TaskQueue(name=held.temporal.task_queue),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
        )
    )
    pollers = [poller.identity for poller in answer.pollers]
    if not pollers:
        return {"status": "failed", "code": "no_worker", "detail": "no worker takes runs; see 'agentos ps'"}
    return {"pollers": len(pollers)}


async def _set_gauges(held: Process) -> None:
    """Stored state as gauges, from this one exporter. While the database is away they are absent, not zero."""
    meter = held.parts.meter
    for metric in STORED:
        meter.clear(metric)
    try:
        async with held.parts.database.connection("agentos_system") as connection:
            rows = (await connection.execute(_GAUGES)).all()
            deliveries = (await connection.execute(_DELIVERIES)).all()
            messages = (await connection.execute(_NOTIFICATIONS)).all()
            canaries = (await connection.execute(_CANARIES)).all()
            lags = (await connection.execute(_LAG)).all()
            registered_skills = (await connection.execute(_REGISTERED)).scalar_one()
        drifts = await again.drift(held.parts.database)
        qualities = await quality.drifts(held.parts.database, at=now())
        chained = None if held.chainer is None else await ledger.standing(held.parts.database, held.anchors)
    except AgentOSError:
        return
    pending: dict[str, int] = {}
    for row in rows:
        if row.measure == "runs":
            meter.set(
                RUNS_OPEN, row.value, org=row.org, deployment=row.deployment, agent_id=row.agent_id, status=row.state
            )
        else:
            pending[row.org] = pending.get(row.org, 0) + row.value
    for org, value in pending.items():
        meter.set(APPROVALS_PENDING, value, org=org)
    for row in deliveries:
        meter.set(DELIVERIES_PENDING if row.state == "pending" else DELIVERIES_DEAD, row.value, org=row.org)
    for row in messages:
        meter.set(NOTIFICATIONS_PENDING if row.state == "pending" else NOTIFICATIONS_DEAD, row.value, org=row.org)
    meter.set(REGISTRY_SIZE, registered_skills)
    for row in canaries:
        meter.set(CANARY_RATIO, row.percent / 100, org=row.org, deployment=row.deployment, agent_id=row.agent_id)
    for drift in drifts:
        meter.set(DETERMINISM_DRIFT, drift["value"], org=drift["org"], agent_id=drift["agent_id"], step=drift["step"])
    for known in qualities:
        meter.set(QUALITY_DRIFT, known["score"], org=known["org"], scope=known["scope"], target=known["target"])
    if chained is not None:
        _set_ledger(held, chained)
    for row in lags:
        meter.set(OUTBOX_LAG, row.facts, consumer=row.consumer)
        meter.set(OUTBOX_FAILURES, row.failures, consumer=row.consumer)


def _set_ledger(held: Process, found: dict[str, Any]) -> None:
    meter = held.parts.meter
    meter.set(LEDGER_WAITING, found["waiting"])
    meter.set(LEDGER_LAG, found["waiting_seconds"])
    if not found["anchors_unusable"]:
        meter.set(LEDGER_ANCHOR_AGE, found["unanchored_seconds"])
    for one in found["chains"]:
        meter.set(LEDGER_ENTRIES, one.number, org=one.org)
        if one.verified_seconds is not None:
            if not (one.verified_broken or "").startswith(ledger.UNKNOWN):
                meter.set(LEDGER_SOUND, 0 if one.verified_broken else 1, org=one.org)
            meter.set(LEDGER_VERIFIED_AGE, one.verified_seconds, org=one.org)


async def _workers_pages() -> list[tuple[str, str]]:
    """The metrics pages of the embedded stack's workers; a worker that does not answer is left out."""
    services = Home(EmbeddedSettings.read().home).state().services
    ports = {one.name: one.ports[one.name] for one in services if one.name.startswith("worker")}

    async def page(session: aiohttp.ClientSession, name: str, port: int) -> tuple[str, str] | None:
        try:
            async with session.get(f"http://127.0.0.1:{port}/metrics") as answer:
                return name, await answer.text()
        except (aiohttp.ClientError, TimeoutError):
            return None

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PROBE_SECONDS)) as session:
        found = await asyncio.gather(*(page(session, name, port) for name, port in ports.items()))
    return [one for one in found if one is not None]
