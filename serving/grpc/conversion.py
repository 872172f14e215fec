"""Messages as requests for inference, and answers as messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from models.model import Array, Model
from serving.grpc.messages import message_class
from serving.oip.columns import check_described
from serving.oip.errors import ProtocolError
from serving.oip.requests import InferAnswer, InferRequest, RequestedOutput
from serving.oip.tensors import BYTES, Description, Tensor, as_bytes, count_of, from_raw, to_raw

# By datatype, the field of the contents that has its elements, and their type there; FP16 and BF16 have none.
CONTENTS: dict[str, tuple[str, np.dtype[Any]]] = {
    "BOOL": ("bool_contents", np.dtype(np.bool_)),
    **{name: ("int_contents", np.dtype(np.int32)) for name in ("INT8", "INT16", "INT32")},
    "INT64": ("int64_contents", np.dtype(np.int64)),
    **{name: ("uint_contents", np.dtype(np.uint32)) for name in ("UINT8", "UINT16", "UINT32")},
    "UINT64": ("uint64_contents", np.dtype(np.uint64)),
    "FP32": ("fp32_contents", np.dtype(np.float32)),
    "FP64": ("fp64_contents", np.dtype(np.float64)),
    BYTES: ("bytes_contents", np.dtype(np.object_)),
}
# Datatypes that are sent as wider ones.
NARROW = {"INT8", "INT16", "UINT8", "UINT16"}
NONE: Mapping[str, Any] = {}
RawContents = Sequence[bytes | memoryview]

InferResponse = message_class("ModelInferResponse")


def request_of(message: Any, raw: RawContents, model: type[Model[Any]]) -> InferRequest:
    """Return the request of a ModelInferRequest, whose raw contents stand in `raw`.

    Raises ProtocolError where shapes, datatypes and elements do not agree, and InvalidInputError for too many rows.
    """
    inputs = message.inputs
    if not inputs:
        raise ProtocolError("inputs is empty")
    if raw and len(raw) != len(inputs):
        raise ProtocolError(f"raw_input_contents has {len(raw):,} entries for {len(inputs):,} inputs")
    described = [Description(entry.name, entry.datatype, tuple(entry.shape)) for entry in inputs]
    check_described(described, [entry.name for entry in message.outputs], model)
    contents: RawContents | Sequence[None] = raw or [None] * len(inputs)
    tensors = [input_of(*each) for each in zip(inputs, described, contents, strict=True)]
    outputs = [RequestedOutput(entry.name, parameters_of(entry.parameters)) for entry in message.outputs]
    return InferRequest(tensors, outputs, message.id, parameters_of(message.parameters))


def input_of(entry: Any, described: Description, raw: bytes | memoryview | None) -> Tensor:
    """Return an input; its elements are in `raw`, or None where they are in its contents."""
    name, datatype, shape = described
    if raw is None:
        values = from_contents(name, datatype, count_of(name, datatype, shape), entry.contents)
    else:
        if entry.HasField("contents") and entry.contents.ByteSize():
            raise ProtocolError(f"{name} has contents beside raw_input_contents")
        values = from_raw(name, datatype, shape, raw)
    return Tensor(*described, values, parameters_of(entry.parameters))


def from_contents(name: str, datatype: str, count: int, contents: Any) -> Array:
    """Return the elements of a tensor in the field for its datatype."""
    if datatype not in CONTENTS:
        raise ProtocolError(f"{name} is {datatype}, which has no field in contents: send it in raw_input_contents")
    field, dtype = CONTENTS[datatype]
    elements = getattr(contents, field)
    others = [other.name for other, _ in contents.ListFields() if other.name != field]
    if others:
        raise ProtocolError(f"{name} is {datatype}: its elements must be in {field}, not in {others[0]}")
    if len(elements) != count:
        raise ProtocolError(f"{name} has {len(elements):,} elements in {field}, its shape {count:,}")
    if datatype == BYTES:
        values: Array = np.empty(count, dtype=np.object_)
        values[:] = elements
        return values
    values = np.fromiter(elements, dtype, count)
    if datatype in NARROW:
        narrow = np.iinfo(datatype.lower())
        if ((values < narrow.min) | (values > narrow.max)).any():
            raise ProtocolError(f"{field} of {name} has a number that {datatype} does not have")
    return values


def parameters_of(entries: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return parameters by name; those without a value are left out."""
    if not entries:
        return NONE
    found = {}
    for name, parameter in entries.items():
        choice = parameter.WhichOneof("parameter_choice")
        if choice is not None:
            found[name] = getattr(parameter, choice)
    return found


def response_of(answer: InferAnswer, request_id: str, *, raw: bool) -> Any:
    """Return the ModelInferResponse of an answer, with raw contents where the request had such."""
    response = InferResponse(model_name=answer.model_name, model_version=answer.model_version, id=request_id)
    for tensor in answer.outputs:
        output = response.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        if raw:
            response.raw_output_contents.append(to_raw(tensor))
        else:
            elements = map(as_bytes, tensor.values) if tensor.datatype == BYTES else tensor.values.tolist()
            getattr(output.contents, CONTENTS[tensor.datatype][0]).extend(elements)
    return response
