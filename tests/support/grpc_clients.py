"""A client of the protocol over gRPC, made of the server's own descriptions of messages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np

from serving.grpc.messages import METHODS, SERVICE, STREAM, message_class, request_class, response_class

Metadata = Sequence[tuple[str, str]]
InferRequest = request_class("ModelInfer")
# The fields of contents by the kind of numpy's type; objects are BYTES.
FIELDS = {
    "f4": "fp32_contents",
    "f8": "fp64_contents",
    "i8": "int64_contents",
    "i4": "int_contents",
    "b1": "bool_contents",
}
DATATYPES = {"f4": "FP32", "f8": "FP64", "i8": "INT64", "i4": "INT32", "b1": "BOOL"}


class Client:
    """A channel to a server, and its methods."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel

    def call(self, method: str, fields: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """Begin a call of a method with the fields of its request; it is awaited for the response."""
        request = request_class(method)(**(fields or {}))
        return self.bytes(method, request.SerializeToString(), **options)

    def bytes(self, method: str, message: bytes, **options: Any) -> Any:
        """Begin a call of a method with any bytes."""
        assert method in METHODS
        begin = self.channel.unary_unary(f"/{SERVICE}/{method}", None, response_class(method).FromString)
        return begin(message, **{"timeout": 60, **options})

    def infer(self, request: Any, **options: Any) -> Any:
        """Begin a call of inference."""
        return self.bytes("ModelInfer", request.SerializeToString(), **options)

    def stream(self, **options: Any) -> Any:
        """Begin a call of the method of streams."""
        begin = self.channel.stream_stream(
            f"/{SERVICE}/{STREAM}", InferRequest.SerializeToString, response_class(STREAM).FromString
        )
        return begin(**{"timeout": 60, **options})


@asynccontextmanager
async def client_of(port: int, credentials: grpc.ChannelCredentials | None = None) -> AsyncIterator[Client]:
    """Yield a client of the server at a port of the loopback interface, with a connection of its own."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
    options.append(("grpc.max_receive_message_length", -1))
    address = f"127.0.0.1:{port}"
    if credentials is None:
        channel = grpc.aio.insecure_channel(address, options)
    else:
        channel = grpc.aio.secure_channel(address, credentials, options)
    async with channel:
        yield Client(channel)


def request_for(
    model: str,
    columns: Mapping[str, Any],
    *,
    raw: bool = False,
    parameters: Mapping[str, Any] | None = None,
    **fields: Any,
) -> Any:
    """Return a request for inference by columns: arrays of numbers, or lists of text or bytes."""
    request = InferRequest(model_name=model, **fields)
    for name, value in (parameters or {}).items():
        kind = {bool: "bool_param", int: "int64_param", str: "string_param"}[type(value)]
        setattr(request.parameters[name], kind, value)
    for name, values in columns.items():
        add_input(request, name, values, raw=raw)
    return request


def add_input(request: Any, name: str, values: Any, *, raw: bool) -> None:
    """Add a column to a request."""
    if isinstance(values, np.ndarray):
        kind = values.dtype.str[1:]
        entry = request.inputs.add(name=name, datatype=DATATYPES[kind], shape=values.shape)
        if raw:
            request.raw_input_contents.append(values.tobytes())
        else:
            getattr(entry.contents, FIELDS[kind]).extend(values.reshape(-1).tolist())
        return
    elements = [value.encode() if isinstance(value, str) else value for value in values]
    entry = request.inputs.add(name=name, datatype="BYTES", shape=[len(elements)])
    if raw:
        request.raw_input_contents.append(b"".join(len(part).to_bytes(4, "little") + part for part in elements))
    else:
        entry.contents.bytes_contents.extend(elements)


def outputs(response: Any) -> dict[str, Any]:
    """Return the elements of each output, raw or typed, as lists; text as str."""
    found: dict[str, Any] = {}
    for place, output in enumerate(response.outputs):
        if response.raw_output_contents:
            found[output.name] = from_raw(output.datatype, response.raw_output_contents[place])
        else:
            ((_, elements),) = output.contents.ListFields()
            found[output.name] = [part.decode() if isinstance(part, bytes) else part for part in elements]
    return found


def from_raw(datatype: str, raw: bytes) -> list[Any]:
    """Return the elements of a raw tensor."""
    if datatype != "BYTES":
        kind = next(kind for kind, name in DATATYPES.items() if name == datatype)
        return np.frombuffer(raw, f"<{kind}").tolist()
    found = []
    while raw:
        size = int.from_bytes(raw[:4], "little")
        found.append(raw[4 : 4 + size].decode())
        raw = raw[4 + size :]
    return found


def message(name: str, **fields: Any) -> Any:
    """Return a message of the protocol."""
    return message_class(name)(**fields)
