"""Image classifiers of the user's own, as ONNX files."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from models.image import Upload
from models.model import Array, softmax
from training import hub, own
from training.artifact import Artifact, ProgressCallback, TrainingError, open_graph, require
from training.image import calibration_batches, evaluate, preprocess_file, real_pictures
from training.image.processor import check_preprocessing, load_processor, processor_settings
from training.network import Network
from training.quantize import quantize
from training.served import serve
from training.unsigned import make_weights_unsigned

# torchvision's reference transforms, with which nearly all networks for ImageNet are evaluated.
IMAGENET = {
    "width": 224,
    "height": 224,
    "shortest_edge": 256,
    "resample": "BILINEAR",
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
}
# A graph that takes pixels as TensorFlow does gets them as they are: what scales them is a part of it, as in
# keras.applications, and the picture is resized as a whole.
PIXELS = {"resample": "BICUBIC", "mean": (0.0, 0.0, 0.0), "std": (1 / 255, 1 / 255, 1 / 255)}
# How far sums of probabilities may be from 1: some networks compute them in float16.
ROUNDING = 0.01


@dataclass(frozen=True)
class Source:
    """An ONNX file, and what it was made from: `origin`, the file itself by default, of a `framework`.

    `settings` are those of its preprocessing, by default those beside the file. `predicted` returns what the origin
    gives for pictures, (n, labels); by default the file's own outputs are compared.
    """

    file: Path
    origin: Path
    framework: str = "onnx"
    settings: dict[str, Any] | None = None
    predicted: Callable[[Sequence[Upload]], Array] | None = None


def train_from_onnx(
    path: Path, labels_path: Path, quantized: bool, data: Path | None, report: ProgressCallback
) -> Artifact:
    """Make the artifact of an ONNX file: pixels float32 (n, 3, height, width) -> logits or probabilities (n, labels).

    Pictures are preprocessed by the preprocessor_config.json beside the file, else as is usual for ImageNet. Pixels may
    also be (n, height, width, 3), by default 0 to 255. Raises TrainingError if the file cannot be served.
    """
    report("loading", 0.0)
    return train_from_graph(Source(path, path), labels_path, quantized, data, report)


def load_graph(path: Path) -> onnx.ModelProto:
    """Read and check an ONNX file; raise TrainingError if it is missing or damaged."""
    try:
        model = onnx.load(require(path, "ONNX file"))
        onnx.checker.check_model(model)
        make_weights_unsigned(model)
    except TrainingError:
        raise
    except Exception as error:  # onnx raises errors of many classes for damaged files
        raise TrainingError(f"{path} is no usable ONNX file: {hub.first_line(error)}") from error
    return model


def train_from_graph(
    source: Source, labels_path: Path, quantized: bool, data: Path | None, report: ProgressCallback
) -> Artifact:
    """Make the artifact of an ONNX file and its labels; raise TrainingError if it cannot be served."""
    path = source.origin
    labels = read_labels(require(labels_path, "file of labels"))
    model = load_graph(source.file)
    has_pixels = turn_channels(model)
    try:
        original = open_graph(model.SerializeToString())
    except Exception as error:  # of onnxruntime's many classes
        raise TrainingError(f"{path} is no usable ONNX file: {hub.first_line(error)}") from error
    name, height, width = image_input(model, path)
    settings = {
        "labels": labels,
        "input": name,
        **(source.settings or onnx_settings(path, height, width, has_pixels=has_pixels)),
    }
    example = original({name: np.zeros((1, 3, settings["height"], settings["width"]), np.float32)})
    if example.shape != (1, len(labels)):
        raise TrainingError(f"{path} gives an output of shape {example.shape}, its labels need (1, {len(labels)})")
    free_first_axis(model)
    files = preprocess_file(settings)
    items = real_pictures.pictures()

    def outputs(uploads: Sequence[Upload]) -> Array:
        with serve("image", model.SerializeToString(), files) as served:
            # One at a time: the file may take no more.
            return np.concatenate([original({name: served.model.preprocess(u)[name][None]}) for u in uploads])

    makes_probabilities = are_probabilities(outputs(items[:64]), path)
    if makes_probabilities:
        append_logarithm(model)
    graph = model.SerializeToString()
    try:
        open_graph(graph)({name: np.zeros((2, 3, settings["height"], settings["width"]), np.float32)})
    except Exception as error:  # of onnxruntime's many classes
        raise TrainingError(f"{path} takes no batches: {hub.first_line(error)}") from error
    predicted = source.predicted or outputs
    theirs = Network(
        name="image",
        forward=original,
        reference=lambda uploads: predicted(uploads) if makes_probabilities else softmax(predicted(uploads)),
        export=lambda: graph,
        quantize=lambda graph: quantize(graph, lambda: calibration_batches(settings, data, graph)),
        files=files,
        items=items,
    )
    origin = {"from": str(path.resolve())}
    return own.train_own(theirs, labels, source.framework, origin, evaluate, quantized, data, report)


def onnx_settings(path: Path, height: int, width: int, *, has_pixels: bool) -> dict[str, Any]:
    """Return the preprocessing for an ONNX file whose input has this size; 0 stands for any.

    By default it gives pixels as they are where the file `has_pixels`, else those that are usual for ImageNet.
    """
    sides = {side: IMAGENET[side] for side in ("width", "height")}
    settings: dict[str, Any] = sides | PIXELS if has_pixels else dict(IMAGENET)
    if (path.parent / "preprocessor_config.json").is_file():
        processor = load_processor(hub.Pretrained(path.parent, str(path.parent), None))
        settings = processor_settings(processor)
        check_preprocessing({"labels": [], **settings}, processor)
    size = {"height": height or settings["height"], "width": width or settings["width"]}
    if "shortest_edge" in settings:
        grown = min(size.values()) / min(settings["height"], settings["width"])
        settings["shortest_edge"] = round(settings["shortest_edge"] * grown)
    return settings | size


def read_labels(path: Path) -> list[str]:
    """Return the labels in the order of the outputs, made unique: from lines, or a JSON list or object by number.

    In JSON a label may be a list of names, as in Keras, whose last one counts. Raises TrainingError otherwise.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except ValueError as error:
        raise TrainingError(f"{path} is no text in UTF-8") from error
    if path.suffix == ".json":
        try:
            found = json.loads(text)
            found = [found[str(i)] for i in range(len(found))] if isinstance(found, dict) else list(found)
        except (ValueError, KeyError, TypeError) as error:
            raise TrainingError(f"{path} is no JSON list of labels, nor an object with the keys 0, 1, 2 ...") from error
    else:
        found = [line.strip() for line in text.splitlines() if line.strip()]
    labels = [str(label[-1] if isinstance(label, list) and label else label).strip() for label in found]
    if len(labels) < 2 or "" in labels:
        raise TrainingError(f"{path} should hold two or more labels, none empty; it holds {labels[:5]}")
    return own.tell_apart(labels)


def turn_channels(model: onnx.ModelProto) -> bool:
    """Have a graph of (n, height, width, 3), as TensorFlow's are, take (n, 3, height, width); return whether it did."""
    weights = {weight.name for weight in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    dimensions = list(inputs[0].type.tensor_type.shape.dim) if inputs else []
    if len(dimensions) != 4 or dimensions[3].dim_value != 3 or dimensions[1].dim_value == 3:
        return False
    inner = inputs[0].name
    inputs[0].name = f"{inner}_channels_first"
    model.graph.node.insert(0, helper.make_node("Transpose", [inputs[0].name], [inner], perm=[0, 2, 3, 1]))
    height, width = dimensions[1].dim_value, dimensions[2].dim_value
    for dimension, size in zip(dimensions[1:], (3, height, width), strict=True):
        dimension.Clear()
        if size:
            dimension.dim_value = size
    return True


def image_input(model: onnx.ModelProto, path: Path) -> tuple[str, int, int]:
    """Return name, height and width of the graph's only input; 0 stands for any size.

    Raises TrainingError if there is another input or output, or if the input is not one of pictures.
    """
    weights = {weight.name for weight in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    outputs = model.graph.output
    if len(inputs) != 1 or len(outputs) != 1:
        raise TrainingError(f"{path} has {len(inputs)} inputs and {len(outputs)} outputs, it should have one of each")
    tensor = inputs[0].type.tensor_type
    sizes = [dimension.dim_value for dimension in tensor.shape.dim]
    if tensor.elem_type != TensorProto.FLOAT or len(sizes) != 4 or sizes[1] not in (0, 3):
        shapes = "(n, 3, height, width) or (n, height, width, 3)"
        raise TrainingError(f"{path}: input {inputs[0].name} should be pixels, float32 {shapes}; it has {sizes}")
    return inputs[0].name, sizes[2], sizes[3]


def free_first_axis(model: onnx.ModelProto) -> None:
    """Let a graph take batches of any size."""
    weights = {weight.name for weight in model.graph.initializer}
    for value in (*(value for value in model.graph.input if value.name not in weights), *model.graph.output):
        value.type.tensor_type.shape.dim[0].Clear()
        value.type.tensor_type.shape.dim[0].dim_param = "n"
    del model.graph.value_info[:]


def are_probabilities(outputs: Array, path: Path) -> bool:
    """Return whether outputs (n, labels) are probabilities of labels that exclude each other, not logits.

    Raises TrainingError if they are probabilities of labels that do not.
    """
    if outputs.min() < 0 or outputs.max() > 1 + ROUNDING:
        return False
    sums = outputs.sum(axis=1, dtype=np.float64)
    if abs(sums - 1).max() > ROUNDING:
        raise TrainingError(
            f"{path} gives each label a probability of its own, which together are {sums.min():.2f} to "
            f"{sums.max():.2f}; served is one label of several"
        )
    return True


def append_logarithm(model: onnx.ModelProto) -> None:
    """Append a logarithm to a graph of probabilities, in place: the server's softmax turns them back."""
    output = model.graph.output[0].name
    probabilities = f"{output}_probabilities"
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [probabilities if name == output else name for name in names]
    model.graph.initializer.append(helper.make_tensor("smallest_probability", TensorProto.FLOAT, [], [1e-12]))
    model.graph.node.extend(
        [
            helper.make_node("Max", [probabilities, "smallest_probability"], [f"{probabilities}_positive"]),
            helper.make_node("Log", [f"{probabilities}_positive"], [output]),
        ]
    )
