"""What classifiers answer: labels and their probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel

from models.model.columns import Array, Column, Columns


class LabelScore(BaseModel):
    """A label and its probability."""

    label: str
    score: float


# The output columns of a classifier: the most probable label, its probability, and the probabilities of all labels in
# the order of those in its store entry.
CLASSIFICATION = (
    Column("label", str, example="positive"),
    Column("score", float, example=0.9),
    Column("probabilities", list[float], example=[0.9, 0.1]),
)


def classification(probabilities: Array, labels: Sequence[str]) -> Columns:
    """Return the columns CLASSIFICATION of probabilities (n, labels)."""
    best = probabilities.argmax(axis=1)
    return {
        "label": np.array(labels, dtype=np.object_)[best],
        "score": np.take_along_axis(probabilities, best[:, None], axis=1)[:, 0].astype(np.float64),
        "probabilities": probabilities.astype(np.float64),
    }


def softmax(logits: Array) -> Array:
    """Return the probabilities float64 of logits (..., labels): the last axis sums to 1."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    odds = np.exp(shifted)
    probabilities: Array = odds / odds.sum(axis=-1, keepdims=True)
    return probabilities


def ranking(probabilities: Array, labels: Sequence[str], most: int | None = None) -> list[LabelScore]:
    """Return the labels with their probabilities (labels,), highest first: all, or at most so many."""
    order = np.argsort(-probabilities, kind="stable")[:most]
    return [LabelScore(label=labels[i], score=float(probabilities[i])) for i in order]
