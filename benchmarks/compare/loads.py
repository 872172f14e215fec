"""The requests: every server gets the same inputs of `loadtest.inputs` in the same order, in its own wire format."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from loadtest import inputs
from loadtest.inputs import JSON, MULTIPART, Request
from loadtest.protocols import ENCODINGS, PREDICT, V2_JSON, encoded
from loadtest.tensors import Tensor

# Known texts; every twentieth request has a new one, so that 95 % are known.
POOL = 200
NEW_EVERY = 20
# Tumours in a request with many.
ROWS = 1_000
# Far from the numbers of the measured requests.
SAMPLE = 1_000_000_000


def every_new(position: int) -> int:
    """Return the number of the request at a position, never the same twice."""
    return position


def mostly_known(position: int) -> int:
    """Return the number of the request at a position: 95 % of them are among the first `POOL`."""
    if position % NEW_EVERY == NEW_EVERY - 1:
        return POOL + position
    return inputs.rng(position).randrange(POOL)


Scores = list[dict[str, float]]


@dataclass(frozen=True)
class WireFormat:
    """How a server is asked and answers: makes the request of a number, and reads scores from an answer.

    The answer is JSON by the protocol PREDICT, and by those of `loadtest.protocols.ENCODINGS` outputs by name.
    """

    request: Callable[[int], Request]
    scores: Callable[[Any], Scores]
    protocol: str = PREDICT


def ranked(predictions: list[list[dict[str, Any]]]) -> Scores:
    """Return the scores by label, for each text."""
    return [{entry["label"]: entry["score"] for entry in ranking} for ranking in predictions]


def fastapi_text(number: int) -> Request:
    """Return a request with one text for FastAPI."""
    return Request("/predict", JSON, inputs.sentiment(number).body)


def litserve_text(number: int) -> Request:
    """Return a request with one text for LitServe."""
    return Request("/predict", JSON, json.dumps({"text": inputs.text(number)}).encode())


def bentoml_text(number: int) -> Request:
    """Return a request with one text for BentoML."""
    return Request("/classify", JSON, json.dumps({"texts": [inputs.text(number)]}).encode())


def mlserver_text(number: int) -> Request:
    """Return a request with one text in the V2 inference protocol, for MLServer."""
    tensor = {"name": "text", "shape": [1, 1], "datatype": "BYTES", "parameters": {"content_type": "str"}}
    body = json.dumps({"inputs": [{**tensor, "data": [inputs.text(number)]}]}).encode()
    return Request("/v2/models/sentiment/infer", JSON, body)


def fastapi_image(number: int) -> Request:
    """Return a request with one picture for FastAPI."""
    return Request("/predict", MULTIPART, inputs.image(number).body)


def rows(number: int, count: int = 10_000) -> Request:
    """Return a request with `count` rows, none of which another request has."""
    data = [inputs.customer(row) for row in range(number * count, (number + 1) * count)]
    return Request("/segmentation/predict", JSON, json.dumps({"data": data}).encode())


def diagnosis(answer: Any) -> Scores:
    """Return the label with a score of 1."""
    return [{answer["label"]: 1.0}]


def segments(answer: Any) -> Scores:
    """Return the probability of each row, by its class."""
    pairs = zip(answer["class_probability"], answer["predicted_class"], strict=True)
    return [{f"class {predicted}": probability} for probability, predicted in pairs]


def tumours(number: int, count: int = ROWS) -> list[Tensor]:
    """Return the inputs of a request with `count` tumours, none of which another request has."""
    return inputs.tumour_tensors(range(number * count, (number + 1) * count))


def best_labels(outputs: dict[str, Tensor]) -> Scores:
    """Return the best label of each text with its score."""
    pairs = zip(outputs["label"].data, outputs["score"].data, strict=True)
    return [{label: score} for label, score in pairs]


def diagnoses(outputs: dict[str, Tensor]) -> Scores:
    """Return each label with a score of 1."""
    return [{label: 1.0} for label in outputs["label"].data]


def mlserver_diagnoses(answer: Any) -> Scores:
    """Return each label with a score of 1."""
    return [{label: 1.0} for label in answer["outputs"][0]["data"]]


def by_tensors(
    model: str, tensors: Callable[[int], list[Tensor]], scores: Callable[[Any], Scores]
) -> dict[str, WireFormat]:
    """Return the forms of the Open Inference Protocol in which a model is asked, by protocol."""
    return {protocol: WireFormat(encoded(protocol, model, tensors), scores, protocol) for protocol in ENCODINGS}


TEXT = WireFormat(inputs.sentiment, lambda answer: ranked(answer["predictions"]))
TUMOUR = WireFormat(inputs.breast_cancer, diagnosis)
CUSTOMER = WireFormat(inputs.segmentation, segments)
MANY_CUSTOMERS = WireFormat(rows, segments)
# More rows than are computed as one block.
SOME_CUSTOMERS = WireFormat(functools.partial(rows, count=1_000), segments)
TEXT_TENSORS = by_tensors("sentiment", inputs.TENSORS["sentiment"], best_labels)
TUMOUR_TENSORS = by_tensors("breast_cancer", inputs.TENSORS["breast_cancer"], diagnoses)
MANY_TUMOURS = by_tensors("breast_cancer", tumours, diagnoses)
# MLServer gets the very requests that Tiffin gets, but names its outputs itself.
MLSERVER_TUMOUR, MLSERVER_TUMOURS = (
    WireFormat(forms[V2_JSON].request, mlserver_diagnoses) for forms in (TUMOUR_TENSORS, MANY_TUMOURS)
)
PICTURE = WireFormat(inputs.image, lambda answer: ranked([answer["predictions"]]))
# The peers whose requests differ from Tiffin's.
WIRE_FORMATS = {
    "fastapi_text": WireFormat(fastapi_text, lambda answer: ranked(answer["predictions"])),
    "litserve_text": WireFormat(litserve_text, lambda answer: ranked([answer["predictions"]])),
    "bentoml_text": WireFormat(bentoml_text, ranked),
    "mlserver_text": WireFormat(mlserver_text, lambda answer: ranked([json.loads(answer["outputs"][0]["data"][0])])),
    "fastapi_image": WireFormat(fastapi_image, lambda answer: ranked([answer["predictions"]])),
}


def differences(ours: Scores, theirs: Scores, tolerance: float) -> Iterator[str]:
    """Yield a line for each answer that differs in its first label, or in that label's score by more than `tolerance`.

    Where the scores of two labels are closer than that, either may be first.
    """
    for number, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        first, other = max(a, key=a.__getitem__), max(b, key=b.__getitem__)
        if first != other and abs(a[first] - a.get(other, 0)) > tolerance:
            yield f"answer {number}: {first} {a[first]:.4f}, {other} {b[other]:.4f}"
        elif abs(a[first] - b.get(first, a[first])) > tolerance:
            yield f"answer {number}: {first} {a[first]:.4f} and {b[first]:.4f}"
