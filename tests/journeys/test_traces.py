"""A run is one trace in a collector: across the request that asked for it, its segments and their processes."""

from __future__ import annotations

import json

import pytest

from agentos.kernel.telemetry.traces import ids_of
from tests.fakes.collector import collecting
from tests.journeys.conftest import running
from tests.runtime.runs.harness import calls

CALLER = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")
SECRET_WORDS = "the moon is made of cheese"


async def test_a_run_is_one_trace_linked_with_its_callers(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.address)
        async with running(database_url, monkeypatch) as platform:
            script = [calls(("look", 1)), calls(("pay", 1)), {"text": SECRET_WORDS}]
            await platform.apply(script, ["look", "pay"], tier="L3", instructions=SECRET_WORDS)
            run = await platform.run({"task_description": SECRET_WORDS}, traceparent=f"00-{CALLER[0]}-{CALLER[1]}-01")
            question = await platform.question(run["id"])
            await platform.approver.post(f"/api/v1/approvals/{question['id']}/approve", json={})
            done = await platform.until(run["id"], "completed")

    trace, root_id = f"{ids_of(run['id'])[0]:032x}", f"{ids_of(run['id'])[1]:016x}"
    spans = [one for one in collector.spans if one.trace == trace]
    assert {one.attributes["agentos.run_id"] for one in spans} == {run["id"]}
    (root,) = collector.named("invoke_agent tester")
    assert (root.trace, root.id, root.parent) == (trace, root_id, "")
    assert root.attributes["gen_ai.operation.name"] == "invoke_agent"
    assert root.attributes["gen_ai.agent.version"] == done["version"]
    assert root.attributes["agentos.status"] == "completed"
    assert not root.failed

    segments = [one for one in spans if one.name.startswith("segment ")]
    assert len(segments) == 2, "one until the approval, and one after it"
    assert {one.parent for one in segments} == {root_id}
    assert root.seconds >= sum(one.seconds for one in segments)

    chats = collector.named("chat stub")
    assert len(chats) == 3
    assert {one.parent for one in chats} <= {one.id for one in segments}
    assert {one.trace for one in chats} == {trace}
    for chat in chats:
        assert chat.kind == 3  # client
        assert chat.attributes["gen_ai.provider.name"] == "stub"
        assert chat.attributes["gen_ai.usage.output_tokens"] > 0
    chats.sort(key=lambda one: one.began)  # processes send on their own, so they come in any order
    reasons = [one.attributes["gen_ai.response.finish_reasons"] for one in chats]
    assert reasons == [["tool_call"], ["tool_call"], ["stop"]]

    (look,), (pay,) = collector.named("execute_tool look"), collector.named("execute_tool pay")
    assert (look.attributes["gen_ai.tool.name"], look.attributes["agentos.step"]) == ("look", "t0.c0")
    assert (pay.attributes["agentos.effect"], pay.trace) == ("S3", trace)

    (request,) = collector.named("POST /api/v1/runs")
    assert (request.trace, request.parent) == CALLER
    assert request.links == ((trace, root_id),)
    assert request.attributes["http.response.status_code"] == 202
    (accepted,) = collector.named("accept_run")
    assert (accepted.trace, accepted.parent) == (trace, root_id)
    assert CALLER in accepted.links
    assert len(collector.spans) == len(spans) + 1, "requests without a traceparent have no span"
    assert SECRET_WORDS.encode() not in collector.body


async def test_content_is_in_spans_only_when_it_was_asked_for(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.address)
        monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "true")
        async with running(database_url, monkeypatch) as platform:
            await platform.apply([calls(("look", 7)), {"text": SECRET_WORDS}], ["look"])
            run = await platform.run({"task_description": "write to maria.huber@example.com"})
            await platform.until(run["id"], "completed")
    first, last = sorted(collector.named("chat stub"), key=lambda one: one.began)
    assert json.loads(last.attributes["gen_ai.output.messages"])[0]["parts"] == [
        {"type": "text", "content": SECRET_WORDS}
    ]
    (call,) = json.loads(first.attributes["gen_ai.output.messages"])[0]["parts"]
    assert (call["type"], call["name"], call["arguments"]) == ("tool_call", "look", {"n": 7})
    (look,) = collector.named("execute_tool look")
    assert json.loads(look.attributes["gen_ai.tool.call.arguments"]) == {"n": 7}
    assert "write to" in first.attributes["gen_ai.input.messages"]
    assert b"maria.huber" not in collector.body, "what logs may not show is not in spans"


async def test_a_collector_that_is_away_costs_a_run_nothing(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting() as collector:
        address = collector.address
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    async with running(database_url, monkeypatch) as platform:
        await platform.apply([{"text": "done"}], ["look"])
        run = await platform.run()
        assert (await platform.until(run["id"], "completed"))["output"] == "done"
