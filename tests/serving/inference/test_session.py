"""Weights become signed in memory where the processor multiplies those exactly; nothing else of a graph changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from serving.bento.shipped import FOLDER
from serving.execution_providers import PROCESSOR, execution_provider
from serving.inference import session
from serving.inference.session import (
    EXACT,
    UNSIGNED_WEIGHTS,
    open_session,
    with_signed_weights,
)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Record the graphs that sessions are opened with, without opening them."""
    sources: list[Any] = []

    def record(source: Any, options: Any, providers: list[str]) -> None:
        sources.append(onnx.load(source) if isinstance(source, str) else onnx.load_from_string(source))

    monkeypatch.setattr(onnxruntime, "InferenceSession", record)
    return sources


def types(model: onnx.ModelProto) -> dict[str, int]:
    """Return the data type of each weight that the metadata of a model lists."""
    listed = next(entry.value.split("\n") for entry in model.metadata_props if entry.key == UNSIGNED_WEIGHTS)
    kinds = {weight.name: weight.data_type for weight in model.graph.initializer}
    return {name: kinds[name] for name in listed}


@pytest.mark.parametrize("processor", EXACT)
def test_weights_are_signed_where_that_is_exact(
    processor: str, opened: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "instruction_set", lambda: processor)
    open_session(FOLDER / "image" / "model.onnx", 1)
    assert set(types(opened[0]).values()) == {TensorProto.INT8}


@pytest.mark.parametrize("processor", ["AVX2", "AVX-512 (no VNNI)", "NEON dot product", "SSE", "AMD64", "unknown"])
def test_weights_stay_unsigned_elsewhere(processor: str, opened: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "instruction_set", lambda: processor)
    open_session(FOLDER / "image" / "model.onnx", 1)
    assert set(types(opened[0]).values()) == {TensorProto.UINT8}


@pytest.mark.parametrize("name", ["image", "sentiment"])
def test_only_what_is_listed_changes_and_by_128(name: str) -> None:
    content = (FOLDER / name / "model.onnx").read_bytes()
    before, after = onnx.load_from_string(content), onnx.load_from_string(with_signed_weights(content))
    listed = set(types(before))
    assert len(listed) > 30
    for old, new in zip(before.graph.initializer, after.graph.initializer, strict=True):
        expected = numpy_helper.to_array(old)
        if old.name in listed:
            expected = (expected.astype(np.int16) - 128).astype(np.int8)
        assert np.array_equal(numpy_helper.to_array(new), expected), old.name
    del before.graph.initializer[:], after.graph.initializer[:]
    assert after == before


def test_tables_of_others_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "instruction_set", lambda: EXACT[0])
    table = np.array([0, 1, 127, 128, 255], np.uint8)
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table_unsigned", "i"], ["g"]), helper.make_node("Cast", ["g"], ["y"], to=1)],
        "graph",
        [helper.make_tensor_value_info("i", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
        [numpy_helper.from_array(table, "table_unsigned")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    (found,) = open_session(model.SerializeToString(), 1).run(None, {"i": np.arange(5)})
    assert found.tolist() == table.tolist()


def test_weights_in_a_file_of_their_own_are_read(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
        [numpy_helper.from_array(np.array([1, 2], np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, tmp_path / "model.onnx", save_as_external_data=True, location="weights", size_threshold=0)
    (found,) = open_session(tmp_path / "model.onnx", 1).run(None, {"x": np.zeros(2, np.float32)})
    assert found.tolist() == [1, 2]


@pytest.mark.parametrize("name", ["cpu", "CPU", "CPUExecutionProvider"])
def test_the_processor_is_an_execution_provider_by_any_of_its_names(name: str) -> None:
    assert execution_provider(name) == PROCESSOR


def test_an_execution_provider_that_is_not_there_is_refused_and_the_others_are_named() -> None:
    with pytest.raises(ValueError, match=r"no execution provider abacus here, it has .*cpu"):
        execution_provider("abacus")
