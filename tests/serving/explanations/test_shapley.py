"""Shapley values of games whose values are known."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from models.model import Array
from serving.explanations.shapley import coalitions, exact, gains, orders, prefixes


def test_the_owner_of_the_only_left_glove_gets_two_thirds() -> None:
    # A pair of gloves is worth 1; player 0 has a left one, players 1 and 2 a right one each (Shapley and Shubik 1969).
    values = [float(left and (right or other)) for left, right, other in coalitions(3).tolist()]
    assert exact(np.array(values)) == pytest.approx([2 / 3, 1 / 6, 1 / 6])


def random_game(players: int) -> Array:
    """Return the values of all coalitions of a game in which players depend on each other."""
    values: Array = np.random.default_rng(players).normal(size=2**players)
    return values


@pytest.mark.parametrize("players", [1, 2, 5, 8])
def test_values_sum_to_that_of_the_grand_coalition_less_that_of_the_empty_one(players: int) -> None:
    values = random_game(players)
    assert exact(values).sum() == pytest.approx(values[-1] - values[0])


def test_the_mean_gain_over_all_orders_is_the_exact_value() -> None:
    values = random_game(3)

    def along(order: Array) -> Array:
        indices = [int(members @ (1 << np.arange(3))) for members in prefixes(order)]
        return gains(order, np.array([*values[indices], values[-1]]))

    all_orders = [np.array(order) for order in ([0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0])]
    assert np.mean([along(order) for order in all_orders], axis=0) == pytest.approx(exact(values))


def test_orders_follow_from_the_seed_and_come_with_their_reverses() -> None:
    first, second = (list(islice(orders(5, seed=7), 4)) for _ in range(2))
    assert np.array_equal(first, second)
    assert np.array_equal(first[1], first[0][::-1])
    assert not np.array_equal(first[0], next(orders(5, seed=8)))
