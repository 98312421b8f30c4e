"""Which scored runs a figure, or a look at drift, is made of; read from the database."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, text

from agentos.evidence.quality import drift as drifts
from agentos.evidence.quality.drift import LeftOut, Sent
from agentos.evidence.quality.figures import Scored
from agentos.evidence.quality.model import MOST_RUNS, Feedback, Scope
from agentos.kernel.unit_of_work import UnitOfWork

# ruff: noqa: S608 -- the statements are put together from the constants here and nothing else
_COLUMNS: Final = (
    "SELECT q.run_id, q.deployment_id, q.agent_id, q.category, q.version, q.status, q.ended_at, q.seconds, q.score, "
    "q.confidence, q.parts, q.features, q.feedback FROM quality_runs q "
)
_COUNTED: Final = "AND q.counted AND q.ended_at >= :since AND q.ended_at < :until "
_WITHIN: Final = f"{_COUNTED} ORDER BY q.ended_at DESC LIMIT :most"
_IN: Final = {  # a statement for each scope, because each has an index of its own
    Scope.ORGANIZATION: "true",
    Scope.ROLE: "q.category = :target",
    Scope.DEPLOYMENT: "q.deployment_id = :target",
}
_OF_ONE: Final = "AND (:version = '' OR q.version = :version) "

_OF_VERSION: Final = text(f"{_COLUMNS} WHERE q.agent_id = :agent_id AND q.version = :version {_WITHIN}")
_OF_SCOPE: Final = {scope: text(f"{_COLUMNS} WHERE {where} {_OF_ONE} {_WITHIN}") for scope, where in _IN.items()}
# Who sent most of a scope's runs within a time, and a sample of them: by the hash of their ids, which nobody chooses,
# so that the sample is of the whole time however the runs are spread over it. All of the time is looked at, as whoever
# could fill what is looked at could sway it: of roles and deployments by index alone, 700,000 runs in half a second.
_DRAWN: Final = {
    (scope, is_one): f"FROM quality_runs q WHERE {where} {_OF_ONE if is_one else ''} {_COUNTED}"
    for scope, where in _IN.items()
    for is_one in (False, True)
}
_SENT: Final = {
    of: text(
        "SELECT s.requested_by, s.runs, (sum(s.runs) OVER ())::bigint AS total FROM "
        f"(SELECT q.requested_by, count(*) AS runs {drawn} GROUP BY q.requested_by) AS s "
        "ORDER BY s.runs DESC, s.requested_by LIMIT 1"
    )
    for of, drawn in _DRAWN.items()
}
_SAMPLE: Final = {
    of: text(
        f"{_COLUMNS} WHERE q.run_id IN (SELECT q.run_id {drawn} AND (CAST(:who AS text) IS NULL "
        "OR (q.requested_by = :who) = :is_who) ORDER BY md5(q.run_id) LIMIT :most) ORDER BY q.ended_at DESC"
    )
    for of, drawn in _DRAWN.items()
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


async def sent(work: UnitOfWork, scope: Scope, target: str, version: str, since: datetime, until: datetime) -> Sent:
    """How many of a scope's runs ended within a time, and who sent most of them."""
    values = {"target": target, "version": version, "since": since, "until": until}
    row = await work.first(_SENT[scope, version != ""], values)
    return Sent(int(row.total), row.requested_by, int(row.runs)) if row else Sent()


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
    values = {"target": target, "version": version, "since": since, "until": until}
    drawn = {"most": most, "who": who, "is_who": is_who}
    return [_scored(row) for row in await work.all(_SAMPLE[scope, version != ""], values | drawn)]


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
        of, share = counted[name], drifts.share_of_one(counted[name], counted[other])
        scoped = (work, scope, target, version, *spans[name])
        if share is None:
            runs[name] = await sample(*scoped, most=drifts.MOST)
        else:
            own, others = drifts.split(of.runs, of.most, share)
            runs[name] = await sample(*scoped, most=own, who=of.who)
            runs[name] += await sample(*scoped, most=others, who=of.who, is_who=False)
        if len(runs[name]) < of.runs:
            swayed = ("", 0, 1.0) if share is None else (of.who, of.most, share)
            left_out.append(LeftOut(name, of.runs, len(runs[name]), *swayed))
    return runs["now"], runs["baseline"], tuple(left_out)


def _scored(row: Row[Any]) -> Scored:
    return Scored(**{**row._mapping, "feedback": Feedback(row.feedback) if row.feedback else None})
