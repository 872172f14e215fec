"""The messages of ModelInfer, written and read in protobuf's wire format.

There are two of them, of few fields, so that the load generator does without protobuf and its compiler.
Source: https://protobuf.dev/programming-guides/encoding and the Open Inference Protocol's field numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from loadtest.tensors import Tensor, checked, from_raw, to_raw

MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
# Numbers of fields: of a request, of an answer, and of a tensor in either.
REQUEST_MODEL, REQUEST_INPUT, REQUEST_RAW = 1, 5, 7
ANSWER_OUTPUT, ANSWER_RAW = 5, 6
TENSOR_NAME, TENSOR_DATATYPE, TENSOR_SHAPE = 1, 2, 3


def infer_request(model: str, tensors: Iterable[Tensor]) -> bytes:
    """Return a ModelInferRequest whose inputs are binary."""
    parts = [field(REQUEST_MODEL, model.encode())]
    raw = []
    for tensor in tensors:
        shape = b"".join(map(varint, tensor.shape))
        head = field(TENSOR_NAME, tensor.name.encode()) + field(TENSOR_DATATYPE, tensor.datatype.encode())
        parts.append(field(REQUEST_INPUT, head + field(TENSOR_SHAPE, shape)))
        raw.append(field(REQUEST_RAW, to_raw(tensor)))
    return b"".join(parts + raw)


def read_answer(message: bytes) -> dict[str, Tensor]:
    """Return the outputs of a ModelInferResponse by name; raise ValueError or KeyError for what is no such message."""
    heads = []
    raw = []
    for number, value in fields(message):
        if number == ANSWER_OUTPUT and isinstance(value, bytes):
            heads.append(value)
        elif number == ANSWER_RAW and isinstance(value, bytes):
            raw.append(value)
    tensors = (output(head, content) for head, content in zip(heads, raw, strict=True))
    return {tensor.name: tensor for tensor in tensors}


def output(head: bytes, raw: bytes) -> Tensor:
    """Return an output of its InferOutputTensor and its binary elements."""
    texts = {TENSOR_NAME: "", TENSOR_DATATYPE: ""}
    shape: list[int] = []
    for number, value in fields(head):
        if number == TENSOR_SHAPE:
            shape += [value] if isinstance(value, int) else varints(value)
        elif number in texts and isinstance(value, bytes):
            texts[number] = value.decode()
    datatype = texts[TENSOR_DATATYPE]
    return checked(Tensor(texts[TENSOR_NAME], datatype, tuple(shape), from_raw(datatype, raw)))


def varint(value: int) -> bytes:
    """Return a number from 0 on, seven bits a byte, the lowest first."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def field(number: int, content: bytes) -> bytes:
    """Return a field that holds text, bytes or a message."""
    return varint(number << 3 | LENGTH) + varint(len(content)) + content


def read_varint(message: bytes, place: int) -> tuple[int, int]:
    """Return the number at a place, and the place after it; raise ValueError where the message ends before."""
    value = shift = 0
    while place < len(message):
        byte = message[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte <= 0x7F:
            return value, place
    raise ValueError("a message ends within a number")


def varints(content: bytes) -> Iterator[int]:
    """Yield the numbers of a packed field."""
    place = 0
    while place < len(content):
        value, place = read_varint(content, place)
        yield value


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and content of each field; raise ValueError where the message is none."""
    place = 0
    while place < len(message):
        key, place = read_varint(message, place)
        wire_type = key & 7
        if wire_type == VARINT:
            value, place = read_varint(message, place)
            yield key >> 3, value
            continue
        if wire_type == LENGTH:
            size, place = read_varint(message, place)
        elif wire_type in (FIXED32, FIXED64):
            size = 4 if wire_type == FIXED32 else 8
        else:
            raise ValueError(f"a field has the wire type {wire_type}")
        if place + size > len(message):
            raise ValueError("a message ends within a field")
        yield key >> 3, message[place : place + size]
        place += size
