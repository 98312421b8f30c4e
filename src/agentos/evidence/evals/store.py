"""Data sets, evals, answers and outcomes in the database."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import Row, text

from agentos.evidence.evals.model import (
    MOST_OUTPUT_BYTES,
    Broken,
    Dataset,
    Eval,
    EvalStatus,
    Outcome,
    Score,
    Side,
    Task,
)
from agentos.kernel.database import Database
from agentos.kernel.ids import EvalId, OrgId
from agentos.kernel.unit_of_work import UnitOfWork
from agentos.runtime.runs.journal import Entry

PAGE: Final = 2000  # outcomes that are read at once: 20 ms, in which no heartbeat goes out

_ADD_DATASET: Final = text(
    "INSERT INTO eval_datasets (org, name, hash, content, cases, broken, added_by, added_at, newest_at) "
    "VALUES (:org, :name, :hash, :content, :cases, CAST(:broken AS jsonb), :by, :at, :at) "
    "ON CONFLICT (org, name, hash) DO UPDATE SET newest_at = greatest(eval_datasets.newest_at, excluded.newest_at) "
    "RETURNING xmax = 0 AS is_new"
)
_DATASET: Final = (
    "SELECT d.name, d.hash, d.cases, d.broken, length(d.content) AS size, d.added_by, d.added_at FROM eval_datasets d "
)
_NEWEST: Final = text(_DATASET + "WHERE d.name = :name ORDER BY d.newest_at DESC LIMIT 1")
_BY_HASH: Final = text(
    _DATASET + "WHERE d.name = :name AND starts_with(d.hash, :hash) ORDER BY d.newest_at DESC LIMIT 1"
)
_DATASETS: Final = text(
    "SELECT DISTINCT ON (d.name) d.name, d.hash, d.cases, d.broken, length(d.content) AS size, d.added_by, d.added_at "
    "FROM eval_datasets d WHERE d.name > :after ORDER BY d.name, d.newest_at DESC LIMIT :most"
)
_CONTENT: Final = text("SELECT d.content FROM eval_datasets d WHERE d.name = :name AND d.hash = :hash")

_ADD: Final = text(
    "INSERT INTO evals (org, id, dataset, dataset_hash, agent_id, version, against, repeats, concurrency, total, "
    "requested_by, request_id, started_at, resumed_at) VALUES (:org, :id, :dataset, :dataset_hash, :agent_id, "
    ":version, :against, :repeats, :concurrency, :total, :by, :request_id, :at, :at)"
)
_EVAL: Final = (
    "SELECT e.id, e.dataset, e.dataset_hash, e.agent_id, e.version, e.against, e.repeats, e.concurrency, e.status, "
    "e.total, (SELECT count(*) FROM eval_outcomes o WHERE o.org = e.org AND o.eval_id = e.id) AS done, e.attempt, "
    "e.lost, e.resumes, e.problem, e.report, e.requested_by, e.request_id, e.started_at, e.ended_at FROM evals e "
)
_GET: Final = text(_EVAL + "WHERE e.id = :id")
_LIST: Final = text(
    _EVAL + "WHERE (:before = '' OR e.id < :before) AND (:agent = '' OR e.agent_id = :agent) "
    "AND (:dataset = '' OR e.dataset = :dataset) AND (:status = '' OR e.status = :status) "
    "ORDER BY e.id DESC LIMIT :most"
)
_LATEST: Final = text(
    _EVAL + "WHERE e.status = 'completed' AND e.agent_id = :agent AND e.dataset = :dataset AND e.version = :version "
    "AND e.dataset_hash = :hash ORDER BY e.ended_at DESC LIMIT 1"
)
_LOCK: Final = text("SELECT e.status FROM evals e WHERE e.id = :id FOR UPDATE")
# A statement of its own: what is counted after the wait is counted as it is then.
_ONE_BY_ONE: Final = text("SELECT pg_advisory_xact_lock(hashtextextended('evals ' || :org, 0))")
_UNFINISHED: Final = text("SELECT count(*) AS unfinished FROM evals e WHERE e.status = 'running'")
_CLAIM: Final = text(
    "UPDATE evals e SET attempt = e.attempt + 1, lost = e.lost + e.is_held::integer, is_held = true "
    "WHERE e.id = :id AND e.status = 'running'"
)
_LET_GO: Final = text("UPDATE evals e SET is_held = false WHERE e.id = :id AND e.attempt = :attempt")
_IDLE: Final = text(
    "SELECT clock_timestamp() - greatest(e.resumed_at, (SELECT max(o.at) FROM eval_outcomes o "
    "WHERE o.org = e.org AND o.eval_id = e.id)) AS idle FROM evals e WHERE e.id = :id"
)
_END: Final = text(
    "UPDATE evals e SET status = :status, problem = CAST(:problem AS jsonb), report = CAST(:report AS jsonb), "
    "ended_at = :at, is_held = e.is_held AND :attempt = 0 "
    "WHERE e.id = :id AND e.status = 'running' AND (:attempt = 0 OR e.attempt = :attempt)"
)
_RESUME: Final = text(
    "UPDATE evals e SET status = 'running', problem = NULL, report = NULL, ended_at = NULL, resumed_at = :at, "
    "resumes = e.resumes + 1 "
    "WHERE e.id = :id"
)
_FORGET_ANSWERS: Final = text("DELETE FROM eval_answers a WHERE a.eval_id = :id")
# While an attempt has it, what it asked may still be answered: it settles that itself.
_CLOSE: Final = text("SELECT eval_close(:org, e.id, :final) FROM evals e WHERE e.id = :id AND NOT e.is_held")
_LOST: Final = text("UPDATE evals e SET is_held = false WHERE e.id = :id AND e.is_held AND e.status = 'cancelled'")
# A talk is named side.number.repeat of its task, and its judge after that.
_ANSWERS: Final = text(
    "SELECT a.talk, a.key, a.name, a.meta, a.content FROM eval_answers a WHERE a.eval_id = :id "
    "AND NOT EXISTS (SELECT FROM eval_outcomes o WHERE o.eval_id = a.eval_id "
    "AND o.side = split_part(a.talk, '.', 1) AND o.number = split_part(a.talk, '.', 2)::integer "
    "AND o.repeat = split_part(a.talk, '.', 3)::integer)"
)
_DONE: Final = text("SELECT o.side, o.number, o.repeat FROM eval_outcomes o WHERE o.eval_id = :id")
_OUTCOMES: Final = text(
    "SELECT o.side, o.number, o.repeat, o.status, o.body - 'calls' AS body FROM eval_outcomes o WHERE o.eval_id = :id "
    "AND (o.number, o.repeat, o.side) > (:number, :repeat, :side) ORDER BY o.number, o.repeat, o.side LIMIT :most"
)
_SUMS: Final = text(
    "SELECT count(DISTINCT o.number) AS cases, coalesce(sum((o.body ->> 'tokens')::bigint), 0) AS tokens, "
    "coalesce(sum((o.body ->> 'micros')::bigint), 0) AS micros FROM eval_outcomes o WHERE o.eval_id = :id"
)
_PAGE: Final = text(
    "SELECT o.side, o.number, o.repeat, o.status, o.body, o.output FROM eval_outcomes o WHERE o.eval_id = :id "
    "AND (o.number, o.repeat, o.side) > (:number, :repeat, :side) ORDER BY o.number, o.repeat, o.side LIMIT :most"
)
_NOTE: Final = "SELECT eval_note($1, $2, $3, $4, $5, $6, $7::text[]::jsonb[], $8, $9::jsonb) AS is_held"
_FINISH: Final = (
    "SELECT eval_finish($1, $2, $3, $4, $5, $6, $7, $8, $9::jsonb, $10, $11, $12::text[]::jsonb[]) AS is_held"
)


async def add_dataset(work: UnitOfWork, dataset: Dataset, content: bytes) -> bool:
    """Keep a data set; from now on this content is its name's newest. Whether the content is new."""
    row = await work.first(
        _ADD_DATASET,
        {
            "org": work.organization,
            "name": dataset.name,
            "hash": dataset.hash,
            "content": content,
            "cases": dataset.cases,
            "broken": json.dumps([{"line": one.line, "reason": one.reason} for one in dataset.broken]),
            "by": dataset.added_by,
            "at": dataset.added_at,
        },
    )
    return row is not None and bool(row.is_new)


async def dataset(work: UnitOfWork, name: str, hashed: str = "") -> Dataset | None:
    """A data set: its newest content, or that whose hash begins so."""
    row = await work.first(_BY_HASH if hashed else _NEWEST, {"name": name, "hash": hashed})
    return None if row is None else _dataset(row)


async def datasets(work: UnitOfWork, after: str, most: int) -> list[Dataset]:
    """The newest content of each data set, by name."""
    return [_dataset(row) for row in await work.all(_DATASETS, {"after": after, "most": most})]


async def content(work: UnitOfWork, name: str, hashed: str) -> bytes:
    """The file of a data set that is there."""
    row = await work.first(_CONTENT, {"name": name, "hash": hashed})
    assert row is not None
    return bytes(row.content)


async def add(work: UnitOfWork, wanted: Eval) -> None:
    """Keep a new eval."""
    await work.run(
        _ADD,
        {
            "org": work.organization,
            "id": wanted.id,
            "dataset": wanted.dataset,
            "dataset_hash": wanted.dataset_hash,
            "agent_id": wanted.agent_id,
            "version": wanted.version,
            "against": wanted.against,
            "repeats": wanted.repeats,
            "concurrency": wanted.concurrency,
            "total": wanted.total,
            "by": wanted.requested_by,
            "request_id": wanted.request_id,
            "at": wanted.started_at,
        },
    )


async def get(work: UnitOfWork, eval_id: str) -> Eval | None:
    """An eval."""
    row = await work.first(_GET, {"id": eval_id})
    return None if row is None else _eval(row)


async def listed(work: UnitOfWork, agent: str, dataset: str, status: str, before: str, most: int) -> list[Eval]:
    """Evals, newest first."""
    values = {"agent": agent, "dataset": dataset, "status": status, "before": before, "most": most}
    return [_eval(row) for row in await work.all(_LIST, values)]


async def latest(work: UnitOfWork, agent_id: str, version: str, dataset: str, hashed: str) -> Eval | None:
    """The last eval of a version over this content of a data set that was completed."""
    values = {"agent": agent_id, "version": version, "dataset": dataset, "hash": hashed}
    row = await work.first(_LATEST, values)
    return None if row is None else _eval(row)


async def lock(work: UnitOfWork, eval_id: str) -> None:
    """Hold the eval until the unit of work ends."""
    await work.first(_LOCK, {"id": eval_id})


async def unfinished(work: UnitOfWork) -> int:
    """How many evals of the organization are under way; nobody else begins one until the unit of work ends."""
    await work.first(_ONE_BY_ONE, {"org": work.organization})
    row = await work.first(_UNFINISHED)
    return 0 if row is None else int(row.unfinished)


async def claim(work: UnitOfWork, eval_id: str) -> Eval | None:
    """Take a running eval for a new attempt, which fences out those before; None when it is not running."""
    if not await work.run(_CLAIM, {"id": eval_id}):
        return None
    return await get(work, eval_id)


async def let_go(work: UnitOfWork, eval_id: str, attempt: int) -> None:
    """Keep that the attempt left nothing under way: the next one does not count it as lost."""
    await work.run(_LET_GO, {"id": eval_id, "attempt": attempt})


async def idle_seconds(work: UnitOfWork, eval_id: str) -> float:
    """How long ago the eval last came further."""
    row = await work.first(_IDLE, {"id": eval_id})
    return 0.0 if row is None else float(row.idle.total_seconds())


async def end(
    work: UnitOfWork,
    eval_id: str,
    status: EvalStatus,
    *,
    attempt: int = 0,
    problem: dict[str, Any] | None = None,
    report: dict[str, Any] | None = None,
    at: datetime,
) -> bool:
    """End a running eval; False when it is over or another attempt has it. ``attempt`` 0: whoever has it.

    What it needs to go on is forgotten, unless it failed. What is still reserved for it counts as spent, unless another
    than who has it ends it: see ``close_lost``.
    """
    values = {"problem": _jsonb(problem) if problem else None, "report": _jsonb(report) if report else None}
    if not await work.run(_END, {"id": eval_id, "status": status.value, "attempt": attempt, "at": at, **values}):
        return False
    goes_on = status is EvalStatus.FAILED
    await work.first(_CLOSE, {"org": work.organization, "id": eval_id, "final": not goes_on})
    if not goes_on:
        await work.run(_FORGET_ANSWERS, {"id": eval_id})
    return True


async def close_lost(work: UnitOfWork, eval_id: str) -> None:
    """Count what is still reserved as spent, of a cancelled eval whose worker was lost before it could settle it."""
    if await work.run(_LOST, {"id": eval_id}):
        await work.first(_CLOSE, {"org": work.organization, "id": eval_id, "final": True})


async def resume(work: UnitOfWork, eval_id: str, *, at: datetime) -> None:
    """Let an eval that failed run again."""
    await work.run(_RESUME, {"id": eval_id, "at": at})


async def answers(work: UnitOfWork, eval_id: str) -> dict[str, list[Entry]]:
    """The answers that were committed of tasks that have no outcome yet, by talk."""
    found: dict[str, list[Entry]] = {}
    for row in await work.all(_ANSWERS, {"id": eval_id}):
        entry = Entry(row.key, "result", "model", row.name, "ok", row.meta, msgspec.json.decode(bytes(row.content)))
        found.setdefault(row.talk, []).append(entry)
    return found


async def done(work: UnitOfWork, eval_id: str) -> set[Task]:
    """The tasks that have an outcome."""
    return {Task(Side(row.side), row.number, row.repeat) for row in await work.all(_DONE, {"id": eval_id})}


async def outcomes(work: UnitOfWork, eval_id: str) -> list[tuple[str, Outcome]]:
    """Every outcome with its case's id, without what it said and called, by case and repeat."""
    found: list[tuple[str, Outcome]] = []
    number, repeat, side = -1, 0, ""
    while True:
        values = {"id": eval_id, "number": number, "repeat": repeat, "side": side, "most": PAGE}
        rows = await work.all(_OUTCOMES, values)
        found += [_outcome(row, None) for row in rows]
        if len(rows) < PAGE:
            return found
        number, repeat, side = rows[-1].number, rows[-1].repeat, rows[-1].side


async def sums(work: UnitOfWork, eval_id: str) -> tuple[int, int, int]:
    """How many cases have an outcome, and the tokens and millionths of a dollar that all outcomes took."""
    row = await work.first(_SUMS, {"id": eval_id})
    assert row is not None
    return int(row.cases), int(row.tokens), int(row.micros)


async def page(work: UnitOfWork, eval_id: str, after: tuple[int, int, str], most: int) -> list[tuple[str, Outcome]]:
    """Outcomes with what was said, by case and repeat."""
    number, repeat, side = after
    values = {"id": eval_id, "number": number, "repeat": repeat, "side": side, "most": most}
    return [
        _outcome(row, None if row.output is None else msgspec.json.decode(bytes(row.output)))
        for row in await work.all(_PAGE, values)
    ]


async def note(
    database: Database,
    organization: OrgId,
    eval_id: str,
    attempt: int,
    talk: str,
    entries: Sequence[Entry],
    bill: str | None,
) -> bool:
    """Make answers durable with what they cost; False when the eval is over or another attempt has it."""
    row = await database.group.row(
        _NOTE,
        organization,
        eval_id,
        attempt,
        talk,
        [one.key for one in entries],
        [one.name for one in entries],
        [msgspec.json.encode(one.meta).decode() for one in entries],
        [msgspec.json.encode(one.content) for one in entries],
        bill,
    )
    return bool(row["is_held"])


async def finish(
    database: Database,
    organization: OrgId,
    eval_id: str,
    attempt: int,
    case_id: str,
    outcome: Outcome,
    bills: Mapping[str, str],
) -> bool:
    """Make an outcome durable with what its talks cost; False as in ``note``."""
    output = None if outcome.output is None else msgspec.json.encode(outcome.output)
    is_cut = output is not None and len(output) > MOST_OUTPUT_BYTES
    body = {
        "case": case_id,
        "code": outcome.code,
        "why": outcome.why,
        "scores": {name: one.shown() for name, one in outcome.scores.items()},
        "calls": outcome.calls if len(msgspec.json.encode(outcome.calls)) <= MOST_OUTPUT_BYTES else [],
        "tokens": outcome.tokens,
        "micros": outcome.micros,
        "asked": outcome.asked,
        "seconds": round(outcome.seconds, 4),
        "output_bytes": 0 if output is None else len(output),
    }
    row = await database.group.row(
        _FINISH,
        organization,
        eval_id,
        attempt,
        outcome.task.side.value,
        outcome.task.number,
        outcome.task.repeat,
        outcome.status,
        outcome.passed if outcome.scored else None,
        _jsonb(body),
        None if is_cut else output,
        list(bills),
        list(bills.values()),
    )
    return bool(row["is_held"])


def _jsonb(data: dict[str, Any]) -> str:
    """The data as jsonb takes them: it has room neither for NUL nor for half a character, which providers may say."""
    said = json.dumps(data, ensure_ascii=False).encode(errors="replace").decode()
    return said.replace("\\u0000", "\\ufffd")


def _dataset(row: Row[Any]) -> Dataset:
    broken = tuple(Broken(one["line"], one["reason"]) for one in row.broken)
    return Dataset(row.name, row.hash, row.cases, broken, row.size, row.added_by, row.added_at)


def _eval(row: Row[Any]) -> Eval:
    return Eval(**{**row._mapping, "id": EvalId(row.id), "status": EvalStatus(row.status)})


def _outcome(row: Row[Any], output: Any) -> tuple[str, Outcome]:
    body = row.body
    scores = {name: Score(one["value"], one["passed"], one.get("why", "")) for name, one in body["scores"].items()}
    found = Outcome(
        Task(Side(row.side), row.number, row.repeat),
        row.status,
        body["code"],
        body["why"],
        output,
        body.get("calls", []),
        scores,
        body["tokens"],
        body["micros"],
        body["asked"],
        body["seconds"],
    )
    return str(body["case"]), found
