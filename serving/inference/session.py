"""ONNX sessions, opened with 8-bit weights in the form that this processor multiplies fastest, and exactly."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from serving.execution_providers import PROCESSOR
from serving.inference.instruction_set import instruction_set

# Key in a graph's metadata under which training lists, one a line, the weights of its 8-bit products and their zero
# points: uint8, centred on 128.
UNSIGNED_WEIGHTS = "tiffin.unsigned_weights"
# Instruction sets that add products of unsigned by signed numbers in 32 bits, which is exact.
EXACT = ("AMX", "AVX-512 VNNI", "AVX-VNNI")
# From TensorProto.DataType in onnx.proto.
UINT8, INT8 = 2, 3


def open_session(
    graph: Path | bytes,
    threads: int,
    *,
    signed: bool | None = None,
    provider: str = PROCESSOR,
    spinning: bool = True,
) -> Any:
    """Open a session for a graph, given as a file or as its content, on `threads` threads; 0 takes all cores.

    Threads that wait for work spin for a while, unless `spinning` says that others want the cores.

    Unsigned weights are made signed where the processor multiplies these exactly, or as `signed` says: the products are
    the same numbers, and onnxruntime's kernels for them are twice as fast. Another `provider` takes the weights as they
    are; operations that it does not support are computed by the processor.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    if not spinning:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # errors are raised anyway, and warnings are of initializers that it could drop

    def opened(source: str | bytes) -> Any:
        return onnxruntime.InferenceSession(source, options, providers=list(dict.fromkeys((provider, PROCESSOR))))

    content = graph if isinstance(graph, bytes) else graph.read_bytes()
    recoded = signed if signed is not None else provider == PROCESSOR and instruction_set() in EXACT
    if recoded and UNSIGNED_WEIGHTS.encode() in content:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.onnx"
            file.write_bytes(with_signed_weights(content))
            return opened(str(file))  # a session opened from bytes would keep them
    return opened(graph if isinstance(graph, bytes) else str(graph))


def with_signed_weights(graph: bytes) -> bytes:
    """Return the graph with 128 subtracted from the weights and zero points that its metadata lists."""
    model = model_class().FromString(graph)
    names = {
        name for entry in model.metadata_props if entry.key == UNSIGNED_WEIGHTS for name in entry.value.split("\n")
    }
    for tensor in model.graph.initializer:
        if tensor.name in names and tensor.data_type == UINT8:
            tensor.raw_data = (np.frombuffer(tensor.raw_data, np.uint8) ^ np.uint8(128)).tobytes()
            tensor.data_type = INT8
    signed: bytes = model.SerializeToString()
    return signed


@cache
def model_class() -> Any:
    """Return a message class for ONNX's ModelProto with the few fields needed here; other fields are kept unread.

    The package onnx, which has them all, takes 50 MB. Field numbers are from onnx.proto, IR version 10.
    """
    # Imported here, since most processors need no other weights, and the library takes 0.1 s.
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field
    from google.protobuf.descriptor_pb2 import FileDescriptorProto
    from google.protobuf.descriptor_pool import DescriptorPool
    from google.protobuf.message_factory import GetMessageClass

    file = FileDescriptorProto(name="tiffin/onnx.proto", package="tiffin.onnx", syntax="proto2")
    one, many = Field.LABEL_OPTIONAL, Field.LABEL_REPEATED
    for message, fields in {
        "StringStringEntryProto": [("key", 1, Field.TYPE_STRING, one), ("value", 2, Field.TYPE_STRING, one)],
        "TensorProto": [
            ("data_type", 2, Field.TYPE_INT32, one),
            ("name", 8, Field.TYPE_STRING, one),
            ("raw_data", 9, Field.TYPE_BYTES, one),
        ],
        "GraphProto": [("initializer", 5, "TensorProto", many)],
        "ModelProto": [("graph", 7, "GraphProto", one), ("metadata_props", 14, "StringStringEntryProto", many)],
    }.items():
        described = file.message_type.add(name=message)
        for name, number, kind, label in fields:
            field = described.field.add(name=name, number=number, label=label)
            if isinstance(kind, str):
                field.type, field.type_name = Field.TYPE_MESSAGE, f".tiffin.onnx.{kind}"
            else:
                field.type = kind
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName("tiffin.onnx.ModelProto"))
