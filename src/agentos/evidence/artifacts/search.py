"""Find artifacts by words and by likeness at once, and show no more of them than the one who looks may see."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from agentos.evidence.artifacts import content, store
from agentos.evidence.artifacts.indexing import Embedder
from agentos.evidence.artifacts.model import BadEvidenceQuery, Filters, Found, Hit, Holds, See, Stored, Told
from agentos.kernel.errors import AgentOSError
from agentos.kernel.ids import OrgId
from agentos.kernel.unit_of_work import Doors, UnitOfWork

MOST_WORDS: Final = 400  # characters of a query
DEPTH: Final = 100  # passages that each way gives, before they are fused
BOUND: Final = 10_000  # newest uses whose passages are measured for likeness: see docs/evidence.md
LOOKED_AT: Final = 20_000  # passages, for the words of a query together: some 40 ms
NEWEST: Final = 5_000  # uses that pass the filters, whose passages are looked at where those were not all: some 100 ms
RANKED: Final = 2_000  # of them that are compared
SMOOTH: Final = 60  # of reciprocal rank fusion: Cormack, Clarke and Buettcher, SIGIR 2009
_WORD: Final = re.compile(r"(?<![\w-])[^\W\d_]{4,24}(?!\w)")  # what may be misspelt; not what is to be left out
WORDS, LIKENESS = "words", "likeness"


@dataclass(slots=True)
class _Place:
    """A passage and by what it was found."""

    number: int
    holds: Holds = Holds.SOME
    score: float = 0.0
    likeness: float | None = None

    @property
    def order(self) -> tuple[int, float]:
        """What holds the words comes before what holds some of them, whatever else is like these."""
        return (-self.holds, -self.score)


async def search(
    doors: Doors,
    organization: OrgId,
    embedder: Embedder,
    words: str,
    filters: Filters,
    *,
    most: int,
    see: See,
    masks: bool,
    corrects: bool = False,
) -> Found:
    """The artifacts that hold the words or are like them, the best first. Each is told once, at its newest use.

    ``masks``: whether ``see`` keeps anything back. Then what is kept neither finds nor ranks nor leaves out anything.
    ``corrects``: whether a word that nothing holds is looked for as one that is held and spelt nearly like it.
    Where likeness cannot be looked at, words find what they find, and the answer says so. Raises BadEvidenceQuery
    (Invalid), DatabaseUnavailable.
    """
    words, spelt = checked(words), dict[str, str]()
    if corrects and not masks and '"' not in words:  # what is kept from somebody is not spelt out for them
        async with doors.open(organization) as work:
            spelt = await store.spellings(work, [one.lower() for one in _WORD.findall(words)])
        words = _WORD.sub(lambda one: spelt.get(one[0].lower(), one[0]), words)
    name, vector, why = embedder.embeddings.name, None, ""
    try:
        (vector,) = await embedder.embed(organization, [words])
    except AgentOSError as error:
        why = error.code
    if masks:
        hits = await _by_what_is_shown(doors, organization, embedder, words, vector, filters, see)
        return Found(tuple(hits[:most]), name, why)
    async with doors.open(organization) as work:
        places = await _places(work, embedder, words, vector, filters)
        best = sorted(places, key=lambda digest: (*places[digest].order, digest))[: 2 * most]
        stored = await store.stored(work, best, filters)
        found = [(stored[digest], places[digest]) for digest in best if digest in stored]
        hits = await _told(work, words, found)
    return Found(tuple(hits[:most]), name, why, spelt)


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
    """The best passage of each artifact: by how much of the words it holds, then by reciprocal rank fusion."""
    found: dict[tuple[str, int], _Place] = {}

    def rank(digest: str, number: int, place: int) -> _Place:
        one = found.setdefault((digest, number), _Place(number))
        one.score += 1 / (SMOOTH + place)
        return one

    by_words = await _holding(work, words, filters, most=DEPTH)
    for place, (digest, number, holds) in enumerate(by_words, 1):
        rank(digest, number, place).holds = holds
    for place, (digest, number, likeness) in enumerate(await _alike(work, embedder, vector, filters), 1):
        rank(digest, number, place).likeness = likeness
    best: dict[str, _Place] = {}
    for (digest, _), one in found.items():
        if digest not in best or one.order < best[digest].order:
            best[digest] = one
    return best


async def _holding(
    work: UnitOfWork, words: str, filters: Filters, *, most: int, among: int = 1
) -> list[tuple[str, int, Holds]]:
    """What holds the words; ``among`` so many searches of one question what may be looked at is shared."""
    bound, newest = LOOKED_AT // among, NEWEST // among
    return await store.by_words(work, words, filters, bound=bound, newest=newest, ranked=RANKED, most=most)


async def _alike(
    work: UnitOfWork, embedder: Embedder, vector: Sequence[float] | None, filters: Filters
) -> list[tuple[str, int, float]]:
    if vector is None or not any(vector):
        return []
    name, floor = embedder.embeddings.name, embedder.embeddings.floor
    return await store.by_likeness(work, vector, name, filters, floor=floor, bound=BOUND, most=DEPTH)


async def _told(work: UnitOfWork, words: str, found: Sequence[tuple[Stored, _Place]]) -> list[Hit]:
    """Hits with their snippets, for somebody from whom nothing is kept."""
    shown: list[tuple[Stored, _Place, str]] = []
    for stored, place in found:
        passages = content.passages(content.text_of(stored.use.kind, stored.value))
        shown += [(stored, place, part) for _, part in passages[place.number - 1 : place.number]]
    told = await store.told(work, words, [part for _, _, part in shown])
    return [_hit(one, said, place.likeness, part) for (one, place, part), said in zip(shown, told, strict=True)]


async def _by_what_is_shown(
    doors: Doors,
    organization: OrgId,
    embedder: Embedder,
    words: str,
    vector: Sequence[float] | None,
    filters: Filters,
    see: See,
) -> list[Hit]:
    """Hits for somebody from whom something is kept, chosen and ranked by what they are shown alone.

    Each word is looked for by itself, and what it finds counts only where the shown text holds that word, too: so a
    word that is kept from them brings nothing near that the others would not have. What is like the words counts where
    all of it is shown. Raises BadEvidenceQuery where the words leave something out: that nothing is found would tell.
    """
    asked = sorted({one for one in words.replace('"', " ").split() if one.casefold() != "or"})
    async with doors.open(organization) as work:
        if await store.leaves_out(work, words):
            raise BadEvidenceQuery(
                "leaving out what holds a word takes the permission to see personal data",
                where="q",
                then="Search without -words.",
            )
        depth = max(1, DEPTH // max(1, len(asked)))
        brought: dict[str, set[str]] = {}
        for word in asked:
            by_word = await _holding(work, word, filters, most=depth, among=len(asked))
            brought[word] = {digest for digest, _, _ in by_word}
        alike: dict[str, tuple[int, float]] = {}
        for digest, number, likeness in await _alike(work, embedder, vector, filters):
            alike.setdefault(digest, (number, likeness))
        stored = await store.stored(work, sorted(set(alike).union(*brought.values())), filters)
    shown = {digest: content.text_of(one.use.kind, await see(one)) for digest, one in stored.items()}
    whole = {digest for digest, one in stored.items() if shown[digest] == content.text_of(one.use.kind, one.value)}
    passages = {digest: [part for _, part in content.passages(one)] for digest, one in shown.items()}
    async with doors.open(organization) as work:
        holds = await store.held(work, asked, passages)
        by_words: dict[str, tuple[Told, str]] = {}
        for digest in shown:
            if any(digest in brought[one] for one in holds.get(digest, ())):
                told = zip(await store.told(work, words, passages[digest]), passages[digest], strict=True)
                if held := [one for one in told if one[0].holds]:
                    by_words[digest] = max(held, key=lambda one: one[0].rank)
        by_likeness: dict[str, tuple[Told, str]] = {}
        for digest in (one for one in alike if one in whole):
            number = alike[digest][0]
            parts = passages[digest][number - 1 : number]
            for one in zip(await store.told(work, words, parts), parts, strict=True):
                by_likeness[digest] = one
    scores: dict[str, float] = {}
    ordered = sorted(by_words, key=lambda digest: (-len(holds[digest]), -by_words[digest][0].rank, digest))
    for way in (ordered, by_likeness):
        for place, digest in enumerate(way, 1):
            scores[digest] = scores.get(digest, 0.0) + 1 / (SMOOTH + place)
    hits = []
    for digest in sorted(scores, key=lambda one: (-scores[one], one)):
        best, part = by_words.get(digest) or by_likeness[digest]
        hits.append(_hit(stored[digest], best, alike[digest][1] if digest in by_likeness else None, part))
    return hits


def _hit(stored: Stored, told: Told, likeness: float | None, part: str) -> Hit:
    ways = tuple(way for way, by in ((WORDS, told.holds), (LIKENESS, likeness is not None)) if by)
    return Hit(stored.use, stored.artifact, told.rank, ways, likeness, told.marked, part)
