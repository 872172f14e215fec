"""Where the elements of a request are checked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from serving.oip.service import FEW_BYTES, FEW_NUMBERS, FEW_OBJECTS, are_few
from serving.oip.tensors import BYTES, Tensor

OBJECTS: Any = np.array(["a", b"b", None, 1] * (FEW_OBJECTS // 4), dtype=np.object_)
NUMBERS = np.zeros(FEW_NUMBERS)


@pytest.mark.parametrize(
    ("values", "few"),
    [
        ((OBJECTS, NUMBERS), True),
        ((OBJECTS, OBJECTS[:1]), False),
        ((NUMBERS, NUMBERS[:1]), False),
        ((np.array(["a" * FEW_BYTES], dtype=np.object_),), True),
        ((np.array(["a" * FEW_BYTES, b"a"], dtype=np.object_),), False),
    ],
)
def test_what_takes_long_to_check_is_checked_in_a_thread(values: tuple[Any, ...], few: bool) -> None:
    tensors = [Tensor(str(place), BYTES, array.shape, array) for place, array in enumerate(values)]
    assert are_few(tensors) == few
