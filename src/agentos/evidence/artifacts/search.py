"""Find artifacts by words and by likeness at once, and show no more of them than the one who looks may see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from agentos.evidence.artifacts import content, store
from agentos.evidence.artifacts.indexing import Embedder
from agentos.evidence.artifacts.model import BadEvidenceQuery, Filters, Found, Hit, See, Stored
from agentos.kernel.errors import AgentOSError
from agentos.kernel.ids import OrgId
from agentos.kernel.unit_of_work import Doors, UnitOfWork

MOST_WORDS: Final = 400  # characters of a query
DEPTH: Final = 100  # passages that each way gives, before they are fused
BOUND: Final = 10_000  # newest uses whose passages are measured for likeness: see docs/evidence.md
SMOOTH: Final = 60  # of reciprocal rank fusion: Cormack, Clarke and Buettcher, SIGIR 2009
WORDS, LIKENESS = "words", "likeness"


@dataclass(slots=True)
class _Place:
    """A passage and by what it was found."""

    number: int
    score: float = 0.0
    likeness: float | None = None


async def search(
    doors: Doors, organization: OrgId, embedder: Embedder, words: str, filters: Filters, *, most: int, see: See
) -> Found:
    """The artifacts that hold the words or are like them, the best first. Each is told once, at its newest use.

    Where likeness cannot be looked at, words find what they find, and the answer says so. Raises BadEvidenceQuery
    (Invalid), DatabaseUnavailable.
    """
    words = checked(words)
    name, vector, why = embedder.embeddings.name, None, ""
    try:
        (vector,) = await embedder.embed(organization, [words])
    except AgentOSError as error:
        why = error.code
    async with doors.open(organization) as work:
        places = await _places(work, embedder, words, vector, filters)
        best = sorted(places, key=lambda digest: (-places[digest].score, digest))[: 2 * most]
        stored = await store.stored(work, best, filters)
    seen = [(stored[digest], await see(stored[digest])) for digest in best if digest in stored]
    async with doors.open(organization) as work:
        hits = await _shown(work, words, [(one, value, places[one.use.digest]) for one, value in seen])
    return Found(tuple(hits[:most]), name, why)


def checked(words: str) -> str:
    """The words as they are looked for. Raises BadEvidenceQuery (Invalid)."""
    plain = " ".join(words.replace("\0", " ").split())
    if not any(one.isalnum() for one in plain):
        raise BadEvidenceQuery("there is no word to look for", where="q", then="Write what the evidence says.")
    if len(plain) > MOST_WORDS:
        raise BadEvidenceQuery(f"a search has {MOST_WORDS} characters at most", where="q", then="Leave words out.")
    return plain


async def _places(
    work: UnitOfWork, embedder: Embedder, words: str, vector: Sequence[float] | None, filters: Filters
) -> dict[str, _Place]:
    """The best passage of each artifact, scored by reciprocal rank fusion."""
    found: dict[tuple[str, int], _Place] = {}

    def rank(digest: str, number: int, place: int) -> _Place:
        one = found.setdefault((digest, number), _Place(number))
        one.score += 1 / (SMOOTH + place)
        return one

    for place, (digest, number) in enumerate(await store.by_words(work, words, filters, DEPTH), 1):
        rank(digest, number, place)
    if vector is not None and any(vector):
        embeddings = embedder.embeddings
        alike = await store.by_likeness(
            work, vector, embeddings.name, filters, floor=embeddings.floor, bound=BOUND, most=DEPTH
        )
        for place, (digest, number, likeness) in enumerate(alike, 1):
            rank(digest, number, place).likeness = likeness
    best: dict[str, _Place] = {}
    for (digest, _), one in found.items():
        if digest not in best or one.score > best[digest].score:
            best[digest] = one
    return best


async def _shown(work: UnitOfWork, words: str, found: Sequence[tuple[Stored, object, _Place]]) -> list[Hit]:
    """Hits with their snippets.

    What is kept from the one who looks finds nothing for them: neither is a hit shown that only stands on it, nor does
    the order of the others tell of it.
    """
    hits: list[Hit] = []
    masked = False
    for stored, value, place in found:
        whole, text = content.text_of(stored.use.kind, stored.value), content.text_of(stored.use.kind, value)
        parts = [part for _, part in content.passages(text)]
        if text == whole:
            parts = parts[place.number - 1 : place.number]
        told = list(zip(parts, await store.told(work, words, parts), strict=True))
        if text != whole:
            masked = True
            told = sorted((one for one in told if one[1].holds), key=lambda one: -one[1].rank)
        if not told:
            continue
        shown, best = told[0]
        likeness = place.likeness if text == whole else None
        ways = tuple(way for way, by in ((WORDS, best.holds), (LIKENESS, likeness is not None)) if by)
        hits.append(Hit(stored.use, stored.artifact, best.rank, ways, likeness, best.marked, shown))
    return sorted(hits, key=lambda one: -one.rank) if masked else hits
