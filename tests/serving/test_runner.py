"""The runner, on a graph that adds up an item's values."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from models.model import Array, InvalidInputError, Model
from serving.runner import Runner, batches, stack


class Sum(Model[list[float]]):
    """Adds up a list of numbers; refuses negative ones."""

    max_batch = 3

    def preprocess(self, item: list[float]) -> dict[str, Array]:
        if min(item) < 0:
            raise InvalidInputError("negative", ("items",), "negative")
        return {"x": np.array(item, dtype=np.float32)}


@pytest.fixture
def runner(tmp_path: Path) -> Any:
    graph = helper.make_graph(
        [helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)],
        "sum",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, None])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])],
        [helper.make_tensor("axes", TensorProto.INT64, [1], [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, tmp_path / "model.onnx")
    made = Runner(Sum(tmp_path), tmp_path / "model.onnx", "sum", threads=1)
    yield made
    made.close()


def test_outputs_stand_in_the_items_order(runner: Runner) -> None:
    items = [[1.0] * n for n in (5, 1, 4, 2, 3, 7, 6)]
    assert asyncio.run(runner.run(items)) == [5, 1, 4, 2, 3, 7, 6]


def test_a_bad_item_fails_alone(runner: Runner) -> None:
    first, bad, last = asyncio.run(runner.run([[1.0, 2.0], [-1.0], [4.0]]))
    assert [first, last] == [3, 4]
    assert isinstance(bad, InvalidInputError)


def test_batches_are_sorted_by_length_and_bounded() -> None:
    prepared = [(i, {"x": np.zeros(n)}) for i, n in enumerate((9, 1, 8, 2, 3))]
    assert [[i for i, _ in batch] for batch in batches(prepared, 2)] == [[1, 3], [4, 2], [0]]


def test_shorter_items_are_padded_with_zeros() -> None:
    stacked = stack([{"x": np.array([1, 2, 3])}, {"x": np.array([4])}])
    assert stacked["x"].tolist() == [[1, 2, 3], [4, 0, 0]]


def test_items_of_equal_shape_are_stacked() -> None:
    assert stack([{"x": np.ones((3, 2))}, {"x": np.zeros((3, 2))}])["x"].shape == (2, 3, 2)
