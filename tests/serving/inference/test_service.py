"""The engine alone, without a transport, BentoML or Redis."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from models.model import InvalidInputError
from serving.inference import InferenceService, ModelId, Predictor, Registry
from serving.inference.context import own_context
from serving.inference.errors import DeadlineExceededError, ModelFaultError, OverloadedError, UnknownModelError
from serving.inference.predictor import NoCache
from tests.support.batchers import BROKEN, SUM, Sum, save_sum
from tests.support.stores import newest

TRANSPORTS = {"starlette", "uvicorn", "bentoml", "redis", "grpc"}

ENGINE_ALONE = """
import asyncio, json, sys
from pathlib import Path

import models
from serving.inference import InferenceService, ModelId, Predictor, Registry
from serving.inference.context import own_context
from serving.inference.predictor import NoCache

registry = Registry()
for folder in map(Path, sys.argv[1:]):
    name = folder.parent.name
    model = models.find(name)(folder)
    registry.add(Predictor(ModelId(name, folder.name), model, folder / "model.onnx", NoCache(), threads=1))

async def infer():
    service = InferenceService(registry)
    for predictor in registry:
        yield await service.infer(predictor.name, predictor.model.example_items(), own_context(60))

async def main():
    return [[output.shape for output in outputs] async for outputs in infer()]

shapes = asyncio.run(main())
registry.close()
print(json.dumps({"shapes": shapes, "modules": sorted(sys.modules)}))
"""


def test_a_text_a_row_and_a_picture_need_no_transport(store: Path) -> None:
    folders = [newest(store, name) for name in ("sentiment", "segmentation", "image")]
    done = subprocess.run(
        [sys.executable, "-c", ENGINE_ALONE, *map(str, folders)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    told = json.loads(done.stdout)
    assert [len(shapes) for shapes in told["shapes"]] == [1, 1, 1]
    assert TRANSPORTS & set(told["modules"]) == set()


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    made = Registry()
    for version in ("1", "2"):
        model = Sum(tmp_path)
        made.add(Predictor(SUM._replace(version=version), model, save_sum(tmp_path), NoCache(), threads=1))
    return made


def infer(
    registry: Registry, items: list[list[int]], timeout_seconds: float = 60, version: str | None = None
) -> object:
    """Run items through the engine and return the outputs; close the registry."""

    async def use() -> object:
        return await InferenceService(registry).infer("sum", items, own_context(timeout_seconds), version)

    try:
        return asyncio.run(use())
    finally:
        registry.close()


def test_outputs_stand_in_the_items_order_and_a_bad_item_has_an_error(registry: Registry) -> None:
    outputs = infer(registry, [[1, 2], [-1], [4]])
    assert isinstance(outputs, list)
    assert isinstance(outputs[1], InvalidInputError)
    assert [outputs[0], outputs[2]] == [3, 4]


@pytest.mark.parametrize(("name", "version"), [("other", None), ("sum", "3")])
def test_what_is_not_loaded_is_unknown(registry: Registry, name: str, version: str | None) -> None:
    with pytest.raises(UnknownModelError, match=version or name):
        registry.get(name, version)
    registry.close()


def test_versions_live_side_by_side_and_the_last_is_the_default(registry: Registry) -> None:
    assert registry.versions("sum") == ["1", "2"]
    assert registry.get("sum").id == ModelId("sum", "2")
    assert str(registry.get("sum", "1").id) == "sum:1"
    registry.close()


def test_a_version_that_was_unloaded_meanwhile_is_unknown(registry: Registry) -> None:
    registry.close()
    with pytest.raises(UnknownModelError, match="has been unloaded"):
        infer(registry, [[1]])


def test_a_deadline_that_has_passed_is_told_as_such(registry: Registry) -> None:
    with pytest.raises(DeadlineExceededError):
        infer(registry, [[1]], timeout_seconds=-1)


def test_a_fault_of_the_model_is_told_as_such(registry: Registry) -> None:
    with pytest.raises(ModelFaultError, match="sum:1 failed on 1 items"):
        infer(registry, [BROKEN], version="1")


def test_what_would_take_too_long_is_refused(registry: Registry, tmp_path: Path) -> None:
    registry.add(Predictor(SUM, Sum(tmp_path), save_sum(tmp_path), NoCache(), threads=1, queue_items=0))
    with pytest.raises(OverloadedError):
        infer(registry, [[1]])
