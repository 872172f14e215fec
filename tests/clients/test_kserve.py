"""KServe's clients, over REST and gRPC: every call that they have, for every model."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import grpc
import httpx
import pytest
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

from tests.clients.conftest import Server
from tests.clients.examples import EXAMPLES, TEXTS, TUMOURS, Array, Example, columns, objects, plain

DATATYPES = {"O": "BYTES", "f": "FP64", "i": "INT64"}
JSON_EXAMPLES = [example for example in EXAMPLES if example.model != "image"]


class Clients:
    """KServe's two clients of a server, called alike."""

    def __init__(self, kind: str, server: Server) -> None:
        self.kind = kind
        self.is_grpc = kind == "grpc"
        self.server = server
        self.runner = asyncio.Runner()
        self.client = self.runner.run(self.made())

    async def made(self) -> Any:
        if self.is_grpc:
            return InferenceGRPCClient(self.server.grpc)
        return InferenceRESTClient(RESTConfig(protocol="v2"))

    def close(self) -> None:
        self.run(self.client.close)
        self.runner.close()

    def run(self, method: Callable[..., Awaitable[Any]], *arguments: Any, **named: Any) -> Any:
        async def awaited() -> Any:
            return await method(*arguments, **named)

        return self.runner.run(awaited())

    def is_(self, state: str, *arguments: Any) -> Any:
        """Ask whether the server, or a model, is in a state."""
        place = () if self.is_grpc else (self.server.url,)
        return self.run(getattr(self.client, f"is_{state}"), *place, *arguments)

    def infer(self, request: InferRequest, **named: Any) -> Any:
        if self.is_grpc:
            return self.run(self.client.infer, request, **named)
        return self.run(self.client.infer, self.server.url, request, model_name=request.model_name, **named)


@pytest.fixture(scope="module", params=["rest", "grpc"])
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(scope="module")
def clients(kind: str, server: Server) -> Iterator[Clients]:
    found = Clients(kind, server)
    yield found
    found.close()


@pytest.fixture(scope="module")
def guarded_clients(kind: str, guarded: Server) -> Iterator[Clients]:
    found = Clients(kind, guarded)
    yield found
    found.close()


def request_of(model: str, arrays: dict[str, Array], *, binary: bool = True, **named: Any) -> InferRequest:
    """Return arrays as a request."""
    inputs = []
    for name, array in arrays.items():
        tensor = InferInput(name, list(array.shape), DATATYPES[array.dtype.kind])
        tensor.set_data_from_numpy(array, binary_data=binary)
        inputs.append(tensor)
    return InferRequest(model, inputs, **named)


def values(response: Any) -> dict[str, Any]:
    """Return the outputs of a response by name."""
    return {output.name: plain(output.as_numpy()) for output in response.outputs}


class TestInference:
    @pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.model)
    def test_its_defaults_give_the_answers_of_predict(
        self, clients: Clients, predict: httpx.Client, example: Example
    ) -> None:
        expected = example.predict(predict)
        response = clients.infer(request_of(example.model, example.inputs, request_id="42"))
        assert (response.model_name, response.id) == (example.model, "42")
        found = values(response)
        assert {name: found[name] for name in expected} == expected

    @pytest.mark.parametrize("example", JSON_EXAMPLES, ids=lambda example: example.model)
    @pytest.mark.parametrize("binary_output", [True, False])
    def test_elements_that_are_not_raw_give_them_too(
        self, clients: Clients, predict: httpx.Client, example: Example, binary_output: bool
    ) -> None:
        parameters = {"binary_data_output": binary_output}
        response = clients.infer(request_of(example.model, example.inputs, binary=False, parameters=parameters))
        assert values(response) == example.predict(predict)

    def test_only_the_outputs_that_are_asked_for_come(self, clients: Clients) -> None:
        asked = [RequestedOutput("score"), RequestedOutput("label", parameters={"binary_data": True})]
        response = clients.infer(request_of("sentiment", {"text": objects(TEXTS)}, request_outputs=asked))
        assert list(values(response)) == ["score", "label"]

    def test_parameters_are_taken(self, clients: Clients) -> None:
        parameters = {"timeout": 60_000_000, "priority": 2, "text": "a", "true": True}
        response = clients.infer(request_of("sentiment", {"text": objects(TEXTS)}, parameters=parameters))
        assert len(values(response)["label"]) == len(TEXTS)

    def test_a_dictionary_is_answered(self, server: Server) -> None:
        async def answer() -> Any:
            async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
                tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": TEXTS[:1]}
                return await client.infer(server.url, {"inputs": [tensor]}, model_name="sentiment")

        assert values(asyncio.run(answer()))["label"] == ["POSITIVE"]


class TestServer:
    def test_it_is_live_and_ready(self, clients: Clients) -> None:
        assert clients.is_("server_live") is True
        assert clients.is_("server_ready") is True

    @pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.model)
    def test_models_are_ready(self, clients: Clients, example: Example) -> None:
        assert clients.is_("model_ready", example.model) is True


def refusal(clients: Clients, request: InferRequest, **named: Any) -> tuple[str, str]:
    """Return the status and the message with which a request is refused."""
    with pytest.raises((httpx.HTTPStatusError, grpc.RpcError)) as caught:
        clients.infer(request, **named)
    if isinstance(caught.value, httpx.HTTPStatusError):
        return str(caught.value.response.status_code), str(caught.value)
    return caught.value.code().name, caught.value.details()


class TestRefusals:
    @pytest.mark.parametrize(
        ("model", "arrays", "statuses", "told"),
        [
            ("none", {"text": objects(["a"])}, ("404", "NOT_FOUND"), "no model none"),
            ("sentiment", {"txt": objects(["a"])}, ("400", "INVALID_ARGUMENT"), "no input 'txt'; it has text"),
            ("sentiment", {"text": objects(["a", ""])}, ("422", "INVALID_ARGUMENT"), "text, row 1: String should"),
            ("sentiment", {"text": objects(["a"] * 257)}, ("422", "INVALID_ARGUMENT"), "at most 256 are allowed"),
            ("breast_cancer", columns([TUMOURS[0] | {"area_se": -1.0}]), ("422", "INVALID_ARGUMENT"), "area_se, row 0"),
        ],
    )
    def test_the_fault_is_named(
        self, clients: Clients, model: str, arrays: Any, statuses: tuple[str, str], told: str
    ) -> None:
        status, message = refusal(clients, request_of(model, arrays))
        assert status == statuses[clients.is_grpc]
        assert told in message

    def test_a_model_that_is_not_there_is_not_ready(self, clients: Clients) -> None:
        if clients.is_grpc:
            with pytest.raises(grpc.RpcError):
                clients.is_("model_ready", "none")
        else:
            assert clients.is_("model_ready", "none") is False

    def test_a_timeout_that_passes_is_told(self, clients: Clients) -> None:
        texts = objects([f"text {number} that takes long, by {clients.kind} " * 50 for number in range(64)])
        status, _ = refusal(clients, request_of("sentiment", {"text": texts}, parameters={"timeout": 1}))
        assert status == ("504", "DEADLINE_EXCEEDED")[clients.is_grpc]

    def test_an_explanation_which_the_protocol_does_not_have_is_refused(self, server: Server) -> None:
        async def explain() -> None:
            async with InferenceRESTClient(RESTConfig(protocol="v1")) as client:
                await client.explain(server.url, model_name="sentiment", data={"instances": ["a"]})

        with pytest.raises(httpx.HTTPStatusError, match="no such path"):
            asyncio.run(explain())


class TestGuarded:
    def test_a_key_admits_a_request(self, guarded_clients: Clients, key: dict[str, str]) -> None:
        request = request_of("breast_cancer", columns(TUMOURS[:1]))
        assert refusal(guarded_clients, request)[0] == ("401", "UNAUTHENTICATED")[guarded_clients.is_grpc]
        headers = tuple(key.items()) if guarded_clients.is_grpc else key
        assert values(guarded_clients.infer(request, headers=headers))["label"] == ["M"]

    def test_a_version_is_asked_for_over_grpc(self, guarded: Server, key: dict[str, str]) -> None:
        async def answer(version: str) -> Any:
            async with InferenceGRPCClient(guarded.grpc) as client:
                request = request_of("breast_cancer", columns(TUMOURS[:1]), model_version=version)
                return await client.infer(request, headers=tuple(key.items()))

        assert values(asyncio.run(answer("opposite")))["label"] == ["B"]
