"""Which scored runs a figure, or a look at drift, is made of; read from the database."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, text

from agentos.evidence.quality import drift as drifts
from agentos.evidence.quality.drift import SEEN, LeftOut
from agentos.evidence.quality.figures import Scored
from agentos.evidence.quality.model import MOST_RUNS, Feedback, Scope
from agentos.kernel.unit_of_work import UnitOfWork

# ruff: noqa: S608 -- the statements are put together from the constants here and nothing else
_COLUMNS: Final = (
    "SELECT q.run_id, q.deployment_id, q.agent_id, q.category, q.version, q.status, q.ended_at, q.seconds, q.score, "
    "q.confidence, q.parts, q.features, q.feedback FROM quality_runs q "
)
_WITHIN: Final = "AND q.counted AND q.ended_at >= :since AND q.ended_at < :until ORDER BY q.ended_at DESC LIMIT :most"
_IN: Final = {  # a statement for each scope, because each has an index of its own
    Scope.ORGANIZATION: "(:version = '' OR q.version = :version)",
    Scope.ROLE: "q.category = :target AND (:version = '' OR q.version = :version)",
    Scope.DEPLOYMENT: "q.deployment_id = :target AND (:version = '' OR q.version = :version)",
}

_OF_VERSION: Final = text(f"{_COLUMNS} WHERE q.agent_id = :agent_id AND q.version = :version {_WITHIN}")
_OF_SCOPE: Final = {scope: text(f"{_COLUMNS} WHERE {where} {_WITHIN}") for scope, where in _IN.items()}
# Who sent the newest runs of a scope within a time, and a sample of them: by the hash of their ids, which nobody
# chooses, so that the sample is of the whole time however the runs are spread over it.
_NEWEST: Final = _WITHIN.replace(":most", ":seen")
_SEEN: Final = {
    scope: f"(SELECT q.run_id, q.requested_by FROM quality_runs q WHERE {where} {_NEWEST}) AS s"
    for scope, where in _IN.items()
}
_SENT: Final = {
    scope: text(f"SELECT s.requested_by, count(*) AS runs FROM {seen} GROUP BY s.requested_by")
    for scope, seen in _SEEN.items()
}
_SAMPLE: Final = {
    scope: text(
        f"{_COLUMNS} WHERE q.run_id IN (SELECT s.run_id FROM {seen} WHERE CAST(:who AS text) IS NULL "
        "OR (s.requested_by = :who) = :is_who ORDER BY md5(s.run_id) LIMIT :most) ORDER BY q.ended_at DESC"
    )
    for scope, seen in _SEEN.items()
}
# Of the newest runs of the organization, or of a deployment: those that ended within a time and have no score.
_UNSCORED: Final = {
    scope: text(
        f"SELECT count(*) AS runs FROM (SELECT n.* FROM runs n {of} ORDER BY n.id DESC LIMIT :most) AS r WHERE {where} "
        "AND r.ended_at >= :since AND r.ended_at < :until AND r.draft_id IS NULL AND r.status <> 'cancelled' "
        "AND NOT EXISTS (SELECT FROM quality_runs q WHERE q.org = r.org AND q.run_id = r.id)"
    )
    for scope, of, where in (
        (Scope.ORGANIZATION, "", "true"),
        (Scope.ROLE, "", "r.category = :target"),
        (Scope.DEPLOYMENT, "WHERE n.deployment_id = :target", "true"),
    )
}


async def of_version(work: UnitOfWork, agent_id: str, version: str, since: datetime, until: datetime) -> list[Scored]:
    """Runs of a version that ended within a time, in every deployment of its agent; newest first."""
    values = {"agent_id": agent_id, "version": version, "since": since, "until": until, "most": MOST_RUNS}
    return [_scored(row) for row in await work.all(_OF_VERSION, values)]


async def of_scope(
    work: UnitOfWork, scope: Scope, target: str, since: datetime, until: datetime, *, version: str = ""
) -> list[Scored]:
    """Runs of a scope that ended within a time, of one version where one is named; newest first."""
    values = {"target": target, "version": version, "since": since, "until": until, "most": MOST_RUNS}
    return [_scored(row) for row in await work.all(_OF_SCOPE[scope], values)]


async def unscored(work: UnitOfWork, scope: Scope, target: str, since: datetime, until: datetime) -> int:
    """How many runs of a scope ended within a time and have no score, of the newest MOST_RUNS."""
    values = {"target": target, "since": since, "until": until, "most": MOST_RUNS}
    row = await work.first(_UNSCORED[scope], values)
    return int(row.runs) if row else 0


async def sent(
    work: UnitOfWork, scope: Scope, target: str, version: str, since: datetime, until: datetime
) -> dict[str, int]:
    """How many of a scope's runs that ended within a time each caller sent, of the newest SEEN."""
    values = {"target": target, "version": version, "since": since, "until": until, "seen": SEEN}
    return {row.requested_by: int(row.runs) for row in await work.all(_SENT[scope], values)}


async def sample(
    work: UnitOfWork,
    scope: Scope,
    target: str,
    version: str,
    since: datetime,
    until: datetime,
    *,
    most: int,
    who: str | None = None,
    is_who: bool = True,
) -> list[Scored]:
    """So many of those runs, drawn from all of the time; of a caller, or of all others, where one is named."""
    values = {"target": target, "version": version, "since": since, "until": until, "seen": SEEN}
    drawn = {"most": most, "who": who, "is_who": is_who}
    return [_scored(row) for row in await work.all(_SAMPLE[scope], values | drawn)]


async def windows(
    work: UnitOfWork,
    scope: Scope,
    target: str,
    version: str,
    times: tuple[datetime, datetime, datetime],  # the baseline's beginning, the window's, and its end
) -> tuple[list[Scored], list[Scored], tuple[LeftOut, ...]]:
    """Samples of a window and of its baseline in which no caller has more than its share, and what was left out."""
    spans = {"now": times[1:], "baseline": times[:2]}
    counted = {name: await sent(work, scope, target, version, *span) for name, span in spans.items()}
    runs, left_out = dict[str, list[Scored]](), list[LeftOut]()
    for name, other in (("now", "baseline"), ("baseline", "now")):
        total, of_one = sum(counted[name].values()), drifts.share_of_one(counted[name], counted[other])
        scoped = (work, scope, target, version, *spans[name])
        if of_one is None:
            runs[name] = await sample(*scoped, most=drifts.MOST)
        else:
            who, share = of_one
            own, others = drifts.split(total, counted[name][who], share)
            runs[name] = await sample(*scoped, most=own, who=who)
            runs[name] += await sample(*scoped, most=others, who=who, is_who=False)
        if len(runs[name]) < total:
            who, share = of_one or ("", 1.0)
            left_out.append(LeftOut(name, total, len(runs[name]), who, counted[name].get(who, 0), share))
    return runs["now"], runs["baseline"], tuple(left_out)


def _scored(row: Row[Any]) -> Scored:
    return Scored(**{**row._mapping, "feedback": Feedback(row.feedback) if row.feedback else None})
