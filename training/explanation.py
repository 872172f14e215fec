"""The file of a store entry that explanations need: background rows, or the terms of a linear model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from models.model import Array, Model
from serving.explanations.entry import FILE, read_notes
from training.artifact import TrainingError
from training.served import Served

# So many that their mean answer is that of the training data within a few hundredths, and an explanation stays quick.
ROWS = 50


@dataclass(frozen=True)
class Term:
    """A term of a linear model: coefficient * (value - mean) / scale."""

    name: str
    coefficient: float
    mean: float = 0.0
    scale: float = 1.0


def background(model: type[Model[Any]], rows: Array) -> dict[str, bytes]:
    """Return the file with ROWS of the training rows (n, columns), of numbers in the order of the model's columns.

    It belongs into `Artifact.files`.
    """
    chosen = np.random.default_rng(0).permutation(len(rows))[:ROWS]
    names = [column.name for column in model.inputs]
    found = [dict(zip(names, row, strict=True)) for row in rows[np.sort(chosen)].tolist()]
    return {FILE: json.dumps({"background": found}).encode()}


def linear_terms(intercept: float, terms: Sequence[Term]) -> dict[str, bytes]:
    """Return the file with the terms of a linear model, in the order of an item's numbers, for `Artifact.files`."""
    return {FILE: json.dumps({"linear": {"intercept": intercept, "terms": [asdict(term) for term in terms]}}).encode()}


def check_terms(served: Served, items: Array, predictors: Array, tolerance: float = 1e-4) -> float:
    """Return the largest difference of the terms' sums to the model's own linear predictors (n,) of items (n, numbers).

    Raises TrainingError where it is over `tolerance`.
    """
    linear = read_notes(served.folder, type(served.model)).linear
    if linear is None:
        raise TrainingError(f"{FILE} has no linear terms")
    sums = [linear.intercept + linear.attribution(item).values.sum() for item in items]
    difference = float(np.abs(sums - predictors).max())
    if not difference <= tolerance:
        raise TrainingError(f"the terms' sums differ by {difference:.2g} from the linear predictor, over {tolerance:g}")
    return difference
