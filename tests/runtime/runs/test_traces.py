"""The spans of a run whose calls fail, and of one that another process takes over."""

from __future__ import annotations

from typing import Any

import pytest

from agentos.adapters.llm import Providers
from agentos.adapters.llm.settings import ClaudeSettings, OpenAISettings
from agentos.adapters.secrets.environment import environment_secret
from agentos.kernel.database import Database
from agentos.kernel.ids import OrgId
from agentos.kernel.telemetry.traces import ids_of
from tests.kernel.test_traces import Recorded
from tests.runtime.runs.harness import DONE, Crash, Harness, calls, harness


@pytest.fixture
def traced(database: Database, organization: OrgId) -> tuple[Harness, Recorded]:
    recorded, made = Recorded(), harness(database, organization)
    made.parts.traces = recorded.traces
    made.parts.models = Providers(ClaudeSettings.read(), OpenAISettings.read(), environment_secret, recorded.traces)
    return made, recorded


async def test_a_denied_call_has_no_span_and_the_run_ends_well(traced: tuple[Harness, Recorded]) -> None:
    h, recorded = traced
    await h.agent([calls(("send", 1)), DONE], ["send"], tier="L0")
    run = await h.finish(await h.start())
    assert run.status == "completed"
    assert "execute_tool send" not in recorded.spans
    assert recorded.spans["invoke_agent tester"].attributes["agentos.status"] == "completed"


async def test_a_run_that_another_worker_takes_over_stays_one_trace(traced: tuple[Harness, Recorded]) -> None:
    h, first = traced
    await h.agent([calls(("note", 1)), calls(("look", 2)), DONE])
    run_id = await h.start()

    def crash(_given: dict[str, Any]) -> Any:
        raise Crash

    h.world.next("look", crash)
    with pytest.raises(Crash):
        await h.segment(run_id)
    second = Recorded()
    h.parts.traces = second.traces
    await h.finish(run_id)
    again, root = second.spans["segment 1"], second.spans["invoke_agent tester"]
    assert (again.attributes or {})["agentos.attempt"] == 2
    assert "execute_tool note" in first.spans
    assert "execute_tool note" not in second.spans, "what was done is not done again, so it has no second span"
    for span in (*first.spans.values(), *second.spans.values()):
        assert span.context.trace_id == root.context.trace_id


async def test_a_run_that_fails_says_so_by_its_code(traced: tuple[Harness, Recorded]) -> None:
    h, recorded = traced
    await h.agent([calls(("look", 1)), DONE], ["look"], budgets={"turns": 1})
    run = await h.finish(await h.start())
    root = recorded.spans["invoke_agent tester"]
    assert root.attributes is not None
    assert root.attributes["error.type"] == (run.problem or {})["code"]
    assert root.attributes["agentos.status"] == run.status.value
    assert (root.context.trace_id, root.context.span_id) == ids_of(run.id)
    assert root.start_time is not None
    assert root.end_time is not None
    assert root.start_time <= root.end_time
