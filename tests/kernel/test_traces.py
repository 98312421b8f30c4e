"""Spans: one trace for a run in every process, by the conventions' words, without content, and free when off."""

from __future__ import annotations

import sys
import threading

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import INVALID_SPAN, StatusCode

from agentos.kernel.errors import Unavailable
from agentos.kernel.settings import BadSetting, TraceSettings
from agentos.kernel.telemetry import otlp
from agentos.kernel.telemetry.traces import MOST_CONTENT, NOTHING, Traces, ids_of, opened

HERE = ("00-" + "ab" * 16 + "-" + "cd" * 8 + "-01").encode()


class Silent(Unavailable):
    """For these tests."""

    code = "silent"


class Recorded:
    """One process's spans, kept in memory."""

    def __init__(self, **more: object) -> None:
        self._kept = InMemorySpanExporter()
        self.traces = Traces(otlp.provider({"service.name": "t"}, SimpleSpanProcessor(self._kept)), **more)  # type: ignore[arg-type]

    @property
    def spans(self) -> dict[str, ReadableSpan]:
        return {one.name: one for one in self._kept.get_finished_spans()}


def test_without_an_endpoint_nothing_is_made_and_nothing_of_the_sdk_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    monkeypatch.delitem(sys.modules, "agentos.kernel.telemetry.otlp", raising=False)
    traces = opened(TraceSettings(endpoint=""), "api", None)
    assert not traces.on
    assert traces.span("x", {}) is NOTHING
    assert traces.request({b"traceparent": HERE}) is NOTHING
    with traces.span("x", {}) as span:
        assert span is INVALID_SPAN
    traces.linked("run_1", "x", {})
    traces.ended("run_1", "x", {}, began=1, ended=2, error=None)
    traces.close()


def test_an_endpoint_without_the_sdk_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    monkeypatch.delitem(sys.modules, "agentos.kernel.telemetry.otlp", raising=False)
    monkeypatch.delattr("agentos.kernel.telemetry.otlp", raising=False)
    with pytest.raises(BadSetting, match=r"agentos\[traces\]"):
        opened(TraceSettings(endpoint="http://127.0.0.1:4318"), "api", None)


def test_two_processes_write_one_trace_of_a_run() -> None:
    api, worker = Recorded(), Recorded()
    with worker.traces.within("run_1", "segment 1", {}, {}):
        pass
    api.traces.linked("run_1", "accept_run", {})
    worker.traces.ended("run_1", "invoke_agent a", {}, began=1, ended=2, error=None)
    root = worker.spans["invoke_agent a"]
    assert (root.context.trace_id, root.context.span_id) == ids_of("run_1")
    assert root.parent is None
    for child in (api.spans["accept_run"], worker.spans["segment 1"]):
        assert child.context.trace_id == root.context.trace_id
        assert child.parent is not None
        assert child.parent.span_id == root.context.span_id
    assert ids_of("run_1") != ids_of("run_2")


def test_what_is_known_of_a_run_is_said_by_every_span_within_and_by_none_after() -> None:
    one = Recorded()
    segment = one.traces.within("run_1", "segment 1", {"agentos.segment": 1}, {"agentos.run_id": "run_1"})
    with segment, one.traces.span("chat m", {"agentos.step": "t0", "unknown": None}):
        pass
    with one.traces.span("other", {}):
        pass
    assert one.spans["chat m"].attributes == {"agentos.run_id": "run_1", "agentos.step": "t0"}
    assert one.spans["chat m"].parent == one.spans["segment 1"].context
    assert not one.spans["other"].attributes


@pytest.mark.parametrize(
    ("raised", "said"), [(Silent("the secret word"), "silent"), (ValueError("secret"), "ValueError")]
)
def test_a_failure_is_told_by_its_code_and_never_by_its_words(raised: Exception, said: str) -> None:
    one = Recorded()
    with pytest.raises(type(raised)), one.traces.span("x", {}):
        raise raised
    span = one.spans["x"]
    assert span.attributes == {"error.type": said}
    assert (span.status.status_code, span.status.description, span.events) == (StatusCode.ERROR, None, ())


def test_whether_a_run_is_sampled_is_the_same_in_every_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
    kept = set()
    for number in range(64):
        api, worker, name = Recorded(), Recorded(), f"run_{number}"
        api.traces.linked(name, "accept_run", {})
        with worker.traces.within(name, "segment 1", {}, {}), worker.traces.span("chat", {}):
            pass
        worker.traces.ended(name, "invoke_agent", {}, began=1, ended=2, error=None)
        kept.add((len(api.spans), len(worker.spans)))
    assert kept == {(0, 0), (1, 3)}, "all of a run or nothing of it"


def test_a_request_goes_on_the_trace_of_its_caller_and_leads_to_the_run() -> None:
    one = Recorded()
    with one.traces.request({b"traceparent": HERE}):
        one.traces.linked("run_1", "accept_run", {})
    request, accepted = one.spans["request"], one.spans["accept_run"]
    assert f"{request.context.trace_id:032x}" == "ab" * 16
    assert [(link.context.trace_id, link.context.span_id) for link in request.links] == [ids_of("run_1")]
    assert accepted.links[0].context.span_id == int("cd" * 8, 16)


def test_a_collector_that_hangs_does_not_keep_a_process_from_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentos.kernel.telemetry.traces.CLOSING_SECONDS", 0.05)
    answers = threading.Event()
    provider = otlp.provider({}, SimpleSpanProcessor(InMemorySpanExporter()))
    monkeypatch.setattr(provider, "shutdown", answers.wait)
    Traces(provider).close()
    assert not answers.is_set()
    answers.set()


@pytest.mark.parametrize("given", [b"", b"rubbish", b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01", b"\xff" * 300])
def test_a_traceparent_that_is_none_is_ignored(given: bytes) -> None:
    assert Recorded().traces.request({b"traceparent": given}) is NOTHING


def test_content_is_masked_as_logs_are_and_cut() -> None:
    one = Recorded(content=True, clean=lambda event: {**event, "content": "masked"})
    assert one.traces.told({"a": "secret"}) == '"masked"'
    assert len(Recorded(content=True).traces.told("x" * 10**6)) == MOST_CONTENT
