"""What a model's store entry has for explanations: background rows, or the terms of a linear model.

`explanation.json` is `{"background": [{column: value, ...}, ...]}`, rows of training data as clients send them, or
`{"linear": {"intercept": ..., "terms": [{"name", "coefficient", "mean", "scale"}, ...]}}`, the terms in the order of
an item's numbers. Texts and pictures need none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from models.model import Array, Model, check
from serving.explanations.explanation import Attribution

FILE = "explanation.json"


class Linear(NamedTuple):
    """A generalized linear model over standardised numbers; names, and float64 arrays (n,)."""

    intercept: float
    names: list[str]
    coefficients: Array
    means: Array
    scales: Array

    def attribution(self, item: Array) -> Attribution:
        """Return coefficient times standardised value for each number of an item, which sum to its linear predictor.

        A missing number counts as the mean, which is what it is imputed with.
        """
        standardised = (np.asarray(item, dtype=np.float64) - self.means) / self.scales
        return Attribution(self.coefficients * np.nan_to_num(standardised, nan=0.0) + 0.0, self.intercept)  # no -0.0


class Notes(NamedTuple):
    """What an entry has: the columns of its background rows, checked, or its terms; nothing where it has no file."""

    background: Mapping[str, Array] | None = None
    linear: Linear | None = None


def read_notes(folder: Path, model: type[Model[Any]]) -> Notes:
    """Read the file in the folder of a store entry; raise ValueError where it does not fit the model."""
    file = folder / FILE
    if not file.is_file():
        return Notes()
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    if "linear" in found:
        terms = found["linear"]["terms"]
        numbers = (
            np.array([term[key] for term in terms], dtype=np.float64) for key in ("coefficient", "mean", "scale")
        )
        return Notes(linear=Linear(found["linear"]["intercept"], [term["name"] for term in terms], *numbers))
    rows = found["background"]
    columns = {name: np.array([row.get(name) for row in rows], dtype=np.object_) for name in rows[0]}
    return Notes(background=check(columns, model.inputs))
