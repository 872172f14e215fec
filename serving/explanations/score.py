"""The score that an explanation explains: one number per output of a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_origin

import numpy as np

from models.model import Array, Column, Model
from models.model.columns import parts

# Scores float64 (n,) of outputs (n, ...).
Score = Callable[[Array], Array]


def score_of(model: Model[Any], output: Array) -> Score:
    """Return the score by which the output of an item is explained.

    Of a classifier with probabilities it is that of the item's own label; of other models the first output column of
    numbers; of those that answer classes alone it is 1 where the class is the item's own, else 0.
    """
    own = model.columns(output[None])
    lists = [column.name for column in model.outputs if column.is_list]
    if lists:
        best = int(np.argmax(own[lists[0]][0]))
        return lambda outputs: np.asarray(model.columns(outputs)[lists[0]], dtype=np.float64)[:, best]
    numbers = [column.name for column in model.outputs if is_number(column)]
    if numbers:
        return lambda outputs: np.asarray(model.columns(outputs)[numbers[0]], dtype=np.float64)
    name = model.outputs[0].name
    return lambda outputs: np.asarray(model.columns(outputs)[name] == own[name][0], dtype=np.float64)


def is_number(column: Column) -> bool:
    """Return whether an output column holds numbers, which the codes of classes are not."""
    return column.base in (float, int) and not any(get_origin(part) is Literal for part in parts(column.type))
