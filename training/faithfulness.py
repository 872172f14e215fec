"""Whether explanations name what decides: without the parts that they rank first, the score must fall."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import models
from models.model import Array
from serving.cores import bound_cores
from serving.explanations import Explanation, ExplanationService
from serving.explanations.entry import read_notes
from serving.explanations.games import Row, Words
from serving.explanations.pictures import GREY, slices
from serving.explanations.score import score_of
from serving.inference.context import own_context
from serving.inference.errors import OverloadedError
from serving.inference.predictor import NoCache, Predictor
from serving.inference.registry import ModelId
from training.artifact import Estimate
from training.evaluation import share

# How many inputs are explained, and of how many the score must fall by more than it does without random parts.
INPUTS, LEAST = 100, 0.8
# Draws of random parts, of whose scores the mean counts.
DRAWS = 20
# The time of a request, of which an explanation takes a part: more where a machine is too busy for the first.
TIMEOUTS_SECONDS = (2.0, 20.0, 60.0)

# Called with the coalitions of parts that are kept, bool (n, parts); returns the items of each.
Removal = Callable[[Array], list[Collection[Any]]]


def faithfulness(name: str, folder: Path, inputs: Sequence[tuple[Any, Any]]) -> Estimate:
    """Estimate how often the score falls by more without the first tenth of the parts than without a random tenth.

    `inputs` are items of a store entry's model, each with the row of columns that it was made of, if any. The measure
    is that of Samek et al. 2017, "Evaluating the visualization of what a deep neural network has learned", for a tenth.
    """
    predictor = Predictor(
        ModelId(name, folder.name), models.find(name)(folder), folder / "model.onnx", NoCache(), bound_cores()
    )
    try:
        return share(np.array(asyncio.run(compare(predictor, inputs))))
    finally:
        predictor.close()


async def compare(predictor: Predictor, inputs: Sequence[tuple[Any, Any]]) -> list[bool]:
    """Return of each input whether the score falls by more without the parts of the highest contributions."""
    await predictor.warm_up()
    service = ExplanationService()
    rng = np.random.default_rng(0)
    hits = []
    for item, element in inputs:
        output = (await predictor.infer([item], own_context(TIMEOUTS_SECONDS[-1])))[0]
        found = await explained(service, predictor, item, output, element)
        values = found.attribution.values
        tenth = -(-len(values) // 10)
        kept = np.ones((1 + DRAWS, len(values)), dtype=np.bool_)
        kept[0, np.argsort(-values, kind="stable")[:tenth]] = False
        for row in kept[1:]:
            row[rng.permutation(len(values))[:tenth]] = False
        score = score_of(predictor.model, output)
        means = []
        for items in removal(predictor, item, element, found)(kept):
            means.append(score(await predictor.infer(items, own_context(TIMEOUTS_SECONDS[-1]))).mean())
        hits.append(bool(means[0] < np.mean(means[1:]) - 1e-9))
    return hits


async def explained(
    service: ExplanationService, predictor: Predictor, item: Any, output: Array, element: Any
) -> Explanation:
    """Return the explanation of an output in the time of a request, or of a longer one where that is too short."""
    *shorter, longest = TIMEOUTS_SECONDS
    for seconds in shorter:
        with contextlib.suppress(OverloadedError):
            return await service.explain(predictor, item, output, element, own_context(seconds))
    return await service.explain(predictor, item, output, element, own_context(longest))


def removal(predictor: Predictor, item: Any, element: Any, found: Explanation) -> Removal:
    """Return how parts of an item are removed: as its explanation did it, several at a time."""
    notes = read_notes(predictor.folder, type(predictor.model))
    if found.kind == "span":
        words = Words(item, found.parts)
        return lambda kept: [[text] for text in words.items(kept, np.zeros(len(kept), dtype=np.int64))]
    if found.view is not None:
        view = found.view
        places = slices(view, round(len(found.parts) ** 0.5))

        def blanked(row: Array) -> Array:
            pixels = view.pixels.copy()
            for place in np.flatnonzero(~row):
                pixels[places[place]] = GREY
            return pixels

        return lambda kept: [[blanked(row)] for row in kept]
    if notes.linear is not None:
        means = notes.linear.means.astype(np.float32)
        return lambda kept: [np.where(row, item, means)[None] for row in kept]
    if notes.background is None:
        raise TypeError(f"{predictor.id} is explained in a way that is not known here")
    columns = {column.name: column.array(values) for column, values in predictor.model.values([element])}
    game = Row(type(predictor.model), columns, notes.background)
    references = np.arange(game.references)
    return lambda kept: [game.items(np.tile(row, (len(references), 1)), references) for row in kept]
