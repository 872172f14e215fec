"""Store 8-bit weights as unsigned numbers around 128, so that a graph gives the same numbers on every processor.

x86 processors multiply unsigned by signed 8-bit numbers and add the products in pairs. Those without VNNI keep such a
sum in 16 bits, which end at 32 767, though 2 x 255 x 127 is 64 770 (Intel's VPMADDUBSW), and give silently wrong
numbers. onnxruntime widens two unsigned factors to 16 bits before it multiplies them, which is exact everywhere.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from models.model import Array
from serving.inference.session import UNSIGNED_WEIGHTS
from training.artifact import TrainingError

# The inputs of operators on 8-bit numbers that are the first factor and its zero point, the second factor and its zero
# point. None where the operator makes the first factor itself, unsigned.
INTEGER_PRODUCTS: dict[str, tuple[tuple[int | None, int | None, int, int], ...]] = {
    "ConvInteger": ((0, 2, 1, 3),),
    "DynamicQuantizeLSTM": ((None, None, 1, 9), (None, None, 2, 11)),
    "DynamicQuantizeMatMul": ((None, None, 1, 3),),
    "MatMulInteger": ((0, 2, 1, 3),),
    "MatMulIntegerToFloat": ((0, 4, 1, 5),),
    "QAttention": ((0, 6, 1, 7),),
    "QGemm": ((0, 2, 3, 5),),
    "QLinearConv": ((0, 2, 3, 5),),
    "QLinearMatMul": ((0, 2, 3, 5),),
}
# Operators that onnxruntime runs on 8-bit numbers where both factors come from a DequantizeLinear ("QDQ").
FLOAT_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# Operators that may stand between them, since they only move values.
MOVES = (
    *("Cast", "Dropout", "Expand", "Flatten", "Identity", "MaxPool", "Reshape"),
    *("Slice", "Squeeze", "Transpose", "Unsqueeze"),
)
MIXED = {TensorProto.UINT8, TensorProto.INT8}
Types = dict[str, int]


@dataclass(frozen=True)
class MixedProduct:
    """A product of unsigned by signed numbers: its operator, and the node and inputs that read the signed ones.

    The node is named by its output `holder`; `factor` and `zero_point` are the positions of its inputs.
    """

    operator: str
    holder: str
    factor: int
    zero_point: int


def mixed_products(model: ModelProto) -> list[MixedProduct]:
    """Find the products of unsigned by signed 8-bit numbers in a graph and its subgraphs, as written."""
    return list(products_in(onnx.shape_inference.infer_shapes(model).graph, {}))


def products_in(graph: GraphProto, outer: Mapping[str, int]) -> Iterator[MixedProduct]:
    """Yield the products of unsigned by signed numbers in a graph; `outer` has the types of values around it."""
    types: Types = {**outer}
    types |= {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.value_info)}
    types |= {weight.name: weight.data_type for weight in graph.initializer}
    producers = {output: node for node in graph.node for output in node.output}
    for node in graph.node:
        if node.op_type == "QuantizeLinear":  # that of com.microsoft has no type that onnx knows
            zero = node.input[2] if len(node.input) > 2 else ""
            types.setdefault(node.output[0], types.get(zero, TensorProto.UINT8))
    for node in graph.node:
        label = f"{node.op_type} {node.name or node.output[0]}"
        for first, first_zero, second, second_zero in INTEGER_PRODUCTS.get(node.op_type, ()):
            left: int = TensorProto.UINT8
            right: int = TensorProto.UINT8
            for index in (first_zero, first):
                if index is not None and index < len(node.input):
                    left = types.get(node.input[index], left)
            for index in (second_zero, second):
                if index < len(node.input):
                    right = types.get(node.input[index], right)
            if {left, right} == MIXED:
                yield MixedProduct(label, node.output[0], second, second_zero)
        if node.op_type in FLOAT_PRODUCTS:
            sources = [dequantizer(name, producers) for name in node.input[:2]]
            kinds = {types.get(source.input[0]): source for source in sources if source is not None}
            if set(kinds) == MIXED:
                yield MixedProduct(label, kinds[TensorProto.INT8].output[0], 0, 2)
        for attribute in node.attribute:
            for inner in (*attribute.graphs, attribute.g):
                yield from products_in(inner, types)


def dequantizer(name: str, producers: Mapping[str, NodeProto]) -> NodeProto | None:
    """Return the DequantizeLinear that a value comes from, None if it comes from something else.

    One that dequantizes in blocks does not count: onnxruntime makes no 8-bit product of it.
    """
    node = producers.get(name)
    while node is not None and node.op_type in MOVES:
        node = producers.get(node.input[0])
    if node is None or node.op_type != "DequantizeLinear":
        return None
    return None if any(attribute.name == "block_size" and attribute.i for attribute in node.attribute) else node


def make_weights_unsigned(model: ModelProto) -> None:
    """Add 128, in place, to the signed weights of mixed products and to their zero points, which changes no product.

    Raises TrainingError if a signed factor is not a weight.
    """
    fold_weights(model)
    weights = {weight.name: weight for weight in model.graph.initializer}
    nodes = {output: node for node in model.graph.node for output in node.output}
    made = []
    for product in dict.fromkeys(mixed_products(model)):
        holder = nodes.get(product.holder)
        inputs = list(holder.input) if holder is not None else []
        zero = inputs[product.zero_point] if len(inputs) > product.zero_point else ""
        if holder is None or inputs[product.factor] not in weights or (zero and zero not in weights):
            raise TrainingError(
                f"{product.operator} multiplies unsigned by signed 8-bit numbers that are no weights: "
                "processors without VNNI would answer otherwise"
            )
        if weights[inputs[product.factor]].data_type == TensorProto.UINT8:
            continue  # done for another product of the same node
        scale = weights.get(inputs[1]) if holder.op_type == "DequantizeLinear" else None
        zeros = numpy_helper.to_array(weights[zero]) if zero else np.zeros(tuple(scale.dims) if scale else (), np.int8)
        values = numpy_helper.to_array(weights[inputs[product.factor]])
        inputs += [""] * (product.zero_point + 1 - len(inputs))
        for index, array in ((product.factor, values), (product.zero_point, zeros)):
            inputs[index] = f"{product.holder}_{index}_unsigned"
            weights[inputs[index]] = numpy_helper.from_array(unsigned(array), inputs[index])
            made.append(inputs[index])
        holder.input[:] = inputs
    if made:
        keep_weights(model, weights.values())
        name_unsigned_weights(model, made)


def fold_weights(model: ModelProto) -> None:
    """Turn Constant nodes, and nodes that quantize weights, into initializers, in place."""
    weights = {weight.name: weight for weight in model.graph.initializer}
    kept = []
    for node in model.graph.node:
        constant = next(
            (item.t for item in node.attribute if node.op_type == "Constant" and item.name == "value"), None
        )
        if constant is not None:
            weights[node.output[0]] = numpy_helper.from_array(numpy_helper.to_array(constant), node.output[0])
        elif node.op_type == "QuantizeLinear" and not node.domain and weights.keys() >= set(node.input):
            feed = {name: numpy_helper.to_array(weights[name]) for name in node.input}
            graph = helper.make_graph(
                [node],
                "weight",
                [helper.make_tensor_value_info(name, weights[name].data_type, None) for name in node.input],
                [helper.make_empty_tensor_value_info(node.output[0])],
            )
            alone = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
            quantized: Any = ReferenceEvaluator(alone).run(None, feed)
            weights[node.output[0]] = numpy_helper.from_array(quantized[0], node.output[0])
        else:
            kept.append(node)
    if len(kept) < len(model.graph.node):
        del model.graph.node[:]
        model.graph.node.extend(kept)
        keep_weights(model, weights.values())


def keep_weights(model: ModelProto, weights: Iterable[TensorProto]) -> None:
    """Make these the graph's initializers, in place, without those that nothing reads."""
    used = {output.name for output in model.graph.output} | names_read(model.graph)
    kept = [weight for weight in weights if weight.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def names_read(graph: GraphProto) -> set[str]:
    """Return the names of the values that the nodes of a graph and of its subgraphs read."""
    names = {name for node in graph.node for name in node.input}
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*attribute.graphs, attribute.g):
                names |= names_read(inner) | {output.name for output in inner.output}
    return names


def name_unsigned_weights(model: ModelProto, names: Iterable[str]) -> None:
    """Add weights and zero points to the list in the model's metadata that the server may make signed in memory."""
    entry = next((entry for entry in model.metadata_props if entry.key == UNSIGNED_WEIGHTS), None)
    if entry is None:
        entry = model.metadata_props.add(key=UNSIGNED_WEIGHTS)
    entry.value = "\n".join(dict.fromkeys([*entry.value.split(), *names]))


def unsigned(values: Array) -> Array:
    """Return int8 numbers as uint8, greater by 128."""
    greater: Array = values.view(np.uint8) ^ np.uint8(128)
    return greater


def check_products(graph: bytes) -> None:
    """Raise TrainingError that names a product of unsigned by signed numbers if onnxruntime makes one.

    The graph is checked as it runs, too: onnxruntime fuses more patterns into integer operators than are known here.
    """
    for product in [*mixed_products(onnx.load_from_string(graph)), *mixed_products(as_run(graph))]:
        raise TrainingError(
            f"{product.operator} multiplies unsigned by signed 8-bit numbers, which processors without VNNI do wrong: "
            "see make_weights_unsigned in training/unsigned.py"
        )


def as_run(graph: bytes) -> ModelProto:
    """Return the graph as onnxruntime runs it, with operators fused."""
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(Path(folder) / "model.onnx")
        options.log_severity_level = 3  # it warns that such a file is for this processor only
        onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        return onnx.load(options.optimized_model_filepath)
