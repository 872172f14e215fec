"""Faults in answers are named; those of a real server have none."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from loadtest import answers, inputs
from loadtest.messages import ANSWER_OUTPUT, ANSWER_RAW, field, varint
from loadtest.openapi import discover, requests_of, varied
from loadtest.protocols import GRPC, PREDICT, V2_BINARY, V2_JSON
from loadtest.tensors import HEADER_LENGTH, Tensor, to_json, to_raw

LABELS = ["NEGATIVE", "POSITIVE"]


def scores(positive: float, negative: float) -> dict[str, Any]:
    ranked = [{"label": "POSITIVE", "score": positive}, {"label": "NEGATIVE", "score": negative}]
    return {"predictions": [ranked]}


@pytest.mark.parametrize("model", inputs.REQUESTS)
def test_what_the_server_answers_is_right(server: str, model: str) -> None:
    seen = discover(server)
    request = seen.requests[PREDICT][model](3)
    response = httpx.post(server + request.path, content=request.body, headers={"content-type": request.content_type})
    assert answers.fault(model, response.content, seen.labels[model]) is None


@pytest.mark.parametrize("protocol", [V2_JSON, V2_BINARY])
@pytest.mark.parametrize("model", inputs.TENSORS)
def test_tensors_that_the_server_answers_are_right(server: str, model: str, protocol: str) -> None:
    seen = discover(server)
    request = seen.requests[protocol][model](3)
    headers = {"content-type": request.content_type}
    if request.json_bytes is not None:
        headers[HEADER_LENGTH] = str(request.json_bytes)
    response = httpx.post(server + request.path, content=request.body, headers=headers)
    assert response.status_code == 200, response.text
    length = response.headers.get(HEADER_LENGTH)
    assert (length is None) is (protocol == V2_JSON)
    json_bytes = None if length is None else int(length)
    assert answers.body_fault(model, response.content, json_bytes, seen.labels[model]) is None


@pytest.mark.parametrize(
    ("model", "answer", "fault"),
    [
        ("sentiment", scores(0.4, 0.3), "scores sum to 0.7"),
        ("sentiment", scores(0.3, 0.7), "the highest score is not first"),
        ("sentiment", {"predictions": []}, "0 predictions for 1 texts"),
        ("sentiment", {"predictions": [[{"label": "OTHER", "score": 1}]]}, "labels ['OTHER'], not"),
        ("sentiment", {}, "not the form of the contract: KeyError('predictions')"),
        ("sentiment", [], "not a JSON object"),
        ("breast_cancer", {"label": "M", "prediction": 0}, "label M with prediction 0"),
        ("segmentation", {"class_probability": [0.5, 0.5], "predicted_class": [0]}, "more or fewer classes"),
        (
            "segmentation",
            {"class_probability": [1.5], "predicted_class": [1], "input_variables": ["x"]},
            "a probability is not between 0 and 1",
        ),
        ("image", {"Label": "cat", "Score": 0.5, "predictions": [{"label": "cat", "score": 0.5}]}, "1 predictions"),
        ("another", {}, "an empty answer"),
    ],
)
def test_a_wrong_answer_is_named(model: str, answer: object, fault: str) -> None:
    found = answers.fault(model, json.dumps(answer).encode(), LABELS)
    assert found is not None
    assert found.startswith(fault)


def ranking(label: str, score: float, *probabilities: float, shape: tuple[int, ...] = (1, 2)) -> list[Tensor]:
    """Return the outputs of a classifier for one row."""
    return [
        Tensor("label", "BYTES", (1,), [label]),
        Tensor("score", "FP64", (1,), [score]),
        Tensor("probabilities", "FP64", shape, probabilities),
    ]


def diagnoses(label: str, prediction: int) -> list[Tensor]:
    return [Tensor("label", "BYTES", (1,), [label]), Tensor("prediction", "INT64", (1,), [prediction])]


WRONG_TENSORS: list[tuple[str, list[Tensor], str]] = [
    ("sentiment", ranking("POSITIVE", 0.3, 0.4, 0.3), "probabilities sum to 0.7"),
    ("sentiment", ranking("POSITIVE", 0.3, 0.7, 0.3), "the label is not the best label"),
    ("sentiment", ranking("NEGATIVE", 0.3, 0.7, 0.3), "the label is not the best label"),
    ("image", ranking("OTHER", 0.7, 0.7, 0.3), "unknown label OTHER"),
    ("image", ranking("NEGATIVE", 1.0, 1.0, shape=(1, 1)), "probabilities of shape [1, 1] for 2 labels"),
    ("sentiment", ranking("NEGATIVE", 1.0, 1.0), "not the form of the contract: ValueError"),
    ("sentiment", ranking("NEGATIVE", 1.0)[:2], "not the form of the contract: KeyError('probabilities')"),
    ("sentiment", [], "no outputs"),
    ("breast_cancer", diagnoses("M", 0), "label M with prediction 0"),
    (
        "segmentation",
        [Tensor("class_probability", "FP64", (1,), [1.5]), Tensor("predicted_class", "INT64", (1,), [1])],
        "a probability is not between 0 and 1",
    ),
    ("another", [Tensor("y", "FP64", (2,), [1.0, 2.0])], "y of shape [2] for 1 rows"),
]


@pytest.mark.parametrize(("model", "outputs", "fault"), WRONG_TENSORS)
def test_a_wrong_tensor_is_named(model: str, outputs: list[Tensor], fault: str) -> None:
    body = json.dumps({"outputs": list(map(to_json, outputs))}).encode()
    for found in (
        answers.body_fault(model, body, None, LABELS),
        answers.message_fault(model, message(outputs), LABELS),
    ):
        assert found is not None
        assert found.startswith(fault)


def message(outputs: list[Tensor]) -> bytes:
    """Return a ModelInferResponse."""
    parts = [field(ANSWER_RAW, to_raw(tensor)) for tensor in outputs]
    for tensor in outputs:
        shape = field(3, b"".join(map(varint, tensor.shape)))
        parts.append(field(ANSWER_OUTPUT, field(1, tensor.name.encode()) + field(2, tensor.datatype.encode()) + shape))
    return b"".join(parts)


def test_what_is_no_json_is_named() -> None:
    assert answers.fault("sentiment", b"<html>", LABELS) == "not JSON"
    assert answers.body_fault("sentiment", b"<html>", None, LABELS) is not None


def test_what_is_no_message_is_named() -> None:
    assert answers.message_fault("sentiment", b"<html>", LABELS) is not None


def test_a_refusal_is_named_by_status_and_error() -> None:
    assert answers.refusal(503, b'{"error": "overloaded", "detail": []}') == "status 503: overloaded"
    assert answers.refusal(502, b"<html>") == "status 502: <html>"


def test_a_model_that_is_not_known_here_is_asked_by_its_example_varied() -> None:
    example = {"sepal_length": 5.1, "notes": ["a", None], "count": 3, "old": True}
    made = [varied(example, number) for number in range(100)]
    assert made[7] == varied(example, 7)
    assert len({json.dumps(content) for content in made}) == 100
    first: Any = made[0]
    assert 4.59 <= first["sepal_length"] <= 5.61
    assert (first["notes"], first["count"], first["old"]) == (["a 0", None], 3, True)


def test_a_model_that_is_not_known_here_is_asked_by_tensors_of_its_example_varied() -> None:
    tensor = {"name": "sepal_length", "datatype": "FP64", "shape": [1], "data": [5.1]}
    picture = {
        "name": "x",
        "datatype": "BYTES",
        "shape": [1],
        "parameters": {"content_type": "base64"},
        "data": ["aGk="],
    }
    body = {"requestBody": {"content": {"application/json": {"example": {"inputs": [tensor, picture]}}}}}
    found = requests_of({"/v2/models/iris/infer": {"post": body}}, ["iris"])
    assert found[PREDICT] == {}
    asked = json.loads(found[V2_JSON]["iris"](7).body)["inputs"]
    assert asked[1] == picture
    assert 4.59 <= asked[0]["data"][0] <= 5.61
    assert found[V2_JSON]["iris"](7) == found[V2_JSON]["iris"](7) != found[V2_JSON]["iris"](8)
    for protocol in (V2_BINARY, GRPC):
        assert b"hi" in found[protocol]["iris"](7).body
