"""Traces and log lines of a whole server, with a Redis and a collector that takes OTLP over HTTP."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.clocks import wait_until
from tests.support.redis_servers import RedisServer
from tests.support.servers import started_server

ARRIVAL_SECONDS = 60
PATH = "/sentiment/predict"


@dataclass(frozen=True)
class Span:
    """A span as the collector received it."""

    name: str
    trace: str
    id: str
    parent: str
    attributes: dict[str, Any]
    start: int
    end: int


class Collector(ThreadingHTTPServer):
    """A collector that stores the spans it receives."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), CollectorHandler)
        self.spans: list[Span] = []
        self.services: set[str] = set()

    def take(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.services.add(plain(resource.resource.attributes)["service.name"])
            self.spans += [
                Span(
                    span.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    plain(span.attributes),
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                )
                for scope in resource.scope_spans
                for span in scope.spans
            ]


class CollectorHandler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/v1/traces":
            self.server.take(body)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def plain(attributes: Any) -> dict[str, Any]:
    """Return OTLP attributes as a dictionary."""
    return {
        attribute.key: getattr(attribute.value, attribute.value.WhichOneof("value") or "") for attribute in attributes
    }


@dataclass(frozen=True)
class Traced:
    """A server, the collector of its spans, and its log file."""

    address: str
    collector: Collector
    log: Path

    def ask(self, text: str, path: str = PATH, **headers: str) -> str:
        """Request a prediction; return the id of the request."""
        body = {"items" if path.endswith("/infer") else "text": [text]}
        response = httpx.post(self.address + path, json=body, headers=headers, timeout=30)
        assert response.status_code == 200
        return str(response.headers["x-request-id"])

    def spans(self, request: str, count: int) -> dict[str, Span]:
        """Wait until the trace of a request has `count` spans; return them by name."""

        def found() -> dict[str, Span]:
            spans = list(self.collector.spans)
            traces = {span.trace for span in spans if span.attributes.get("tiffin.request_id") == request}
            return {span.name: span for span in spans if span.trace in traces}

        wait_until(lambda: len(found()) >= count, ARRIVAL_SECONDS)
        return found()

    def lines(self, request: str) -> list[dict[str, Any]]:
        """Wait for the access log line of a request; return all log lines of it."""

        def found() -> list[dict[str, Any]]:
            lines = [
                json.loads(line) for line in self.log.read_text(encoding="utf-8").splitlines() if line.startswith("{")
            ]
            return [line for line in lines if line["request_id"] == request]

        wait_until(lambda: any(line["logger"] == "tiffin.access" for line in found()), ARRIVAL_SECONDS)
        return found()


@pytest.fixture(scope="module")
def traced(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    redis = RedisServer(tmp_path_factory.mktemp("redis"))
    collector = Collector()
    Thread(target=collector.serve_forever, daemon=True).start()
    env = {
        "TIFFIN_MODELS": "sentiment",
        "TIFFIN_REDIS_URL": redis.url,
        "TIFFIN_OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "TIFFIN_ACCESS_LOG": "true",
    }
    try:
        redis.start()
        with started_server(store, env) as server:
            yield Traced(server.address, collector, server.log)
    finally:
        redis.stop()
        collector.shutdown()
        collector.server_close()


def new_text() -> str:
    """Return a text that is in no cache."""
    return uuid.uuid4().hex


def test_a_request_is_one_trace_from_the_edge_to_the_inference(traced: Traced) -> None:
    spans = traced.spans(traced.ask(new_text()), 4)
    edge = spans.pop(f"POST {PATH}")
    assert set(spans) == {"cache", "queue", "inference"}
    assert {span.parent for span in spans.values()} == {edge.id}
    assert {span.attributes["tiffin.model"] for span in spans.values()} == {"sentiment"}
    assert spans["inference"].attributes["tiffin.batch_items"] == 1


def test_spans_of_the_batcher_have_the_time_of_their_request(traced: Traced) -> None:
    spans = traced.spans(traced.ask(new_text()), 4)
    edge, second = spans[f"POST {PATH}"], 10**9  # the spans come from two clocks
    for span in (spans["queue"], spans["inference"]):
        assert edge.start - second < span.start < span.end < edge.end + second


def test_the_span_of_the_edge_describes_the_request(traced: Traced) -> None:
    edge = traced.spans(traced.ask(new_text(), **{"X-Request-ID": "described-1"}), 1)[f"POST {PATH}"]
    assert edge.attributes == {
        "http.request.method": "POST",
        "url.path": PATH,
        "http.response.status_code": 200,
        "tiffin.request_id": "described-1",
    }


def test_a_request_continues_the_trace_of_its_client(traced: Traced) -> None:
    trace, parent = uuid.uuid4().hex, uuid.uuid4().hex[:16]
    request = traced.ask(new_text(), traceparent=f"00-{trace}-{parent}-01")
    edge = traced.spans(request, 1)[f"POST {PATH}"]
    assert (edge.trace, edge.parent) == (trace, parent)


def test_a_known_answer_is_traced_without_inference(traced: Traced) -> None:
    text = new_text()
    traced.ask(text)
    known = traced.ask(text)
    traced.spans(traced.ask(new_text()), 4)  # the spans recorded before have arrived by then
    assert set(traced.spans(known, 1)) == {f"POST {PATH}"}


def test_only_requests_begin_traces(traced: Traced) -> None:
    traced.spans(traced.ask(new_text()), 4)
    roots = [span for span in traced.collector.spans if not span.parent]
    assert [span.name for span in roots if "tiffin.request_id" not in span.attributes] == []


def test_batches_of_several_requests_belong_to_none_of_them(traced: Traced) -> None:
    requests = [traced.ask(new_text(), "/sentiment/infer") for _ in range(3)]
    traced.spans(traced.ask(new_text()), 4)  # the spans recorded before have arrived by then
    traces = {span.trace for span in traced.collector.spans if span.attributes.get("tiffin.request_id") in requests}
    assert {span.name for span in traced.collector.spans if span.trace in traces} == {"POST /sentiment/infer"}


def test_the_service_is_named(traced: Traced) -> None:
    traced.spans(traced.ask(new_text()), 1)
    assert traced.collector.services == {"tiffin"}


def test_a_line_of_the_log_tells_its_request(traced: Traced) -> None:
    line = traced.lines(traced.ask(new_text(), **{"X-Request-ID": "logged-1"}))[-1]
    assert (line["logger"], line["level"], line["request_id"]) == ("tiffin.access", "INFO", "logged-1")
    assert line["message"].startswith(f"POST {PATH} 200, ")


def test_a_line_of_the_log_tells_its_trace(traced: Traced) -> None:
    request = traced.ask(new_text())
    trace = traced.spans(request, 1)[f"POST {PATH}"].trace
    assert traced.lines(request)[-1]["trace_id"] == trace


def test_a_request_is_logged_once(traced: Traced) -> None:
    lines = traced.lines(traced.ask(new_text()))
    assert [line["logger"] for line in lines] == ["tiffin.access"]
