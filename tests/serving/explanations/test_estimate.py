"""How much of a game is evaluated within a budget, and what an explanation then says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from models.model import Array
from serving.explanations.estimate import MAX_PAIRS, attribution
from serving.explanations.explanation import Attribution
from serving.inference.errors import OverloadedError


class Additive:
    """A game in which player i adds i + 1, whoever else is there, to what the reference has: its index."""

    def __init__(self, players: int, references: int = 1) -> None:
        self.players = players
        self.references = references
        self.evaluations = 0
        self.worth = np.arange(1.0, players + 1)

    def items(self, coalitions: Array, references: Array) -> Any:
        raise NotImplementedError

    async def evaluate(self, coalitions: Array, references: Array) -> Array:
        self.evaluations += len(coalitions)
        values: Array = coalitions @ self.worth + references
        return values


class Threes(Additive):
    """A game in which three neighbours are worth more together; of two, a permutation and its reverse are exact."""

    async def evaluate(self, coalitions: Array, references: Array) -> Array:
        threes = coalitions[:, 2:] & coalitions[:, 1:-1] & coalitions[:, :-2]
        values: Array = await super().evaluate(coalitions, references) + threes.sum(1)
        return values


class Budget:
    """A budget that admits what `allows` says of the number of times that it was asked."""

    first = 8

    def __init__(self, allows: Callable[[int], bool]) -> None:
        self.asked = 0
        self.says = allows

    def allows(self, times: float, *, exact: bool = False) -> bool:
        self.asked += 1
        return self.says(self.asked)


def explained(game: Additive, allows: Callable[[int], bool], seed: int = 0) -> Attribution:
    budget: Any = Budget(allows)
    full = float(asyncio.run(game.evaluate(np.ones((1, game.players), bool), np.zeros(1, int)))[0])
    game.evaluations = 0
    return asyncio.run(attribution(game, full, game.evaluate, seed, budget))


def test_few_players_are_explained_exactly_against_all_references() -> None:
    game = Additive(8, references=3)
    found = explained(game, lambda asked: True)
    # The explained row itself has no part of a reference.
    assert found.base == pytest.approx(1.0)
    assert found.values.sum() == pytest.approx(game.worth.sum() - 1.0)
    assert (found.evaluations, found.standard_error) == (255 * 3, 0.0)
    assert game.evaluations == found.evaluations


def test_where_exactness_takes_too_long_few_players_are_sampled_too() -> None:
    game = Additive(8)
    found = explained(game, lambda asked: False)
    assert found.evaluations < 16
    assert found.values == pytest.approx(game.worth)


def test_the_values_of_a_sample_sum_to_the_score_less_the_base() -> None:
    game = Threes(20, references=3)
    found = explained(game, lambda asked: asked <= 3)
    assert found.values.sum() + found.base == pytest.approx(game.worth.sum() + 18)
    assert found.evaluations == game.evaluations


def test_more_time_means_more_evaluations_and_a_smaller_error() -> None:
    few, more = explained(Threes(20), lambda asked: asked <= 2), explained(Threes(20), lambda asked: asked <= 5)
    assert few.evaluations < more.evaluations
    assert few.standard_error > more.standard_error > 0


def test_however_much_time_there_is_the_evaluations_are_bounded() -> None:
    assert explained(Threes(20), lambda asked: True).evaluations <= 2 * 20 * MAX_PAIRS


def test_the_same_seed_gives_the_same_answer() -> None:
    first, second, other = (explained(Threes(20), lambda asked: asked <= 2, seed) for seed in (1, 1, 2))
    assert np.array_equal(first.values, second.values)
    assert not np.array_equal(first.values, other.values)


class Overloaded(Additive):
    """A game that is evaluated so many times, then is refused."""

    def __init__(self, players: int, times: int) -> None:
        super().__init__(players)
        self.times = times + 1  # one for the explained item

    async def evaluate(self, coalitions: Array, references: Array) -> Array:
        self.times -= 1
        if self.times < 0:
            raise OverloadedError(2)
        return await super().evaluate(coalitions, references)


def test_an_overload_after_a_first_pair_ends_the_sampling() -> None:
    found = explained(Overloaded(20, times=1), lambda asked: True)
    assert found.values == pytest.approx(np.arange(1.0, 21))


def test_an_overload_before_that_is_told() -> None:
    with pytest.raises(OverloadedError):
        explained(Overloaded(20, times=0), lambda asked: True)


def test_without_players_the_base_is_the_score() -> None:
    budget: Any = Budget(lambda asked: True)
    game = Additive(0)
    found = asyncio.run(attribution(game, 0.7, game.evaluate, 0, budget))
    assert (found.values.size, found.base, found.evaluations) == (0, 0.7, 0)


def test_an_attribution_is_what_it_was_packed_from() -> None:
    made = Attribution(np.array([0.5, -0.25]), 0.1, 12, 0.01)
    found = Attribution.unpacked(made.packed())
    assert found.values.tolist() == [0.5, -0.25]
    assert found[1:] == made[1:]
