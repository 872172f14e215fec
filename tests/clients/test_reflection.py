"""What grpcurl does: find the service by reflection, make messages from that, and call it; and the health service."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from tests.clients.conftest import Server

ROOT = Path(__file__).resolve().parents[2]
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
    return json_format.MessageToDict(answer)


def test_services_are_listed(database: ProtoReflectionDescriptorDatabase) -> None:
    assert {SERVICE, "grpc.health.v1.Health"} <= set(database.get_services())


def test_the_service_is_described_with_all_methods(pool: DescriptorPool) -> None:
    assert set(pool.FindServiceByName(SERVICE).methods_by_name) >= METHODS


def test_the_call_on_the_page_of_the_docs_gives_what_is_shown(channel: grpc.Channel, pool: DescriptorPool) -> None:
    page = (ROOT / "docs" / "open-inference-protocol.md").read_text(encoding="utf-8")
    ((request, method, shown),) = re.findall(rf"^\$ grpcurl .* -d '(.*)' \S+ {SERVICE}/(\w+).*\n(.*)$", page, re.M)
    answer = call(channel, pool, method, json.loads(request))
    assert answer | {"modelVersion": "…"} == json.loads(shown)


def test_the_server_tells_its_name(channel: grpc.Channel, pool: DescriptorPool) -> None:
    assert call(channel, pool, "ServerMetadata", {})["name"] == "tiffin"


def test_health_is_told_as_probes_of_kubernetes_ask_it(channel: grpc.Channel) -> None:
    answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=60)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
