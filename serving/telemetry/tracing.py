"""OpenTelemetry traces, when a setting says where to send them; they cost nothing otherwise."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from opentelemetry import context, trace
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

tracer: Tracer | None = None
provider: Any = None
# Added to `time.monotonic`, gives the time of day.
epoch = time.time() - time.monotonic()
untraced: AbstractContextManager[Span] = nullcontext(INVALID_SPAN)


def start(endpoint: str, service_version: str) -> None:
    """Send traces by OTLP over HTTP to the collector at `endpoint`, unless other OTEL_ variables name another."""
    # Imported only where requests are traced.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    global tracer, provider
    # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES take precedence over these.
    resource = Resource.create({"service.name": "tiffin", "service.version": service_version})
    provider = TracerProvider(resource=resource)
    # As an argument it would be the address for traces alone, and override what is set for these.
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = endpoint
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    tracer = provider.get_tracer("tiffin")


def stop() -> None:
    """Send the spans that have not been sent, and stop tracing."""
    if provider is not None:
        provider.shutdown()


def request_span(
    scope: Mapping[str, Any], headers: Mapping[bytes, bytes], request_id: str
) -> AbstractContextManager[Span]:
    """Start the span of a request, as a child of the client's when `traceparent` names one."""
    if tracer is None or scope["method"] != "POST":
        return untraced  # probes would bury the rest
    carrier = {
        name: headers[name.encode()].decode("latin-1")
        for name in ("traceparent", "tracestate")
        if name.encode() in headers
    }
    return tracer.start_as_current_span(
        f"{scope['method']} {scope['path']}",
        TraceContextTextMapPropagator().extract(carrier),
        kind=SpanKind.SERVER,
        attributes={"http.request.method": scope["method"], "url.path": scope["path"], "tiffin.request_id": request_id},
    )


def span(name: str, **attributes: str | int) -> AbstractContextManager[Span]:
    """Start a span around the code inside it, where its request is traced."""
    if tracer is None or not context.get_current():
        return untraced
    return tracer.start_as_current_span(name, attributes={f"tiffin.{key}": value for key, value in attributes.items()})


def job_span(name: str, traceparent: str | None, **attributes: str | int) -> AbstractContextManager[Span]:
    """Start a span around the code inside it, as a child of the request that submitted the job."""
    if tracer is None:
        return untraced
    parent = TraceContextTextMapPropagator().extract({"traceparent": traceparent or ""})
    attributes = {f"tiffin.{key}": value for key, value in attributes.items()}
    return tracer.start_as_current_span(name, parent, kind=SpanKind.CONSUMER, attributes=attributes)


def traceparent() -> str | None:
    """Return what makes a span elsewhere a child of the one that is being recorded, or None."""
    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent")


@contextmanager
def detached() -> Iterator[None]:
    """Detach the code inside from any request."""
    token = context.attach(context.Context())
    try:
        yield
    finally:
        context.detach(token)


def here() -> context.Context | None:
    """Return what `record` takes as the parent of a span that is recorded elsewhere; None when nothing is traced."""
    return None if tracer is None else context.get_current()


def record(name: str, parent: context.Context | None, start: float, end: float, **attributes: str | int) -> None:
    """Record a span that lasted from `start` to `end`, both by `time.monotonic`."""
    if tracer is None or not parent:  # work that belongs to no request starts no trace
        return
    recorded = tracer.start_span(
        name,
        parent,
        attributes={f"tiffin.{key}": value for key, value in attributes.items()},
        start_time=int((epoch + start) * 1e9),
    )
    recorded.end(int((epoch + end) * 1e9))


def trace_id() -> str | None:
    """Return the id of the trace that is being recorded, for the log, or None."""
    if tracer is None:
        return None
    found = trace.get_current_span().get_span_context()
    return f"{found.trace_id:032x}" if found.is_valid else None
