"""Quantize graphs to int8 weights, with which they are smaller and run faster on a CPU."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from models.model import Array
from training.unsigned import keep_weights, make_weights_unsigned, name_unsigned_weights, unsigned

# Activations lie in -1..1 once divided by their row's largest: as unsigned 8-bit numbers around 128.
SCALE, ZERO = np.float32(1 / 127), np.uint8(128)


def weight_sizes(graph: bytes) -> dict[str, int]:
    """Return the bytes of a graph's weights by the operator that reads them."""
    loaded = onnx.load_from_string(graph).graph
    sizes = {weight.name: numpy_helper.to_array(weight).nbytes for weight in loaded.initializer}
    found: dict[str, int] = {}
    for node in loaded.node:
        found[node.op_type] = found.get(node.op_type, 0) + sum(sizes.get(name, 0) for name in node.input)
    return found


def quantize(graph: bytes, calibration: Callable[[], Sequence[dict[str, Array]]], ranges: Path | None = None) -> bytes:
    """Return the int8 form that suits the graph: static for convolutions, by row for matrix products.

    `calibration` and `ranges` are those of `quantize_convolutions`.
    """
    sizes = weight_sizes(graph)
    if sizes.get("Conv", 0) > sizes.get("MatMul", 0):
        return quantize_convolutions(graph, calibration, ranges)
    return quantize_rows(graph)


def quantize_rows(graph: bytes) -> bytes:
    """Return the graph with its matrix products x @ W in int8: W quantized now by column, x at run time by row (token).

    onnxruntime's own dynamic quantization takes one scale for all of x, so that the text with the largest activations
    changes the outputs of the others in its batch. With a scale per row (LLM.int8, Dettmers et al. 2022,
    arXiv:2208.07339, section 2.1) outputs do not depend on the batch, and are closer to float32.

    Embedding tables, most of the weights of a text model, are quantized with a scale per row as well.
    """
    model = onnx.load_from_string(graph)
    weights = {weight.name: weight for weight in model.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, Array] = {
        "int8_scale": np.asarray(SCALE),
        "int8_zero": np.asarray(ZERO),
        "int8_last_axis": np.array([-1], np.int64),
        "int8_smallest": np.asarray(np.float32(1e-12)),
    }
    quantized: set[str] = set()

    def add(operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    for node in model.graph.node:
        if gathers_rows(node, weights):
            (table, index), (out,) = node.input, node.output
            values, scale = to_int8(numpy_helper.to_array(weights[table]), axis=1)
            constants |= {f"{table}_rows": values, f"{table}_row_scales": scale}
            rows = add("Gather", [f"{table}_rows", index], f"{out}_rows")
            rows = add("Cast", [rows], f"{out}_float", to=onnx.TensorProto.FLOAT)
            add("Mul", [rows, add("Gather", [f"{table}_row_scales", index], f"{out}_scales")], out)
            continue
        if node.op_type != "MatMul" or node.input[1] not in weights or len(weights[node.input[1]].dims) != 2:
            nodes.append(node)
            continue
        x, w = node.input
        if x not in quantized:
            quantized.add(x)
            largest = add("ReduceMax", [add("Abs", [x], f"{x}_abs"), "int8_last_axis"], f"{x}_row_max", keepdims=1)
            largest = add("Max", [largest, "int8_smallest"], f"{x}_scale")
            unit = add("Div", [x, largest], f"{x}_unit")
            add("QuantizeLinear", [unit, "int8_scale", "int8_zero"], f"{x}_int8")
        values, scale = to_int8(numpy_helper.to_array(weights[w]), axis=0)
        constants |= {f"{w}_unsigned": unsigned(values), f"{w}_scale": scale[0], "zero_unsigned": np.asarray(ZERO)}
        inputs = [f"{x}_int8", f"{w}_unsigned", "int8_scale", f"{w}_scale", "int8_zero", "zero_unsigned"]
        product = add("MatMulIntegerToFloat", inputs, f"{node.output[0]}_unit", domain="com.microsoft")
        add("Mul", [product, f"{x}_scale"], node.output[0])

    del model.graph.node[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)
    weights |= {name: numpy_helper.from_array(value, name) for name, value in constants.items()}
    keep_weights(model, weights.values())
    name_unsigned_weights(model, [name for name in constants if name.endswith("_unsigned")])
    if all(opset.domain != "com.microsoft" for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model.SerializeToString()  # type: ignore[no-any-return]


def gathers_rows(node: onnx.NodeProto, weights: Mapping[str, onnx.TensorProto]) -> bool:
    """Return whether a node looks up rows of a table of weights float32 (n, size)."""
    if node.op_type != "Gather" or node.input[0] not in weights:
        return False
    table = weights[node.input[0]]
    by_row = all(attribute.i == 0 for attribute in node.attribute if attribute.name == "axis")
    return by_row and len(table.dims) == 2 and table.data_type == onnx.TensorProto.FLOAT


def to_int8(weight: Array, axis: int | tuple[int, ...]) -> tuple[Array, Array]:
    """Return weights as int8 and their scales as float32: one for all values along `axis`, kept with length 1."""
    scale = np.maximum(abs(weight).max(axis, keepdims=True) / 127, np.finfo(np.float32).tiny).astype(np.float32)
    return np.rint(weight / scale).astype(np.int8), scale


@contextmanager
def silence() -> Iterator[None]:
    """Silence the root logger, through which onnxruntime advises a step that exported graphs do not need."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)


class Batches(CalibrationDataReader):  # type: ignore[misc]  # untyped
    """Inputs of a graph, one batch after another."""

    def __init__(self, batches: Sequence[dict[str, Array]]) -> None:
        self.batches: Iterator[dict[str, Array]] = iter(batches)

    def get_next(self) -> dict[str, Array] | None:
        """Return the next batch, or None after the last."""
        return next(self.batches, None)


def quantize_convolutions(
    graph: bytes, calibration: Callable[[], Sequence[dict[str, Array]]], ranges: Path | None = None
) -> bytes:
    """Return the graph with convolutions in int8: weights by channel, activations in calibrated ranges.

    The ranges are read from the file `ranges` if it exists, else measured on the batches that `calibration` returns
    and written to that file.
    """
    model = onnx.load_from_string(graph)
    del model.graph.value_info[:]
    with tempfile.TemporaryDirectory() as folder, silence():
        target = Path(folder) / "model.onnx"
        quantize_static(
            model,
            target,
            None if ranges and ranges.exists() else Batches(calibration()),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            calibrate_method=CalibrationMethod.MinMax,
            calibration_cache_path=ranges,
        )
        quantized = onnx.load(target)
    make_weights_unsigned(quantized)
    return quantized.SerializeToString()  # type: ignore[no-any-return]
