"""Weights of 8-bit products become unsigned in every form of graph, and the products stay the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.model import Array
from serving.inference.session import open_session
from training.artifact import TrainingError
from training.quantize import quantize_convolutions, quantize_rows
from training.unsigned import check_products, make_weights_unsigned, mixed_products

# The largest values: the sum of two such products exceeds the 16 bits of processors without VNNI.
LOUD = np.array([[255, 255, 0, 255], [255, 254, 253, 252]], np.uint8)
WEIGHTS = np.array([[127, -127], [127, -127], [-128, 127], [127, -128]], np.int8)


def graph(nodes: list[onnx.NodeProto], constants: dict[str, Any], inputs: dict[str, Any], output: int) -> Any:
    """Make a model of these nodes, with inputs by name, each a type and a shape, and an output "y" of a type."""
    made = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info("y", output, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(made, opset_imports=opsets, ir_version=10)


SCALE = np.float32(1)
QUANTIZED_INPUT = {"x": (TensorProto.UINT8, [2, 4])}
PICTURE = {"x": (TensorProto.UINT8, [2, 4, 1, 1])}
FILTERS = WEIGHTS.T.reshape(2, 4, 1, 1)


def integer(operator: str, inputs: list[str], domain: str = "") -> onnx.NodeProto:
    """Make a node whose output is "y"."""
    return helper.make_node(operator, inputs, ["y"], domain=domain)


def qdq(product: str, factors: tuple[str, str], *between: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Make nodes that dequantize "x" to "a", make the factors, multiply them and quantize the product."""
    return [
        helper.make_node("DequantizeLinear", ["x", "s", "z"], ["a"]),
        *between,
        helper.make_node(product, factors, ["c"]),
        helper.make_node("QuantizeLinear", ["c", "ys", "z"], ["y"]),
    ]


FORMS = {
    "MatMulInteger": graph([integer("MatMulInteger", ["x", "w"])], {"w": WEIGHTS}, QUANTIZED_INPUT, TensorProto.INT32),
    "MatMulInteger with zero points": graph(
        [integer("MatMulInteger", ["x", "w", "xz", "wz"])],
        {"w": WEIGHTS, "xz": np.uint8(3), "wz": np.int8(-2)},
        QUANTIZED_INPUT,
        TensorProto.INT32,
    ),
    "MatMulIntegerToFloat": graph(
        [integer("MatMulIntegerToFloat", ["x", "w", "s", "s", "xz"], "com.microsoft")],
        {"w": WEIGHTS, "s": SCALE, "xz": np.uint8(128)},
        QUANTIZED_INPUT,
        TensorProto.FLOAT,
    ),
    "ConvInteger": graph([integer("ConvInteger", ["x", "w"])], {"w": FILTERS}, PICTURE, TensorProto.INT32),
    "QLinearMatMul": graph(
        [integer("QLinearMatMul", ["x", "s", "z", "w", "s", "wz", "ys", "z"])],
        {"w": WEIGHTS, "s": SCALE, "ys": np.float32(600), "z": np.uint8(128), "wz": np.int8(0)},
        QUANTIZED_INPUT,
        TensorProto.UINT8,
    ),
    "QLinearConv": graph(
        [integer("QLinearConv", ["x", "s", "z", "w", "ws", "wz", "ys", "z"])],
        {
            "w": FILTERS,
            "s": SCALE,
            "ws": np.ones(2, np.float32),
            "wz": np.zeros(2, np.int8),
            "ys": np.float32(600),
            "z": np.uint8(128),
        },
        PICTURE,
        TensorProto.UINT8,
    ),
    "QDQ": graph(
        qdq(
            "Gemm",
            ("a", "b"),
            helper.make_node("DequantizeLinear", ["w", "s"], ["b"]),
        ),
        {"w": WEIGHTS, "s": SCALE, "ys": np.float32(600), "z": np.uint8(128)},
        QUANTIZED_INPUT,
        TensorProto.UINT8,
    ),
    "QDQ by channel, transposed": graph(
        qdq(
            "MatMul",
            ("a", "t"),
            helper.make_node("DequantizeLinear", ["w", "ws"], ["b"], axis=0),
            helper.make_node("Transpose", ["b"], ["t"], perm=[1, 0]),
        ),
        {
            "w": np.ascontiguousarray(WEIGHTS.T),
            "s": SCALE,
            "ws": np.ones(2, np.float32),
            "ys": np.float32(600),
            "z": np.uint8(128),
        },
        QUANTIZED_INPUT,
        TensorProto.UINT8,
    ),
    "QDQ around what moves numbers": graph(
        qdq(
            "Conv",
            ("m", "b"),
            helper.make_node("MaxPool", ["a"], ["m"], kernel_shape=[1, 1]),
            helper.make_node("DequantizeLinear", ["w", "s"], ["b"]),
        ),
        {"w": FILTERS, "s": SCALE, "ys": np.float32(600), "z": np.uint8(128)},
        PICTURE,
        TensorProto.UINT8,
    ),
    "QDQ with weights in a node": graph(
        qdq(
            "MatMul",
            ("a", "b"),
            helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(WEIGHTS)),
            helper.make_node("DequantizeLinear", ["w", "s"], ["b"]),
        ),
        {"s": SCALE, "ys": np.float32(600), "z": np.uint8(128)},
        QUANTIZED_INPUT,
        TensorProto.UINT8,
    ),
    "QDQ with weights that a node quantizes": graph(
        qdq(
            "MatMul",
            ("a", "b"),
            helper.make_node("QuantizeLinear", ["v", "s", "wz"], ["w"]),
            helper.make_node("DequantizeLinear", ["w", "s", "wz"], ["b"]),
        ),
        {
            "v": WEIGHTS.astype(np.float32),
            "s": SCALE,
            "wz": np.int8(0),
            "ys": np.float32(600),
            "z": np.uint8(128),
        },
        QUANTIZED_INPUT,
        TensorProto.UINT8,
    ),
    "QDQ of com.microsoft": graph(
        [
            helper.make_node("DequantizeLinear", ["x", "s", "z"], ["a"], domain="com.microsoft"),
            helper.make_node("DequantizeLinear", ["w", "s", "wz"], ["b"], domain="com.microsoft"),
            helper.make_node("MatMul", ["a", "b"], ["c"]),
            helper.make_node("QuantizeLinear", ["c", "ys", "z"], ["y"], domain="com.microsoft"),
        ],
        {"w": WEIGHTS, "wz": np.int8(0), "s": SCALE, "ys": np.float32(600), "z": np.uint8(128)},
        QUANTIZED_INPUT,
        TensorProto.UINT8,
    ),
    "DynamicQuantizeMatMul": graph(
        [integer("DynamicQuantizeMatMul", ["f", "w", "s"], "com.microsoft")],
        {"w": WEIGHTS, "s": SCALE},
        {"f": (TensorProto.FLOAT, [2, 4])},
        TensorProto.FLOAT,
    ),
}


def in_numpy(form: str) -> Array:
    """Return the output of a form for LOUD, computed in numpy's integers."""
    zero_x = {"MatMulInteger": 0, "ConvInteger": 0, "MatMulInteger with zero points": 3}.get(form, 128)
    zero_w = -2 if form == "MatMulInteger with zero points" else 0
    if form == "DynamicQuantizeMatMul":
        zero_x = 0
    product = (LOUD.astype(np.int64) - zero_x) @ (WEIGHTS.astype(np.int64) - zero_w)
    if form.startswith(("QLinear", "QDQ")):
        product = np.clip(np.rint(product / 600) + 128, 0, 255)
    found: Array = product
    return found


def computed(model: onnx.ModelProto) -> Array:
    """Return the output (2, 2) for LOUD of onnxruntime, in a session as the server opens it."""
    session = open_session(model.SerializeToString(), 1)
    (entry,) = session.get_inputs()
    shape = [2, 4, 1, 1] if len(entry.shape) == 4 else [2, 4]
    values = LOUD.astype(np.float32 if entry.name == "f" else np.uint8).reshape(shape)
    (output,) = session.run(None, {entry.name: values})
    assert np.array_equal(
        output, open_session(model.SerializeToString(), 1, signed=False).run(None, {entry.name: values})[0]
    )
    found: Array = output.reshape(2, 2)
    return found


@pytest.mark.parametrize("form", FORMS)
class TestForms:
    """Each form is found, made unsigned, and then exact on this processor."""

    def test_it_is_found(self, form: str) -> None:
        assert len(mixed_products(FORMS[form])) == 1
        with pytest.raises(TrainingError, match="unsigned by signed"):
            check_products(FORMS[form].SerializeToString())

    def test_it_is_made_unsigned_and_exact(self, form: str) -> None:
        model = onnx.ModelProto.FromString(FORMS[form].SerializeToString())
        make_weights_unsigned(model)
        assert mixed_products(model) == []
        # DynamicQuantizeMatMul finds scales by itself, in float32.
        assert computed(model) == pytest.approx(in_numpy(form), rel=1e-2 if form.startswith("Dynamic") else 0)


def test_weights_that_something_else_reads_stay_as_they_are() -> None:
    model = graph(
        [integer("MatMulInteger", ["x", "w"]), helper.make_node("Identity", ["w"], ["other"])],
        {"w": WEIGHTS},
        QUANTIZED_INPUT,
        TensorProto.INT32,
    )
    make_weights_unsigned(model)
    assert {weight.name: weight.data_type for weight in model.graph.initializer}["w"] == TensorProto.INT8


def test_a_product_of_signed_inputs_is_refused() -> None:
    inputs = {**QUANTIZED_INPUT, "w": (TensorProto.INT8, [4, 2])}
    model = graph([integer("MatMulInteger", ["x", "w"])], {}, inputs, TensorProto.INT32)
    with pytest.raises(TrainingError, match="that are no weights"):
        make_weights_unsigned(model)


def test_products_within_branches_are_found() -> None:
    inner = helper.make_graph(
        [integer("MatMulInteger", ["x", "v"])],
        "then",
        [],
        [helper.make_tensor_value_info("y", TensorProto.INT32, None)],
        [numpy_helper.from_array(WEIGHTS, "v")],
    )
    model = graph(
        [helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)],
        {},
        {**QUANTIZED_INPUT, "c": (TensorProto.BOOL, [])},
        TensorProto.INT32,
    )
    assert len(mixed_products(model)) == 2


def test_products_of_weights_around_a_branch_are_found() -> None:
    inner = helper.make_graph(
        [integer("MatMulInteger", ["x", "w"])],
        "then",
        [],
        [helper.make_tensor_value_info("y", TensorProto.INT32, None)],
    )
    model = graph(
        [helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)],
        {"w": WEIGHTS},
        {**QUANTIZED_INPUT, "c": (TensorProto.BOOL, [])},
        TensorProto.INT32,
    )
    assert len(mixed_products(model)) == 2


def test_what_only_onnxruntime_makes_a_mixed_product_of_is_refused() -> None:
    function = helper.make_function(
        "ours", "Dense", ["i", "k"], ["o"], [helper.make_node("MatMulInteger", ["i", "k"], ["o"])],
        [helper.make_opsetid("", 20)],
    )  # fmt: skip
    model = graph([integer("Dense", ["x", "w"], "ours")], {"w": WEIGHTS}, QUANTIZED_INPUT, TensorProto.INT32)
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("ours", 1))
    assert mixed_products(model) == []
    with pytest.raises(TrainingError, match="MatMulInteger"):
        check_products(model.SerializeToString())


def test_what_quantizing_makes_has_no_mixed_product() -> None:
    rng = np.random.default_rng(0)
    rows = graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        {"w": rng.normal(size=(8, 3)).astype(np.float32)},
        {"x": (TensorProto.FLOAT, ["n", 8])},
        TensorProto.FLOAT,
    )
    check_products(quantize_rows(rows.SerializeToString()))
    pictures = graph(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], kernel_shape=[3, 3]),
            helper.make_node("Relu", ["c"], ["y"]),
        ],
        {"w": rng.normal(size=(4, 3, 3, 3)).astype(np.float32)},
        {"x": (TensorProto.FLOAT, ["n", 3, 8, 8])},
        TensorProto.FLOAT,
    )
    batches = [{"x": rng.normal(size=(2, 3, 8, 8)).astype(np.float32)}]
    quantized = quantize_convolutions(pictures.SerializeToString(), lambda: batches)
    check_products(quantized)
    assert b"Int8" not in quantized
