"""Runs and drafts in the database."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, text

from agentos.control.policy.model import Tier
from agentos.kernel.database import Database, translated
from agentos.kernel.ids import DeploymentId, DraftId, OrgId, RunId
from agentos.kernel.unit_of_work import UnitOfWork
from agentos.runtime.runs.model import Claimed, Run, RunEnded, RunStatus, SegmentLost, Token, Used, Waiting

_COLUMNS: Final = (
    "r.org, r.id, r.deployment_id, r.agent_id, r.category, r.revision, r.version, r.status, r.waiting, r.ordered, "
    "r.orders, r.segment, r.attempt, r.format, r.inline, r.messages, r.draft_id, r.firing_id, r.requested_by, "
    "r.request_id, r.input, r.output, r.problem, r.accepted_at, r.started_at, r.ended_at, r.deadline"
)
_LISTED: Final = (
    "r.id, r.deployment_id, r.agent_id, r.version, r.status, r.waiting, r.requested_by, r.accepted_at, r.ended_at"
)

# ruff: noqa: S608 -- the statements are put together from the constants above and nothing else
_ADD: Final = text(
    "INSERT INTO runs (org, id, deployment_id, agent_id, category, revision, version, status, format, inline, "
    "draft_id, firing_id, requested_by, request_id, input, deadline) VALUES (:org, :id, :deployment_id, :agent_id, "
    ":category, :revision, :version, 'accepted', :format, :inline, :draft_id, :firing_id, :requested_by, :request_id, "
    ":input, clock_timestamp() + make_interval(secs => :seconds))"
)
_GET: Final = text(f"SELECT {_COLUMNS} FROM runs r WHERE r.id = :id")
_LOCK: Final = text(f"SELECT {_COLUMNS} FROM runs r WHERE r.id = :id FOR UPDATE")
_LIST: Final = text(
    f"SELECT {_LISTED} FROM runs r WHERE (:before = '' OR r.id < :before) AND (:status = '' OR r.status = :status) "
    "AND (:agent = '' OR r.agent_id = :agent) AND (:deployment = '' OR r.deployment_id = :deployment) "
    "ORDER BY r.id DESC LIMIT :most"
)
_OF_REQUEST: Final = text("SELECT id FROM runs WHERE request_id = :request_id ORDER BY id LIMIT 100")
_USED: Final = text(
    "SELECT sum(u.input) AS input, sum(u.output) AS output, "
    "coalesce(bool_or(u.input IS NULL OR u.output IS NULL), true) AS unknown, "
    "coalesce(bool_or(j.meta ->> 'provider' = 'stub'), false) AS stubbed "
    "FROM journal j CROSS JOIN LATERAL jsonb_to_record(j.meta -> 'usage') AS u (input bigint, output bigint) "
    "WHERE j.run_id = :id AND j.kind = 'model' AND j.phase = 'result'"
)
_ORDER: Final = text("UPDATE runs SET ordered = :ordered, orders = orders + 1 WHERE id = :id")
_FENCE: Final = text("UPDATE runs SET attempt = attempt + 1 WHERE id = :id")
_WAIT: Final = text(
    "UPDATE runs SET status = :status, ordered = :ordered, "
    "waiting = CAST(:waiting AS jsonb) || jsonb_build_object('since', clock_timestamp()) WHERE id = :id"
)
_MOVES: Final = text("UPDATE runs SET status = 'running', waiting = NULL WHERE id = :id")
_IS_HANDED: Final = text("SELECT 1 FROM run_messages WHERE message_id = :message_id")
_COUNT_MESSAGE: Final = text("UPDATE runs SET messages = messages + 1 WHERE id = :run_id")
_HAND: Final = text(
    "INSERT INTO run_messages (org, run_id, number, message_id, author) "
    "SELECT org, id, messages, :message_id, :author FROM runs WHERE id = :run_id"
)
_HANDED: Final = text(
    "SELECT number, message_id, author FROM run_messages WHERE run_id = :run_id AND number > :after ORDER BY number"
)
_STEPS: Final = text(
    "SELECT j.seq, j.key, j.phase, j.kind, j.name, j.status, j.effect, j.idempotency_key, j.send_before, j.segment, "
    "j.attempt, j.at, j.meta, coalesce(j.content, b.content) AS content FROM journal j "
    "LEFT JOIN blobs b ON b.digest = j.blob WHERE j.run_id = :run_id AND j.seq > :after ORDER BY j.seq LIMIT :most"
)
_SETTLE: Final = text(
    "INSERT INTO journal (org, run_id, seq, key, phase, kind, name, status, segment, attempt, meta, content) "
    "SELECT r.org, r.id, (SELECT coalesce(max(seq), 0) + 1 FROM journal WHERE run_id = r.id), :key, 'result', 'note', "
    ":name, :status, r.segment, r.attempt, CAST(:meta AS jsonb), :content FROM runs r WHERE r.id = :run_id"
)
_PARKED: Final = text(
    "SELECT id, waiting->>'wake' AS wake FROM runs WHERE deployment_id = :deployment_id "
    "AND waiting->>'reason' = :reason AND status IN ('accepted', 'running', 'waiting_approval', 'paused')"
)
# Whoever counts waits for whoever has counted before and is about to add: the bound is exact.
_COUNTING: Final = text("SELECT pg_advisory_xact_lock(hashtextextended(:org || ' held ' || :deployment_id, 0))")
_HELD: Final = text(
    "SELECT count(*) AS runs FROM (SELECT FROM runs WHERE deployment_id = :deployment_id AND accepted_at >= :since "
    "AND status IN ('accepted', 'running', 'waiting_approval', 'paused') LIMIT :most) AS taken"
)
_ADD_DRAFT: Final = text(
    "INSERT INTO drafts (org, id, run_id, step, deployment_id, skill, skill_version, effect, arguments, "
    "arguments_digest, status) VALUES (:org, :id, :run_id, :step, :deployment_id, :skill, :skill_version, :effect, "
    ":arguments, :arguments_digest, 'open')"
)
_DRAFTS: Final = text(
    "SELECT * FROM drafts WHERE (:status = '' OR status = :status) AND id > :after ORDER BY id LIMIT :most"
)
_LOCK_DRAFT: Final = text("SELECT * FROM drafts WHERE id = :id FOR UPDATE")
_MARK_DRAFT: Final = text("UPDATE drafts SET status = :status, submitted_run = :run WHERE id = :id")

_CLAIM: Final = (
    "SELECT (c.claimed).*, c.tier, c.state, c.seconds_left, c.scopes, c.epochs FROM run_claim($1, $2, $3, $4) c"
)
_END: Final = (
    "SELECT ended, seconds, unread, CASE WHEN ended THEN budget_settle($1, $2, $11::jsonb, NULL) END AS overshot "
    "FROM run_end($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
)
_POSITION: Final = "SELECT segment, status FROM run_position($1, $2)"
_FACTS: Final = """
SELECT d.tier, d.state
FROM runs r JOIN deployments d ON d.org = r.org AND d.id = r.deployment_id WHERE r.org = $1 AND r.id = $2
"""
_GIVE_BACK: Final = """
UPDATE runs SET deadline = deadline + (clock_timestamp() - (waiting->>'since')::timestamptz), waiting = NULL
WHERE org = $1 AND id = $2 AND segment = $3 AND attempt = $4 AND waiting->>'reason' = 'stopped'
RETURNING extract(epoch FROM deadline - clock_timestamp())::double precision
"""
_EPOCHS: Final = "SELECT scope, value FROM epochs WHERE scope = ANY($1::text[])"
_ORGANIZATION: Final = "SELECT set_config('agentos.organization', $1, true)"


async def add(work: UnitOfWork, values: dict[str, Any]) -> None:
    """Add an accepted run."""
    await work.run(_ADD, {"org": work.organization, **values})


async def get(work: UnitOfWork, run_id: str, *, lock: bool = False) -> Run | None:
    """One run, locked until the unit of work ends where asked."""
    row = await work.first(_LOCK if lock else _GET, {"id": run_id})
    return _run(row._mapping) if row else None


async def listed(
    work: UnitOfWork, *, status: str, agent: str, deployment: str, before: str, most: int
) -> Sequence[Row[Any]]:
    """Runs, newest first."""
    values = {"status": status, "agent": agent, "deployment": deployment, "before": before, "most": most}
    return await work.all(_LIST, values)


async def of_request(work: UnitOfWork, request_id: str) -> list[str]:
    """The runs that a request led to, oldest first; at most 100."""
    return [row.id for row in await work.all(_OF_REQUEST, {"request_id": request_id})]


async def used(work: UnitOfWork, run_id: str) -> Used:
    """What a run's models used, as its journal tells."""
    row = await work.first(_USED, {"id": run_id})
    assert row is not None, "an aggregate has one row"
    if row.unknown:
        return Used(None, None, row.stubbed)
    return Used(int(row.input), int(row.output), row.stubbed)


async def order(work: UnitOfWork, run_id: str, ordered: str) -> None:
    """Leave a standing order on a run that is locked."""
    await work.run(_ORDER, {"id": run_id, "ordered": ordered})


async def fence(work: UnitOfWork, run_id: str) -> None:
    """Fence out whatever attempt may still believe that it owns the run."""
    await work.run(_FENCE, {"id": run_id})


async def wait(work: UnitOfWork, run_id: str, status: RunStatus, waiting: Waiting, ordered: str) -> None:
    """Record what the run waits for."""
    shown = {
        "reason": waiting.reason.value,
        "wake": waiting.wake,
        "detail": waiting.detail,
        "step": waiting.step,
        "tries": waiting.tries,
        "seconds": waiting.seconds,
    }
    await work.run(_WAIT, {"id": run_id, "status": status.value, "waiting": json.dumps(shown), "ordered": ordered})


async def moves(work: UnitOfWork, run_id: str) -> None:
    """Record that the run waits no longer."""
    await work.run(_MOVES, {"id": run_id})


async def hand(work: UnitOfWork, run_id: str, message_id: str, author: str) -> None:
    """Hand a message to a run that is locked, under the next number."""
    await work.run(_COUNT_MESSAGE, {"run_id": run_id})
    await work.run(_HAND, {"run_id": run_id, "message_id": message_id, "author": author})


async def is_handed(work: UnitOfWork, message_id: str) -> bool:
    """Whether a message was handed to its run."""
    return await work.first(_IS_HANDED, {"message_id": message_id}) is not None


async def handed(work: UnitOfWork, run_id: str, after: int) -> Sequence[Row[Any]]:
    """The messages that a run was handed after this number, in their order."""
    return await work.all(_HANDED, {"run_id": run_id, "after": after})


async def steps(work: UnitOfWork, run_id: str, after: int, most: int) -> Sequence[Row[Any]]:
    """The journal of a run from a position on."""
    return await work.all(_STEPS, {"run_id": run_id, "after": after, "most": most})


async def settle(
    work: UnitOfWork, run_id: str, *, key: str, name: str, status: str, meta: dict[str, Any], content: bytes | None
) -> None:
    """Add a person's word on an uncertain effect to the journal of a run that is locked."""
    values = {"run_id": run_id, "key": key, "name": name, "status": status, "meta": json.dumps(meta)}
    await work.run(_SETTLE, {**values, "content": content})


async def parked(work: UnitOfWork, deployment_id: str, reason: str) -> list[tuple[str, str]]:
    """Runs of a deployment that wait for this reason, with what wakes them."""
    rows = await work.all(_PARKED, {"deployment_id": deployment_id, "reason": reason})
    return [(row.id, row.wake) for row in rows]


async def held(work: UnitOfWork, deployment_id: str, since: datetime, most: int) -> int:
    """How many open runs of a deployment were accepted since a moment, ``most`` at most; others wait to count."""
    await work.run(_COUNTING, {"org": work.organization, "deployment_id": deployment_id})
    row = await work.first(_HELD, {"deployment_id": deployment_id, "since": since, "most": most})
    return int(row.runs) if row else 0


async def add_draft(work: UnitOfWork, values: dict[str, Any]) -> None:
    """Add an open draft."""
    await work.run(_ADD_DRAFT, {"org": work.organization, **values})


async def drafts(work: UnitOfWork, status: str, after: str, most: int) -> Sequence[Row[Any]]:
    """Drafts, oldest first."""
    return await work.all(_DRAFTS, {"status": status, "after": after, "most": most})


async def draft(work: UnitOfWork, draft_id: str) -> Row[Any] | None:
    """One draft, locked until the unit of work ends."""
    return await work.first(_LOCK_DRAFT, {"id": draft_id})


async def mark_draft(work: UnitOfWork, draft_id: str, status: str, run: str | None) -> None:
    """Set the status of a draft that is locked."""
    await work.run(_MARK_DRAFT, {"id": draft_id, "status": status, "run": run})


async def claim(
    database: Database, organization: str, run_id: str, segment: int, scopes: Sequence[str]
) -> Claimed | None:
    """Take a run over for a segment, fencing out every other attempt; None when it is over or past this segment.

    ``scopes`` may name the deployment and category as ``deployment:*`` and ``category:*``; they are filled in.
    """
    row = await database.group.row(_CLAIM, organization, run_id, segment, list(scopes))
    if row["id"] is None:
        return None
    epochs = dict(zip(row["scopes"], row["epochs"], strict=True))
    return Claimed(_run(row), Tier(row["tier"]), row["state"], epochs, row["seconds_left"])


async def end(
    execute: Callable[..., Awaitable[Any]],
    claimed: Claimed,
    status: RunStatus,
    output: bytes | None,
    problem: dict[str, Any] | None,
    fact: RunEnded,
    read: int,
    bill: str,
) -> tuple[float, int]:
    """Record the end of a run with its facts and what it spent; the seconds since it was accepted, and how many of its
    messages are beyond those that it has ``read``.

    ``execute`` fetches a row in a transaction of the caller's, or is that of a group commit. Raises SegmentLost
    (Unavailable).
    """
    run = claimed.run
    said = None if problem is None else json.dumps(problem)
    row = await execute(
        _END,
        run.organization,
        run.id,
        run.token.segment,
        run.token.attempt,
        status.value,
        output,
        said,
        fact.name,
        fact.body(),
        read,
        bill,
    )
    if not row["ended"]:
        raise SegmentLost("another attempt owns this run now", where=run.id)
    return max(0.0, float(row["seconds"])), row["unread"]


async def standing(database: Database, claimed: Claimed) -> tuple[Tier, str, dict[str, int]]:
    """The tier and state in force now and the epochs that they were read under."""
    run = claimed.run
    pool = await database.driver()
    with translated():
        async with pool.acquire() as connection, connection.transaction(readonly=True):
            await connection.execute(_ORGANIZATION, run.organization)
            # Epochs first: what moves between the two reads makes the next intent fail its check, never pass it.
            epochs = {one["scope"]: one["value"] for one in await connection.fetch(_EPOCHS, list(claimed.epochs))}
            row = await connection.fetchrow(_FACTS, run.organization, run.id)
    assert row is not None
    return Tier(row["tier"]), row["state"], epochs


async def give_back_time(database: Database, claimed: Claimed) -> Claimed:
    """Put off the deadline of a run that a stop held by as long as it did. Raises SegmentLost (Unavailable)."""
    run, pool = claimed.run, await database.driver()
    with translated():
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(_ORGANIZATION, run.organization)
            left = await connection.fetchval(_GIVE_BACK, run.organization, run.id, run.token.segment, run.token.attempt)
    if left is None:
        raise SegmentLost("another attempt owns this run now", where=run.id)
    return replace(claimed, seconds_left=left)


async def position(database: Database, organization: str, run_id: str) -> tuple[int, RunStatus] | None:
    """The segment that a run is in, and its status."""
    row = await database.group.row(_POSITION, organization, run_id)
    return None if row["status"] is None else (row["segment"], RunStatus(row["status"]))


def _run(row: Any) -> Run:
    waiting, problem = row["waiting"], row["problem"]
    return Run(
        organization=OrgId(row["org"]),
        id=RunId(row["id"]),
        deployment_id=DeploymentId(row["deployment_id"]),
        agent_id=row["agent_id"],
        category=row["category"],
        revision=row["revision"],
        version=row["version"],
        status=RunStatus(row["status"]),
        waiting=json.loads(waiting) if isinstance(waiting, str) else waiting,
        ordered=row["ordered"],
        orders=row["orders"],
        token=Token(row["segment"], row["attempt"]),
        format=row["format"],
        inline=row["inline"],
        messages=row["messages"],
        draft_id=DraftId(row["draft_id"]) if row["draft_id"] else None,
        firing_id=row["firing_id"],
        requested_by=row["requested_by"],
        request_id=row["request_id"],
        input=bytes(row["input"]),
        output=None if row["output"] is None else bytes(row["output"]),
        problem=json.loads(problem) if isinstance(problem, str) else problem,
        accepted_at=row["accepted_at"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        deadline=row["deadline"],
    )
