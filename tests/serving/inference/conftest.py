"""Batchers of the model of sums."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.batchers import (
    SUM,
    Sum,
    WatchedBatcher,
    save_sum,
)


@pytest.fixture
def model(tmp_path: Path) -> Sum:
    return Sum(tmp_path)


@pytest.fixture
def make_batcher(model: Sum, tmp_path: Path) -> Iterator[Callable[..., WatchedBatcher]]:
    made: list[WatchedBatcher] = []

    def make(threads: int = 1, graph: Path | None = None, **settings: Any) -> WatchedBatcher:
        made.append(WatchedBatcher(model, graph or save_sum(tmp_path), SUM, threads, **settings))
        return made[-1]

    yield make
    model.gate.set()
    for batcher in made:
        batcher.close()


@pytest.fixture
def batcher(make_batcher: Callable[..., WatchedBatcher]) -> WatchedBatcher:
    return make_batcher()
