"""What finding by likeness needs from outside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Embeddings(Protocol):
    """Makes vectors of texts, so that like texts have like vectors.

    ``name`` changes whenever vectors of before can no longer be compared. ``local``: no text leaves this process.
    ``floor``: the least cosine of two texts that are alike at all; unlike ones stay below.
    """

    @property
    def name(self) -> str: ...
    @property
    def local(self) -> bool: ...
    @property
    def floor(self) -> float: ...

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """A vector of each text, all of one length. Raises Unavailable, Exhausted, Forbidden, Invalid or Bug."""
        ...

    async def close(self) -> None:
        """Give back what is held."""
        ...
