"""Vectors of letters: texts are alike when their words are spelled alike. No model, no network, no meaning.

Each word is cut into runs of three and four letters, with its ends marked; each run and the whole word adds to the
place of the vector that its hash says, with the sign that its hash says (feature hashing). So "deployments" finds
"deployed", and a slip of the pen finds the word; "car" never finds "automobile". The same text has the same vector on
every machine.
"""

from __future__ import annotations

import asyncio
import math
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

# By the measurement in docs/evidence.md: with fewer, what two texts share by chance hides what they share.
DIMENSIONS: Final = 768
GRAMS: Final = (3, 4)
FLOOR: Final = 0.16
WORD_WEIGHT: Final = 2.0  # a whole word says more than a part of one
AT_ONCE: Final = 20  # texts; a passage takes 0.2 ms, and more of them are done beside the event loop
LONGEST_WORD: Final = 40  # characters; what is longer is a digest or a token, and only its beginning counts

_WORD: Final = re.compile(r"[^\W_]{2,}")


class LexicalEmbeddings:
    """Embeddings that need nothing. Their name says which way of cutting and hashing they are of."""

    name: str = "lexical-1"
    local: bool = True
    floor: float = FLOOR

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """A vector of length one for each text; of zeros where it has no word."""
        if len(texts) <= AT_ONCE:
            return [vector(text) for text in texts]
        return await asyncio.to_thread(lambda: [vector(text) for text in texts])

    async def close(self) -> None:
        """Nothing to give back."""


def vector(text: str) -> list[float]:
    """The vector of one text."""
    counts: Counter[str] = Counter(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))
    found = [0.0] * DIMENSIONS
    for word, times in counts.items():
        weight = 1.0 + math.log(times)
        for place, share in _features(word):
            found[place] += weight * share
    length = math.sqrt(sum(one * one for one in found))
    return [one / length for one in found] if length else found


@lru_cache(maxsize=20_000)
def _features(word: str) -> tuple[tuple[int, float], ...]:
    return tuple(_cut(word[:LONGEST_WORD]))


def _cut(word: str) -> Iterator[tuple[int, float]]:
    yield _hashed(f"={word}", WORD_WEIGHT)
    marked = f"<{word}>"
    for size in GRAMS:
        for start in range(len(marked) - size + 1):
            yield _hashed(marked[start : start + size], 1.0)


def _hashed(feature: str, weight: float) -> tuple[int, float]:
    said = zlib.crc32(feature.encode("utf-8", "replace"))
    said = (said ^ (said >> 15)) * 0x2C1B3C6D & 0xFFFFFFFF  # crc32 is linear: like features would fall on like places
    said ^= said >> 12
    return (said >> 1) % DIMENSIONS, weight if said & 1 else -weight
