"""Bodies of the Open Inference Protocol over HTTP: JSON, followed by tensors in binary form where there are some."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from models.model import LARGE_BYTES, UNDECODABLE, Array, Model
from serving.oip.columns import check_described, check_names
from serving.oip.errors import ProtocolError
from serving.oip.requests import InferAnswer, InferRequest, RequestedOutput, check_supported
from serving.oip.tensors import BYTES, DTYPES, Description, Tensor, count_of, from_raw, to_raw

JSON, BINARY = "application/json", "application/octet-stream"
SPACE = b" \t\r\n"
NONE: Mapping[str, Any] = {}
# The most bytes of a shape, and of parameters. The library reads whole numbers of thousands of digits, slowly.
MAX_PART_BYTES = 2**14
# So much of a long string is decoded at once, since nothing else runs meanwhile: a multiple of every escape's bytes.
PIECE_BYTES = 12 * 2**18
# Between two calls that each take long for a large body, the event loop has its turn for so long.
TURN_SECONDS = 0.005
# The longest that may not be cut: two escapes, of one character.
PAIR_BYTES = 12


class InputObject(msgspec.Struct, gc=False):
    """An input tensor in JSON; what may be long is left as it stands."""

    name: str
    shape: msgspec.Raw
    datatype: str
    parameters: msgspec.Raw = msgspec.Raw()
    data: msgspec.Raw = msgspec.Raw()


class OutputObject(msgspec.Struct, gc=False):
    """An output that is asked for, in JSON."""

    name: str
    parameters: msgspec.Raw = msgspec.Raw()


class RequestObject(msgspec.Struct, gc=False):
    """A request for inference in JSON; other keys are ignored."""

    inputs: list[InputObject]
    outputs: list[OutputObject] | None = None
    id: str | None = None
    parameters: msgspec.Raw = msgspec.Raw()


REQUEST = msgspec.json.Decoder(RequestObject)
SHAPE = msgspec.json.Decoder(tuple[int, ...])
PARAMETERS = msgspec.json.Decoder(dict[str, Any] | None)
STRING = msgspec.json.Decoder(str)
RAW_LIST = msgspec.json.Decoder(list[msgspec.Raw])
NUMBER: Any = {"f": float | None, "i": int | None, "u": int | None, "b": bool | None}


def element_type(datatype: str) -> Any:
    """Return the type of an element in JSON, where null stands for what is missing."""
    return str | None if datatype == BYTES else NUMBER[DTYPES[datatype].kind]


# Decoders of an element, of a flat list of elements, and of a list of rows, by datatype.
DECODERS = {
    datatype: (
        msgspec.json.Decoder(element_type(datatype)),
        msgspec.json.Decoder(list[element_type(datatype)]),  # type: ignore[misc]
        msgspec.json.Decoder(list[list[element_type(datatype)]]),  # type: ignore[misc]
    )
    for datatype in (*DTYPES, BYTES)
    if datatype != "FP16"
}


def split(body: bytes, header_length: bytes | None) -> tuple[bytes, memoryview | None]:
    """Cut a body into JSON and binary tensors; without a header that says where, all of it is JSON.

    Raises ProtocolError for a header that is no number, or that has more bytes than the body.
    """
    if header_length is None:
        return body, None
    text = header_length.strip()
    if not text.isdigit() or len(text) > len(str(len(body))) or int(text) > len(body):
        raise ProtocolError(
            f"Inference-Header-Content-Length must be the bytes of JSON in the body, which has {len(body):,}"
        )
    return body[: int(text)], memoryview(body)[int(text) :]


def raw_request(binary: memoryview, model: type[Model[Any]]) -> InferRequest:
    """Return the request of a body without JSON: it is the only element of the model's only input.

    Raises ProtocolError where the model has other inputs.
    """
    if [column.datatype for column in model.inputs] != [BYTES]:
        raise ProtocolError("a body without JSON is for models of one input, which is BYTES")
    values = np.empty(1, dtype=np.object_)
    values[0] = bytes(binary)
    return InferRequest([Tensor(model.inputs[0].name, BYTES, (1,), values)])


def read_request(text: bytes, binary: memoryview | None, model: type[Model[Any]]) -> InferRequest:
    """Read a request to a model from the JSON of a body and from its binary tensors.

    Raises ProtocolError where it is none, and what `check_described` raises, before any element is read.
    """
    try:
        found = REQUEST.decode(text)
    except UNDECODABLE as error:
        raise ProtocolError(f"the body is no request for inference: {fault(error)}") from None
    if not found.inputs:
        raise ProtocolError("inputs is empty")
    if len(found.inputs) > len(model.inputs):
        check_names([entry.name for entry in found.inputs], [column.name for column in model.inputs])
    described = [Description(entry.name, entry.datatype, shape_of(entry)) for entry in found.inputs]
    check_described(described, [entry.name for entry in found.outputs or ()], model)
    rest = memoryview(b"") if binary is None else binary
    inputs = []
    for entry, description in zip(found.inputs, described, strict=True):
        tensor, used = read_input(entry, description, rest)
        inputs.append(tensor)
        rest = rest[used:]
    if len(rest):
        raise ProtocolError(f"the body has {len(rest):,} bytes after the inputs that binary_data_size describes")
    outputs = [RequestedOutput(entry.name, parameters_of(entry, entry.name)) for entry in found.outputs or ()]
    return InferRequest(inputs, outputs, found.id or "", parameters_of(found, "the request"))


def shape_of(entry: InputObject) -> tuple[int, ...]:
    """Return the shape of an input."""
    shape: tuple[int, ...] = short(entry.shape, SHAPE, "shape", entry.name)
    return shape


def parameters_of(entry: InputObject | OutputObject | RequestObject, name: str) -> Mapping[str, Any]:
    """Return the parameters of what has this name."""
    if not len(entry.parameters):
        return NONE
    return short(entry.parameters, PARAMETERS, "parameters", name) or NONE


def short(part: msgspec.Raw, decoder: msgspec.json.Decoder[Any], what: str, name: str) -> Any:
    """Decode a part of a request that is short in each that makes sense; raise ProtocolError where it is not."""
    if len(part) > MAX_PART_BYTES:
        raise ProtocolError(f"the {what} of {name[:100]} must have at most {MAX_PART_BYTES:,} bytes")
    try:
        return decoder.decode(part)
    except UNDECODABLE as error:
        raise ProtocolError(f"the {what} of {name[:100]} cannot be: {fault(error)}") from None


def fault(error: Exception) -> str:
    """Return what is wrong with JSON, in a few words."""
    return str(error) if isinstance(error, msgspec.DecodeError) else "it is not valid JSON in UTF-8"


def read_input(entry: InputObject, described: Description, rest: memoryview) -> tuple[Tensor, int]:
    """Return an input, and how many bytes of the binary part it takes."""
    parameters = parameters_of(entry, entry.name)
    name, datatype, shape = entry.name[:100], described.datatype, described.shape
    check_supported(name, parameters)  # before the data, which such an input may lack
    size = parameters.get("binary_data_size")
    if size is None:
        return Tensor(*described, from_json(name, datatype, shape, entry.data), parameters), 0
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= len(rest):
        raise ProtocolError(f"the binary_data_size of {name} must be a number up to {len(rest):,}, the bytes left")
    if bytes(entry.data):
        raise ProtocolError(f"{name} has both data and binary_data_size")
    return Tensor(*described, from_raw(name, datatype, shape, rest[:size]), parameters), size


def from_json(name: str, datatype: str, shape: Sequence[int], data: msgspec.Raw) -> Array:
    """Return the elements of a tensor, flat or nested as its shape is, in JSON."""
    count = count_of(name, datatype, shape)
    if datatype not in DECODERS:
        raise ProtocolError(f"{name} is {datatype}, which JSON cannot have: send it in binary")
    text = memoryview(data)
    if not len(text):
        raise ProtocolError(f"{name} has neither data nor binary_data_size")
    first = bytes(text[:1024]).lstrip(SPACE)[1:].lstrip(SPACE)[:1]
    if len(text) > LARGE_BYTES:
        time.sleep(TURN_SECONDS)
        if first == b'"' and datatype != BYTES:  # the library would decode it before it refuses it
            raise ProtocolError(f"the data of {name} must be a list of {datatype}: its first element is a string")
    nested = len(shape) == 2 and first == b"["
    try:
        elements = rows_of(datatype, text) if nested else flat(datatype, text)
    except (*UNDECODABLE, ValueError) as error:
        raise ProtocolError(f"the data of {name} must be a list of {datatype}: {fault(error)}") from None
    if nested:
        if len(elements) != shape[0] or any(len(row) != shape[1] for row in elements):
            raise ProtocolError(f"the data of {name} must have {shape[0]:,} rows of {shape[1]:,}")
        elements = list(itertools.chain.from_iterable(elements))
    if len(elements) != count:
        raise ProtocolError(f"the data of {name} has {len(elements):,} elements, its shape {count:,}")
    return array(name, datatype, elements)


def flat(datatype: str, text: memoryview) -> list[Any]:
    """Return the elements of a flat list."""
    one, several, _ = DECODERS[datatype]
    if datatype[:2] != "FP" and len(text) > LARGE_BYTES:  # one after the other, since nothing else runs meanwhile
        return [long_string(element) or one.decode(element) for element in RAW_LIST.decode(text)]
    found: list[Any] = several.decode(text)
    return found


def long_string(element: msgspec.Raw) -> str:
    """Return a long string, decoded piece by piece; an empty one for what is shorter, or no string."""
    text = memoryview(element)
    start, end = 1, len(text) - 1
    if len(text) <= PIECE_BYTES or bytes(text[:1]) != b'"':
        return ""
    pieces: list[str] = []
    while start < end:
        for stop in range(min(start + PIECE_BYTES, end), start, -1)[:PAIR_BYTES]:
            try:
                pieces.append(STRING.decode(b'"%b"' % bytes(text[start:stop])))
                break
            except UNDECODABLE as error:  # the cut goes through a character or an escape, or this is no string
                found = error
        else:
            raise found
        start = stop
    return "".join(pieces)


def rows_of(datatype: str, text: memoryview) -> list[Any]:
    """Return the rows of a nested list."""
    if len(text) <= LARGE_BYTES:
        found: list[Any] = DECODERS[datatype][2].decode(text)
        return found
    return [flat(datatype, memoryview(row)) for row in RAW_LIST.decode(text)]


def array(name: str, datatype: str, elements: list[Any]) -> Array:
    """Return elements as an array; null is NaN among floating numbers, and elsewhere makes objects of all."""
    has_null = datatype[:2] != "FP" and None in elements
    if has_null and datatype != BYTES:
        array(name, datatype, [element for element in elements if element is not None])  # are they of the datatype?
    if has_null or datatype == BYTES:
        objects: Array = np.empty(len(elements), dtype=np.object_)
        objects[:] = elements
        return objects
    try:
        values = np.array(elements, dtype=np.float64 if datatype[:2] == "FP" else DTYPES[datatype])
    except OverflowError:
        raise ProtocolError(f"the data of {name} has a number that {datatype} does not have") from None
    if datatype == "FP32":
        with np.errstate(over="ignore"):
            values = values.astype(np.float32)
        if np.isinf(values).any():
            raise ProtocolError(f"the data of {name} has a number that {datatype} does not have")
    return values


def wants_binary(request: InferRequest) -> list[str]:
    """Return the names of the outputs that are asked for in binary form; "*" stands for all that are not named."""
    everything = request.parameters.get("binary_data_output") is True
    named = [output.name for output in request.outputs if output.parameters.get("binary_data", everything) is True]
    return named if request.outputs else ["*"] * everything


def written(answer: InferAnswer, request: InferRequest) -> tuple[bytes, int | None]:
    """Return the body of an answer, and how many bytes of it are JSON; None where all of it is."""
    binary = wants_binary(request)
    outputs = []
    parts: list[bytes] = []
    for tensor in answer.outputs:
        entry: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
        if tensor.name in binary or "*" in binary:
            parts.append(to_raw(tensor))
            entry["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            entry |= json_data(tensor)
        outputs.append(entry)
    head: dict[str, Any] = {"model_name": answer.model_name, "model_version": answer.model_version}
    if request.id:
        head["id"] = request.id
    text = msgspec.json.encode({**head, "outputs": outputs})
    return b"".join((text, *parts)), len(text) if parts else None


def json_data(tensor: Tensor) -> dict[str, Any]:
    """Return the elements of an output for JSON, in Base64 where they are bytes."""
    values = tensor.values.tolist()
    if tensor.datatype == BYTES and any(isinstance(value, bytes) for value in values):
        return {"data": values, "parameters": {"content_type": "base64"}}  # msgspec writes bytes so
    return {"data": values}
