"""Convert a Keras model to ONNX, or predict with it: run by `keras_file.py` where TensorFlow is installed.

python keras_convert.py convert MODEL FILE.onnx
python keras_convert.py predict MODEL PICTURES.npy OUTPUTS.npy

MODEL is a file (.keras, .h5) or the folder of a SavedModel, from pixels float32 (n, height, width, 3) to (n, labels).
The graph takes them as (n, 3, height, width). A fault is told in the last line, with status 1.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import onnx
import tensorflow as tf
import tf2onnx

OPSET = 17
BATCH = 16


def load(path: Path) -> tuple[Callable[[Any], Any], Any]:
    """Return a function of a batch of pixels, and the shape and type of what it takes; raise ValueError if unclear."""
    if path.is_dir():
        served = tf.saved_model.load(str(path))
        function = served.signatures["serving_default"]
        specs, outputs = function.structured_input_signature[1], function.structured_outputs
        if len(specs) != 1 or len(outputs) != 1:
            raise ValueError(f"it has {len(specs)} inputs and {len(outputs)} outputs, it should have one of each")
        ((name, spec),), (output,) = specs.items(), outputs
        # The function keeps the variables alive.
        return lambda pixels, _=served: function(**{name: pixels})[output], spec
    model = tf.keras.models.load_model(path, compile=False)
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(
            f"it has {len(model.inputs)} inputs and {len(model.outputs)} outputs, it should have one of each"
        )
    return lambda pixels: model(pixels, training=False), tf.TensorSpec(model.inputs[0].shape, tf.float32)


def convert(path: Path, file: Path) -> None:
    """Write a model as ONNX, its weights those of inference; raise ValueError for another input than pictures."""
    function, spec = load(path)
    shape = list(spec.shape)
    if len(shape) != 4 or None in shape[1:] or shape[3] != 3 or spec.dtype != tf.float32:
        raise ValueError(f"its input is {spec.dtype.name} {shape}, it should be float32 (n, height, width, 3)")
    signature = (tf.TensorSpec([None, *shape[1:]], tf.float32, name="pictures"),)
    traced = tf.function(function, input_signature=signature)
    converted, _ = tf2onnx.convert.from_function(traced, signature, opset=OPSET, inputs_as_nchw=["pictures"])
    keep_constants(converted.graph, traced.get_concrete_function().graph.captures)
    onnx.save(converted, file)


def keep_constants(graph: onnx.GraphProto, captures: Any) -> None:
    """Make the inputs of a graph that stand for constants captured by the traced function, such as means, constant."""
    values = {placeholder.name: value for value, placeholder in captures if value.dtype != tf.resource}
    used = {name for node in graph.node for name in node.input}
    for given in [given for given in graph.input if given.name in values]:
        graph.input.remove(given)
        if given.name in used:
            graph.initializer.append(onnx.numpy_helper.from_array(values[given.name].numpy(), given.name))


def predict(path: Path, pictures: Path, outputs: Path) -> None:
    """Write the outputs (n, labels) of a model for pictures uint8 (n, height, width, 3)."""
    function, _ = load(path)
    pixels = np.load(pictures, mmap_mode="r")
    parts = [pixels[start : start + BATCH].astype(np.float32) for start in range(0, len(pixels), BATCH)]
    np.save(outputs, np.concatenate([np.asarray(function(tf.constant(part))) for part in parts]))


if __name__ == "__main__":
    command, *paths = sys.argv[1:]
    try:
        if command == "convert":
            convert(*map(Path, paths))
        else:
            predict(*map(Path, paths))
    except Exception as error:  # of many classes, as TensorFlow raises them
        sys.exit((str(error).strip() or type(error).__name__).splitlines()[0])
