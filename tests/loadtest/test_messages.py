"""The messages of ModelInfer are written and read as protobuf itself does."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from loadtest import inputs
from loadtest.messages import infer_request, read_answer
from loadtest.tensors import to_raw

Field = descriptor_pb2.FieldDescriptorProto
# What ModelInferRequest and ModelInferResponse share with the protocol's file: name, number, type, whether repeated.
TENSOR = [("name", 1, Field.TYPE_STRING, 0), ("datatype", 2, Field.TYPE_STRING, 0), ("shape", 3, Field.TYPE_INT64, 1)]
REQUEST = [
    ("model_name", 1, Field.TYPE_STRING, 0),
    ("model_version", 2, Field.TYPE_STRING, 0),
    ("inputs", 5, Field.TYPE_MESSAGE, 1),
    ("raw_input_contents", 7, Field.TYPE_BYTES, 1),
]
ANSWER = [
    ("model_name", 1, Field.TYPE_STRING, 0),
    ("model_version", 2, Field.TYPE_STRING, 0),
    ("id", 3, Field.TYPE_STRING, 0),
    ("outputs", 5, Field.TYPE_MESSAGE, 1),
    ("raw_output_contents", 6, Field.TYPE_BYTES, 1),
]


@pytest.fixture(scope="module")
def messages() -> dict[str, Any]:
    """Return the classes of the messages, of a pool of their own."""
    file = descriptor_pb2.FileDescriptorProto(name="infer.proto", package="inference", syntax="proto3")
    for message, rows in (("Tensor", TENSOR), ("Request", REQUEST), ("Answer", ANSWER)):
        described = file.message_type.add(name=message)
        for name, number, type_, repeated in rows:
            label = Field.LABEL_REPEATED if repeated else Field.LABEL_OPTIONAL
            tensor = ".inference.Tensor" if type_ == Field.TYPE_MESSAGE else None
            described.field.add(name=name, number=number, type=type_, label=label, type_name=tensor)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"inference.{name}"))
        for name in ("Tensor", "Request", "Answer")
    }


@pytest.mark.parametrize("model", inputs.TENSORS)
def test_protobuf_reads_a_request(messages: dict[str, Any], model: str) -> None:
    tensors = inputs.TENSORS[model](5)
    read = messages["Request"].FromString(infer_request(model, tensors))
    assert read.model_name == model
    assert [(t.name, t.datatype, tuple(t.shape)) for t in read.inputs] == [
        (t.name, t.datatype, t.shape) for t in tensors
    ]
    assert list(read.raw_input_contents) == list(map(to_raw, tensors))


def test_sizes_of_more_than_a_byte_are_read(messages: dict[str, Any]) -> None:
    (tensor, *_) = messages["Request"].FromString(infer_request("m", inputs.tumour_tensors(range(1_000)))).inputs
    assert list(tensor.shape) == [1_000]


def test_an_answer_of_protobuf_is_read(messages: dict[str, Any]) -> None:
    answer = messages["Answer"](model_name="sentiment", model_version="v" * 200, id="7")
    answer.outputs.add(name="label", datatype="BYTES", shape=[1])
    answer.outputs.add(name="probabilities", datatype="FP32", shape=[1, 300])
    answer.raw_output_contents.append(b"\x01\x00\x00\x00M")
    answer.raw_output_contents.append(bytes(1_200))
    found = read_answer(answer.SerializeToString())
    assert found["label"].data == ["M"]
    assert (found["probabilities"].shape, len(found["probabilities"].data)) == ((1, 300), 300)


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        (b"\xff", "within a number"),
        (b"\x2a\x05ab", "within a field"),
        (b"\x2b", "wire type 3"),
        (b"\x2a\x02\x0a\x00", "shorter"),
    ],
)
def test_what_is_no_answer_is_refused(message: bytes, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        read_answer(message)
