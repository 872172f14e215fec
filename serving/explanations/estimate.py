"""Shapley values of a game within a budget: exact where that is affordable, else estimated."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import islice

import numpy as np

from models.model import Array
from serving.explanations import shapley
from serving.explanations.budget import Budget
from serving.explanations.explanation import Attribution
from serving.explanations.games import Game
from serving.inference.errors import OverloadedError

# Values float64 (n,) of coalitions, bool (n, players), each beside a reference, int (n,).
Evaluate = Callable[[Array, Array], Awaitable[Array]]

# The most players for which all coalitions are evaluated.
MAX_EXACT = 8
# The most pairs of a permutation and its reverse.
MAX_PAIRS = 64
# The most coalitions that are evaluated at a time.
MOST = 1_024


async def attribution(game: Game, full: float, evaluate: Evaluate, seed: int, budget: Budget) -> Attribution:
    """Return the Shapley values of a game whose grand coalition has the value `full`."""
    if not game.players:
        return Attribution(np.zeros(0), full)
    if game.players <= MAX_EXACT and (found := await exact(game, full, evaluate, budget)) is not None:
        return found
    return await sampled(game, full, evaluate, seed, budget)


async def exact(game: Game, full: float, evaluate: Evaluate, budget: Budget) -> Attribution | None:
    """Return the Shapley values by all coalitions, of which each value is the mean over all references.

    Return None once the first of them show that this takes too long.
    """
    members = shapley.coalitions(game.players)[:-1]
    coalitions = np.repeat(members, game.references, axis=0)
    references = np.tile(np.arange(game.references), len(members))
    values: list[Array] = []
    done = 0
    while done < len(coalitions):
        end = done + (MOST if done else budget.first)
        values.append(await evaluate(coalitions[done:end], references[done:end]))
        done = min(end, len(coalitions))
        if len(values) == 1 and done < len(coalitions) and not budget.allows(len(coalitions) / done, exact=True):
            return None
    means = np.concatenate(values).reshape(len(members), game.references).mean(1)
    return Attribution(shapley.exact(np.append(means, full)), float(means[0]), len(coalitions))


async def sampled(game: Game, full: float, evaluate: Evaluate, seed: int, budget: Budget) -> Attribution:
    """Estimate the Shapley values by permutations and their reverses, each pair beside the next reference.

    As long as there is time for it, there are twice as many, so that machines of about the same pace give the same
    answer. The values sum to `full` less the mean value of the empty coalition beside the references that were taken.
    """
    at_a_time = max(1, budget.first // game.players)
    orders = shapley.orders(game.players, seed)
    paths: list[Array] = []
    known: dict[tuple[bytes, int], float] = {}
    pairs = 1
    while len(paths) < pairs:
        chosen = list(islice(orders, 2 * min(at_a_time, pairs - len(paths))))
        references = [(len(paths) + place // 2) % game.references for place in range(len(chosen))]
        try:
            await learn(known, chosen, references, evaluate)
        except OverloadedError:
            if not paths:
                raise
            break
        found = [path(known, order, reference, full) for order, reference in zip(chosen, references, strict=True)]
        paths += [(first + second) / 2 for first, second in zip(found[::2], found[1::2], strict=True)]
        if len(paths) == pairs < MAX_PAIRS and budget.allows(2):
            pairs *= 2
    empty = np.zeros(game.players, dtype=np.bool_).tobytes()
    base = float(np.mean([known[empty, place % game.references] for place in range(len(paths))]))
    samples = np.array(paths)
    # Of a single pair, by its two permutations; of several by the pairs, since those of a pair depend on each other.
    independent = samples if len(samples) > 1 else np.array(found)
    error = independent.std(0, ddof=1).max() / np.sqrt(len(independent))
    return Attribution(samples.mean(0), base, len(known), float(error))


async def learn(
    known: dict[tuple[bytes, int], float], orders: list[Array], references: list[int], evaluate: Evaluate
) -> None:
    """Evaluate the coalitions of orders that are not known yet, each beside its reference."""
    wanted: dict[tuple[bytes, int], Array] = {}
    for order, reference in zip(orders, references, strict=True):
        for members in shapley.prefixes(order):
            wanted.setdefault((members.tobytes(), reference), members)
    new = [key for key in wanted if key not in known]
    if new:
        values = await evaluate(np.array([wanted[key] for key in new]), np.array([reference for _, reference in new]))
        known |= zip(new, values.tolist(), strict=True)


def path(known: dict[tuple[bytes, int], float], order: Array, reference: int, full: float) -> Array:
    """Return what each player adds as it joins in this order."""
    values = [known[members.tobytes(), reference] for members in shapley.prefixes(order)]
    return shapley.gains(order, np.array([*values, full]))
