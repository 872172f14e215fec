"""Faults in answers are named; those of a real server have none."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from loadtest import answers, inputs
from loadtest.openapi import discover, varied

LABELS = ["NEGATIVE", "POSITIVE"]


def scores(positive: float, negative: float) -> dict[str, Any]:
    ranked = [{"label": "POSITIVE", "score": positive}, {"label": "NEGATIVE", "score": negative}]
    return {"predictions": [ranked]}


@pytest.mark.parametrize("model", inputs.REQUESTS)
def test_what_the_server_answers_is_right(server: str, model: str) -> None:
    seen = discover(server)
    request = seen.requests[model](3)
    response = httpx.post(server + request.path, content=request.body, headers={"content-type": request.content_type})
    assert answers.fault(model, response.content, seen.labels[model]) is None


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


def test_what_is_no_json_is_named() -> None:
    assert answers.fault("sentiment", b"<html>", LABELS) == "not JSON"


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
