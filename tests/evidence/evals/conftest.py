"""A harness of runs for the tests of evals, and a fake vendor that counts what it is asked."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agentos.kernel.database import Database
from agentos.kernel.ids import OrgId
from tests.fakes.models import KEY, FakeModels
from tests.fakes.replies import Reply
from tests.runtime.runs.harness import Harness, harness


@pytest.fixture
def held(database: Database, organization: OrgId) -> Harness:
    return harness(database, organization)


@pytest.fixture
async def vendor(monkeypatch: pytest.MonkeyPatch) -> Any:
    def think(body: dict[str, Any]) -> Reply:
        return Reply(json.dumps({"n": json.loads(body["messages"][0]["content"][0]["text"])["n"] * 2}))

    async with FakeModels(brain=think) as fake:
        monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
        monkeypatch.setenv("ANTHROPIC_BASE_URL", fake.url)
        yield fake


@pytest.fixture
async def paid(database: Database, organization: OrgId, vendor: FakeModels) -> AsyncIterator[Harness]:
    """A harness whose agents and judges ask the vendor."""
    made = harness(database, organization)
    yield made
    await made.models.close()
