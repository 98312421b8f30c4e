"""How long finding takes among as many artifacts as likeness is measured in.

An organization has 10,000 artifacts of one or two passages, of made-up words that are as common as words are, and
PostgreSQL has looked at them, as its autovacuum does within a minute. Queries
are three words of some artifact: as they stand, and each of four letters or more with two of them exchanged.
"""

from __future__ import annotations

import random
import time
from datetime import timedelta
from typing import Any, Final

import asyncpg
import msgspec
from pydantic import SecretStr
from sqlalchemy import text

from agentos.adapters.embeddings.lexical import LexicalEmbeddings
from agentos.control.privacy.service import Privacy
from agentos.evidence.artifacts import content, search
from agentos.evidence.artifacts.indexing import Embedder
from agentos.evidence.artifacts.model import Filters, Kind, Stored
from agentos.intake.identity import service as identity
from agentos.kernel.clock import now
from agentos.kernel.database import Database
from agentos.kernel.ids import OrgId
from agentos.kernel.settings import DatabaseSettings
from agentos.kernel.telemetry import Meter
from agentos.kernel.unit_of_work import Doors
from benchmarks.report import Row, percentile
from benchmarks.stack import Stack

ARTIFACTS: Final = 10_000
QUERIES: Final = 200
WORDS: Final = 20_000  # of the made-up language
WHERE: Final = f"one caller, {ARTIFACTS} artifacts, embedded PostgreSQL"
MOST_MS: Final = 250.0  # a person waits for it

_JOURNAL: Final = text(
    "INSERT INTO journal (org, run_id, seq, key, phase, kind, name, status, segment, attempt, meta, content) "
    "SELECT :org, 'run_' || n, 1, 't0.c0', 'result', 'skill', 'look', 'ok', 1, 1, '{}', c "
    "FROM unnest(CAST(:contents AS bytea[])) WITH ORDINALITY AS t (c, n)"
)
_ARTIFACT: Final = text(
    "INSERT INTO artifacts VALUES (:org, :digest, 'text/plain', CAST(:size AS integer), :size, :size)"
)
_USE: Final = text(
    "INSERT INTO artifact_uses VALUES (:org, :run_id, 1, :digest, 't0.c0', 'read', 'look', 0, 'ok', NULL, 'tester', "
    "'tests', 'dep', 'v', :at)"
)
_WORDS: Final = text("SELECT artifact_vocabulary_add(:org, CAST(:texts AS text[]))")
_PASSAGES: Final = text(
    "SELECT artifact_passages_add(:org, :digest, CAST(:starts AS integer[]), CAST(:texts AS text[]), :embedder, "
    "CAST(:embeddings AS text[]))"
)


async def rows(stack: Stack) -> list[Row]:
    """The rows of a search, on a stack whose database is migrated."""
    database = Database(DatabaseSettings(url=SecretStr(stack.database.url), pool_size=5))
    try:
        return await _measured(Doors(database), stack)
    finally:
        await database.close()


async def _measured(doors: Doors, stack: Stack) -> list[Row]:
    organization, luck = OrgId("found"), random.Random(22)
    await identity.found_organization(doors.database, organization, name="Found")
    texts = _texts(luck)
    began = time.perf_counter()
    await _kept(doors, organization, texts)
    await _looked_at(stack)
    print(f"kept {len(texts)} artifacts in {time.perf_counter() - began:.0f} s", flush=True)
    embedder = Embedder(doors, LexicalEmbeddings(), Privacy(), Meter())
    found = []
    for name, spelt in (("as written", lambda word: word), ("misspelt", _misspelt)):
        seconds, hits = [], 0
        for _ in range(QUERIES):
            wanted = luck.randrange(len(texts))
            said = texts[wanted].split()
            start = luck.randrange(len(said) - 3)
            query = " ".join(spelt(word) for word in said[start : start + 3])
            began = time.perf_counter()
            came = await search.search(
                doors, organization, embedder, query, Filters(), most=10, see=_all, masks=False, corrects=True
            )
            seconds.append(time.perf_counter() - began)
            hits += any(hit.use.run_id == f"run_{wanted + 1}" for hit in came.hits)
        ms = percentile(seconds, 0.95) * 1000
        found.append(Row(f"evidence search, words {name}, p95", "ms", ms, MOST_MS, where=WHERE))
        found.append(Row(f"found among the first 10, words {name}", "%", 100 * hits / QUERIES, None, "higher"))
    return found


async def _kept(doors: Doors, organization: OrgId, texts: list[str]) -> None:
    at = now()
    embeddings = LexicalEmbeddings()
    for start in range(0, len(texts), 1000):
        part = texts[start : start + 1000]
        made: list[dict[str, Any]] = []
        for said in part:
            cut = content.passages(said)
            vectors = await embeddings.embed([one for _, one in cut])
            made.append(
                {
                    "org": organization,
                    "digest": content.digest_of(msgspec.json.encode(said)),
                    "starts": [place for place, _ in cut],
                    "texts": [one for _, one in cut],
                    "embedder": embeddings.name,
                    "embeddings": ["[" + ",".join(f"{n:.6g}" for n in one) + "]" for one in vectors],
                }
            )
        words = {"org": organization, "texts": [one for made_of in made for one in made_of["texts"]]}
        async with doors.open(organization) as work:
            await work.run(_WORDS, words)
            for number, (said, one) in enumerate(zip(part, made, strict=True), start + 1):
                size = len(said)
                await work.run(_ARTIFACT, {"org": organization, "digest": one["digest"], "size": size})
                use = {"run_id": f"run_{number}", "at": at - timedelta(seconds=number)}
                await work.run(_USE, {"org": organization, "digest": one["digest"], **use})
                await work.run(_PASSAGES, one)
    async with doors.open(organization) as work:
        await work.run(_JOURNAL, {"org": organization, "contents": [msgspec.json.encode(one) for one in texts]})


async def _looked_at(stack: Stack) -> None:
    address = stack.database.superuser_url.rpartition("/")[0]
    admin = await asyncpg.connect(f"{address}/{stack.database.url.rpartition('/')[2]}")
    try:
        for name in ("artifacts", "artifact_uses", "artifact_passages", "artifact_vocabulary"):
            await admin.execute(f"ANALYZE agentos.{name}")
    finally:
        await admin.close()


def _texts(luck: random.Random) -> list[str]:
    letters = "etaoinshrdlucmfwypvbgk"
    language = ["".join(luck.choices(letters, k=luck.randint(3, 11))) for _ in range(WORDS)]
    weights = [1 / (rank + 10) for rank in range(WORDS)]
    return [" ".join(luck.choices(language, weights, k=luck.randint(40, 150))) for _ in range(ARTIFACTS)]


def _misspelt(word: str) -> str:
    middle = len(word) // 2
    return word[: middle - 1] + word[middle] + word[middle - 1] + word[middle + 1 :] if len(word) > 3 else word


async def _all(stored: Stored) -> Any:
    assert stored.use.kind is Kind.READ
    return stored.value
