"""What the protocol tells of the server and its models over gRPC; health, reflection, metrics."""

from __future__ import annotations

import gzip
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.json_format import MessageToDict
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

import models
from serving.grpc.messages import METHODS, SERVICE, STREAM, file_descriptor
from tests.support.grpc_clients import Client, request_for

pytestmark = pytest.mark.anyio
MODELS = models.names()
SERVING = health_pb2.HealthCheckResponse.SERVING


def fields(message: Any) -> Any:
    """Return a message as JSON has it; its 64-bit numbers are text."""
    return MessageToDict(message, preserving_proto_field_name=True)


async def test_the_server_is_alive_and_ready(client: Client) -> None:
    assert (await client.call("ServerLive")).live
    assert (await client.call("ServerReady")).ready
    for name in MODELS:
        assert (await client.call("ModelReady", {"name": name})).ready


async def test_the_server_tells_what_it_tells_over_http(client: Client, http: httpx.Client) -> None:
    assert fields(await client.call("ServerMetadata")) == http.get("/v2").json()


@pytest.mark.parametrize("name", MODELS)
async def test_a_model_tells_what_it_tells_over_http(client: Client, http: httpx.Client, name: str) -> None:
    expected = http.get(f"/v2/models/{name}").json()
    for version in ("", expected["versions"][0]):
        found = await client.call("ModelMetadata", {"name": name, "version": version})
        for kind in ("inputs", "outputs"):
            told = [(entry.name, entry.datatype, list(entry.shape)) for entry in getattr(found, kind)]
            assert told == [(entry["name"], entry["datatype"], entry["shape"]) for entry in expected[kind]]
        assert (found.name, list(found.versions), found.platform) == (name, expected["versions"], expected["platform"])


@pytest.mark.parametrize("name", MODELS)
async def test_a_models_configuration_is_that_over_http(client: Client, http: httpx.Client, name: str) -> None:
    found = fields((await client.call("ModelConfig", {"name": name})).config)
    expected = http.get(f"/v2/models/{name}/config").json()
    for entry in [*expected["input"], *expected["output"]]:
        entry["dims"] = [str(size) for size in entry["dims"]]
        for key in [key for key, told in entry.items() if not told]:
            del entry[key]  # what has its default is not sent
    assert found == expected


async def test_statistics_are_of_all_models_of_one_or_of_a_version(client: Client, http: httpx.Client) -> None:
    everything = await client.call("ModelStatistics")
    assert sorted(entry.name for entry in everything.model_stats) == sorted(MODELS)
    version = http.get("/v2/models/image").json()["versions"][0]
    for asked in ({"name": "image"}, {"name": "image", "version": version}):
        (found,) = (await client.call("ModelStatistics", asked)).model_stats
        assert (found.name, found.version) == ("image", version)


async def test_statistics_count_calls(client: Client) -> None:
    async def stats() -> Any:
        return (await client.call("ModelStatistics", {"name": "sentiment"})).model_stats[0].inference_stats

    before = await stats()
    await client.infer(request_for("sentiment", {"text": ["statistics over gRPC"]}))
    with pytest.raises(grpc.aio.AioRpcError):
        await client.infer(request_for("sentiment", {"text": [""]}))
    after = await stats()
    assert (after.success.count - before.success.count, after.fail.count - before.fail.count) == (1, 1)


@pytest.mark.parametrize("ready", [False, True])
async def test_the_repository_lists_what_is_loaded(client: Client, ready: bool) -> None:
    found = (await client.call("RepositoryIndex", {"ready": ready})).models
    assert sorted(entry.name for entry in found if entry.state == "READY") == sorted(MODELS)


@pytest.mark.parametrize("method", ["RepositoryModelLoad", "RepositoryModelUnload"])
async def test_loading_is_off_by_default_and_the_setting_is_named(client: Client, method: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match=StatusCode.INVALID_ARGUMENT.name) as caught:
        await client.call(method, {"model_name": "sentiment"})
    assert "TIFFIN_MODEL_CONTROL" in caught.value.details()


async def test_a_method_that_is_not_there_is_not_implemented(client: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match=StatusCode.UNIMPLEMENTED.name):
        await client.channel.unary_unary(f"/{SERVICE}/SystemSharedMemoryStatus")(b"")


@pytest.mark.parametrize("service", ["", SERVICE, *MODELS])
async def test_health_is_told_of_the_server_and_of_each_model(client: Client, service: str) -> None:
    stub = health_pb2_grpc.HealthStub(client.channel)
    request = health_pb2.HealthCheckRequest(service=service)
    assert (await stub.Check(request)).status == SERVING
    watch = stub.Watch(request)
    assert (await watch.read()).status == SERVING
    watch.cancel()


async def test_the_health_of_what_is_not_there_is_not_found(client: Client) -> None:
    stub = health_pb2_grpc.HealthStub(client.channel)
    with pytest.raises(grpc.aio.AioRpcError, match=StatusCode.NOT_FOUND.name):
        await stub.Check(health_pb2.HealthCheckRequest(service="none"))


@pytest.mark.parametrize(
    ("method", "asked"),
    [
        ("/grpc.health.v1.Health/Watch", health_pb2.HealthCheckRequest(service="sentiment")),
        (
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            reflection_pb2.ServerReflectionRequest(list_services=""),
        ),
    ],
)
async def test_compressed_messages_are_taken_by_streams_too(client: Client, method: str, asked: Any) -> None:
    call = client.channel.stream_stream(method)(timeout=60)
    await call.write(gzip.compress(asked.SerializeToString()))
    assert await call.read()
    call.cancel()


async def reflect(client: Client, **asked: str) -> Any:
    """Ask for a reflection."""
    call = reflection_pb2_grpc.ServerReflectionStub(client.channel).ServerReflectionInfo()
    await call.write(reflection_pb2.ServerReflectionRequest(**asked))
    answer = await call.read()
    call.cancel()
    return answer


async def test_reflection_lists_the_services(client: Client) -> None:
    answer = await reflect(client, list_services="")
    names = {service.name for service in answer.list_services_response.service}
    assert names == {SERVICE, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}


async def test_reflection_describes_methods_and_messages(client: Client) -> None:
    answer = await reflect(client, file_containing_symbol=SERVICE)
    (file,) = map(FileDescriptorProto.FromString, answer.file_descriptor_response.file_descriptor_proto)
    assert [message.name for message in file.message_type] == [m.name for m in file_descriptor().message_type]
    assert [method.name for method in file.service[0].method] == [*METHODS, STREAM]
    assert (await reflect(client, file_containing_symbol="grpc.health.v1.Health")).HasField("file_descriptor_response")
    assert (await reflect(client, file_containing_symbol="none")).HasField("error_response")


async def test_calls_are_counted_by_method_status_and_model(client: Client, http: httpx.Client) -> None:
    def counted(method: str, status: int, **labels: str) -> float:
        name = f"/{SERVICE}/{method}"
        labels = {"protocol": "grpc", "route": name, "status": str(status), **labels}
        return sum(
            float(line.rpartition(" ")[2])
            for line in http.get("/metrics").text.splitlines()
            if line.startswith("tiffin_requests_total{")
            and all(f'{name}="{label}"' in line for name, label in labels.items())
        )

    version = http.get("/v2/models/sentiment").json()["versions"][0]
    model = {"model": "sentiment", "version": version}
    kinds = [("ModelInfer", 200, model), ("ModelInfer", 404, {"model": ""}), ("ServerLive", 200, {"model": ""})]
    before = [counted(method, status, **labels) for method, status, labels in kinds]
    await client.infer(request_for("sentiment", {"text": ["counted"]}))
    await client.call("ServerLive")
    with pytest.raises(grpc.aio.AioRpcError):
        await client.infer(request_for("none", {"text": ["counted"]}))
    after = [counted(method, status, **labels) for method, status, labels in kinds]
    assert [now - then for now, then in zip(after, before, strict=True)] == [1, 1, 1]
