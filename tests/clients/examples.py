"""Inputs for each model, and the outputs that its `POST /<model>/predict` gives for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np

from loadtest.inputs import CATEGORIES, TUMOUR, customer, picture, text, tumour

Array = np.ndarray[Any, np.dtype[Any]]
Outputs = dict[str, list[Any]]
# The columns of a customer that the model reads; all may be missing.
READ = ("x5", "x12", "x31", "x44", "x53", "x56", "x58", "x62", "x81", "x91")
STRINGS = {*CATEGORIES, "x12", "x63"}
TEXTS = ["a delight from start to finish", "dull, 退屈 and far too long", text(7)]
TUMOURS = [TUMOUR, {name: value / 4 for name, value in TUMOUR.items()}, tumour(7)]
PICTURES = [picture(1), picture(2)]
# Without numbers that are missing, which JSON has as null, but tritonclient cannot write.
CUSTOMERS = [
    {name: 0.25 if value is None and name not in STRINGS else value for name, value in customer(number).items()}
    for number in (3, 4, 5)
]


@dataclass(frozen=True)
class Example:
    """A request: the model, its inputs by name, and what answers them by the model's own route."""

    model: str
    inputs: dict[str, Array]
    predict: Callable[[httpx.Client], Outputs]


def objects(values: Sequence[str | bytes]) -> Array:
    """Return strings as clients want them."""
    return np.array(values, dtype=np.object_)


def columns(rows: Sequence[dict[str, Any]]) -> dict[str, Array]:
    """Return a tensor for each column of rows; what is missing is NaN, or empty among strings."""
    found = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        if name in STRINGS:
            found[name] = objects(["" if value is None else value for value in values])
        else:
            found[name] = np.array(values, dtype=np.float64)
    return found


def answer(response: httpx.Response) -> Any:
    """Return the JSON of a response; fail unless its status is 200."""
    assert response.status_code == 200, response.text
    return response.json()


def predict_texts(client: httpx.Client, texts: Sequence[str] = TEXTS) -> Outputs:
    rankings = answer(client.post("/sentiment/predict", json={"text": list(texts)}))["predictions"]
    labels = answer(client.get("/sentiment/info"))["labels"]
    scores = [{entry["label"]: entry["score"] for entry in ranking} for ranking in rankings]
    return {
        "label": [ranking[0]["label"] for ranking in rankings],
        "score": [ranking[0]["score"] for ranking in rankings],
        "probabilities": [[found[label] for label in labels] for found in scores],
    }


def predict_pictures(client: httpx.Client) -> Outputs:
    found = [answer(client.post("/image/predict", files={"image_file": content})) for content in PICTURES]
    return {"label": [entry["Label"] for entry in found], "score": [entry["Score"] for entry in found]}


def predict_tumours(client: httpx.Client) -> Outputs:
    found = [answer(client.post("/breast_cancer/predict", json=row)) for row in TUMOURS]
    return {name: [entry[name] for entry in found] for name in ("label", "prediction")}


def predict_customers(client: httpx.Client, rows: Sequence[dict[str, Any]] = CUSTOMERS) -> Outputs:
    found = answer(client.post("/segmentation/predict", json={"data": list(rows)}))
    return {name: found[name] for name in ("class_probability", "predicted_class")}


EXAMPLES = [
    Example("sentiment", {"text": objects(TEXTS)}, predict_texts),
    Example("image", {"image": objects(PICTURES)}, predict_pictures),
    Example("breast_cancer", columns(TUMOURS), predict_tumours),
    Example("segmentation", columns(CUSTOMERS), predict_customers),
]


def plain(value: Any) -> Any:
    """Return an output as JSON has it: lists, and strings for bytes."""
    values = value.tolist() if isinstance(value, np.ndarray) else value
    if isinstance(values, list):
        return [plain(entry) for entry in values]
    return values.decode() if isinstance(values, bytes) else values
