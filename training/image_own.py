"""Image classifiers of the user's own: from the Hugging Face hub, or as an ONNX file."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from PIL import Image
from sklearn.datasets import load_sample_images
from transformers import AutoImageProcessor, AutoModelForImageClassification

import models
from models.image import Upload
from models.model import Array
from training import hub
from training.image import (
    calibration_batches,
    evaluate,
    preprocess_file,
    samples,
    torch_network,
    upload,
)
from training.network import Network
from training.quantize import quantize
from training.served import serve
from training.trained import Report, Trained, TrainingError, open_graph, require
from training.unsigned import make_weights_unsigned

# What the networks of ImageNet are nearly all evaluated with: torchvision's reference transforms.
IMAGENET = {
    "width": 224,
    "height": 224,
    "shortest_edge": 256,
    "resample": "BILINEAR",
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
}


def train_from_hub(source: hub.Pretrained, quantized: bool, data: Path | None, report: Report) -> Trained:
    """Export any model for AutoModelForImageClassification, which is served with its own processor's settings."""
    report("loading", 0.0)
    hub.quiet()
    model = hub.load(AutoModelForImageClassification, source)
    labels = hub.label_names(model, source)
    processor = load_processor(source.folder)
    settings = {"labels": labels, **processor_settings(processor)}
    check_preprocessing(settings, processor)
    theirs = torch_network(model, settings, lambda images: prepare(processor, images), data)
    framework = f"transformers {type(model).__name__}"
    return hub.train_own(theirs, labels, framework, source.origin, evaluate, quantized, data, report)


def train_from_onnx(path: Path, labels_path: Path, quantized: bool, data: Path | None, report: Report) -> Trained:
    """Take a ready ONNX file: pixels float32 (n, 3, height, width) -> logits or probabilities float32 (n, labels).

    Pictures are prepared as the preprocessor_config.json beside the file says, else as is usual for ImageNet.
    """
    report("loading", 0.0)
    labels = read_labels(require(labels_path, "file of labels"))
    try:
        model = onnx.load(require(path, "ONNX file"))
        onnx.checker.check_model(model)
        make_weights_unsigned(model)
        original = open_graph(model.SerializeToString())
    except TrainingError:
        raise
    except Exception as error:  # onnx and onnxruntime raise errors of many classes for damaged files
        raise TrainingError(f"{path} is no usable ONNX file: {hub.first_line(error)}") from error
    name, height, width = image_input(model, path)
    settings = {"labels": labels, "input": name, **onnx_settings(path, height, width)}
    example = original({name: np.zeros((1, 3, settings["height"], settings["width"]), np.float32)})
    if example.shape != (1, len(labels)):
        raise TrainingError(f"{path} gives an output of shape {example.shape}, its labels need (1, {len(labels)})")
    graph, is_probability = batched(model)
    try:
        open_graph(graph)({name: np.zeros((2, 3, settings["height"], settings["width"]), np.float32)})
    except Exception as error:  # of onnxruntime's many classes
        raise TrainingError(f"{path} takes no batches: {hub.first_line(error)}") from error

    def forward(batch: dict[str, Array]) -> Array:
        # One at a time: the file may take no more.
        out = np.concatenate([original({name: row[None]}) for row in batch[name]])
        return np.log(np.maximum(out, 1e-12)) if is_probability else out

    def reference(uploads: Sequence[Upload]) -> Array:
        with serve("image", graph, preprocess_file(settings)) as served:
            return np.concatenate([forward({name: served.model.preprocess(u)[name][None]}) for u in uploads])

    theirs = Network(
        name="image",
        forward=forward,
        reference=reference,
        export=lambda: graph,
        quantize=lambda graph: quantize(graph, lambda: calibration_batches(settings, data, graph)),
        files=preprocess_file(settings),
        items=samples(),
    )
    origin = {"from": str(path.resolve())}
    return hub.train_own(theirs, labels, "onnx", origin, evaluate, quantized, data, report)


def onnx_settings(path: Path, height: int, width: int) -> dict[str, Any]:
    """How pictures are prepared for an ONNX file whose input has this size; 0 leaves it free."""
    settings: dict[str, Any] = dict(IMAGENET)
    if (path.parent / "preprocessor_config.json").is_file():
        processor = load_processor(path.parent)
        settings = processor_settings(processor)
        check_preprocessing({"labels": [], **settings}, processor)
    size = {"height": height or settings["height"], "width": width or settings["width"]}
    if "shortest_edge" in settings:
        grown = min(size.values()) / min(settings["height"], settings["width"])
        settings["shortest_edge"] = round(settings["shortest_edge"] * grown)
    return settings | size


def load_processor(folder: Path) -> Any:
    """The image processor that preprocessor_config.json in `folder` describes, with Pillow doing the work."""
    hub.quiet()
    try:
        return AutoImageProcessor.from_pretrained(folder, backend="pil")  # type: ignore[no-untyped-call]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TrainingError(f"{folder} has no usable image processor: {hub.first_line(error)}") from error


def prepare(processor: Any, images: Sequence[Image.Image]) -> Array:
    """Pixel values float32 (n, 3, height, width) by a processor of transformers."""
    return np.asarray(processor(list(images), return_tensors="np")["pixel_values"], np.float32)


def processor_settings(processor: Any) -> dict[str, Any]:
    """A processor's configuration in the terms of `models/image.py`."""
    config = processor.to_dict()
    size, crop = config.get("size") or {}, config.get("crop_size") if config.get("do_center_crop") else None
    edge = size.get("shortest_edge")
    if edge and config.get("crop_pct"):
        # ConvNeXt's, which ResNet uses too: small inputs are cut from the middle, large ones take the whole picture.
        crop = {"height": edge, "width": edge} if edge < 384 else None
        size, edge = (size, int(edge / config["crop_pct"])) if crop else ({"height": edge, "width": edge}, None)
    target = crop or size
    if not config.get("do_resize") or "height" not in target or not (edge or crop is None or crop == size):
        raise TrainingError(f"{type(processor).__name__} resizes images in a way that models/image.py cannot")
    factor = 255 * (config["rescale_factor"] if config.get("do_rescale") else 1)
    normalise = config.get("do_normalize")
    settings = {
        "width": target["width"],
        "height": target["height"],
        "resample": Image.Resampling(config["resample"]).name,
        "mean": [value / factor for value in (config["image_mean"] if normalise else (0, 0, 0))],
        "std": [value / factor for value in (config["image_std"] if normalise else (1, 1, 1))],
    }
    return settings | ({"shortest_edge": edge} if edge else {})


def check_preprocessing(settings: dict[str, Any], processor: Any) -> None:
    """That `models/image.py` prepares pictures of many sizes as the processor does; TrainingError otherwise."""
    model = models.find("image")
    photo = Image.fromarray(load_sample_images().images[0])
    boxes = ((0, 0, 640, 427), (100, 0, 300, 400), (10, 20, 310, 320), (50, 60, 90, 81))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "preprocess.json").write_bytes(preprocess_file(settings)["preprocess.json"])
        ours = model(Path(folder))
    for box in boxes:
        picture = photo.crop(box)
        (pixels,) = ours.preprocess(upload(picture)).values()
        expected = prepare(processor, [picture])[0]
        if pixels.shape != expected.shape or abs(pixels - expected).max() > 1e-3:
            raise TrainingError(f"{type(processor).__name__} prepares images in a way that models/image.py cannot")


def read_labels(path: Path) -> list[str]:
    """Labels in the order of the outputs: a line each, or JSON, a list or an object by number."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        try:
            found = json.loads(text)
            found = [found[str(i)] for i in range(len(found))] if isinstance(found, dict) else list(found)
        except (ValueError, KeyError, TypeError) as error:
            raise TrainingError(f"{path} is no JSON list of labels, nor an object with the keys 0, 1, 2 ...") from error
    else:
        found = [line.strip() for line in text.splitlines() if line.strip()]
    labels = [str(label) for label in found]
    if len(labels) < 2 or len(set(labels)) < len(labels):
        raise TrainingError(f"{path} should hold two or more labels, each once; it holds {labels[:5]}")
    return labels


def image_input(model: onnx.ModelProto, path: Path) -> tuple[str, int, int]:
    """Name, height and width of the graph's only input; a size that is free is 0."""
    weights = {weight.name for weight in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    outputs = model.graph.output
    if len(inputs) != 1 or len(outputs) != 1:
        raise TrainingError(f"{path} has {len(inputs)} inputs and {len(outputs)} outputs, it should have one of each")
    tensor = inputs[0].type.tensor_type
    sizes = [dimension.dim_value for dimension in tensor.shape.dim]
    if tensor.elem_type != TensorProto.FLOAT or len(sizes) != 4 or sizes[1] not in (0, 3):
        raise TrainingError(f"{path}: input {inputs[0].name} is not float32 (n, 3, height, width)")
    return inputs[0].name, sizes[2], sizes[3]


def batched(model: onnx.ModelProto) -> tuple[bytes, bool]:
    """The graph with a free first axis and logits as output, and whether its output had been probabilities."""
    weights = {weight.name for weight in model.graph.initializer}
    values = [*(value for value in model.graph.input if value.name not in weights), *model.graph.output]
    for value in values:
        value.type.tensor_type.shape.dim[0].Clear()
        value.type.tensor_type.shape.dim[0].dim_param = "n"
    del model.graph.value_info[:]
    output = model.graph.output[0]
    producer = next((node for node in model.graph.node if output.name in node.output), None)
    if producer is None or producer.op_type != "Softmax":
        return model.SerializeToString(), False
    # The server makes probabilities of logits; a softmax of the logarithm of probabilities gives them back.
    probabilities = f"{output.name}_probabilities"
    producer.output[list(producer.output).index(output.name)] = probabilities
    model.graph.initializer.append(helper.make_tensor("smallest_probability", TensorProto.FLOAT, [], [1e-12]))
    model.graph.node.extend(
        [
            helper.make_node("Max", [probabilities, "smallest_probability"], [f"{probabilities}_positive"]),
            helper.make_node("Log", [f"{probabilities}_positive"], [output.name]),
        ]
    )
    return model.SerializeToString(), True
