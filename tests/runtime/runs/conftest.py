from __future__ import annotations

import pytest

from agentos.kernel.database import Database
from agentos.kernel.ids import OrgId
from tests.runtime.runs.harness import Harness, harness


@pytest.fixture
def held(database: Database, organization: OrgId) -> Harness:
    return harness(database, organization)
