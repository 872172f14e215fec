"""8-bit weights as unsigned numbers around 128, so that a graph answers the same on every processor.

x86 processors multiply unsigned by signed 8-bit numbers and add the products in pairs. Those without VNNI keep such a
sum in 16 bits, which end at 32 767, though 2 x 255 x 127 is 64 770 (Intel's VPMADDUBSW): answers are then wrong,
silently. onnxruntime widens two unsigned factors to 16 bits before it multiplies them, which is exact everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from models.model import Array
from serving.inference.session import UNSIGNED
from training.trained import TrainingError

# Inputs of operators on 8-bit numbers: both factors, and the zero point of the second. A first factor of None is made
# unsigned within the operator.
INTEGER_PRODUCTS: dict[str, tuple[tuple[int | None, int, int], ...]] = {
    "ConvInteger": ((0, 1, 3),),
    "DynamicQuantizeLSTM": ((None, 1, 9), (None, 2, 11)),
    "DynamicQuantizeMatMul": ((None, 1, 3),),
    "MatMulInteger": ((0, 1, 3),),
    "MatMulIntegerToFloat": ((0, 1, 5),),
    "QAttention": ((0, 1, 7),),
    "QGemm": ((0, 3, 5),),
    "QLinearConv": ((0, 3, 5),),
    "QLinearMatMul": ((0, 3, 5),),
}
# Operators that onnxruntime runs on 8-bit numbers where both factors come from a DequantizeLinear ("QDQ").
FLOAT_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# What may stand in between.
MOVES = ("Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
MIXED = {TensorProto.UINT8, TensorProto.INT8}


@dataclass(frozen=True)
class MixedProduct:
    """A product of unsigned by signed numbers: the operator, and the node and its inputs that the signed ones enter."""

    operator: str
    holder: str
    factor: int
    zero_point: int


def mixed_products(model: ModelProto) -> list[MixedProduct]:
    """Find all products of unsigned by signed 8-bit numbers in a graph and its subgraphs."""
    inferred = onnx.shape_inference.infer_shapes(model)
    return [product for graph in subgraphs(inferred.graph) for product in products_in(graph)]


def subgraphs(graph: GraphProto) -> Iterator[GraphProto]:
    """Yield a graph and those within its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*attribute.graphs, attribute.g):
                if inner.node:
                    yield from subgraphs(inner)


def products_in(graph: GraphProto) -> Iterator[MixedProduct]:
    """Yield the products of unsigned by signed numbers among the nodes of one graph."""
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.value_info)}
    types |= {weight.name: weight.data_type for weight in graph.initializer}
    producers = {output: node for node in graph.node for output in node.output}
    for node in graph.node:
        label = f"{node.op_type} {node.name or node.output[0]}"
        for first, second, zero_point in INTEGER_PRODUCTS.get(node.op_type, ()):
            # Of an operator that onnx does not know the type is unknown: activations are unsigned by default.
            left = TensorProto.UINT8 if first is None else types.get(node.input[first], TensorProto.UINT8)
            if {left, types.get(node.input[second])} == MIXED:
                yield MixedProduct(label, node.output[0], second, zero_point)
        if node.op_type in FLOAT_PRODUCTS:
            sources = [dequantizer(name, producers) for name in node.input[:2]]
            kinds = {types.get(source.input[0]): source for source in sources if source is not None}
            if set(kinds) == MIXED:
                yield MixedProduct(label, kinds[TensorProto.INT8].output[0], 0, 2)


def dequantizer(name: str, producers: dict[str, NodeProto]) -> NodeProto | None:
    """Return the DequantizeLinear that a value comes from; None where it comes from something else."""
    node = producers.get(name)
    while node is not None and node.op_type in MOVES:
        node = producers.get(node.input[0])
    return node if node is not None and node.op_type == "DequantizeLinear" else None


def make_weights_unsigned(model: ModelProto) -> None:
    """Add 128 to the signed weights of such products and to their zero points, which leaves the products as they are.

    The model is changed in place. TrainingError where a signed factor is no weight.
    """
    weights = {weight.name: weight for weight in model.graph.initializer}
    nodes = {output: node for node in model.graph.node for output in node.output}
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
            inputs[index] = f"{product.holder}_{index}{UNSIGNED}"
            weights[inputs[index]] = numpy_helper.from_array(unsigned(array), inputs[index])
        holder.input[:] = inputs
    used = {name for graph in subgraphs(model.graph) for node in graph.node for name in node.input}
    del model.graph.initializer[:]
    model.graph.initializer.extend(weight for name, weight in weights.items() if name in used)


def unsigned(values: Array) -> Array:
    """Return int8 numbers as uint8, greater by 128."""
    greater: Array = values.view(np.uint8) ^ np.uint8(128)
    return greater


def check_products(graph: bytes) -> None:
    """Check that a graph has no product of unsigned by signed numbers; TrainingError that names the first otherwise."""
    for product in mixed_products(onnx.load_from_string(graph)):
        raise TrainingError(
            f"{product.operator} multiplies unsigned by signed 8-bit numbers, which processors without VNNI do wrong: "
            "see make_weights_unsigned in training/unsigned.py"
        )
