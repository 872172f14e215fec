"""Requests for inference and their answers, as both transports of the protocol have them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from serving.inference.context import Priority, RequestContext
from serving.oip.errors import ProtocolError
from serving.oip.tensors import Tensor

# Triton's: 1 is the highest priority, 0 stands for the default. What is lower than the highest is batch work here.
HIGHEST = 1
MICROSECONDS = 1e6
MAX_PARAMETER = 2**64 - 1  # gRPC has a uint64 for it
Parameters = Mapping[str, Any]
# The parameters of a request that are heeded, whatever the transport.
PARAMETERS = {
    "timeout": "microseconds after which the request is given up; 0 for the server's own limit",
    "priority": "0 and 1 for a client that waits, more for batch work",
}
# Parameters of a tensor by which extensions of Triton's send or answer something else than the tensor.
UNSUPPORTED = {"shared_memory_region": "shared memory", "classification": "classification"}


@dataclass(slots=True)
class RequestedOutput:
    """An output that a request asks for."""

    name: str
    parameters: Parameters = field(default_factory=dict)


@dataclass(slots=True)
class InferRequest:
    """A request for inference; without `outputs` it asks for all of them."""

    inputs: Sequence[Tensor]
    outputs: Sequence[RequestedOutput] = ()
    id: str = ""
    parameters: Parameters = field(default_factory=dict)


@dataclass(slots=True)
class InferAnswer:
    """The answer to a request for inference: the model that gave it, and its outputs."""

    model_name: str
    model_version: str
    outputs: Sequence[Tensor]


def apply_parameters(parameters: Parameters, context: RequestContext) -> float | None:
    """Apply `timeout` and `priority` to the context of a request; return the timeout in seconds, None without one.

    Raises ProtocolError for values that they cannot have.
    """
    if number(parameters, "priority") > HIGHEST:
        context.priority = Priority.BATCH
    seconds = number(parameters, "timeout") / MICROSECONDS
    if not seconds:
        return None
    context.deadline = min(context.deadline, time.monotonic() + seconds)
    return seconds


def check_supported(name: str, parameters: Parameters) -> None:
    """Raise ProtocolError where the parameters of an input or output ask for an extension that is not there."""
    for parameter, extension in UNSUPPORTED.items():
        if parameter in parameters:
            raise ProtocolError(f"{name[:100]} has the parameter {parameter}: {extension} is not supported")


def number(parameters: Parameters, name: str) -> int:
    """Return a parameter that is a whole number of 64 bits, by default 0; raise ProtocolError for any other value."""
    value = parameters.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_PARAMETER:
        raise ProtocolError(f"the parameter {name} must be a whole number from 0 to 2^64 - 1")
    return value
