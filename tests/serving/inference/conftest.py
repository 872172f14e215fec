"""Fixtures of the tests of serving/inference: batchers and predictors of the model `Sum`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.caching.memory import MemoryCache
from serving.caching.predictions import PredictionCache
from serving.inference.batcher import Batcher
from serving.inference.predictor import Predictor
from tests.support.batchers import SUM, Sessions, Sum, save_sum
from tests.support.clocks import Clock


@pytest.fixture
def model(tmp_path: Path) -> Sum:
    return Sum(tmp_path)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(tmp_path: Path, clock: Clock) -> Sessions:
    return Sessions(save_sum(tmp_path), clock)


@pytest.fixture
def make_batcher(model: Sum, sessions: Sessions, clock: Clock) -> Iterator[Callable[..., Batcher]]:
    made: list[Batcher] = []

    def make(threads: int = 1, linger_seconds: float = 0.0, **settings: Any) -> Batcher:
        made.append(
            Batcher(
                model,
                sessions,
                SUM,
                threads,
                linger_seconds=linger_seconds,
                clock=clock,
                cpu_clock=clock,
                wait=clock.wait,
                **settings,
            )
        )
        return made[-1]

    yield make
    model.gate.set()
    for batcher in made:
        batcher.close()


@pytest.fixture
def batcher(make_batcher: Callable[..., Batcher]) -> Batcher:
    return make_batcher()


@pytest.fixture
def model_class() -> type[Sum]:
    return Sum


@pytest.fixture
def settings() -> dict[str, Any]:
    return {}


@pytest.fixture
def predictor(tmp_path: Path, clock: Clock, model_class: type[Sum], settings: dict[str, Any]) -> Iterator[Predictor]:
    cache = PredictionCache(MemoryCache("test", 10**6, 180, clock))
    made = Predictor(
        SUM,
        model_class(tmp_path),
        save_sum(tmp_path),
        cache,
        threads=1,
        linger_seconds=0.0,
        clock=clock,
        cpu_clock=clock,
        wait=clock.wait,
        **settings,
    )
    yield made
    made.model.gate.set()  # type: ignore[attr-defined]
    made.batcher.close()
