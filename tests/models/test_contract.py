"""The contract that every model keeps."""

from __future__ import annotations

import numpy as np
import pytest

from models.model import ranking

LABELS = ["a", "b", "c", "d"]
PROBABILITIES = np.array([0.1, 0.4, 0.1, 0.4])


def test_labels_are_ranked_by_probability_and_equal_ones_stand_as_listed() -> None:
    assert [entry.label for entry in ranking(PROBABILITIES, LABELS)] == ["b", "d", "a", "c"]


@pytest.mark.parametrize("most", [1, 2, 4, 9])
def test_a_ranking_of_so_many_is_the_start_of_the_whole(most: int) -> None:
    assert ranking(PROBABILITIES, LABELS, most) == ranking(PROBABILITIES, LABELS)[:most]
