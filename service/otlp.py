"""Traces by OpenTelemetry: a span per POST request and, of POST /score, one per phase, sent by OTLP over HTTP.

    traceparent of the caller -> span of the request -> its id in the header `traceresponse` and in the access log
                                 phases, by their times, when the request is over -> a thread that sends batches

A request that is not sampled costs its two ids. What the collector does not take in time is dropped, never waited for.
"""

import time
from collections.abc import Iterator
from importlib.metadata import version

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import Scope

from service.api.exchange import Exchange, Trace, header

_PATH = "/v1/traces"  # OTLP's own
_SEND_TIMEOUT_S = 5
_PARENT = ("traceparent", "tracestate")
# In the order in which they follow each other.
_PHASES = ("parse", "store", "encode", "queue", "compute", "explain")


class OtlpTracing:
    """See Tracing."""

    def __init__(self, endpoint: str, *, percent: float) -> None:
        """`percent` of the requests without a parent are sampled; a parent decides for its own."""
        own = Resource.create({"service.name": "ctr-scorer", "service.version": version("ctr-scorer")})
        resource = own.merge(OTELResourceDetector().detect())  # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win
        self._provider = TracerProvider(
            sampler=ParentBasedTraceIdRatio(percent / 100),
            resource=resource,
            shutdown_on_exit=False,
            meter_provider=NoOpMeterProvider(),
        )
        url = endpoint.rstrip("/").removesuffix(_PATH) + _PATH
        exporter = OTLPSpanExporter(url, timeout=_SEND_TIMEOUT_S, meter_provider=NoOpMeterProvider())
        self._provider.add_span_processor(BatchSpanProcessor(exporter, meter_provider=NoOpMeterProvider()))
        self._tracer = self._provider.get_tracer("ctr-scorer")
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, scope: Scope, exchange: Exchange) -> None:
        """See Tracing. Looks and probes are not traced."""
        if scope["method"] != "POST":
            return
        span = self._tracer.start_span("POST", context=self._parent(scope), kind=SpanKind.SERVER)
        context = span.get_span_context()
        exchange.trace = Trace(
            span=span,
            began_ns=time.time_ns(),
            trace_id=f"{context.trace_id:032x}",
            span_id=f"{context.span_id:016x}",
            sampled=context.trace_flags.sampled,
        )

    def end(self, exchange: Exchange) -> None:
        """See Tracing."""
        trace = exchange.trace
        if trace is None:
            return
        span: Span = trace.span  # type: ignore[assignment]  # made above; the edge does not know its type
        if span.is_recording():
            _describe(span, exchange)
            below = set_span_in_context(span)
            for name, begins, ends in _phases(exchange):
                phase = self._tracer.start_span(name, context=below, start_time=_epoch_ns(trace, begins))
                phase.end(_epoch_ns(trace, ends))
        span.end(_epoch_ns(trace, exchange.phases["total"]))

    def close(self) -> None:
        """See Tracing."""
        self._provider.force_flush(2000)
        self._provider.shutdown()

    def _parent(self, scope: Scope) -> Context:
        found = {name: value for name in _PARENT if (value := header(scope, name.encode())) is not None}
        return self._propagator.extract(found, context=Context())


def _describe(span: Span, exchange: Exchange) -> None:
    """OpenTelemetry's names for HTTP, and ours. Neither user nor items: traces are kept by others."""
    known: dict[str, str | int | None] = {
        "http.request.method": "POST",
        "http.route": exchange.route,
        "http.response.status_code": exchange.status,
        "error.type": exchange.error_type,
        "ctr.request_id": exchange.request_id,
        "ctr.candidates": exchange.candidates,
        "ctr.degraded": exchange.degraded,
        "ctr.bundle_version": exchange.bundle_version,
    }
    span.update_name(f"POST {exchange.route}")
    span.set_attributes({name: value for name, value in known.items() if value is not None})
    if exchange.status >= 500:
        span.set_status(Status(StatusCode.ERROR))


def _phases(exchange: Exchange) -> Iterator[tuple[str, float, float]]:
    """Name, begin and end of each phase, in seconds of the request. All but the last follow each other."""
    at = exchange.received - exchange.started
    for name in _PHASES:
        if name in exchange.phases:
            begins, at = at, at + exchange.phases[name]
            yield name, begins, at
    if "render" in exchange.phases:
        begins = exchange.rendering - exchange.started
        yield "render", begins, begins + exchange.phases["render"]


def _epoch_ns(trace: Trace, seconds: float) -> int:
    return trace.began_ns + int(seconds * 1e9)
