"""What an explanation says: the contribution of each part of an item to its score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from models.model import Array, View


class Attribution(NamedTuple):
    """The contribution of each part (n,), float64, the score of an item without any, and what it took.

    `evaluations` counts the items that were computed beside the explained one; `standard_error` is the largest of the
    contributions, 0 where nothing was sampled.
    """

    values: Array
    base: float
    evaluations: int = 0
    standard_error: float = 0.0

    def packed(self) -> Array:
        """Return an array float64 (3 + n,), as caches store it."""
        return np.array([self.base, self.evaluations, self.standard_error, *self.values], dtype=np.float64)

    @classmethod
    def unpacked(cls, array: Array) -> Attribution:
        """Return what `packed` made an array of."""
        return cls(array[3:], float(array[0]), int(array[1]), float(array[2]))


class Explanation(NamedTuple):
    """An attribution and the parts that it is to: names of columns, spans of a text or boxes of a picture.

    `kind` is `name`, `span` (start and end, in characters) or `box` (left, top, right, bottom, in pixels). `view` is
    the explained picture.
    """

    kind: str
    parts: Sequence[Any]
    attribution: Attribution
    view: View | None = None
