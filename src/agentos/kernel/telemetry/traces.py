"""Spans by OpenTelemetry's GenAI conventions. A run is one trace, whoever works on it, and nothing is carried for that.

The ids of a run's trace and of its root span follow from the run's id, so that every process that touches the run adds
to the same trace, also after a crash. Without an endpoint there is no tracer, and a span costs a comparison. Spans hold
names, sizes and codes; what was said and done is in them only where ``content`` was asked for.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from agentos.kernel.errors import AgentOSError
from agentos.kernel.settings import BadSetting, TraceSettings
from agentos.kernel.telemetry.logs import Clean

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import Tracer, TracerProvider
    from opentelemetry.util.types import AttributeValue

MOST_CONTENT: Final = 64 * 1024  # characters of one attribute; backends cut or refuse what is longer
CLOSING_SECONDS: Final = 3.0  # a process that is told to stop has ten
NOTHING: Final = nullcontext(trace.INVALID_SPAN)  # takes every attribute and keeps none
_VENDORS: Final = {"claude": "anthropic"}  # providers that the conventions know by another name
_COMMON: Final[ContextVar[Mapping[str, Any] | None]] = ContextVar("common", default=None)  # of all spans of a run

Attributes = Mapping[str, Any]


def vendor(provider: str) -> str:
    """A provider by the name that the conventions have for it."""
    return _VENDORS.get(provider, provider.removeprefix("vendor:"))


def ids_of(run_id: str) -> tuple[int, int]:
    """The ids of a run's trace and of its root span, in every process the same."""
    digest = hashlib.sha256(f"agentos run {run_id}".encode()).digest()
    return int.from_bytes(digest[:16]), int.from_bytes(digest[16:24])


class Traces:
    """The spans of one process. Without a provider there are none."""

    def __init__(
        self, provider: TracerProvider | None = None, *, content: bool = False, clean: Clean | None = None
    ) -> None:
        self._provider = provider
        self._tracer: Tracer | None = None if provider is None else provider.get_tracer("agentos")  # type: ignore[assignment]
        self.content = content and provider is not None
        self._clean = clean

    @property
    def on(self) -> bool:
        """Whether there are spans at all; ask before putting attributes together."""
        return self._tracer is not None

    def span(
        self, name: str, attributes: Attributes, *, kind: SpanKind = SpanKind.INTERNAL
    ) -> AbstractContextManager[Span]:
        """A span within the current one. Leaving it by an exception marks it with the error's code."""
        return NOTHING if self._tracer is None else self._opened(self._tracer, name, attributes, kind)

    @contextmanager
    def within(self, run_id: str, name: str, attributes: Attributes, common: Attributes) -> Iterator[Span]:
        """A span right below the root of a run's trace; ``common`` is said by every span within it, too."""
        if self._tracer is None:
            yield trace.INVALID_SPAN
            return
        before = _COMMON.set(common)
        try:
            context = trace.set_span_in_context(NonRecordingSpan(self.root(run_id)), Context())
            with self._opened(self._tracer, name, attributes, SpanKind.INTERNAL, context) as span:
                yield span
        finally:
            _COMMON.reset(before)

    def request(self, headers: Mapping[bytes, bytes]) -> AbstractContextManager[Span]:
        """A span that goes on the trace of whoever asks; none where the asker told of no trace."""
        if self._tracer is None or b"traceparent" not in headers:
            return NOTHING
        carrier = {
            name: headers[name.encode()].decode("latin-1")
            for name in ("traceparent", "tracestate")
            if name.encode() in headers
        }
        context = TraceContextTextMapPropagator().extract(carrier, Context())
        if not trace.get_current_span(context).get_span_context().is_valid:
            return NOTHING
        return self._opened(self._tracer, "request", {}, SpanKind.SERVER, context)

    def linked(self, run_id: str, name: str, attributes: Attributes) -> None:
        """Say in a run's trace that the current request led to it, and in the request's that it led to the run."""
        if self._tracer is None:
            return
        asker = trace.get_current_span()
        root = self.root(run_id)
        links: Sequence[Link] = ()
        if asker.get_span_context().is_valid:
            asker.add_link(root)
            caller: SpanContext | None = getattr(asker, "parent", None)
            links = [Link(one) for one in (caller, asker.get_span_context()) if one is not None]
        context = trace.set_span_in_context(NonRecordingSpan(root), Context())
        self._tracer.start_span(name, context, attributes=_kept(attributes), links=links).end()

    def ended(
        self, run_id: str, name: str, attributes: Attributes, *, began: int, ended: int, error: str | None
    ) -> None:
        """Write the root of a run's trace, once the run is over. Times: nanoseconds since 1970."""
        if self._tracer is None:
            return
        from agentos.kernel.telemetry import otlp

        said = _kept(attributes) | ({} if error is None else {"error.type": error})
        with otlp.identified(*ids_of(run_id)):
            span = self._tracer.start_span(name, Context(), attributes=said, start_time=began)
        if error is not None:
            span.set_status(Status(StatusCode.ERROR))
        span.end(ended)

    def root(self, run_id: str) -> SpanContext:
        """The root span of a run's trace, sampled or not as the sampler says of a trace of that id."""
        trace_id, span_id = ids_of(run_id)
        flags = TraceFlags.DEFAULT
        if self._tracer is not None:
            sampling = self._tracer.sampler.should_sample(None, trace_id, "invoke_agent")
            flags = TraceFlags.SAMPLED if sampling.decision.is_sampled() else flags  # type: ignore[no-untyped-call]
        return SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))

    def told(self, value: Any) -> str:
        """Content as an attribute: JSON, without what logs may not show, cut where it is too long."""
        held = {"content": value}
        shown = held if self._clean is None else self._clean(held)
        return json.dumps(shown["content"], ensure_ascii=False, default=str)[:MOST_CONTENT]

    def close(self) -> None:
        """Send what is left; what a collector does not take in a few seconds is given up."""
        if self._provider is None:
            return
        # The library would wait for as long as the collector may take to answer.
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(CLOSING_SECONDS)

    @contextmanager
    def _opened(
        self, tracer: Tracer, name: str, attributes: Attributes, kind: SpanKind, context: Context | None = None
    ) -> Iterator[Span]:
        # The message and the stack of an exception may hold what was said; the code cannot.
        with tracer.start_as_current_span(
            name,
            context,
            kind,
            attributes=_kept({**(_COMMON.get() or {}), **attributes}),
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield span
            except BaseException as error:
                span.set_attribute(
                    "error.type", error.code if isinstance(error, AgentOSError) else type(error).__name__
                )
                span.set_status(Status(StatusCode.ERROR))
                raise


def opened(settings: TraceSettings, service: str, clean: Clean | None) -> Traces:
    """The spans of this process as the settings want them. Raises BadSetting (Invalid) where they cannot be sent."""
    if not settings.endpoint:
        return Traces()
    try:
        from agentos.kernel.telemetry import otlp

        provider = otlp.provider({"service.name": service, "service.namespace": "agentos"})
    except ImportError:
        raise BadSetting(
            "OTEL_EXPORTER_OTLP_ENDPOINT: what sends spans is not installed",
            then="Install agentos[traces], or leave the variable empty.",
        ) from None
    return Traces(provider, content=settings.content, clean=clean)


def _kept(attributes: Attributes) -> dict[str, AttributeValue]:
    """Attributes without those that are not known."""
    return {name: value for name, value in attributes.items() if value is not None and value != ""}
