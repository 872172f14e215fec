"""The messages of the server are those of published clients: names, numbers, types and labels of all fields.

Each package defines the same names, so that it is loaded in a process of its own.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from typing import Any

import pytest

from serving.grpc.messages import FILE, pool

# Prints the fields, enumerations and methods of modules and of what they import.
DUMP = """
import importlib, json, sys
found = {}
def add(message):
    for field in message.fields:
        repeated = field.is_repeated if hasattr(field, "is_repeated") else field.label == field.LABEL_REPEATED
        found[message.full_name + "." + field.name] = [field.number, field.type, repeated]
    for nested in message.nested_types:
        add(nested)
def add_file(file):
    for message in file.message_types_by_name.values():
        add(message)
    for enum in file.enum_types_by_name.values():
        for value in enum.values:
            found[enum.full_name + "." + value.name] = [value.number]
    for service in file.services_by_name.values():
        for method in service.methods:
            found[method.full_name] = [method.input_type.full_name, method.output_type.full_name]
    for imported in file.dependencies:
        add_file(imported)
"""
PRINTED = """
for name in sys.argv[1:]:
    add_file(importlib.import_module(name).DESCRIPTOR)
print(json.dumps(found))
"""
# By package: its modules, and what it has otherwise. KServe's requests to load a model have the name in the field that
# elsewhere names a repository, and are read so; MLServer's methods for that are in a package of their own.
PACKAGES: dict[str, tuple[list[str], set[str]]] = {
    "tritonclient": (["tritonclient.grpc.service_pb2"], set()),
    "kserve": (
        ["kserve.protocol.grpc.grpc_predict_v2_pb2"],
        {f"inference.RepositoryModel{what}Request.model_name" for what in ("Load", "Unload")},
    ),
    "mlserver": (["mlserver.grpc.dataplane_pb2"], {"inference.GRPCInferenceService.ModelStreamInfer"}),
}
# What the server knows in any case, whichever of the dialects a client speaks.
LEAST = 60


def ours() -> dict[str, Any]:
    """Return the fields of the server's messages."""
    space: dict[str, Any] = {}
    exec(DUMP, space)
    space["add_file"](pool.FindFileByName(FILE))
    found: dict[str, Any] = space["found"]
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_messages_are_those_of_a_client(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed here")
    modules, others = PACKAGES[package]
    done = subprocess.run(
        [sys.executable, "-c", DUMP + PRINTED, *modules], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout)
    known = ours()
    shared = (known.keys() & theirs.keys()) - others
    assert len(shared) >= LEAST
    assert {name: known[name] for name in shared} == {name: theirs[name] for name in shared}
    assert all(known[name] != theirs[name] for name in others)


def test_tritons_client_has_all_that_the_server_has() -> None:
    if importlib.util.find_spec("tritonclient") is None:
        pytest.skip("tritonclient is not installed here")
    modules, _ = PACKAGES["tritonclient"]
    done = subprocess.run(
        [sys.executable, "-c", DUMP + PRINTED, *modules], capture_output=True, text=True, timeout=300, check=True
    )
    assert ours().keys() <= json.loads(done.stdout).keys()
