"""What the inbox needs from outside: whether anybody reads what is written about a subject."""

from __future__ import annotations

from typing import Protocol

from agentos.kernel.unit_of_work import UnitOfWork


class Readers(Protocol):
    """Whoever reads the messages in threads about runs."""

    async def check(self, work: UnitOfWork, run_id: str) -> None:
        """Raises NotFound for a run that is not this organization's, Conflict or Exhausted where it reads no more."""
        ...
