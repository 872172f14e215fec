"""The messages of gRPC have the numbers and types that the packages of others have, field by field."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto

ROOT = Path(__file__).resolve().parents[2]
OURS = "import sys; from serving.grpc.messages import file_descriptor; out = file_descriptor().SerializeToString()"
# By its file, since the package around it may want what is not installed. In a process of its own, since files that
# define the same messages cannot be in one.
THEIRS = """
import importlib.util, sys
folder, file = importlib.util.find_spec(sys.argv[1]).submodule_search_locations[0], sys.argv[2]
spec = importlib.util.spec_from_file_location("messages", f"{folder}/{file}")
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
out = module.DESCRIPTOR.serialized_pb
"""
WRITE = "\nsys.stdout.buffer.write(out)"
# Triton's, which the others do not know.
NUMBERS = {"InferParameter.double_param", "InferParameter.uint64_param"}
# KServe's name the model in field 1, which is the repository's name in Triton's and MLServer's.
LOADING = {"RepositoryModelLoadRequest", "RepositoryModelUnloadRequest"}

Field = tuple[int, int, int, str]


def fields(messages: Iterable[DescriptorProto], prefix: str = "") -> dict[str, Field]:
    """Return number, type, label and type's name of each field, by message and name."""
    found: dict[str, Field] = {}
    for message in messages:
        for field in message.field:
            name = field.type_name.removeprefix(".inference.")
            found[f"{prefix}{message.name}.{field.name}"] = (field.number, field.type, field.label, name)
        found |= fields(message.nested_type, f"{prefix}{message.name}.")
    return found


def message_of(field: str) -> str:
    """Return the name of a field's message."""
    return field.rpartition(".")[0]


def read(python: str, program: str, *arguments: str) -> dict[str, Field]:
    """Return the fields of the descriptor that a program makes."""
    command = [python, "-c", program + WRITE, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=120, check=True)
    return fields(FileDescriptorProto.FromString(done.stdout).message_type)


@pytest.fixture(scope="module")
def ours(server_python: str) -> dict[str, Field]:
    return read(server_python, OURS)


@pytest.mark.parametrize(
    ("package", "file", "differ", "only_ours", "only_theirs"),
    [
        (
            "tritonclient",
            "grpc/service_pb2.py",
            set(),
            set(),
            {f"ModelStatistics.{name}" for name in ("memory_usage", "response_stats")},
        ),
        (
            "kserve",
            "protocol/grpc/grpc_predict_v2_pb2.py",
            {f"{request}.model_name" for request in LOADING},
            NUMBERS | {f"{request}.{name}" for request in LOADING for name in ("repository_name", "parameters")},
            set(),
        ),
        (
            "mlserver",
            "grpc/dataplane_pb2.py",
            set(),
            NUMBERS,
            {"ModelMetadataResponse.parameters", "ModelMetadataResponse.TensorMetadata.parameters"},
        ),
    ],
)
def test_messages_differ_in_nothing_but_the_dialects(
    ours: dict[str, Field], package: str, file: str, differ: set[str], only_ours: set[str], only_theirs: set[str]
) -> None:
    theirs = read(sys.executable, THEIRS, package, file)
    assert {name for name in ours.keys() & theirs.keys() if ours[name] != theirs[name]} == differ
    messages = {message_of(name) for name in ours} & {message_of(name) for name in theirs}
    assert {name for name in ours.keys() - theirs.keys() if message_of(name) in messages} == only_ours
    assert {name for name in theirs.keys() - ours.keys() if message_of(name) in messages} == only_theirs


def test_the_configuration_has_fields_of_tritons(ours: dict[str, Field]) -> None:
    theirs = read(sys.executable, THEIRS, "tritonclient", "grpc/model_config_pb2.py")
    of_config = {name: field for name, field in ours.items() if name.startswith("Model") and name in theirs}
    assert "ModelConfig.max_batch_size" in of_config
    assert of_config == {name: theirs[name] for name in of_config}
