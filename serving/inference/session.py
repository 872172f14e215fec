"""An ONNX session: opened with 8-bit weights in the form that this processor multiplies fastest, and exactly."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from serving.inference.instruction_set import instruction_set

# How the names of weights of 8-bit products end, and those of their zero points: uint8, around 128.
UNSIGNED = "_unsigned"
# Instruction sets that add products of unsigned by signed numbers in 32 bits, which is exact.
EXACT = ("AMX", "AVX-512 VNNI", "AVX-VNNI")
# Of onnx.proto's TensorProto.DataType.
UINT8, INT8 = 2, 3


def open_session(graph: Path | bytes, threads: int) -> Any:
    """Open a graph, a file or its content, on so many threads; 0 takes all cores.

    Its unsigned weights are made signed where the processor has VNNI: the products are the same numbers, and
    onnxruntime has a kernel for them that is twice as fast.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only; it warns of initializers that it could drop
    content = graph if isinstance(graph, bytes) else graph.read_bytes()
    if instruction_set() in EXACT and UNSIGNED.encode() in content:
        content = with_signed_weights(content)
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def with_signed_weights(graph: bytes) -> bytes:
    """Return the graph with 128 taken from each weight and zero point whose name ends in UNSIGNED."""
    model = model_class().FromString(graph)
    for tensor in model.graph.initializer:
        if tensor.name.endswith(UNSIGNED) and tensor.data_type == UINT8:
            tensor.raw_data = (np.frombuffer(tensor.raw_data, np.uint8) ^ np.uint8(128)).tobytes()
            tensor.data_type = INT8
    signed: bytes = model.SerializeToString()
    return signed


@cache
def model_class() -> Any:
    """Return the message class of ONNX's ModelProto with the few fields that are needed here; the others are kept.

    The package onnx, which has them all, takes 50 MB. Numbers of fields are from onnx.proto, IR version 10.
    """
    file = FileDescriptorProto(name="tiffin/onnx.proto", package="tiffin.onnx", syntax="proto2")
    for message, fields in {
        "TensorProto": [
            ("data_type", 2, Field.TYPE_INT32),
            ("name", 8, Field.TYPE_STRING),
            ("raw_data", 9, Field.TYPE_BYTES),
        ],
        "GraphProto": [("initializer", 5, "TensorProto")],
        "ModelProto": [("graph", 7, "GraphProto")],
    }.items():
        described = file.message_type.add(name=message)
        for name, number, kind in fields:
            field = described.field.add(name=name, number=number, label=Field.LABEL_OPTIONAL)
            if isinstance(kind, str):
                field.type, field.type_name = Field.TYPE_MESSAGE, f".tiffin.onnx.{kind}"
                field.label = Field.LABEL_REPEATED if name == "initializer" else Field.LABEL_OPTIONAL
            else:
                field.type = kind
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName("tiffin.onnx.ModelProto"))
