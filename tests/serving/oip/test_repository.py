"""The model repository, without a transport."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from serving.inference import ModelId, Predictor, Registry
from serving.inference.predictor import NoCache
from serving.oip.repository import Repository, refusal
from tests.support.batchers import SUM, Sum, save_sum


def test_loading_goes_on_where_the_request_for_it_is_given_up(tmp_path: Path) -> None:
    registry = Registry()
    loads: list[ModelId] = []

    async def use() -> ModelId:
        began, go_on = asyncio.Event(), asyncio.Event()

        async def load(model_id: ModelId) -> Predictor:
            loads.append(model_id)
            began.set()
            await go_on.wait()
            return Predictor(model_id, Sum(tmp_path), save_sum(tmp_path), NoCache(), threads=1)

        repository = Repository(registry, [SUM.name], lambda: [SUM], load, refusal="")
        request = asyncio.create_task(repository.load(SUM.name))
        await began.wait()
        request.cancel()
        await asyncio.wait([request])
        go_on.set()
        return await repository.load(SUM.name)

    assert (asyncio.run(use()), loads) == (SUM, [SUM])
    assert SUM in registry
    registry.close()


@pytest.mark.parametrize(
    ("has", "named"),
    [
        ({"allowed": False}, "TIFFIN_MODEL_CONTROL=true"),
        ({"has_keys": False}, "TIFFIN_API_KEYS"),
        ({"workers": 2}, "TIFFIN_WORKERS=1, it is 2"),
        ({}, ""),
    ],
)
def test_what_loading_needs_is_named(has: dict[str, Any], named: str) -> None:
    why_not = refusal(**{"allowed": True, "has_keys": True, "workers": 1, **has})
    assert (named in why_not, bool(why_not)) == (True, bool(named))
