"""The ways to ask a model: its own route, the Open Inference Protocol in JSON and in binary form, and over gRPC."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from loadtest.inputs import JSON, Request
from loadtest.messages import MODEL_INFER, infer_request
from loadtest.tensors import Tensor, binary_body, json_body

PREDICT, V2_JSON, V2_BINARY, GRPC = "predict", "v2-json", "v2-binary", "grpc"
OCTETS = "application/octet-stream"


def v2_path(model: str) -> str:
    """Return the path of inference by a model."""
    return f"/v2/models/{model}/infer"


def json_request(model: str, tensors: Sequence[Tensor]) -> Request:
    """Return a request in JSON."""
    return Request(v2_path(model), JSON, json_body(tensors))


def binary_request(model: str, tensors: Sequence[Tensor]) -> Request:
    """Return a request with binary inputs, for binary outputs."""
    body, json_bytes = binary_body(tensors)
    return Request(v2_path(model), OCTETS, body, json_bytes)


def grpc_request(model: str, tensors: Sequence[Tensor]) -> Request:
    """Return a request whose body is the message of a gRPC call."""
    return Request(MODEL_INFER, "application/grpc", infer_request(model, tensors))


ENCODINGS: dict[str, Callable[[str, Sequence[Tensor]], Request]] = {
    V2_JSON: json_request,
    V2_BINARY: binary_request,
    GRPC: grpc_request,
}
PROTOCOLS = (PREDICT, *ENCODINGS)


def encoded(protocol: str, model: str, tensors: Callable[[int], Sequence[Tensor]]) -> Callable[[int], Request]:
    """Return what makes the request of a number, given what makes its input tensors."""

    def request(number: int) -> Request:
        return ENCODINGS[protocol](model, tensors(number))

    return request
