from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.fakes.models import FakeModels, Reply

HELLO = Reply("Hello, this is a longer answer.")


@pytest.fixture
async def fake() -> AsyncIterator[FakeModels]:
    """A server of models that says hello, in both vendors' forms."""
    async with FakeModels(brain=lambda _: HELLO) as server:
        yield server
