"""What tritonclient's clients have over HTTP alone: JSON beside binary, compression, requests in the background."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import tritonclient.http

from tests.clients.conftest import Server
from tests.clients.examples import EXAMPLES, TEXTS, Example, objects
from tests.clients.triton import Triton, values

SENTIMENT = {"text": objects(TEXTS)}


@pytest.fixture(scope="module", params=["http", "http.aio"])
def triton(request: pytest.FixtureRequest, server: Server) -> Iterator[Triton]:
    client = Triton(request.param, server)
    yield client
    client.close()


@pytest.fixture(params=[example for example in EXAMPLES if example.model != "image"], ids=lambda example: example.model)
def example(request: pytest.FixtureRequest) -> Example:
    """Return an example that JSON can have."""
    found: Example = request.param
    return found


@pytest.mark.parametrize(("inputs_binary", "outputs_binary"), itertools.product([True, False], repeat=2))
def test_inputs_and_outputs_are_binary_or_json_each(
    triton: Triton, predict: httpx.Client, example: Example, inputs_binary: bool, outputs_binary: bool
) -> None:
    expected = example.predict(predict)
    inputs = triton.inputs(example.inputs, binary_data=inputs_binary)
    outputs = triton.outputs(list(expected), binary_data=outputs_binary)
    result = triton.call("infer", example.model, inputs, outputs=outputs)
    assert values(result, list(expected)) == expected
    for output in triton.describe(result)["outputs"]:
        assert ("data" in output, "parameters" in output) == (not outputs_binary, outputs_binary)


def test_one_request_may_have_both(triton: Triton, predict: httpx.Client) -> None:
    example = next(example for example in EXAMPLES if example.model == "segmentation")
    expected = example.predict(predict)
    inputs = [
        triton.input(name, array, binary_data=bool(place % 2))
        for place, (name, array) in enumerate(example.inputs.items())
    ]
    outputs = triton.outputs(["class_probability"], binary_data=True)
    outputs += triton.outputs(["predicted_class"], binary_data=False)
    result = triton.call("infer", example.model, inputs, outputs=outputs)
    assert values(result, list(expected)) == expected


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("binary", [True, False])
def test_bodies_may_be_compressed(triton: Triton, predict: httpx.Client, coding: str, binary: bool) -> None:
    (example,) = (example for example in EXAMPLES if example.model == "sentiment")
    expected = example.predict(predict)
    result = triton.call(
        "infer",
        "sentiment",
        triton.inputs(example.inputs, binary_data=binary),
        outputs=triton.outputs(list(expected), binary_data=binary),
        request_compression_algorithm=coding,
        response_compression_algorithm=coding,
    )
    assert values(result, list(expected)) == expected


def test_requests_in_the_background_get_their_own_answers(server: Server, predict: httpx.Client) -> None:
    texts = [f"text {number} in the background" for number in range(50)]
    expected = predict.post("/sentiment/predict", json={"text": texts}).json()["predictions"]
    with tritonclient.http.InferenceServerClient(server.http, concurrency=8) as client:
        waiting = []
        for number, text in enumerate(texts):
            tensor = tritonclient.http.InferInput("text", [1], "BYTES")
            tensor.set_data_from_numpy(objects([text]))
            waiting.append(client.async_infer("sentiment", [tensor], request_id=str(number)))
        for number, (request, ranking) in enumerate(zip(waiting, expected, strict=True)):
            result: Any = request.get_result()
            assert result.get_response()["id"] == str(number)
            assert result.as_numpy("score").tolist() == [ranking[0]["score"]]


def test_a_body_that_the_client_makes_is_answered_with_one_that_it_reads(server: Server, predict: httpx.Client) -> None:
    made = tritonclient.http.InferenceServerClient
    tensor = tritonclient.http.InferInput("text", [len(TEXTS)], "BYTES")
    tensor.set_data_from_numpy(SENTIMENT["text"])
    body, length = made.generate_request_body([tensor])
    headers = {"Inference-Header-Content-Length": str(length)}
    response = httpx.post(f"{server.url}/v2/models/sentiment/infer", content=body, headers=headers)
    size = int(response.headers["Inference-Header-Content-Length"])
    result = made.parse_response_body(response.content, header_length=size)
    rankings = predict.post("/sentiment/predict", json={"text": TEXTS}).json()["predictions"]
    assert values(result, ["label"]) == {"label": [ranking[0]["label"] for ranking in rankings]}
