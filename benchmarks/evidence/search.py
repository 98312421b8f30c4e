"""How long finding takes among as many artifacts as likeness is measured in.

An organization has 10,000 artifacts of one or two passages, of made-up words that are as common as words are, one in a
hundred of another agent than the rest, and a second organization has a hundred more. PostgreSQL has looked at them, as
its autovacuum does within a minute. Queries are three words of some artifact: as they stand, and each of four letters
or more with two of them exchanged; as they stand among those of the rare agent, and in the small organization.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
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
FEW: Final = 100  # of the rare agent, and of the small organization
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
    "INSERT INTO artifact_uses VALUES (:org, :run_id, 1, :digest, 't0.c0', 'read', 'look', 0, 'ok', NULL, :agent, "
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
    large, small, luck = OrgId("found"), OrgId("beside"), random.Random(22)
    texts = _texts(luck)
    began = time.perf_counter()
    for organization, some in ((large, texts), (small, texts[:FEW])):
        await identity.found_organization(doors.database, organization, name=organization)
        await _kept(doors, organization, some)
    await _looked_at(stack)
    print(f"kept {len(texts)} artifacts in {time.perf_counter() - began:.0f} s", flush=True)
    rare = range(0, ARTIFACTS, ARTIFACTS // FEW)
    found = []
    for name, organization, among, filters, spelt in (
        ("words as written", large, range(ARTIFACTS), Filters(), str),
        ("words misspelt", large, range(ARTIFACTS), Filters(), _misspelt),
        ("one agent of many", large, rare, Filters(agent="rare"), str),
        ("beside a large organization", small, range(FEW), Filters(), str),
    ):
        queries = [(wanted, _query(luck, texts[wanted], spelt)) for wanted in luck.choices(among, k=QUERIES)]
        seconds, hits = await _searched(doors, organization, filters, queries)
        ms = percentile(seconds, 0.95) * 1000
        found.append(Row(f"evidence search, {name}, p95", "ms", ms, MOST_MS, where=WHERE))
        found.append(Row(f"found among the first 10, {name}", "%", 100 * hits / QUERIES, None, "higher"))
    return found


async def _searched(
    doors: Doors, organization: OrgId, filters: Filters, queries: list[tuple[int, str]]
) -> tuple[list[float], int]:
    """The seconds of each search, and how many found the artifact that they were made of."""
    embedder, seconds, hits = Embedder(doors, LexicalEmbeddings(), Privacy(), Meter()), [], 0
    for wanted, query in queries:
        began = time.perf_counter()
        came = await search.search(
            doors, organization, embedder, query, filters, most=10, see=_all, masks=False, corrects=True
        )
        seconds.append(time.perf_counter() - began)
        hits += any(hit.use.run_id == f"run_{wanted + 1}" for hit in came.hits)
    return seconds, hits


def _query(luck: random.Random, whole: str, spelt: Callable[[str], str]) -> str:
    said = whole.split()
    start = luck.randrange(len(said) - 3)
    return " ".join(spelt(word) for word in said[start : start + 3])


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
                agent = "tester" if (number - 1) % (ARTIFACTS // FEW) else "rare"
                use = {"run_id": f"run_{number}", "agent": agent, "at": at - timedelta(seconds=number)}
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
