"""Runs whose skills bring back texts, and what becomes evidence of them, without Temporal or HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from agentos.adapters.embeddings.lexical import LexicalEmbeddings
from agentos.control.privacy.service import Privacy
from agentos.evidence.artifacts.asking import Teller
from agentos.evidence.artifacts.indexing import Artifacts, Embedder
from agentos.evidence.artifacts.model import EmbeddingsUnavailable, Filters, Found, Stored
from agentos.evidence.artifacts.service import Asked, Evidence, Reply, Sight
from agentos.evidence.artifacts.settings import EvidenceSettings
from agentos.kernel.clock import now
from agentos.kernel.database import Database
from agentos.kernel.ids import OrgId, RunId
from agentos.runtime.gateway.model import Asker
from tests.runtime.runs.harness import DONE, Harness, calls, harness


@dataclass
class Away:
    """Embeddings of another space, that can be away, and that remember what they were told."""

    name: str = "elsewhere"
    local: bool = False
    floor: float = 0.5
    is_away: bool = True
    told: list[str] = field(default_factory=list)

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        if self.is_away:
            raise EmbeddingsUnavailable("away for this test")
        self.told += texts
        return [[1.0, float("refund" in one), 0.0] for one in texts]

    async def close(self) -> None:
        """Nothing to give back."""


async def everything(stored: Stored) -> Any:
    """Sight of somebody who may see all."""
    return stored.value


async def same(value: Any) -> Any:
    return value


ALL = Sight(everything, same, masks=False)


@dataclass
class Archive:
    """One organization's runs and what is found of them."""

    runs: Harness
    embeddings: Any
    privacy: Privacy = field(default_factory=Privacy)
    settings: EvidenceSettings = field(default_factory=EvidenceSettings)

    @property
    def embedder(self) -> Embedder:
        return Embedder(self.runs.doors, self.embeddings, self.privacy, self.runs.parts.meter)

    @property
    def artifacts(self) -> Artifacts:
        return Artifacts(self.runs.doors, self.embedder, self.runs.parts.meter)

    @property
    def evidence(self) -> Evidence:
        models = self.runs.models
        teller = Teller(self.runs.parts, lambda: models.listing(), self.settings)
        return Evidence(self.runs.doors, self.embedder, teller)

    async def run(
        self, skill: str = "", answer: Any = None, *, name: str = "tester", text: str = "", tier: str = "L4"
    ) -> RunId:
        """A run that calls a skill, which answers this, and then says the text; and its artifacts."""
        script = [calls((skill, 1))] if skill else []
        script.append({"text": text} if text else DONE)
        await self.runs.agent(script, [skill] if skill else ["look"], name=name, tier=tier)
        if skill and answer is not None:
            self.runs.world.next(skill, lambda _given: answer)
        run_id = await self.runs.start(name=name)
        await self.runs.finish(run_id)
        await self.artifacts.take(self.runs.organization, [run_id])
        return run_id

    async def search(self, words: str, *, see: Any = everything, most: int = 10, **filters: Any) -> Found:
        organization = self.runs.organization
        masks = see is not everything
        return await self.evidence.search(
            organization, words, Filters(**filters), most=most, see=see, masks=masks, corrects=True
        )

    async def ask(self, text: str, *, model: bool = False, sight: Sight = ALL, hidden: Sight = ALL) -> Reply:
        asker = Asker(self.runs.organization, "author", "req-1")
        return await self.evidence.ask(Asked(text, asker, model=model), sight, hidden, at=now())


@pytest.fixture
def archive(database: Database, organization: OrgId) -> Archive:
    """An archive that embeds by letters."""
    return Archive(harness(database, organization), LexicalEmbeddings())
