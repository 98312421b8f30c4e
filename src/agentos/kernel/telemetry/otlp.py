"""Spans leave over OTLP/HTTP, in batches and in the background. Imported only where an endpoint is set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

_IDS: Final[ContextVar[tuple[int, int] | None]] = ContextVar("ids", default=None)


class Ids(RandomIdGenerator):
    """Random ids, but for the one span whose ids are given."""

    def generate_trace_id(self) -> int:
        """The id of a new trace."""
        given = _IDS.get()
        return super().generate_trace_id() if given is None else given[0]

    def generate_span_id(self) -> int:
        """The id of a new span."""
        given = _IDS.get()
        return super().generate_span_id() if given is None else given[1]


@contextmanager
def identified(trace_id: int, span_id: int) -> Iterator[None]:
    """The root span that is started herein has these ids."""
    before = _IDS.set((trace_id, span_id))
    try:
        yield
    finally:
        _IDS.reset(before)


def provider(resource: dict[str, str], processor: SpanProcessor | None = None) -> TracerProvider:
    """A tracer provider over this processor; without one, over OTLP in batches.

    The exporter and the sampler read the variables that OpenTelemetry defines (OTEL_EXPORTER_OTLP_*, OTEL_BSP_*,
    OTEL_TRACES_SAMPLER, OTEL_RESOURCE_ATTRIBUTES).
    """
    made = TracerProvider(resource=Resource.create({**resource}), id_generator=Ids(), shutdown_on_exit=False)
    made.add_span_processor(_batches() if processor is None else processor)
    return made


def _batches() -> SpanProcessor:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    return BatchSpanProcessor(OTLPSpanExporter())
