"""Image classifier: two small networks fitted on CIFAR-10, or the user's own from the hub or as ONNX."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor

from models.image import Upload
from models.model import Array, softmax
from serving.inference.padding import stack
from training import fitting
from training.artifact import Artifact, Data, Evaluation, ProgressCallback, TrainingError, require
from training.evaluation import evaluate_labels
from training.image import networks
from training.network import Network, make_graph, torch_to_onnx
from training.quantize import quantize
from training.served import Served, serve

LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIZE = 32
# Per-channel mean and standard deviation of CIFAR-10's training pixels, in [0, 1].
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)
SETTINGS = {"labels": LABELS, "width": SIZE, "height": SIZE, "resample": "BICUBIC", "mean": MEAN, "std": STD}
WEIGHTS = Path(__file__).parent / "weights"
# Ranges of the network's activations on training images, kept so that quantizing needs no images.
RANGES = WEIGHTS / "ranges.json"


def find_images(data: Path, part: str) -> list[tuple[str, bytes]] | None:
    """Return the images `<part>/<label>/*` as (label, file), sorted by path; None if there are none.

    They are looked for in `data`, in `data/cifar10` and in the archive `data/cifar10/cifar10.tar.xz`.
    """
    for folder in (data / part, data / "cifar10" / part):
        if folder.is_dir():
            return [(path.parent.name, path.read_bytes()) for path in sorted(folder.glob("*/*")) if path.is_file()]
    archive = data / "cifar10" / "cifar10.tar.xz"
    if not archive.exists():
        return None
    found = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            path = Path(member.name)
            if path.parent.parent.name == part and (content := tar.extractfile(member)) is not None:
                found[path] = content.read()
    return [(path.parent.name, found[path]) for path in sorted(found)]


@cache
def read_images(data: Path, part: str) -> tuple[list[bytes], list[str]]:
    """Return the files of `find_images` and their labels, both (n,); raise TrainingError if there are none."""
    found = find_images(data, part)
    if not found:
        raise TrainingError(f"image data is missing: {data / part} or {data / 'cifar10' / part}")
    labels, files = zip(*found, strict=True)
    return list(files), list(labels)


def load(weights: Path = WEIGHTS) -> networks.Ensemble:
    """Return the network with the committed weights, as float32, for inference."""
    return networks.load(require(weights / "model.safetensors", "the fitted network"), len(LABELS))


def samples(count: int = 512) -> list[Upload]:
    """Return squares cut from scikit-learn's two sample photos, on which graphs are compared."""
    rng = np.random.default_rng(0)
    photos = [Image.fromarray(photo) for photo in load_sample_images().images]
    uploads = []
    for i in range(count):
        photo = photos[i % len(photos)]
        side = int(rng.integers(SIZE, 256))
        left, top = int(rng.integers(0, photo.width - side)), int(rng.integers(0, photo.height - side))
        uploads.append(upload(photo.crop((left, top, left + side, top + side))))
    return uploads


def upload(picture: Image.Image) -> Upload:
    """Return the picture as a PNG file, an item of `models/image`."""
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=1)
    return Upload(file.getvalue(), resize=True)


def calibration_batches(
    settings: dict[str, Any], data: Path | None, graph: bytes, count: int = 128
) -> list[dict[str, Array]]:
    """Return the graph's inputs for `count` images, in batches: training images if `data` has some, else samples."""
    uploads = samples(count)
    if data is not None and (found := find_images(data, "train")) is not None:
        uploads = [Upload(found[i][1], resize=True) for i in np.random.default_rng(0).permutation(len(found))[:count]]
    with serve("image", graph, preprocess_file(settings)) as served:
        inputs = [served.model.preprocess(upload) for upload in uploads]
    return [stack(inputs[i : i + 16]) for i in range(0, len(inputs), 16)]


def preprocess_file(settings: dict[str, Any]) -> dict[str, bytes]:
    """Return the file that `models/image` reads beside the graph, by its name."""
    return {"preprocess.json": json.dumps(settings, indent=1).encode()}


def torch_network(
    model: Any, settings: dict[str, Any], prepare: Any, data: Path | None, ranges: Path | None = None
) -> Network:
    """Return the network to be served of a torch model; `prepare` turns Pillow images into pixel values (n, 3, h, w).

    Quantizing reads the ranges of activations from the file `ranges`; without one it measures them on the training
    images in `data`, or on sample photos if there are none.
    """

    @torch.no_grad()
    def forward(batch: dict[str, Array]) -> Array:
        out = model(torch.from_numpy(batch["pixel_values"]))
        return (out if isinstance(out, Tensor) else out.logits).numpy()

    def reference(uploads: Sequence[Upload]) -> Array:
        images = [Image.open(io.BytesIO(upload.data)) for upload in uploads]
        parts = (prepare(images[i : i + 16]) for i in range(0, len(images), 16))
        return softmax(np.concatenate([forward({"pixel_values": part}) for part in parts]))

    def export() -> bytes:
        example = torch.zeros(2, 3, settings["height"], settings["width"])
        return torch_to_onnx(model, {"pixel_values": example}, {"pixel_values": {0: torch.export.Dim("n")}}, "logits")

    return Network(
        name="image",
        forward=forward,
        reference=reference,
        export=export,
        quantize=lambda graph: quantize(graph, lambda: calibration_batches(settings, data, graph), ranges),
        files=preprocess_file(settings),
        items=samples(),
    )


def prepare_ours(images: Sequence[Image.Image]) -> Array:
    """Return pixel values float32 (n, 3, 32, 32) for our own network, computed without `models/image`."""
    pixels = np.stack([np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BICUBIC)) for image in images])
    scaled = (pixels.astype(np.float32) / 255 - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def train(data: Path | None, report: ProgressCallback) -> Artifact:
    """Load the committed weights, export, compare and quantize; with `data`, evaluate on its test images."""
    report("loading", 0.0)
    if data is not None:
        read_images(data, "test")  # fails now, not after minutes, if they are missing
    fitted = fitting.read_record(WEIGHTS)
    ours = torch_network(load(), SETTINGS, prepare_ours, data, require(RANGES, "ranges of the network's activations"))
    graph, parity, evaluation = make_graph(ours, True, evaluate, data, report)
    return Artifact(
        graph=graph,
        framework="torch residual network and EfficientNet-Lite0",
        labels=list(LABELS),
        data=Data(
            "CIFAR-10",
            "training images as JPEG files",
            "none stated by its authors; for research",
            fitted["rows"],
            fitted["digest"],
        ),
        summary="Tells which of ten kinds of animals and vehicles a picture shows.",
        procedure=(
            "A residual network and EfficientNet-Lite0 without its last two blocks, the latter on images enlarged to "
            "96 x 96 and from its weights for ImageNet (Apache-2.0), 1.9 million parameters each; the mean of what "
            "both say of a picture and of its mirror image. Fitted by `python -m training image --fit` with shifted, "
            "mirrored and partly blanked images; moving averages of the weights, scores calibrated by temperature, "
            "exported to ONNX, convolutions in int8."
        ),
        limits=[
            "Sees 32 x 32 pixels: what fills only a part of the picture is lost.",
            "Names one of its ten labels whatever the picture shows.",
        ],
        evaluation=fitting.recorded(fitted) | evaluation,
        parity=parity,
        files=ours.files,
    )


def evaluate(served: Served, data: Path | None) -> Evaluation:
    """Evaluate on the images `test/<label>/*` of `data` or of `data/cifar10`; measure nothing without `data`."""
    if data is None:
        return Evaluation()
    files, names = read_images(data, "test")
    labels = served.model.labels
    unknown = sorted(set(names) - set(labels))
    if unknown:
        raise TrainingError(f"test images: the model has no label {unknown[0]!r}")
    probabilities = softmax(served.outputs([Upload(file, resize=True) for file in files]))
    return evaluate_labels(np.array([labels.index(name) for name in names]), probabilities, labels)


def bench() -> tuple[Network, list[Upload], str]:
    """Return our network, items to measure its speed on, and the form in which it is shipped."""
    return torch_network(load(), SETTINGS, prepare_ours, None, RANGES), samples(64), "int8"
