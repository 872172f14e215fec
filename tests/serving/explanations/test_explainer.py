"""Explanations by loaded models: what is explained, cached and refused, without a transport."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import models
from models.image import Upload
from models.model import CLASSIFICATION, Array, Column, Columns, InvalidInputError, Model
from serving.bento.shipped import FOLDER
from serving.caching.memory import MemoryCache
from serving.caching.predictions import PredictionCache
from serving.explanations import Explanation, ExplanationService
from serving.explanations.score import score_of
from serving.inference.context import RequestContext, own_context
from serving.inference.errors import OverloadedError
from serving.inference.predictor import Predictor
from serving.inference.registry import ModelId
from tests.support.batchers import TABLE, save_sum
from tests.support.photos import photo


class Digits(Model[str]):
    """A model of texts that sums the digits in them."""

    input = str
    inputs = (Column("text", str, "1 2"),)
    outputs = (Column("sum", float),)
    max_batch = 8

    def preprocess(self, item: str) -> dict[str, Array]:
        return {"x": np.array([int(digit) % TABLE for digit in item if digit.isdigit()], dtype=np.int64)}

    def columns(self, outputs: Array) -> Columns:
        return {"sum": outputs}


@pytest.fixture
def digits(tmp_path: Path) -> Iterator[Predictor]:
    cache = PredictionCache(MemoryCache("test", 10**6, 180))
    made = Predictor(ModelId("digits", "1"), Digits(tmp_path), save_sum(tmp_path), cache, threads=1)
    yield made
    made.close()


@pytest.fixture(params=["breast_cancer", "segmentation", "image"])
def shipped(request: pytest.FixtureRequest) -> Iterator[Predictor]:
    folder = FOLDER / request.param
    cache = PredictionCache(MemoryCache("test", 10**6, 180))
    model = models.find(request.param)(folder)
    made = Predictor(ModelId(request.param, "1"), model, folder / "model.onnx", cache, threads=1)
    yield made
    made.close()


def explain(
    predictor: Predictor, *items: Any, element: Any = None, request: RequestContext | None = None
) -> list[Explanation]:
    """Explain items one after the other, in one event loop, since a predictor belongs to one."""

    async def use() -> list[Explanation]:
        service = ExplanationService()
        found = []
        for item in items:
            output = (await predictor.infer([item], own_context(60)))[0]
            context = request or own_context(60)
            found.append(await service.explain(predictor, item, output, element, context))
        return found

    return asyncio.run(use())


def test_each_word_of_a_sum_adds_its_digit(digits: Predictor) -> None:
    texts = ("3 1 4", "3 1 4 1 5 9 2 6 5 3 5 8")
    for text, found in zip(texts, explain(digits, *texts), strict=True):
        spans = [text[start:end] for start, end in found.parts]
        assert dict(zip(found.parts, found.attribution.values, strict=True)) == pytest.approx(
            {part: int(span) for part, span in zip(found.parts, spans, strict=True)}
        )
        assert (found.kind, found.attribution.base) == ("span", 0)
        assert found.attribution.standard_error == pytest.approx(0, abs=1e-9)


def test_an_explanation_is_computed_once(digits: Predictor) -> None:
    request = own_context(60)
    first, second = explain(digits, "3 1 4", "3 1 4", request=request)
    assert (request.hits, request.misses) == (1, 1)
    assert np.array_equal(first.attribution.values, second.attribution.values)
    assert first[:2] == second[:2]


def test_what_caches_may_not_do_they_do_not(digits: Predictor) -> None:
    request = own_context(60)
    request.no_cache = True
    explain(digits, "3 1 4", "3 1 4", request=request)
    assert (request.hits, request.misses) == (0, 2)


def test_the_texts_of_coalitions_take_no_place_in_the_cache(digits: Predictor) -> None:
    explain(digits, "3 1 4")
    assert digits.cache.get(digits.key("3 1 4")) is not None
    assert digits.cache.get(digits.key("3 1 ")) is None


def test_ten_thousand_words_become_a_few_spans(digits: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.explanations.budget.SECONDS", 0.0)  # no more than has to be
    (found,) = explain(digits, "1 " * 10_000)
    assert len(found.parts) == 64
    assert found.attribution.values.sum() == pytest.approx(10_000)


def test_a_request_without_time_is_refused_not_late(digits: Predictor) -> None:
    request = RequestContext("-", time.monotonic() - 1)
    with pytest.raises(OverloadedError):
        explain(digits, "3 1 4", request=request)


def test_those_who_would_wait_too_long_for_their_turn_are_refused(digits: Predictor) -> None:
    texts = [f"{i} 2 3" for i in range(20)]

    async def use() -> list[Any]:
        service = ExplanationService()
        outputs = await digits.infer(texts, own_context(60))
        explaining = [
            service.explain(digits, text, output, None, own_context(10))
            for text, output in zip(texts, outputs, strict=True)
        ]
        return list(await asyncio.gather(*explaining, return_exceptions=True))

    found = asyncio.run(use())
    assert any(isinstance(entry, Explanation) for entry in found)
    refused = [entry for entry in found if not isinstance(entry, Explanation)]
    assert refused
    assert all(isinstance(entry, OverloadedError) and entry.retry_after_seconds > 0 for entry in refused)


def test_a_model_is_explained_by_what_its_entry_has(shipped: Predictor) -> None:
    model = shipped.model
    example: Any = model.input_example
    item = (
        Upload(photo("PNG", (640, 480)), resize=True) if shipped.name == "image" else next(iter(model.example_items()))
    )
    (found,) = explain(shipped, item, element=example)
    values, base = found.attribution.values, found.attribution.base
    if shipped.name == "image":
        assert found.parts[0][:2] == (0, 0)
        assert found.parts[-1][2:] == (640, 480)
        assert found.attribution.evaluations == len(found.parts) + 1
        return
    if shipped.name == "segmentation":
        known = shipped.cache.get(shipped.key(item))
        assert known is not None
        # The contributions of the GLM sum to its log-odds.
        assert 1 / (1 + np.exp(-base - values.sum())) == pytest.approx(known[0][1], abs=1e-6)
    else:
        assert base + values.sum() == pytest.approx(1)  # its answer is the label that it answers, for certain
        assert list(found.parts) == list(example)


def test_without_background_rows_a_row_cannot_be_explained(tmp_path: Path) -> None:
    graph = tmp_path / "model.onnx"
    graph.write_bytes((FOLDER / "breast_cancer" / "model.onnx").read_bytes())
    model = models.find("breast_cancer")(tmp_path)
    cache = PredictionCache(MemoryCache("test", 10**6, 180))
    predictor = Predictor(ModelId("breast_cancer", "bare"), model, graph, cache, threads=1)
    with pytest.raises(InvalidInputError, match="breast_cancer:bare has no background rows"):
        explain(predictor, next(iter(model.example_items())), element=model.input_example)
    predictor.close()


class Answers(Digits):
    """A model of given output columns."""

    def __init__(self, outputs: tuple[Column, ...], **columns: Any) -> None:
        self.outputs = outputs  # type: ignore[misc, assignment]
        self.answers = {name: np.array(values) for name, values in columns.items()}

    def columns(self, outputs: Array) -> Columns:
        return {name: values[outputs] for name, values in self.answers.items()}


def scores(model: Model[Any], explained: int) -> list[float]:
    """Return the scores of the first two answers of a model, where one of them is explained."""
    found: list[float] = score_of(model, np.array(explained))(np.arange(2)).tolist()
    return found


def test_of_a_classifier_the_probability_of_the_answered_label_is_explained() -> None:
    probabilities = [[0.9, 0.1], [0.2, 0.8]]
    model = Answers(CLASSIFICATION, label=["a", "b"], score=[0.9, 0.8], probabilities=probabilities)
    assert scores(model, 0) == [0.9, 0.2]
    assert scores(model, 1) == [0.1, 0.8]


def test_of_a_regression_the_number_is_explained() -> None:
    assert scores(Answers((Column("price", float),), price=[9.5, 3.0]), 1) == [9.5, 3.0]


def test_of_a_model_without_numbers_whether_the_answer_stays_the_same_is_explained() -> None:
    assert scores(Answers((Column("label", str),), label=["a", "b"]), 1) == [0.0, 1.0]
