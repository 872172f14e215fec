"""Shapley values of a cooperative game: exact for few players, else by sampling permutations.

A player's Shapley value is what a coalition's value gains on average when the player joins it (Shapley 1953, "A value
for n-person games"). The values of all players sum to that of the grand coalition less that of the empty one.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import factorial

import numpy as np

from models.model import Array


def coalitions(players: int) -> Array:
    """Return all coalitions, bool (2**players, players): bit i of a coalition's index says whether player i is in it.

    The first is the empty coalition, the last the grand one.
    """
    members: Array = (np.arange(2**players)[:, None] >> np.arange(players)) & 1 == 1
    return members


def exact(values: Array) -> Array:
    """Return the Shapley values (n,) of a game by the values (2**n,) of its `coalitions`.

    By the definition: Strumbelj and Kononenko 2014, "Explaining prediction models and individual predictions with
    feature contributions", equation 7.
    """
    players = len(values).bit_length() - 1
    joining = [factorial(size) * factorial(players - size - 1) for size in range(players)]
    weights = np.array(joining) / factorial(players)
    index = np.arange(len(values))
    sizes = coalitions(players).sum(1)
    found = np.zeros(players)
    for player in range(players):
        without = index[index >> player & 1 == 0]
        found[player] = weights[sizes[without]] @ (values[without | 1 << player] - values[without])
    return found


def orders(players: int, seed: int) -> Iterator[Array]:
    """Yield random permutations of the players, each followed by its reverse, without end.

    In the reverse a player joins after those that it came before: the two errors partly cancel out (Mitchell et al.
    2022, "Sampling permutations for Shapley value estimation", section 3.1).
    """
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(players)
        yield order
        yield order[::-1]


def prefixes(order: Array) -> Array:
    """Return the coalitions that come about as players join in this order, the grand one aside, bool (n, n)."""
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    members: Array = places[None, :] < np.arange(len(order))[:, None]
    return members


def gains(order: Array, values: Array) -> Array:
    """Return what each player adds as it joins, (n,): `values` (n + 1,) are those of `prefixes`, then the grand one's.

    Its mean over random orders is an unbiased estimate of the Shapley values (Castro et al. 2009, "Polynomial
    calculation of the Shapley value based on sampling", section 3).
    """
    found = np.empty(len(order))
    found[order] = np.diff(values)
    return found
