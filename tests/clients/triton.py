"""tritonclient's four clients, called alike."""

from __future__ import annotations

import asyncio
import importlib
import inspect
from collections.abc import Sequence
from typing import Any

from tritonclient.utils import np_to_triton_dtype

from tests.clients.conftest import Server
from tests.clients.examples import Array, plain

KINDS = ("http", "http.aio", "grpc", "grpc.aio")


class Triton:
    """One of tritonclient's clients; what is asynchronous is awaited, what is a message becomes JSON."""

    def __init__(self, kind: str, server: Server) -> None:
        self.kind = kind
        self.is_grpc = kind.startswith("grpc")
        self.module = importlib.import_module(f"tritonclient.{kind}")
        self.tensors = importlib.import_module(f"tritonclient.{kind.removesuffix('.aio')}")
        # The argument by which a message becomes JSON.
        self.as_json = {"as_json": True} if self.is_grpc else {}
        self.runner = asyncio.Runner()
        address = server.grpc if self.is_grpc else server.http
        self.client = (
            self.runner.run(self.made(address)) if "aio" in kind else self.module.InferenceServerClient(address)
        )

    async def made(self, address: str) -> Any:
        """Make a client that must be made where an event loop runs."""
        return self.module.InferenceServerClient(address)

    def close(self) -> None:
        self.call("close")
        self.runner.close()

    def call(self, method: str, *arguments: Any, **named: Any) -> Any:
        """Call a method of the client and return its result."""
        result = getattr(self.client, method)(*arguments, **named)
        return self.runner.run(awaited(result)) if inspect.isawaitable(result) else result

    def told(self, method: str, *arguments: Any, **named: Any) -> Any:
        """Call a method that tells something, and return that as JSON, without what is empty."""
        return filled(self.call(method, *arguments, **named, **self.as_json))

    def inputs(self, arrays: dict[str, Array], **options: Any) -> list[Any]:
        """Return arrays as input tensors; `options` are for set_data_from_numpy."""
        return [self.input(name, array, **options) for name, array in arrays.items()]

    def input(self, name: str, array: Array, **options: Any) -> Any:
        tensor = self.tensors.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array, **options)
        return tensor

    def outputs(self, names: Sequence[str], **options: Any) -> list[Any]:
        """Return requested outputs."""
        return [self.tensors.InferRequestedOutput(name, **options) for name in names]

    def infer(self, model: str, arrays: dict[str, Array], **named: Any) -> Any:
        """Answer arrays by a model, and return the client's result."""
        return self.call("infer", model, self.inputs(arrays), **named)

    def describe(self, result: Any) -> dict[str, Any]:
        """Return what a result says beside its outputs' values."""
        found: dict[str, Any] = result.get_response(**self.as_json)
        return found


async def awaited(result: Any) -> Any:
    """Await what may be no coroutine."""
    return await result


def values(result: Any, names: Sequence[str]) -> dict[str, Any]:
    """Return outputs by name."""
    return {name: plain(result.as_numpy(name)) for name in names}


def filled(value: Any) -> Any:
    """Return JSON without what is empty, zero or false, which messages do not tell apart; numbers for digits."""
    if isinstance(value, dict):
        return {key: filled(entry) for key, entry in value.items() if filled(entry) not in ("", 0, None, [], {})}
    if isinstance(value, list):
        return [filled(entry) for entry in value]
    return int(value) if isinstance(value, str) and value.isdigit() else value
