"""The load generator of gRPC, against a server in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from benchmarks.grpc_load import grpc_load
from benchmarks.wrk import write_bodies
from loadtest.inputs import Request
from loadtest.messages import MODEL_INFER

MESSAGES = [b"first", b"second\n5 2\n", b"third"]


@contextmanager
def serving(infer: Callable[[bytes, grpc.ServicerContext], Any]) -> Iterator[str]:
    """Answer ModelInfer; yield the server's HOST:PORT."""
    service, _, method = MODEL_INFER[1:].partition("/")
    handlers = {method: grpc.unary_unary_rpc_method_handler(infer)}
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool, [grpc.method_handlers_generic_handler(service, handlers)])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait()


@pytest.fixture
def bodies(tmp_path: Path) -> Path:
    """Return the file of the messages."""
    return write_bodies(tmp_path / "bodies", (Request(MODEL_INFER, "", message) for message in MESSAGES))


def test_messages_are_sent_in_turn_over_as_many_connections(bodies: Path) -> None:
    seen: list[tuple[bytes, str]] = []

    def infer(message: bytes, context: grpc.ServicerContext) -> bytes:
        seen.append((message, context.peer()))
        return message

    with serving(infer) as target:
        load = grpc_load(target, bodies, 2, 0.5, first=1)
    assert load.requests == len(seen) > 3
    assert {message for message, _ in seen[:2]} == set(MESSAGES[1:])
    assert {message for message, _ in seen} == set(MESSAGES)
    assert len({peer for _, peer in seen}) == 2
    assert 0 < load.p50 <= load.p99
    assert load.cpu_seconds > 0


def test_a_call_that_fails_makes_the_measurement_void(bodies: Path) -> None:
    def refuse(_: bytes, context: grpc.ServicerContext) -> None:
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "overloaded")

    with serving(refuse) as target, pytest.raises(RuntimeError, match=r"(?s)failed:\nRESOURCE_EXHAUSTED: overloaded"):
        grpc_load(target, bodies, 1, 0.2)
