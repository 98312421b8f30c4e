"""Effects and stops as the journal and the stops' horizons have them."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Final

from sqlalchemy import Row, text

from agentos.evidence.effects.model import Effect, Position, Proof, Wanted
from agentos.kernel.ids import OrgId
from agentos.kernel.unit_of_work import UnitOfWork

# Further back nothing is on the wire, whatever a skill's timeout, and nobody asks for the last effect.
LOOK_BACK: Final = "7 days"
_FIELDS: Final = tuple(one.name for one in fields(Effect))

# An effect is a row whose phase is intent; its key is STEP~SEND. A step has one result, whatever it took to get it.
_FOUND: Final = """
SELECT j.run_id, j.seq, split_part(j.key, '~', 1) AS step, split_part(j.key, '~', 2)::integer AS send,
       j.name AS skill, j.meta->>'version' AS skill_version, j.effect,
       coalesce(j.meta->>'reversibility', k.contract->>'reversibility') AS reversibility,
       r.deployment_id, r.agent_id, r.version, r.revision, j.idempotency_key,
       j.meta->>'arguments_digest' AS arguments_digest, j.meta->>'approval' AS approval_id,
       j.meta->>'decision' AS decision, j.meta->>'policy' AS policy, j.at AS committed_at,
       coalesce(e.status, s.status) AS became, coalesce(e.at, s.at) AS became_at,
       e.meta->>'code' AS code, e.meta->>'source' AS told_by,
       s.status AS settled, s.meta->>'by' AS settled_by, s.at AS settled_at,
       CASE WHEN s.status IS NOT NULL THEN 'settled'
            WHEN e.status IS NOT NULL THEN CASE e.status WHEN 'ok' THEN 'ok' ELSE 'failed' END
            WHEN r.status IN ('completed', 'failed', 'cancelled', 'blocked')
              OR r.waiting->>'reason' = 'uncertain_effect'
              AND split_part(r.waiting->>'step', '~', 1) = split_part(j.key, '~', 1) THEN 'uncertain'
            ELSE 'sent' END AS status,
       r.status AS run_status, r.waiting->>'reason' AS run_waits_for
FROM {rows} j
JOIN runs r ON r.org = j.org AND r.id = j.run_id
LEFT JOIN journal e ON e.org = j.org AND e.run_id = j.run_id AND e.key = split_part(j.key, '~', 1)
  AND e.phase = 'result'
LEFT JOIN journal s ON s.org = j.org AND s.run_id = j.run_id AND s.key = j.key || '!settled' AND s.phase = 'result'
LEFT JOIN skills k ON k.name = j.name AND k.version = j.meta->>'version'
"""
_EFFECT: Final = _FOUND.format(rows="journal")

# Whether a row was committed when a snapshot was taken. Rows carry the lower half of their transaction's id; the whole
# is the latest with that half, as nothing here is four thousand million transactions old.
_COMMITTED: Final = """pg_visible_in_snapshot(
  (SELECT (w.now - ((w.now - {row}.xmin::text::bigint) & 4294967295))::text::xid8
   FROM (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS now) w),
  CAST(CAST({snapshot} AS text) AS pg_snapshot))"""
_BEFORE: Final = _COMMITTED.format(row="j", snapshot=":horizon")
_BEFORE_LIFT: Final = _COMMITTED.format(row="j", snapshot=":lift_horizon")
_ENDED_BEFORE: Final = _COMMITTED.format(row="e", snapshot=":horizon")

# The window starts by the clock, a week early; what is before and after an order is told by commits alone.
_WINDOW: Final = (
    " WHERE j.phase = 'intent' AND j.org = :org AND j.at >= :since "
    "AND (:category = '' OR r.category = :category) AND (:deployment = '' OR r.deployment_id = :deployment) "
    "AND (:agent = '' OR r.agent_id = :agent) "
)
# ruff: noqa: S608 -- the statements are put together from the constants here and nothing else
_LAST: Final = text(f"{_EFFECT}{_WINDOW} AND {_BEFORE} ORDER BY j.at DESC, j.run_id, j.seq DESC LIMIT 1")
_WIRE: Final = text(
    f"SELECT * FROM (SELECT DISTINCT ON (w.run_id, w.step) w.* FROM "
    f"({_EFFECT}{_WINDOW} AND {_BEFORE} AND (e.run_id IS NULL OR NOT {_ENDED_BEFORE})) w "
    "ORDER BY w.run_id, w.step, w.send DESC) x ORDER BY x.committed_at, x.run_id, x.seq LIMIT 10000"
)
_AFTER: Final = text(
    f"{_EFFECT}{_WINDOW} AND NOT {_BEFORE} AND (CAST(:lift_horizon AS text) IS NULL OR {_BEFORE_LIFT}) "
    "ORDER BY j.at, j.run_id, j.seq LIMIT 10000"
)
_STOP: Final = text(
    "SELECT id, kind, scope, target, ordered_by, ordered_at, horizon::text AS horizon, lifted_by, lifted_at, "
    "lift_horizon::text AS lift_horizon, clock_timestamp() AS issued_at, "
    f"ordered_at - interval '{LOOK_BACK}' AS looked_back_to FROM stops WHERE id = :id"
)
# A run that was at work says so in its journal when the stop has brought it to rest; one that had no further step came
# to its end instead.
_RESTED: Final = text(
    "SELECT count(*) FILTER (WHERE live) AS live, count(*) FILTER (WHERE NOT live) AS others, "
    "max(at) FILTER (WHERE live) AS last FROM ("
    "  SELECT (j.meta->>'live')::boolean AS live, j.at FROM journal j "
    "  WHERE j.org = :org AND j.kind = 'note' AND j.name = 'stopped' AND j.key = 'stopped:' || :id "
    "  UNION ALL "
    "  SELECT true, r.ended_at FROM runs r WHERE r.started_at < :ordered_at AND r.ended_at >= :ordered_at "
    "  AND (CAST(:lifted_at AS timestamptz) IS NULL OR r.ended_at < :lifted_at) "
    "  AND r.status IN ('completed', 'failed', 'blocked') "
    "  AND (:category = '' OR r.category = :category) AND (:deployment = '' OR r.deployment_id = :deployment) "
    "  AND (:agent = '' OR r.agent_id = :agent) "
    "  AND NOT EXISTS (SELECT FROM journal n WHERE n.org = r.org AND n.run_id = r.id AND n.key = 'stopped:' || :id)"
    ") AS rested"
)
# A page looks at so many effects at most, whatever it is asked for: where nothing is asked, at those that it shows.
_LIST: Final = text(
    "WITH looked AS MATERIALIZED (SELECT * FROM journal j WHERE j.phase = 'intent' AND j.org = :org "
    "AND j.at >= :since AND j.at < :until AND (j.at, j.run_id, j.seq) < (:before_at, :before_run, :before_seq) "
    "ORDER BY j.at DESC, j.run_id DESC, j.seq DESC LIMIT :look) "
    f"SELECT f.*, b.* FROM (SELECT at AS last_at, run_id AS last_run, seq AS last_seq, count(*) OVER () AS looked "
    "FROM looked ORDER BY at, run_id, seq LIMIT 1) AS b "
    f"LEFT JOIN (SELECT * FROM ({_FOUND.format(rows='looked')}) AS x "
    "WHERE (:deployment = '' OR x.deployment_id = :deployment) AND (:agent = '' OR x.agent_id = :agent) "
    "AND starts_with(x.version, :version) AND (:skill = '' OR x.skill = :skill) "
    "AND (:status = '' OR x.status = :status) "
    "ORDER BY x.committed_at DESC, x.run_id DESC, x.seq DESC LIMIT :most) AS f ON true "
    "ORDER BY f.committed_at DESC, f.run_id DESC, f.seq DESC"
)


async def proof(work: UnitOfWork, stop_id: str) -> Proof | None:
    """What the database says of a stop of the organization or of everybody: of this organization's runs."""
    stop = await work.first(_STOP, {"id": stop_id})
    if stop is None:
        return None
    about = {
        "org": work.organization,
        "since": stop.looked_back_to,
        "horizon": stop.horizon,
        **{scope: stop.target if stop.scope == scope else "" for scope in ("category", "deployment", "agent")},
    }
    last = await work.first(_LAST, about)
    wire = await work.all(_WIRE, about)
    after = await work.all(_AFTER, {**about, "lift_horizon": stop.lift_horizon})
    times = {"id": stop.id, "ordered_at": stop.ordered_at, "lifted_at": stop.lifted_at}
    rested = await work.first(
        _RESTED, {**{name: about[name] for name in ("org", "category", "deployment", "agent")}, **times}
    )
    assert rested is not None
    return Proof(
        organization=OrgId(work.organization),
        stop_id=stop.id,
        **{name: value for name, value in stop._mapping.items() if name != "id"},
        last_before=None if last is None else _effect(last),
        on_the_wire=tuple(_effect(row) for row in wire),
        after=tuple(_effect(row) for row in after),
        brought_to_rest=rested.live,
        held_before_working=rested.others,
        last_at_rest=rested.last,
    )


async def listed(
    work: UnitOfWork, wanted: Wanted, before: Position, *, look: int, most: int
) -> tuple[list[Effect], Position | None]:
    """Effects of a time before a position, newest first, out of the next ``look``; and where looking ended, if it did
    before the time was over."""
    values = {
        "org": work.organization,
        "since": wanted.since,
        "until": wanted.until,
        "deployment": wanted.deployment,
        "agent": wanted.agent,
        "version": wanted.version,
        "skill": wanted.skill,
        "status": "" if wanted.status is None else wanted.status.value,
        "before_at": before.at,
        "before_run": before.run_id,
        "before_seq": before.seq,
        "look": look,
        "most": most,
    }
    rows = await work.all(_LIST, values)
    ended = Position(rows[0].last_at, rows[0].last_run, rows[0].last_seq) if rows and rows[0].looked == look else None
    return [_effect(row) for row in rows if row.run_id is not None], ended


def _effect(row: Row[Any]) -> Effect:
    return Effect(**{name: row._mapping[name] for name in _FIELDS})
