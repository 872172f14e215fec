"""Check answers, and name faults in a few words, the same fault always in the same words."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from loadtest.messages import read_answer
from loadtest.tensors import Tensor, read_body

# How much of a server's own message the name of a fault repeats.
MESSAGE_CHARACTERS = 100


class WrongAnswerError(Exception):
    """An answer does not keep to the contract."""


def require(condition: bool, fault: str) -> None:
    """Raise WrongAnswerError with the fault unless the condition holds."""
    if not condition:
        raise WrongAnswerError(fault)


def refusal(status: int, body: bytes) -> str:
    """Name a status other than 200, with the server's own error."""
    try:
        message = str(json.loads(body)["error"])
    except (ValueError, TypeError, KeyError):
        message = body.decode(errors="replace")
    return f"status {status}: {message[:MESSAGE_CHARACTERS]}".rstrip(" :")


def fault(model: str, body: bytes, labels: Sequence[str], rows: int = 1) -> str | None:
    """Return what is wrong with the body of a 200 that answers `rows` rows or texts, None if nothing is."""
    try:
        answer = json.loads(body)
    except ValueError:
        return "not JSON"

    def check() -> None:
        require(isinstance(answer, dict), "not a JSON object")
        CHECKS.get(model, other)(answer, labels, rows)

    return fault_in(check)


def body_fault(model: str, body: bytes, json_bytes: int | None, labels: Sequence[str], rows: int = 1) -> str | None:
    """Return what is wrong with the body of a 200 of the Open Inference Protocol, None if nothing is.

    `json_bytes` of it are JSON, all of it where that is None.
    """
    return fault_in(lambda: check_tensors(model, read_body(body, json_bytes), labels, rows))


def message_fault(model: str, message: bytes, labels: Sequence[str], rows: int = 1) -> str | None:
    """Return what is wrong with the answer to a gRPC call, None if nothing is."""
    return fault_in(lambda: check_tensors(model, read_answer(message), labels, rows))


def fault_in(check: Callable[[], None]) -> str | None:
    """Return the fault that a check finds, None if it finds none."""
    try:
        check()
    except WrongAnswerError as wrong:
        return str(wrong)
    except (KeyError, TypeError, IndexError, ValueError) as error:
        return f"not the form of the contract: {error!r}"
    return None


def sentiment(answer: dict[str, Any], labels: Sequence[str], rows: int) -> None:
    """Require all labels for each text, the highest score first."""
    predictions = answer["predictions"]
    require(len(predictions) == rows, f"{len(predictions)} predictions for {rows} texts")
    for ranked in predictions:
        found = sorted(entry["label"] for entry in ranked)
        require(found == sorted(labels), f"labels {found}, not {sorted(labels)}")
        scores = [entry["score"] for entry in ranked]
        require(math.isclose(sum(scores), 1, abs_tol=1e-3), f"scores sum to {sum(scores):.2g}")
        require(scores == sorted(scores, reverse=True), "the highest score is not first")


def breast_cancer(answer: dict[str, Any], labels: Sequence[str], rows: int) -> None:
    """Require M and 1, or B and 0."""
    check_diagnosis(answer["label"], answer["prediction"])


def segmentation(answer: dict[str, Any], labels: Sequence[str], rows: int) -> None:
    """Require a probability and a class per row."""
    check_segments(answer["class_probability"], answer["predicted_class"], rows)
    require(len(answer["input_variables"]) > 0, "no input variables")


def image(answer: dict[str, Any], labels: Sequence[str], rows: int) -> None:
    """Require the best label, and the best five in order."""
    predictions = answer["predictions"]
    scores = [entry["score"] for entry in predictions]
    require(len(predictions) == min(5, len(labels)), f"{len(predictions)} predictions")
    require(scores == sorted(scores, reverse=True), "the highest score is not first")
    require(0 <= sum(scores) <= 1.001, f"scores sum to {sum(scores):.2g}")
    unknown = {entry["label"] for entry in predictions} - set(labels)
    require(not unknown, f"unknown labels {sorted(unknown)}")
    require(predictions[0] == {"label": answer["Label"], "score": answer["Score"]}, "Label is not the best label")


def other(answer: dict[str, Any], labels: Sequence[str], rows: int) -> None:
    """Require an answer that is not empty, of a model that is not known here."""
    require(len(answer) > 0, "an empty answer")


CHECKS: dict[str, Callable[[dict[str, Any], Sequence[str], int], None]] = {
    check.__name__: check for check in (sentiment, breast_cancer, segmentation, image)
}


def check_diagnosis(label: str, prediction: int) -> None:
    """Require M and 1, or B and 0."""
    require((label, prediction) in (("M", 1), ("B", 0)), f"label {label} with prediction {prediction}")


def check_segments(probabilities: Sequence[float], classes: Sequence[int], rows: int) -> None:
    """Require a probability and a class per row."""
    require(len(probabilities) == len(classes), "more or fewer classes than probabilities")
    require(len(classes) == rows, f"{len(classes)} classes for {rows} rows")
    require(all(0 <= probability <= 1 for probability in probabilities), "a probability is not between 0 and 1")
    require(set(classes) <= {0, 1}, "a class is neither 0 nor 1")


def check_tensors(model: str, outputs: Mapping[str, Tensor], labels: Sequence[str], rows: int) -> None:
    """Require the outputs of a model, by name, for so many rows."""
    require(len(outputs) > 0, "no outputs")
    for name, tensor in outputs.items():
        require(tensor.shape[0] == rows, f"{name} of shape {list(tensor.shape)} for {rows} rows")
    if model == "breast_cancer":
        for label, prediction in zip(outputs["label"].data, outputs["prediction"].data, strict=True):
            check_diagnosis(label, prediction)
    elif model == "segmentation":
        check_segments(outputs["class_probability"].data, outputs["predicted_class"].data, rows)
    elif model in ("sentiment", "image"):
        check_labels(outputs, labels)


def check_labels(outputs: Mapping[str, Tensor], labels: Sequence[str]) -> None:
    """Require for each row the probabilities of all labels, and the best label with its score."""
    shape, probabilities = outputs["probabilities"].shape, outputs["probabilities"].data
    require(shape[1:] == (len(labels),), f"probabilities of shape {list(shape)} for {len(labels)} labels")
    for row, (label, score) in enumerate(zip(outputs["label"].data, outputs["score"].data, strict=True)):
        scores = probabilities[row * len(labels) : (row + 1) * len(labels)]
        require(math.isclose(sum(scores), 1, abs_tol=1e-3), f"probabilities sum to {sum(scores):.2g}")
        require(label in labels, f"unknown label {label}")
        require(score == max(scores) == scores[labels.index(label)], "the label is not the best label")
