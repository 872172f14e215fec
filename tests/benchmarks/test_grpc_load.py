"""The load generator of gRPC, against a server in this process."""

from __future__ import annotations

import threading
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


def test_messages_are_sent_in_turn(bodies: Path) -> None:
    seen: list[bytes] = []

    def infer(message: bytes, _: grpc.ServicerContext) -> bytes:
        seen.append(message)
        return message

    with serving(infer) as target:
        load = grpc_load(target, bodies, 1, 0.5, first=1)
    assert load.requests == len(seen) > 0
    assert seen == [MESSAGES[(1 + place) % len(MESSAGES)] for place in range(len(seen))]
    assert 0 < load.p50 <= load.p99
    assert load.cpu_seconds > 0


def test_calls_are_in_flight_over_as_many_connections_as_asked(bodies: Path) -> None:
    peers: set[str] = set()
    both = threading.Event()

    def infer(message: bytes, context: grpc.ServicerContext) -> bytes:
        peers.add(context.peer())
        if len(peers) == 2:
            both.set()
        both.wait(10)
        return message

    with serving(infer) as target:
        grpc_load(target, bodies, 2, 0.1)
    assert len(peers) == 2


def test_a_call_that_fails_makes_the_measurement_void(bodies: Path) -> None:
    def refuse(_: bytes, context: grpc.ServicerContext) -> None:
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "overloaded")

    with serving(refuse) as target, pytest.raises(RuntimeError, match=r"(?s)failed:\nRESOURCE_EXHAUSTED: overloaded"):
        grpc_load(target, bodies, 1, 0.2)
