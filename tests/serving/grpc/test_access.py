"""Keys, the rate limit, TLS and the end of a server, over gRPC."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc

from loadtest.processes import free_port
from tests.support import http2
from tests.support.clocks import eventually
from tests.support.grpc_clients import Client, client_of, outputs, request_for
from tests.support.metrics import metric
from tests.support.rows import TUMOUR
from tests.support.servers import Server, started_server

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("one_loop")]
KEY, OTHER = (("x-api-key", "secret"),), (("authorization", "Bearer other"),)


def row(**fields: Any) -> Any:
    """Return a request for one row."""
    return request_for("breast_cancer", {"all": np.array([[*TUMOUR.values()]])}, **fields)


@contextlib.contextmanager
def serving_grpc(store: Path, **settings: object) -> Iterator[tuple[Server, int]]:
    """Start a server, of one model unless told otherwise; yield it and its port for gRPC."""
    port = free_port()
    named = {f"TIFFIN_{name}".upper(): str(value) for name, value in settings.items()}
    env = {"TIFFIN_MODELS": "breast_cancer", "TIFFIN_WORKERS": "1", "TIFFIN_GRPC_PORT": str(port)}
    with started_server(store, env | named) as server:
        yield server, port


@pytest.fixture(scope="module")
def guarded(store: Path) -> Iterator[int]:
    """Start a server with keys, a rate limit and control over its models; yield its port."""
    settings = {"api_keys": "secret,other,third", "rate_limit": "20/hour", "model_control": "true"}
    with serving_grpc(store, **settings) as (_, port):
        yield port


@pytest.fixture(scope="module")
def bounded(store: Path) -> Iterator[tuple[Server, int]]:
    """Start a server of several models that takes 16 MiB of requests at a time; yield it and its port."""
    with serving_grpc(store, models="breast_cancer,segmentation,sentiment", max_in_flight_bytes=2**24) as started:
        yield started


@pytest.fixture(scope="module")
def of_two_workers(store: Path) -> Iterator[tuple[Server, int]]:
    """Start a server of two workers whose connections grow old after half a second; yield it and its port."""
    with serving_grpc(store, workers=2, grpc_connection_seconds=0.5) as started:
        yield started


@pytest.fixture
async def client(guarded: int) -> AsyncIterator[Client]:
    async with client_of(guarded) as client:
        yield client


async def code_of(call: Any) -> StatusCode:
    """Return the code of a call once it has ended."""
    with contextlib.suppress(grpc.aio.AioRpcError):
        await call
    code: StatusCode = await call.code()
    return code


@pytest.mark.parametrize("method", ["ServerLive", "ServerReady", "ServerMetadata", "ModelReady"])
async def test_probes_need_no_key(client: Client, method: str) -> None:
    fields = {"name": "breast_cancer"} if method == "ModelReady" else {}
    assert await code_of(client.call(method, fields)) is StatusCode.OK


@pytest.mark.parametrize(
    "method",
    ["ModelInfer", "ModelMetadata", "ModelConfig", "ModelStatistics", "RepositoryIndex", "RepositoryModelLoad"],
)
async def test_all_else_needs_a_key(client: Client, method: str) -> None:
    for metadata in ((), (("x-api-key", "wrong"),), (("authorization", "secret"),)):
        assert await code_of(client.call(method, metadata=metadata)) is StatusCode.UNAUTHENTICATED


async def test_a_stream_needs_a_key(client: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match=StatusCode.UNAUTHENTICATED.name):
        await client.stream().read()


async def test_each_key_has_its_limit_and_is_told_what_is_left(client: Client) -> None:
    left = []
    for _ in range(20):
        call = client.infer(row(), metadata=OTHER)
        assert outputs(await call)["label"] == ["M"]
        left.append(int(dict(await call.trailing_metadata())["ratelimit-remaining"]))
    assert left == [*range(19, -1, -1)]
    call = client.infer(row(), metadata=OTHER)
    assert await code_of(call) is StatusCode.RESOURCE_EXHAUSTED
    told = dict(await call.trailing_metadata())
    assert (told["ratelimit-remaining"], int(told["retry-after"]) > 0) == ("0", True)
    assert await code_of(client.infer(row(), metadata=KEY)) is StatusCode.OK


async def test_failed_keys_have_a_limit_of_their_own(store: Path) -> None:
    with serving_grpc(store, api_keys="secret", rate_limit="3/hour") as (_, port):
        async with client_of(port) as client:
            codes = [await code_of(client.infer(row())) for _ in range(4)]
            assert codes == [StatusCode.UNAUTHENTICATED] * 3 + [StatusCode.RESOURCE_EXHAUSTED]
            assert await code_of(client.infer(row(), metadata=KEY)) is StatusCode.OK


async def test_who_watches_a_model_is_told_when_it_is_unloaded_and_loaded(client: Client) -> None:
    third = (("x-api-key", "third"),)
    request = health_pb2.HealthCheckRequest(service="breast_cancer")
    watch = health_pb2_grpc.HealthStub(client.channel).Watch(request, timeout=60)
    statuses = [(await watch.read()).status]
    for method in ("RepositoryModelUnload", "RepositoryModelLoad"):
        await client.call(method, {"model_name": "breast_cancer"}, metadata=third)
        statuses.append((await watch.read()).status)
    watch.cancel()
    status = health_pb2.HealthCheckResponse
    assert statuses == [status.SERVING, status.NOT_SERVING, status.SERVING]


@pytest.mark.parametrize("field", ["model_name", "repository_name"])
async def test_a_model_is_unloaded_and_loaded_by_triton_and_kserve(client: Client, field: str) -> None:
    """The name of the model is in another field of KServe's messages."""
    third = (("x-api-key", "third"),)
    stub = health_pb2_grpc.HealthStub(client.channel)
    request = health_pb2.HealthCheckRequest(service="breast_cancer")
    await client.call("RepositoryModelUnload", {field: "breast_cancer"}, metadata=third)
    assert not (await client.call("ModelReady", {"name": "breast_cancer"})).ready
    assert (await stub.Check(request)).status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert await code_of(client.infer(row(), metadata=third)) is StatusCode.NOT_FOUND
    response = await client.call("RepositoryModelLoad", {field: "breast_cancer"}, metadata=third)
    assert response.ByteSize() == 0
    assert (await stub.Check(request)).status == health_pb2.HealthCheckResponse.SERVING


async def test_calls_are_answered_until_the_grace_period_is_over_and_open_streams_do_not_delay_the_end(
    store: Path,
) -> None:
    """Idle streams would last longer than this server's time for answers, which is a day."""
    with serving_grpc(store, shutdown_grace_seconds=4, timeout_seconds=86_400) as (server, port):
        async with client_of(port) as client:
            stub = health_pb2_grpc.HealthStub(client.channel)
            watch = stub.Watch(health_pb2.HealthCheckRequest())
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
            stream = client.stream()
            await stream.write(row())
            await stream.read()
            server.process.send_signal(signal.SIGTERM)
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
            assert (await client.call("ServerLive")).live
            assert not (await client.call("ServerReady")).ready
            assert outputs(await client.infer(row()))["label"] == ["M"]

            async def refused() -> bool:
                return await code_of(client.infer(row(), timeout=10)) is StatusCode.UNAVAILABLE

            await eventually(refused)
            assert await asyncio.to_thread(server.process.wait, 60) is not None
            assert await stream.code() is not StatusCode.OK


async def test_a_call_over_tls_needs_the_clients_certificate_where_that_is_set(store: Path, certificate: Path) -> None:
    pem = certificate.read_bytes()
    files = {"grpc_tls_certificate": certificate, "grpc_tls_key": certificate, "grpc_tls_client_ca": certificate}
    with serving_grpc(store, **files) as (_, port):
        async with client_of(port, grpc.ssl_channel_credentials(pem, pem, pem)) as client:
            assert outputs(await client.infer(row()))["label"] == ["M"]
        for credentials in (grpc.ssl_channel_credentials(pem), None):
            async with client_of(port, credentials) as client:
                assert await code_of(client.infer(row(), timeout=10)) is StatusCode.UNAVAILABLE


async def test_a_client_that_leaves_before_it_has_read_its_answer_is_no_fault(bounded: tuple[Server, int]) -> None:
    server, port = bounded
    for _ in range(20):
        async with http2.unreading_client(port) as unreading:
            call = unreading.begin("/inference.GRPCInferenceService/ModelInfer", row().SerializeToString())
            await unreading.receive(http2.HEADERS, call)
    async with client_of(port) as client:
        assert outputs(await client.infer(row()))["label"] == ["M"]
    assert "Traceback" not in server.log.read_text(encoding="utf-8")


async def test_several_workers_share_a_port(of_two_workers: tuple[Server, int]) -> None:
    server, port = of_two_workers
    for _ in range(4):
        async with client_of(port) as client:

            async def answered() -> bool:
                """Ask again while the worker of this connection is still loading its models."""
                return await code_of(client.infer(row())) is not StatusCode.UNAVAILABLE

            await eventually(answered)
            assert outputs(await client.infer(row()))["label"] == ["M"]
    assert httpx.get(f"{server.address}/readyz").status_code == 200


async def test_an_old_connection_takes_no_more_calls_and_loses_none(of_two_workers: tuple[Server, int]) -> None:
    _, port = of_two_workers
    async with client_of(port) as client, asyncio.timeout(60):
        stream = client.stream()
        for _ in range(3):
            async with http2.unreading_client(port) as other:
                ended = asyncio.ensure_future(other.receive(http2.GOAWAY, 0))
                while not ended.done():
                    answers = await asyncio.gather(*(client.infer(row()) for _ in range(20)))
                    await stream.write(row())
                    assert outputs((await stream.read()).infer_response) == outputs(answers[0])
                await ended


async def test_a_client_that_reads_no_answers_is_closed_before_they_fill_the_memory(
    bounded: tuple[Server, int],
) -> None:
    """Each answer has 160 KB, and a quarter of 16 MiB is for those that are unread."""
    _, port = bounded
    request = request_for("segmentation", {"x91": np.zeros(10_000, np.int32)}, raw=True).SerializeToString()
    async with http2.unreading_client(port) as unreading, client_of(port) as client, asyncio.timeout(60):
        for _ in range(50):
            unreading.begin("/inference.GRPCInferenceService/ModelInfer", gzip.compress(request))
        with pytest.raises(asyncio.IncompleteReadError):
            await unreading.receive(http2.GOAWAY, 0)
        assert len(outputs(await client.bytes("ModelInfer", request))["predicted_class"]) == 10_000


async def test_cancelled_calls_are_dropped_and_counted_as_such(bounded: tuple[Server, int]) -> None:
    server, port = bounded
    async with client_of(port) as client:
        texts = [[f"cancelled {call} {number} " * 100 for number in range(200)] for call in range(4)]
        calls = [client.infer(request_for("sentiment", {"text": each})) for each in texts]
        waits = asyncio.gather(*calls, return_exceptions=True)

        async def queued() -> bool:
            return await asyncio.to_thread(metric, server.address, "tiffin_queue_items", model="sentiment") > 0

        await eventually(queued)
        for call in calls:
            call.cancel()
        await asyncio.wait([waits])

        async def counted() -> bool:
            labels = {"model": "sentiment", "status": "499"}
            return await asyncio.to_thread(metric, server.address, "tiffin_requests_total", **labels) > 0

        async def answered() -> bool:
            try:
                found = outputs(await client.infer(request_for("sentiment", {"text": ["fine"]})))
            except grpc.aio.AioRpcError:  # what had begun of the others is still being computed
                return False
            return len(found["label"]) == 1

        await eventually(counted)
        await eventually(answered)
