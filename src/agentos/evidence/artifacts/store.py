"""Artifacts, their uses and passages in the database; journals, runs and drafts are read and never written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, text

from agentos.evidence.artifacts.model import INPUT, OUTPUT, Artifact, Filters, Holds, Kind, Stored, Told, Use
from agentos.kernel.unit_of_work import UnitOfWork

_USE: Final = (
    "u.run_id, u.seq, u.digest, u.step, u.kind, u.name, u.effect, u.status, u.approval_id, u.agent_id, u.category, "
    "u.deployment_id, u.version, u.at"
)
_PASSES: Final = (
    "(:agent = '' OR u.agent_id = :agent) AND (:run = '' OR u.run_id = :run) AND (:kind = '' OR u.kind = :kind) "
    "AND u.at >= :since AND u.at < :until"
)
# ruff: noqa: S608 -- the statements are put together from the constants here and nothing else
_TAKEN: Final = text(
    "SELECT r.id, r.agent_id, r.category, r.deployment_id, r.version, r.status, r.input, r.output, r.accepted_at, "
    "r.ended_at, coalesce((SELECT max(u.seq) FROM artifact_uses u WHERE u.run_id = r.id AND u.seq > 0), 0) AS upto "
    "FROM runs r WHERE r.id = ANY(CAST(:ids AS text[])) ORDER BY r.id"
)
# The draft of a row is a column of its own: taken out of JSON within the join it could use no index, as row-level
# security comes first.
_ROWS: Final = text(
    "WITH found AS MATERIALIZED (SELECT j.run_id, j.seq, j.key, j.phase, j.kind, j.name, j.status, j.effect, j.meta, "
    "j.at, j.content, j.blob, CASE WHEN j.kind = 'draft' THEN j.meta->>'draft' END AS draft "
    "FROM unnest(CAST(:ids AS text[]), CAST(:after AS bigint[])) AS r (id, after) "
    "JOIN journal j ON j.org = :org AND j.run_id = r.id AND j.seq > r.after "
    'ORDER BY j.run_id COLLATE "C", j.seq LIMIT :most) '
    "SELECT j.run_id, j.seq, j.key, j.phase, j.kind, j.name, j.status, j.effect, j.meta, j.at, "
    "coalesce(d.arguments, j.content, b.content) AS content FROM found j "
    "LEFT JOIN blobs b ON b.org = :org AND b.digest = j.blob LEFT JOIN drafts d ON d.org = :org AND d.id = j.draft "
    'ORDER BY j.run_id COLLATE "C", j.seq'
)
_ADD: Final = text(
    "INSERT INTO artifacts (org, digest, media_type, size, characters, searched) "
    "SELECT :org, digest, media_type, size, characters, searched FROM unnest(CAST(:digest AS text[]), "
    "CAST(:media_type AS text[]), CAST(:size AS bigint[]), CAST(:characters AS bigint[]), CAST(:searched AS bigint[])) "
    "AS a (digest, media_type, size, characters, searched) ORDER BY digest ON CONFLICT DO NOTHING RETURNING digest"
)
_OF_A_USE: Final = {one.name: "text" for one in fields(Use)} | {"seq": "int", "effect": "smallint", "at": "timestamptz"}
_ADD_USES: Final = text(
    f"INSERT INTO artifact_uses (org, {', '.join(_OF_A_USE)}) SELECT :org, u.* "
    f"FROM unnest({', '.join(f'CAST(:{name} AS {kind}[])' for name, kind in _OF_A_USE.items())}) AS u "
    "ON CONFLICT DO NOTHING"
)
_ADD_PASSAGES: Final = text(
    "SELECT artifact_passages_add(:org, :digest, CAST(:starts AS integer[]), CAST(:texts AS text[]), :embedder, "
    "CAST(:embeddings AS text[]))"
)
_ADD_WORDS: Final = text("SELECT artifact_vocabulary_add(:org, CAST(:texts AS text[]))")
_SPELLINGS: Final = text("SELECT said, meant FROM artifact_spellings(CAST(:words AS text[]))")
_EMBED: Final = text("SELECT artifact_passages_embed(:digest, :embedder, CAST(:embeddings AS text[]))")
_REFUSE: Final = text("UPDATE artifact_passages SET embedder = :embedder, embedding = NULL WHERE digest = :digest")
_KNOWN: Final = text("SELECT digest FROM artifacts WHERE digest = ANY(CAST(:digests AS text[]))")
_NOT_EMBEDDED: Final = text(
    "SELECT DISTINCT digest FROM (SELECT digest FROM artifact_passages WHERE org = :org "
    "AND (embedder < :embedder OR embedder > :embedder) AND embedder <> :refused LIMIT :most) AS p"
)
_LIST: Final = text(
    f"SELECT {_USE}, a.media_type, a.size, a.characters, a.searched FROM artifact_uses u "
    f"JOIN artifacts a ON a.org = u.org AND a.digest = u.digest WHERE {_PASSES} "
    "AND (u.at, u.run_id, u.seq) < (:at, :before_run, :before_seq) ORDER BY u.at DESC, u.run_id DESC, u.seq DESC "
    "LIMIT :most"
)
_GET: Final = text("SELECT digest, media_type, size, characters, searched FROM artifacts WHERE digest = :digest")
_USES: Final = text(f"SELECT {_USE} FROM artifact_uses u WHERE u.digest = :digest ORDER BY u.at DESC LIMIT :most")
_BY_WORDS: Final = text(
    "SELECT * FROM artifacts_by_words(:words, :agent, :run, :kind, :since, :until, :anywhere, "
    "CAST(:bound AS integer), CAST(:newest AS integer), CAST(:ranked AS integer), CAST(:most AS integer))"
)
_BY_LIKENESS: Final = text(
    "SELECT * FROM artifacts_by_likeness(:vector, :embedder, :agent, :run, :kind, :since, :until, "
    "CAST(:floor AS double precision), CAST(:bound AS integer), CAST(:most AS integer))"
)
# The newest use of each that passes the filters, with its content.
_STORED: Final = text(
    f"SELECT DISTINCT ON (u.digest) {_USE}, a.media_type, a.size, a.characters, a.searched, j.phase, "
    "j.kind AS row_kind, j.name AS row_name, j.status AS row_status, j.meta, "
    "CASE WHEN u.seq = :input THEN r.input WHEN u.seq = :output THEN r.output "
    "ELSE coalesce(d.arguments, j.content, b.content) END AS content "
    "FROM artifact_uses u JOIN artifacts a ON a.org = u.org AND a.digest = u.digest "
    "LEFT JOIN journal j ON j.org = u.org AND j.run_id = u.run_id AND j.seq = u.seq "
    "LEFT JOIN blobs b ON b.org = j.org AND b.digest = j.blob "
    "LEFT JOIN drafts d ON u.kind = 'draft' AND d.org = j.org AND d.id = j.meta->>'draft' "
    "LEFT JOIN runs r ON u.seq <= 0 AND r.org = u.org AND r.id = u.run_id "
    f"WHERE u.digest = ANY(CAST(:digests AS text[])) AND {_PASSES} ORDER BY u.digest, u.at DESC, u.seq DESC"
)
_OF: Final = (
    "(:all_agents OR r.agent_id = ANY(CAST(:agents AS text[]))) AND (:all_runs OR r.id = ANY(CAST(:runs AS text[])))"
)
_RUNS: Final = text(
    "SELECT r.id, r.agent_id, r.deployment_id, r.version, r.status, r.requested_by, r.accepted_at, r.ended_at, "
    f"r.problem->>'code' AS code FROM runs r WHERE {_OF} AND r.accepted_at < :until "
    "AND (r.ended_at IS NULL OR r.ended_at >= :since) "
    "AND (:all_statuses OR r.status = ANY(CAST(:statuses AS text[]))) ORDER BY r.id DESC LIMIT :most"
)
_DECIDED: Final = text(
    "SELECT r.id AS run_id, r.agent_id, j.seq, j.key, j.name, j.phase, j.kind, j.status, j.at, "
    "j.meta->>'decision' AS code, j.meta->>'rule' AS rule, j.meta->>'tier' AS tier FROM runs r "
    f"JOIN journal j ON j.org = r.org AND j.run_id = r.id WHERE {_OF} AND r.accepted_at < :until "
    "AND (r.ended_at IS NULL OR r.ended_at >= :since) AND j.at >= :since AND j.at < :until AND j.meta ? 'decision' "
    "AND (:all_statuses OR j.status = ANY(CAST(:statuses AS text[]))) "
    "ORDER BY j.at DESC, r.id DESC, j.seq DESC LIMIT :most"
)
_SENT: Final = text(
    "SELECT r.id AS run_id, r.agent_id, j.seq, j.key, j.name, j.effect, j.at, j.meta->>'approval' AS approval_id, "
    "j.meta->>'decision' AS code, j.meta->>'rule' AS rule, u.digest, "
    "CASE WHEN s.status IS NOT NULL THEN s.status WHEN n.seq IS NOT NULL THEN 'sent_again' ELSE e.status END AS became "
    "FROM runs r JOIN journal j ON j.org = r.org AND j.run_id = r.id AND j.phase = 'intent' "
    "LEFT JOIN journal s ON s.org = j.org AND s.run_id = j.run_id AND s.key = j.key || '!settled' "
    "AND s.phase = 'result' "
    "LEFT JOIN journal n ON n.org = j.org AND n.run_id = j.run_id AND n.phase = 'intent' "
    "AND n.key = split_part(j.key, '~', 1) || '~' || split_part(j.key, '~', 2)::integer + 1 "
    "LEFT JOIN journal e ON e.org = j.org AND e.run_id = j.run_id AND e.key = split_part(j.key, '~', 1) "
    "AND e.phase = 'result' LEFT JOIN artifact_uses u ON u.org = j.org AND u.run_id = j.run_id AND u.seq = j.seq "
    f"WHERE {_OF} AND r.accepted_at < :until AND (r.ended_at IS NULL OR r.ended_at >= :since) "
    "AND j.at >= :since AND j.at < :until "
    "AND (:all_approvals OR j.meta->>'approval' = ANY(CAST(:approvals AS text[]))) "
    "ORDER BY j.at DESC, r.id DESC, j.seq DESC LIMIT :most"
)
_ASKED: Final = text(
    "SELECT a.id FROM approvals a JOIN runs r ON r.org = a.org AND r.id = a.run_id "
    f"WHERE {_OF} AND (:all_ids OR a.id = ANY(CAST(:ids AS text[]))) AND a.asked_at < :until "
    "AND coalesce(a.decided_at, 'infinity') >= :since "
    "AND (:all_statuses OR a.status = ANY(CAST(:statuses AS text[]))) ORDER BY a.id DESC LIMIT :most"
)
_AGENTS: Final = text("SELECT id FROM agents WHERE id = ANY(CAST(:names AS text[])) ORDER BY id")
_TOLD: Final = text(
    "SELECT n, to_tsvector('simple', raw) @@ q.any_of AS holds, "
    "ts_rank(to_tsvector('simple', raw), q.any_of, 1) AS rank, "
    "ts_headline('simple', raw, q.any_of, :options) AS marked "
    "FROM artifact_words(:words) AS q, unnest(CAST(:texts AS text[])) WITH ORDINALITY AS p (raw, n) ORDER BY n"
)
_LEAVES_OUT: Final = text("SELECT every::text LIKE '%!%' AS leaves_out FROM artifact_words(:words)")
_HELD: Final = text(
    "WITH t AS MATERIALIZED (SELECT n, to_tsvector('simple', raw) AS words "
    "FROM unnest(CAST(:texts AS text[])) WITH ORDINALITY AS p (raw, n)) "
    "SELECT t.n, q.word FROM unnest(CAST(:asked AS text[])) AS q (word), artifact_words(q.word) AS w, t "
    "WHERE t.words @@ w.any_of"
)

_SNIPPET: Final = "StartSel=«, StopSel=», MaxFragments=2, MaxWords=30, MinWords=12, FragmentDelimiter= … "


async def taken(work: UnitOfWork, run_ids: Sequence[str]) -> Sequence[Row[Any]]:
    """Runs in order, as their artifacts need them, and up to which row the journal of each was looked through."""
    return await work.all(_TAKEN, {"ids": list(run_ids)})


async def rows(work: UnitOfWork, after: Mapping[str, int], most: int) -> list[dict[str, Any]]:
    """The journals of runs, each from a position on, one run after the other; of a draft, what was drafted."""
    values = {"org": work.organization, "ids": list(after), "after": list(after.values()), "most": most}
    return [dict(row._mapping) for row in await work.all(_ROWS, values)]


async def known(work: UnitOfWork, digests: Sequence[str]) -> set[str]:
    """Those of these artifacts that are kept already."""
    return {row.digest for row in await work.all(_KNOWN, {"digests": list(digests)})}


async def add(work: UnitOfWork, artifacts: Sequence[Artifact]) -> set[str]:
    """Keep artifacts, each once; the digests of those that were not kept yet, and have no passages."""
    columns = {one.name: [getattr(artifact, one.name) for artifact in artifacts] for one in fields(Artifact)}
    return {row.digest for row in await work.all(_ADD, {"org": work.organization, **columns})}


async def add_passages(
    work: UnitOfWork,
    digest: str,
    passages: Sequence[tuple[int, str]],
    embedder: str,
    vectors: Sequence[Sequence[float]],
) -> None:
    """Keep the passages of an artifact. Without ``embedder`` their vectors are made later."""
    values = {
        "org": work.organization,
        "digest": digest,
        "starts": [start for start, _ in passages],
        "texts": [text for _, text in passages],
        "embedder": embedder,
        "embeddings": [_written(one) for one in vectors],
    }
    await work.run(_ADD_PASSAGES, values)
    await work.run(_ADD_WORDS, {"org": work.organization, "texts": values["texts"]})


async def add_uses(work: UnitOfWork, uses: Sequence[Use]) -> None:
    """Keep where artifacts were used, each use once."""
    if uses:
        columns = {name: [getattr(one, name) for one in uses] for name in _OF_A_USE}
        await work.run(_ADD_USES, {"org": work.organization, **columns})


def refused(embedder: str) -> str:
    """The name that stands where this embedder would not make a vector: it is not asked again."""
    return f"refused:{embedder}"


async def embed(work: UnitOfWork, digest: str, embedder: str, vectors: Sequence[Sequence[float]]) -> None:
    """Give the passages of an artifact their vectors, in their order; without any, say by whom they were refused."""
    if not vectors:
        await work.run(_REFUSE, {"digest": digest, "embedder": embedder})
        return
    values = {"digest": digest, "embedder": embedder, "embeddings": [_written(one) for one in vectors]}
    await work.run(_EMBED, values)


async def not_embedded(work: UnitOfWork, embedder: str, most: int) -> list[str]:
    """Artifacts with passages that have no vector of this embedder, among so many such passages."""
    values = {"org": work.organization, "embedder": embedder}
    found = await work.all(_NOT_EMBEDDED, {**values, "refused": refused(embedder), "most": most})
    return [row.digest for row in found]


async def get(work: UnitOfWork, digest: str) -> Artifact | None:
    """One artifact."""
    row = await work.first(_GET, {"digest": digest})
    return None if row is None else Artifact(**row._mapping)


async def uses(work: UnitOfWork, digest: str, most: int) -> list[Use]:
    """Where an artifact was used, newest first."""
    return [_use(row) for row in await work.all(_USES, {"digest": digest, "most": most})]


async def listed(
    work: UnitOfWork, filters: Filters, before: tuple[datetime, str, int], most: int
) -> list[tuple[Use, Artifact]]:
    """Uses that pass the filters, newest first; ``before``: where a page ended."""
    at, run_id, seq = before
    values = {**asdict(filters), "at": at, "before_run": run_id, "before_seq": seq, "most": most}
    return [(_use(row), _artifact(row)) for row in await work.all(_LIST, values)]


async def by_words(
    work: UnitOfWork, words: str, filters: Filters, *, bound: int, newest: int, ranked: int, most: int
) -> list[tuple[str, int, Holds]]:
    """Passages that hold the words as they stand, then those that hold all of them, then some; the best first.

    ``bound``: how many passages are looked at for the words, together; ``newest``: of how many uses that pass the
    filters the passages are, too; ``ranked``: how many of all these are compared.
    """
    values = {**asdict(filters), "anywhere": filters == Filters(), "words": words}
    found = await work.all(_BY_WORDS, {**values, "bound": bound, "newest": newest, "ranked": ranked, "most": most})
    return [(row.digest, row.number, Holds(row.holds)) for row in found]


async def spellings(work: UnitOfWork, words: Sequence[str]) -> dict[str, str]:
    """For each word in small letters that nothing holds, what is held and a slip of the pen away, if there is any."""
    return {row.said: row.meant for row in await work.all(_SPELLINGS, {"words": list(words)})}


async def by_likeness(
    work: UnitOfWork,
    vector: Sequence[float],
    embedder: str,
    filters: Filters,
    *,
    floor: float,
    bound: int,
    most: int,
) -> list[tuple[str, int, float]]:
    """Passages most like the vector, of those in the ``bound`` newest uses that pass the filters."""
    values = {**asdict(filters), "vector": _written(vector), "embedder": embedder, "floor": floor}
    found = await work.all(_BY_LIKENESS, {**values, "bound": bound, "most": most})
    return [(row.digest, row.number, row.likeness) for row in found]


async def stored(work: UnitOfWork, digests: Sequence[str], filters: Filters) -> dict[str, Stored]:
    """The content of each artifact at its newest use that passes the filters; not of those whose content is gone."""
    values = {**asdict(filters), "digests": list(digests), "input": INPUT, "output": OUTPUT}
    return {row.digest: _stored(work, row) for row in await work.all(_STORED, values) if row.content is not None}


async def told(work: UnitOfWork, words: str, texts: Sequence[str]) -> list[Told]:
    """Of each text: whether it holds any of the words, how well, and a snippet with them marked."""
    if not texts:
        return []
    found = await work.all(_TOLD, {"words": words, "texts": list(texts), "options": _SNIPPET})
    return [Told(bool(row.holds), float(row.rank), row.marked) for row in found]


async def leaves_out(work: UnitOfWork, words: str) -> bool:
    """Whether a query has words that must not be there."""
    row = await work.first(_LEAVES_OUT, {"words": words})
    return row is not None and bool(row.leaves_out)


async def held(work: UnitOfWork, asked: Sequence[str], texts: Mapping[str, Sequence[str]]) -> dict[str, set[str]]:
    """Which of the words each text holds, by the name of the text; of texts in parts, which PostgreSQL bounds."""
    names = [name for name, parts in texts.items() for _ in parts]
    found: dict[str, set[str]] = {}
    for row in await work.all(
        _HELD, {"asked": list(asked), "texts": [one for parts in texts.values() for one in parts]}
    ):
        found.setdefault(names[row.n - 1], set()).add(row.word)
    return found


@dataclass(frozen=True, slots=True)
class About:
    """Which runs a question is about: all where it names none."""

    agents: tuple[str, ...]
    runs: tuple[str, ...]
    since: datetime
    until: datetime

    def values(self, most: int) -> dict[str, Any]:
        """As the statements take it."""
        return {
            "all_agents": not self.agents,
            "agents": list(self.agents),
            "all_runs": not self.runs,
            "runs": list(self.runs),
            "since": self.since,
            "until": self.until,
            "most": most,
        }


async def agents(work: UnitOfWork, names: Sequence[str]) -> tuple[str, ...]:
    """Those of the names that are agents."""
    return tuple(row.id for row in await work.all(_AGENTS, {"names": list(names)}))


async def runs(work: UnitOfWork, about: About, statuses: Iterable[str], most: int) -> Sequence[Row[Any]]:
    """Runs that were under way in the time, newest first; of these statuses where there are any."""
    return await work.all(_RUNS, about.values(most) | _of(statuses))


async def sent(work: UnitOfWork, about: About, approvals: Sequence[str], most: int) -> Sequence[Row[Any]]:
    """Effects that were committed in the time, newest first, with what became of each and what let it happen.

    Those that these approvals let happen, where there are any.
    """
    return await work.all(_SENT, {**about.values(most), "all_approvals": not approvals, "approvals": list(approvals)})


async def decided(work: UnitOfWork, about: About, statuses: Iterable[str], most: int) -> Sequence[Row[Any]]:
    """What policy said of calls in the time, newest first; of the rows of these statuses where there are any."""
    return await work.all(_DECIDED, about.values(most) | _of(statuses))


async def asked(work: UnitOfWork, about: About, ids: Sequence[str], statuses: Iterable[str], most: int) -> list[str]:
    """Approvals that waited or were decided in the time, newest first; of these ids and statuses if any."""
    values = {**about.values(most), "all_ids": not ids, "ids": list(ids)} | _of(statuses)
    return [row.id for row in await work.all(_ASKED, values)]


def _of(statuses: Iterable[str]) -> dict[str, Any]:
    wanted = sorted(statuses)
    return {"all_statuses": not wanted, "statuses": wanted}


def _written(vector: Sequence[float]) -> str:
    return "[" + ",".join(f"{one:.6g}" for one in vector) + "]"


def _use(row: Row[Any]) -> Use:
    return Use(
        run_id=row.run_id,
        seq=row.seq,
        digest=row.digest,
        step=row.step,
        kind=Kind(row.kind),
        name=row.name,
        effect=row.effect,
        status=row.status,
        approval_id=row.approval_id,
        agent_id=row.agent_id,
        category=row.category,
        deployment_id=row.deployment_id,
        version=row.version,
        at=row.at,
    )


def _artifact(row: Row[Any]) -> Artifact:
    return Artifact(row.digest, row.media_type, row.size, row.characters, row.searched)


def _stored(work: UnitOfWork, row: Row[Any]) -> Stored:
    use, value = _use(row), json.loads(bytes(row.content))
    drafted = use.kind is Kind.DRAFT  # shown as the arguments that it holds are
    shown = {
        "kind": row.row_kind or use.kind.value,
        "phase": "intent" if drafted else row.phase,
        "name": row.row_name or "",
        "status": "sent" if drafted else row.row_status,
        "meta": row.meta or {},
        "content": value,
    }
    return Stored(work.organization, use, _artifact(row), shown, value)
