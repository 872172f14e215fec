"""Explanations by a loaded model: one at a time, as batch work, from the cache where they are known."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from hashlib import blake2b
from math import isqrt
from typing import Any, cast
from weakref import WeakKeyDictionary, proxy

from pydantic import BaseModel

from models.model import Array, InvalidInputError, ShowsPictures, View
from serving.explanations.budget import SECONDS, SHARE, Budget
from serving.explanations.entry import read_notes
from serving.explanations.estimate import MAX_EXACT, attribution
from serving.explanations.explanation import Attribution, Explanation
from serving.explanations.games import Game, Row, Words, groups, words
from serving.explanations.kinds import kind_of
from serving.explanations.pictures import boxes, occluded
from serving.explanations.score import Score, score_of
from serving.inference.context import Priority, RequestContext
from serving.inference.errors import OverloadedError
from serving.inference.predictor import Predictor
from serving.inference.service import faults
from serving.telemetry import metrics, tracing
from serving.threads import to_its_end

# Of cached attributions; another where the algorithms change, since servers of several releases may share a cache.
FORM = b"explanation 1\0"
# The most spans of a text, and boxes along a side of a picture.
MAX_SPANS, SIDE = 64, 8


class ExplanationService:
    """Explains the answers of loaded models."""

    def __init__(self) -> None:
        self.explainers: WeakKeyDictionary[Predictor, Explainer] = WeakKeyDictionary()

    async def explain(
        self, predictor: Predictor, item: Any, output: Array, element: Any, request: RequestContext
    ) -> Explanation:
        """Explain the output of an item, which was made of `element`, a row of columns where it is none itself.

        Raises InvalidInputError where the model's entry lacks what this takes, OverloadedError where there is no time
        for the fewest evaluations, and ModelFaultError.
        """
        with faults(predictor, 1), tracing.span("explain", model=predictor.name):
            if predictor not in self.explainers:
                self.explainers[predictor] = Explainer(predictor)
            return await self.explainers[predictor].explain(item, output, element, request)


class Explainer:
    """Explains the answers of one model, one at a time: its evaluations fill the batches by themselves."""

    def __init__(self, predictor: Predictor) -> None:
        # Not to keep a model that was unloaded: this object lives as long as its predictor.
        self.predictor = proxy(predictor)
        self.model = predictor.model
        self.kind = kind_of(type(self.model))
        self.notes = read_notes(predictor.folder, type(self.model))
        self.turn = asyncio.Lock()
        # Decoding may take 100 MB.
        self.viewing = asyncio.Lock()
        self.waiting = 0
        self.evaluated = metrics.explanation_evaluations.labels(*predictor.id)

    async def explain(self, item: Any, output: Array, element: Any, request: RequestContext) -> Explanation:
        """Explain the output of an item."""
        score = score_of(self.model, output)
        if self.kind == "span":
            return await self.explain_text(item, score, output, request)
        if self.kind == "box":
            return await self.explain_picture(item, score, output, request)
        if self.notes.linear is not None:
            return Explanation("name", self.notes.linear.names, self.notes.linear.attribution(item))
        return await self.explain_row(element, score, output, request)

    async def explain_text(self, text: str, score: Score, output: Array, request: RequestContext) -> Explanation:
        """Explain by the words of a text, or by spans of several where there are too many, or too little time."""
        spans = words(text)

        async def compute(budget: Budget) -> Attribution:
            if len(spans) > MAX_EXACT:  # the pace may be that of shorter texts
                started = budget.clock()
                await self.scores([text], score, budget, request)
                budget.limit(budget.clock() - started)
            # A permutation and its reverse take twice as many evaluations, of texts that are half as long.
            parts = groups(spans, min(len(spans), MAX_SPANS, max(2, budget.evaluations)))
            return await self.play(Words(text, parts), score, output, seed(text), budget, request)

        found = await self.attribution(self.key(text), request, compute)
        return Explanation("span", groups(spans, len(found.values)), found)

    async def explain_row(self, element: Any, score: Score, output: Array, request: RequestContext) -> Explanation:
        """Explain by the columns of a row, against the background rows of the model's entry."""
        if self.notes.background is None or not isinstance(element, BaseModel | Mapping):
            message = f"{self.predictor.id} has no background rows to explain a row against: see docs/explain.md"
            raise InvalidInputError(message, (), "no_background")
        row = {column.name: column.array(values) for column, values in self.model.values([element])}
        game = Row(type(self.model), row, self.notes.background)
        written = repr({name: values.tolist() for name, values in row.items()})

        async def compute(budget: Budget) -> Attribution:
            return await self.play(game, score, output, seed(written), budget, request)

        return Explanation("name", game.names, await self.attribution(self.key(written), request, compute))

    async def explain_picture(self, item: Any, score: Score, output: Array, request: RequestContext) -> Explanation:
        """Explain by the boxes of a grid over a picture, each blanked in turn."""
        with self.counted(request):
            async with held(self.viewing, request):
                view: View = await to_its_end(cast(ShowsPictures, self.model).view, item)

        async def compute(budget: Budget) -> Attribution:
            side = max(1, min(SIDE, isqrt(max(0, budget.evaluations - 1))))
            scores = await self.scores(await to_its_end(occluded, view, side), score, budget, request)
            return Attribution(score(output[None])[0] - scores[:-1], float(scores[-1]), len(scores))

        found = await self.attribution(self.key(view.pixels.tobytes()), request, compute)
        return Explanation("box", boxes(view, isqrt(len(found.values))), found, view)

    async def attribution(
        self, key: bytes, request: RequestContext, compute: Callable[[Budget], Awaitable[Attribution]]
    ) -> Attribution:
        """Return the attribution that is known by this key, else compute it once it is its turn."""
        if (known := await self.known(key, request)) is not None:
            return known
        async with self.in_turn(request):
            # An equal request may have computed it meanwhile.
            if (known := await self.known(key, request)) is not None:
                return known
            found = await compute(Budget(self.predictor.batcher, request.deadline))
        request.misses += 1
        self.evaluated.inc(found.evaluations)
        if not request.no_store:
            self.predictor.cache.put(key, found.packed())
        return found

    async def known(self, key: bytes, request: RequestContext) -> Attribution | None:
        """Return the attribution that the cache has by this key, if any."""
        if request.no_cache:
            return None
        cache = self.predictor.cache
        known = cache.get(key)
        if known is None and cache.is_shared:
            known = (await cache.get_shared([key])).get(key)
        if known is None:
            return None
        request.hits += 1
        request.age = max(request.age, known[1])
        return Attribution.unpacked(known[0])

    @asynccontextmanager
    async def in_turn(self, request: RequestContext) -> AsyncIterator[None]:
        """Wait for the explanations before this one; raise OverloadedError where that would take too long."""
        with self.counted(request):
            async with held(self.turn, request):
                yield

    @contextmanager
    def counted(self, request: RequestContext) -> Iterator[None]:
        """Count a request among those that wait; raise OverloadedError where these would take too long."""
        if self.waiting * SECONDS > SHARE * (request.deadline - time.monotonic()):
            raise OverloadedError(self.waiting * SECONDS)
        self.waiting += 1
        try:
            yield
        finally:
            self.waiting -= 1

    async def play(
        self, game: Game, score: Score, output: Array, seed: int, budget: Budget, request: RequestContext
    ) -> Attribution:
        """Return the Shapley values of a game; what is sampled follows from the seed."""

        async def evaluate(coalitions: Array, references: Array) -> Array:
            items = await to_its_end(game.items, coalitions, references)
            return await self.scores(items, score, budget, request)

        return await attribution(game, float(score(output[None])[0]), evaluate, seed, budget)

    async def scores(self, items: Collection[Any], score: Score, budget: Budget, request: RequestContext) -> Array:
        """Return the scores of items, computed as batch work; raise OverloadedError where there is no time left."""
        # They are not likely to be asked for again, and would take the place of others in the cache.
        work = RequestContext(request.id, budget.deadline, no_cache=True, no_store=True, priority=Priority.BATCH)
        try:
            # A batch that has begun goes on beyond the deadline of its items.
            async with asyncio.timeout(max(0.0, budget.deadline - budget.clock())):
                return score(await self.predictor.infer(items, work))
        except TimeoutError as error:
            raise OverloadedError(SECONDS) from error

    def key(self, part: str | bytes) -> bytes:
        """Return the cache key of an attribution, a digest of the model's tag and version and of what is explained."""
        digest = blake2b(FORM + str(self.predictor.id).encode() + b"\0", digest_size=16)
        digest.update(part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part)
        return digest.digest()


@asynccontextmanager
async def held(lock: asyncio.Lock, request: RequestContext) -> AsyncIterator[None]:
    """Hold a lock; raise OverloadedError where it is not free within a part of the time that is left."""
    try:
        async with asyncio.timeout(SHARE * (request.deadline - time.monotonic())):
            await lock.acquire()
    except TimeoutError as error:
        raise OverloadedError(SECONDS) from error
    try:
        yield
    finally:
        lock.release()


def seed(part: str) -> int:
    """Return the seed of what is sampled for a text, or a row as it is written; versions of a model have the same."""
    return int.from_bytes(blake2b(part.encode("utf-8", "surrogatepass"), digest_size=8).digest())
