"""What a model thinks beside what it says: journaled with its answer, and told to it again in the next turn."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from agentos.adapters.llm import Providers
from agentos.adapters.llm.settings import ClaudeSettings, OpenAISettings
from agentos.adapters.secrets.environment import environment_secret
from agentos.control.budgets import service as budgets
from agentos.control.budgets.model import Price
from agentos.kernel.clock import now
from agentos.kernel.database import Database
from agentos.kernel.ids import OrgId
from agentos.runtime.runs.model import RunStatus
from tests.fakes.models import KEY, FakeModels, Fault, Reply
from tests.runtime.runs.harness import DONE, Harness, harness

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}


@pytest.fixture
async def fake() -> AsyncIterator[FakeModels]:
    async with FakeModels() as server:
        yield server


@pytest.fixture
async def held(database: Database, organization: OrgId, fake: FakeModels) -> AsyncIterator[Harness]:
    held = harness(database, organization)
    models = Providers(ClaudeSettings.read(api_key=KEY, base_url=fake.url), OpenAISettings.read(), environment_secret)
    held.parts.models = models
    async with held.doors.open(organization) as work:
        price = Price("claude", "claude-x", input=1, output=1)
        await budgets.set_price(work, price.provider, price.model, price, by="admin", at=now())
    yield held
    await models.close()


async def test_what_a_model_thought_goes_back_to_it_also_from_the_journal(held: Harness, fake: FakeModels) -> None:
    policy = {"provider": "claude", "name": "claude-x", "thinking": {"type": "enabled", "budget_tokens": 1024}}
    fake.replies = [Reply("Let me see.", thinking="I should look.", calls=[("look", {"n": 1})]), Reply('{"n": 42}')]
    fake.fail(None, Fault.BROKEN)
    await held.agent([DONE], model=policy, output={"schema": SCHEMA})
    run_id = await held.start()
    assert (await held.segment(run_id)).state == "wait"  # the second question has no answer
    run = await held.finish(run_id, 2)
    assert run.status is RunStatus.COMPLETED
    assert run.output == b'{"n":42}'
    live, replayed = (body["messages"][1]["content"] for body in fake.requests[1:])
    assert live == replayed
    assert live[0] == {"type": "thinking", "thinking": "I should look.", "signature": "EqQBCgIYAhIM"}
    assert [block["type"] for block in live] == ["thinking", "text", "tool_use"]
    assert fake.requests[0]["output_config"]["format"]["schema"] == SCHEMA
    first = next(step for step in await held.steps(run_id) if step["key"] == "t0")
    assert first["content"]["opaque"]["provider"] == "claude"
