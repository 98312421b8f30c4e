"""What was counted, in the database; journals as far as they are counted; and how far budgets were used up at times."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import TextClause, text

from agentos.evidence.usage.model import (
    COUNTERS,
    RESOURCES,
    Counts,
    Dimension,
    Line,
    Measure,
    Question,
)
from agentos.evidence.usage.tally import Ended, Row, Tally
from agentos.kernel.database import Database
from agentos.kernel.unit_of_work import UnitOfWork

_PLACE: Final = ("day", "source", "agent_id", "version", "provider", "model", "skill")
_NULLABLE: Final = frozenset({"cache_read_tokens", "cache_write_tokens", "reasoning_tokens"})
_SECONDS: Final = frozenset({"run_seconds", "model_seconds", "skill_seconds"})


def _added(name: str) -> str:
    if name in _NULLABLE:  # unknown and unknown stay unknown
        return f"{name} = coalesce(u.{name} + excluded.{name}, u.{name}, excluded.{name})"
    return f"{name} = u.{name} + excluded.{name}"


def _typed(name: str) -> str:
    return f"{name} double precision" if name in _SECONDS else f"{name} bigint"


# ruff: noqa: S608 -- the statements are put together from the constants here and nothing else
_COUNT: Final = text(
    "WITH fresh AS (INSERT INTO usage_counted (org, subject) SELECT :org, unnest(CAST(:subjects AS text[])) "
    "ON CONFLICT DO NOTHING RETURNING subject) "
    f"INSERT INTO usage_days AS u (org, {', '.join(_PLACE)}, {', '.join(COUNTERS)}) "
    f"SELECT :org, {', '.join(f'l.{name}' for name in _PLACE)}, {', '.join(f'sum(l.{name})' for name in COUNTERS)} "
    "FROM jsonb_to_recordset(CAST(:lines AS jsonb)) AS l "
    f"(subject text, day date, {', '.join(f'{name} text' for name in _PLACE[1:])}, {', '.join(map(_typed, COUNTERS))}) "
    f"JOIN fresh f ON f.subject = l.subject GROUP BY {', '.join(f'l.{name}' for name in _PLACE)} "
    f"ORDER BY {', '.join(f'l.{name}' for name in _PLACE)} "
    f"ON CONFLICT (org, {', '.join(_PLACE)}) DO UPDATE SET {', '.join(map(_added, COUNTERS))}"
)
_ENDED: Final = text(
    "SELECT id, agent_id, version, accepted_at, ended_at FROM runs "
    "WHERE id = ANY(CAST(:ids AS text[])) AND ended_at IS NOT NULL"
)
_VERSION: Final = text("SELECT version FROM runs WHERE id = :id")
_ROWS: Final = text(
    "SELECT run_id, key, phase, kind, name, status, at, meta FROM journal "
    "WHERE org = :org AND run_id = ANY(CAST(:ids AS text[])) "
    "AND (kind IN ('model', 'skill') OR meta ? 'attempts') ORDER BY run_id, seq"
)
_OPEN: Final = text(
    "SELECT count(*) AS runs FROM runs WHERE status IN ('accepted', 'running', 'waiting_approval', 'paused') "
    "AND accepted_at < :until AND (:agent = '' OR agent_id = :agent) AND starts_with(version, :version)"
)
_MARKS: Final = text("SELECT usage_mark(:at, :kept)")
# What each subject used since a time: all of its days from then on, less what its first day had seen by then.
_SPENT: Final = text(
    f"SELECT p.agent_id, {', '.join(f'sum(p.{one} - coalesce(m.{one}, 0))::bigint AS {one}' for one in RESOURCES)} "
    "FROM budget_periods p LEFT JOIN LATERAL (SELECT * FROM usage_marks m WHERE m.org = p.org "
    "AND m.agent_id = p.agent_id AND m.since = p.since AND m.at <= :since ORDER BY m.at DESC LIMIT 1) AS m "
    "ON p.since = :day WHERE p.period = 'day' AND p.since >= :day AND p.since <= :today GROUP BY p.agent_id"
)

_COLUMNS: Final = {
    Dimension.ORGANIZATION: "u.org",
    Dimension.DAY: "u.day::text",
    Dimension.SOURCE: "u.source",
    Dimension.AGENT: "u.agent_id",
    Dimension.VERSION: "u.version",
    Dimension.MODEL: "CASE WHEN u.model = '' THEN u.provider ELSE u.provider || '/' || u.model END",
    Dimension.SKILL: "u.skill",
}
# A row that has no model is of none, unless it is of a call whose model nobody knows.
_HAVE: Final = {
    Dimension.MODEL: "(u.provider <> '' OR u.lost_calls > 0)",
    Dimension.SKILL: "u.skill <> ''",
}
_FIRST: Final = {
    Measure.MONEY: "sum(u.money + u.unknown_money)",
    Measure.TOKENS: "sum(u.input_tokens + u.output_tokens + u.unknown_tokens)",
    Measure.SECONDS: "sum(u.run_seconds + u.model_seconds + u.skill_seconds)",
    Measure.CALLS: "sum(u.calls + u.skill_calls)",
}
_ASKED: Final = (
    "FROM usage_days u WHERE u.day >= :since AND u.day <= :until AND (:agent = '' OR u.agent_id = :agent) "
    "AND starts_with(u.version, :version) AND (:skill = '' OR u.skill = :skill) "
    f"AND (:model = '' OR {_COLUMNS[Dimension.MODEL]} = :model) AND (:source = '' OR u.source = :source)"
)


def _statement(question: Question, *, in_order: bool) -> TextClause:
    """The sums for each value of what is asked by, and beside each how many values there are."""
    keys = [_COLUMNS[one] for one in question.by]
    have = "".join(f" AND {_HAVE[one]}" for one in question.by if one in _HAVE)
    sums = [
        f"sum(u.{name})" + ("::double precision" if name in _SECONDS else "::bigint") + f" AS {name}"
        for name in COUNTERS
    ]
    named = [f"{column} AS of_{number}" for number, column in enumerate(keys)]
    places = [str(number) for number in range(1, len(keys) + 1)]
    order = [] if in_order else [f"{_FIRST[question.first]} DESC"]
    tail = f" GROUP BY {', '.join(places)} ORDER BY {', '.join([*order, *places])}" if keys else ""
    return text(f"SELECT {', '.join([*named, *sums])}, count(*) OVER () AS values_ {_ASKED}{have}{tail} LIMIT :most")


async def count(work: UnitOfWork, tallies: Mapping[str, Tally]) -> None:
    """Add what subjects used; of a subject that is counted already nothing is added."""
    lines = [
        {"subject": subject, **{name: getattr(place, name) for name in _PLACE}, "day": place.day.isoformat()}
        | {name: getattr(counts, name) for name in COUNTERS}
        for subject, tally in tallies.items()
        for place, counts in tally.items()
    ]
    await work.run(_COUNT, {"org": work.organization, "subjects": sorted(tallies), "lines": json.dumps(lines)})


async def ended(work: UnitOfWork, run_ids: Sequence[str]) -> dict[str, Ended]:
    """Those of these runs that are over."""
    rows = await work.all(_ENDED, {"ids": list(run_ids)})
    return {row.id: Ended(row.agent_id, row.version, row.accepted_at, row.ended_at) for row in rows}


async def version_of(work: UnitOfWork, run_id: str) -> str | None:
    """The version of a run; None: it is no run."""
    row = await work.first(_VERSION, {"id": run_id})
    return None if row is None else str(row.version)


async def rows(work: UnitOfWork, run_ids: Sequence[str]) -> dict[str, list[Row]]:
    """What of each run's journal is counted, in order, without content."""
    found: dict[str, list[Row]] = {}
    for row in await work.all(_ROWS, {"org": work.organization, "ids": list(run_ids)}):
        counted = Row(row.key, row.phase, row.kind, row.name, row.status, row.at, row.meta)
        found.setdefault(row.run_id, []).append(counted)
    return found


async def lines(work: UnitOfWork, question: Question, *, in_order: bool, most: int) -> tuple[list[Line], int]:
    """The sums that are asked for and how many there are; ``in_order``: by name, else the most first."""
    found = await work.all(_statement(question, in_order=in_order), {**_values(question), "most": most})
    return [
        Line(
            {one.value: getattr(row, f"of_{number}") for number, one in enumerate(question.by)},
            Counts(**{name: _or_none(name, row._mapping[name]) for name in COUNTERS}),
        )
        for row in found
    ], found[0].values_ if found else 0


async def open_runs(work: UnitOfWork, question: Question, until: datetime) -> int:
    """Runs that are not over, so that they are not counted yet."""
    values = {"until": until, "agent": question.agent, "version": question.version}
    row = await work.first(_OPEN, values)
    return int(row.runs) if row else 0


async def spent(work: UnitOfWork, since: datetime, at: datetime) -> dict[str, dict[str, int]]:
    """What each subject used up of each resource since a time, as far as marks tell."""
    days = {"day": since.astimezone(UTC).date(), "today": at.astimezone(UTC).date()}
    found = await work.all(_SPENT, {"since": since, **days})
    return {row.agent_id: {name: int(row._mapping[name]) for name in RESOURCES} for row in found}


async def mark(database: Database, at: datetime, kept: datetime) -> int:
    """Mark how far budgets are used up, and forget marks of before ``kept``; how many were made."""
    async with database.connection("agentos_system") as connection:
        return int((await connection.execute(_MARKS, {"at": at, "kept": kept})).scalar_one())


def _values(question: Question) -> dict[str, Any]:
    names = ("since", "until", "agent", "version", "skill", "model")
    source = "" if question.source is None else question.source.value
    return {name: getattr(question, name) for name in names} | {"source": source}


def _or_none(name: str, value: Any) -> Any:
    return value if value is not None or name in _NULLABLE else 0
