"""The shipped networks' 8-bit products are exact on this processor: they equal numpy's int64 products."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from onnx import ModelProto, NodeProto, helper, numpy_helper

from models.image import ImageClassifier, Upload
from models.model import Array
from models.sentiment import Sentiment
from serving.bento.shipped import FOLDER
from serving.inference.padding import stack
from serving.inference.session import open_session
from tests.support import ROOT
from training.unsigned import mixed_products

TEXTS = ["a delight from start to finish", "hardly a masterpiece", "dull"]


def seen(model: ModelProto, names: list[str], feed: dict[str, Array]) -> dict[str, Array]:
    """Run a graph as it is served; return its outputs and these intermediate values, by name."""
    shown = ModelProto.FromString(model.SerializeToString())
    known = {output.name for output in shown.graph.output}
    shown.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names if name not in known)
    session = open_session(shown.SerializeToString(), 1)
    outputs = [output.name for output in session.get_outputs()]
    return dict(zip(outputs, session.run(None, feed), strict=True))


def by_producer(model: ModelProto) -> dict[str, NodeProto]:
    """Return the nodes of a graph by the names of their outputs."""
    return {output: node for node in model.graph.node for output in node.output}


@pytest.mark.parametrize("name", ["image", "sentiment"])
def test_no_product_is_of_unsigned_by_signed_numbers(name: str) -> None:
    assert mixed_products(onnx.load(FOLDER / name / "model.onnx")) == []


def test_text_is_multiplied_exactly() -> None:
    model = onnx.load(FOLDER / "sentiment" / "model.onnx")
    weights = {weight.name: numpy_helper.to_array(weight) for weight in model.graph.initializer}
    products = [node for node in model.graph.node if node.op_type == "MatMulIntegerToFloat"]
    assert len(products) > 30
    inputs = [Sentiment(FOLDER / "sentiment").preprocess(text) for text in TEXTS]
    feed = stack(inputs)
    values = seen(model, [name for node in products for name in (node.input[0], node.output[0])], feed)
    for node in products:
        x, w = values[node.input[0]].astype(np.int64), weights[node.input[1]].astype(np.int64)
        zero_x, zero_w = weights[node.input[4]].astype(np.int64), weights[node.input[5]].astype(np.int64)
        scale = weights[node.input[2]].astype(np.float64) * weights[node.input[3]]
        expected = ((x - zero_x) @ (w - zero_w)) * scale
        found = values[node.output[0]]
        # pytest.approx takes seconds for arrays of this size.
        assert found.shape == expected.shape, node.name
        assert (abs(found - expected) <= np.maximum(1e-5, 1e-5 * abs(expected))).all(), node.name


def test_a_picture_is_convolved_exactly() -> None:
    model = onnx.load(FOLDER / "image" / "model.onnx")
    classifier = ImageClassifier(FOLDER / "image")
    uploads = [Upload((ROOT / "docs" / "ship.jpg").read_bytes(), resize=True), *classifier.example_items()]
    inputs = [classifier.preprocess(upload) for upload in uploads]
    feed = stack(inputs)
    nodes = by_producer(model)
    readers = {name: node for node in model.graph.node for name in node.input}
    pairs = []
    for node in model.graph.node:
        # Other convolutions run in float32, or fused with the node that follows.
        follows = readers.get(node.output[0])
        if node.op_type == "Conv" and follows is not None and follows.op_type == "QuantizeLinear":
            pairs.append((node, follows))
    assert len(pairs) > 30
    names = [name for node, follows in pairs for name in (nodes[node.input[0]].input[0], follows.output[0])]
    values = seen(model, list(dict.fromkeys(names)), feed)
    for node, follows in pairs:
        expected = convolved(model, node, follows, values[nodes[node.input[0]].input[0]], nodes)
        difference = abs(values[follows.output[0]].astype(np.int64) - expected)
        # A value halfway between two integers may be rounded to either.
        assert difference.max() <= 1, node.name
        assert (difference > 0).mean() < 1e-3, node.name


def convolved(model: ModelProto, conv: NodeProto, follows: NodeProto, x: Array, nodes: dict[str, NodeProto]) -> Array:
    """Convolve x uint8 (n, channels, height, width) in int64; return the quantized output."""
    weights = {weight.name: numpy_helper.to_array(weight) for weight in model.graph.initializer}
    attributes: dict[str, Any] = {item.name: helper.get_attribute_value(item) for item in conv.attribute}
    (_, x_scale, x_zero), (w, w_scale, w_zero) = (nodes[name].input for name in conv.input[:2])
    zero = int(weights[x_zero])
    filters = weights[w].astype(np.int64) - weights[w_zero].astype(np.int64).reshape(-1, 1, 1, 1)
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    padded = np.pad(x.astype(np.int64) - zero, [(0, 0), (0, 0), (top, bottom), (left, right)])
    vertical, horizontal = attributes.get("strides", (1, 1))
    windows = sliding_window_view(padded, filters.shape[2:], axis=(2, 3))[:, :, ::vertical, ::horizontal]
    groups = attributes.get("group", 1)
    parts = zip(np.split(windows, groups, axis=1), np.split(filters, groups), strict=True)
    sums = np.concatenate([np.einsum("nchwij,ocij->nohw", part, some, optimize=True) for part, some in parts], axis=1)
    scale = (weights[x_scale].astype(np.float64) * weights[w_scale]).reshape(-1, 1, 1)
    out = sums * scale
    if len(conv.input) > 2:
        bias, bias_scale = nodes[conv.input[2]].input[:2]
        out = out + (weights[bias] * weights[bias_scale].astype(np.float64)).reshape(-1, 1, 1)
    y_scale, y_zero = (weights[name].astype(np.float64) for name in follows.input[1:3])
    found: Array = np.clip(np.rint(out / y_scale) + y_zero, 0, 255).astype(np.int64)
    return found
