"""What grpcurl does: find the service by reflection, make messages from that, and call it; and the health service."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from tests.clients.conftest import Server
from tests.clients.examples import TEXTS

SERVICE = "inference.GRPCInferenceService"
METHODS = {
    "ServerLive",
    "ServerReady",
    "ModelReady",
    "ServerMetadata",
    "ModelMetadata",
    "ModelInfer",
    "ModelConfig",
    "ModelStatistics",
    "RepositoryIndex",
    "RepositoryModelLoad",
    "RepositoryModelUnload",
}


@pytest.fixture(scope="module")
def channel(server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.grpc) as channel:
        yield channel


@pytest.fixture(scope="module")
def database(channel: grpc.Channel) -> ProtoReflectionDescriptorDatabase:
    return ProtoReflectionDescriptorDatabase(channel)


@pytest.fixture(scope="module")
def pool(database: ProtoReflectionDescriptorDatabase) -> DescriptorPool:
    return DescriptorPool(database)


def call(channel: grpc.Channel, pool: DescriptorPool, method: str, request: dict[str, Any]) -> Any:
    """Call a method with JSON and return the JSON of its response."""
    described = pool.FindServiceByName(SERVICE).methods_by_name[method]
    message = json_format.ParseDict(request, message_factory.GetMessageClass(described.input_type)())
    answer = channel.unary_unary(
        f"/{SERVICE}/{method}",
        request_serializer=lambda sent: sent.SerializeToString(),
        response_deserializer=message_factory.GetMessageClass(described.output_type).FromString,
    )(message, timeout=60)
    return json_format.MessageToDict(answer, preserving_proto_field_name=True)


def test_services_are_listed(database: ProtoReflectionDescriptorDatabase) -> None:
    assert {SERVICE, "grpc.health.v1.Health"} <= set(database.get_services())


def test_the_service_is_described_with_all_methods(pool: DescriptorPool) -> None:
    assert set(pool.FindServiceByName(SERVICE).methods_by_name) >= METHODS


def test_a_model_is_asked_by_what_reflection_tells(channel: grpc.Channel, pool: DescriptorPool) -> None:
    contents = {"bytes_contents": [base64.b64encode(TEXTS[0].encode()).decode()]}
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "contents": contents}
    answer = call(channel, pool, "ModelInfer", {"model_name": "sentiment", "inputs": [tensor]})
    (label, *_) = answer["outputs"]
    assert (answer["model_name"], label["name"], label["contents"]) == (
        "sentiment",
        "label",
        {"bytes_contents": ["UE9TSVRJVkU="]},
    )


def test_the_server_tells_its_name(channel: grpc.Channel, pool: DescriptorPool) -> None:
    assert call(channel, pool, "ServerMetadata", {})["name"] == "tiffin"


def test_health_is_told_as_probes_of_kubernetes_ask_it(channel: grpc.Channel) -> None:
    answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=60)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
