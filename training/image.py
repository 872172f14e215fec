"""Image classifier: a small residual network fitted on CIFAR-10."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_sample_images
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from models.model import Array, softmax
from training.export import torch_to_onnx
from training.trained import (
    Data,
    Report,
    Trained,
    check_labels,
    check_probabilities,
    digest,
    open_graph,
    read_record,
    require,
    write_record,
)

LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIZE = 32
# Per-channel mean and standard deviation of CIFAR-10's training pixels, in [0, 1].
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)
WEIGHTS = Path(__file__).parent / "weights" / "image"

EPOCHS = 24
BATCH = 256
VALIDATION = 2_500


def conv(inputs: int, outputs: int) -> nn.Sequential:
    """3 x 3 convolution, batch normalisation, ReLU: (n, inputs, h, w) -> (n, outputs, h, w)."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class Residual(nn.Module):
    """Two convolutions around which the input is added: shape unchanged."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(conv(channels, channels), conv(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """The input plus what the convolutions make of it."""
        out: Tensor = x + self.convs(x)
        return out


class Classifier(nn.Sequential):
    """Residual network for 32 x 32 images: float32 (n, 3, 32, 32), normalised -> logits (n, 10)."""

    def __init__(self, widths: tuple[int, int, int, int] = (32, 64, 128, 192)) -> None:
        stem, *stages = widths
        layers: list[nn.Module] = [conv(3, stem)]
        inputs = stem
        for outputs in stages:
            layers += [conv(inputs, outputs), nn.MaxPool2d(2), Residual(outputs)]
            inputs = outputs
        layers += [nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(inputs, len(LABELS))]
        super().__init__(*layers)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Logits of normalised images."""
        logits: Tensor = super().forward(pixel_values)  # type: ignore[no-untyped-call]
        return logits


def read_images(data: Path, part: str) -> tuple[Array, Array]:
    """Images `<part>/<class>/*` of CIFAR-10: uint8 (n, 32, 32, 3) and labels int64 (n,).

    They lie in `data/cifar10` or in the archive `data/cifar10/cifar10.tar.xz`.
    """
    folder = data / "cifar10"
    archive = folder / "cifar10.tar.xz"
    if (folder / part).is_dir():
        files = {f"{path.parent.name}/{path.name}": path.read_bytes() for path in (folder / part).glob("*/*.jpg")}
    else:
        files = read_archive(require(archive, "image data"), part)
    named = sorted(files.items())
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(content)).convert("RGB")) for _, content in named])
    return pixels, np.array([LABELS.index(name.partition("/")[0]) for name, _ in named])


def read_archive(archive: Path, part: str) -> dict[str, bytes]:
    """Contents of the files `<part>/<class>/*` of a tar archive, by `<class>/<file>`."""
    files = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            path = Path(member.name)
            if member.isfile() and path.parent.parent.name == part:
                content = tar.extractfile(member)
                if content is not None:
                    files[f"{path.parent.name}/{path.name}"] = content.read()
    return files


def normalise(pixels: Array) -> Tensor:
    """uint8 (n, h, w, 3) -> float32 (n, 3, h, w) with the training set's mean 0 and deviation 1."""
    scaled = (pixels.astype(np.float32) / 255 - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return torch.from_numpy(scaled.transpose(0, 3, 1, 2))


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Random horizontal flip, shift by up to 4 pixels and a blanked 8 x 8 square: shape unchanged."""
    n, _, height, width = images.shape
    flip = torch.rand(n, generator=generator) < 0.5
    images = torch.where(flip[:, None, None, None], images.flip(3), images)
    padded = functional.pad(images, (4, 4, 4, 4), mode="reflect")
    out = torch.empty_like(images)
    offsets = torch.randint(0, 9, (n, 2), generator=generator).tolist()
    holes = torch.randint(0, height - 7, (n, 2), generator=generator).tolist()
    for i, ((top, left), (y, x)) in enumerate(zip(offsets, holes, strict=True)):
        out[i] = padded[i, :, top : top + height, left : left + width]
        out[i, :, y : y + 8, x : x + 8] = 0
    return out


def batches(n: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Index batches of one shuffled epoch; an incomplete last batch is dropped."""
    order = torch.randperm(n, generator=generator)
    for start in range(0, n - BATCH + 1, BATCH):
        yield order[start : start + BATCH]


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of images whose highest logit is their label."""
    model.eval()
    return float((torch_logits(model, images).argmax(1) == labels).float().mean())


def fit(data: Path, report: Report, weights: Path = WEIGHTS, epochs: int = EPOCHS, held_out: int = VALIDATION) -> None:
    """Fit the network on the training images of `data/cifar10` and write its averaged weights to `weights`.

    Validated on training images that are kept back; one line per epoch goes to `log.csv`.
    """
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    pixels, classes = read_images(data, "train")
    order = torch.randperm(len(pixels), generator=generator)
    images, labels = normalise(pixels)[order], torch.from_numpy(classes)[order]
    held_images, held_labels = images[:held_out], labels[:held_out]
    images, labels = images[held_out:], labels[held_out:]

    model = Classifier().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    moving_average = get_ema_multi_avg_fn(0.998)  # type: ignore[no-untyped-call]
    average = AveragedModel(model, multi_avg_fn=moving_average, use_buffers=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    steps = len(images) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.2, total_steps=epochs * steps, pct_start=0.2, div_factor=20, final_div_factor=1000
    )
    log: list[tuple[float, float]] = []
    for epoch in range(epochs):
        model.train()
        total = 0.0
        for step, index in enumerate(batches(len(images), generator), start=1):
            x = augment(images[index], generator).to(memory_format=torch.channels_last)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = model(x)
            loss = functional.cross_entropy(logits.float(), labels[index], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            average.update_parameters(model)
            total += loss.item()
            report(f"epoch {epoch + 1} of {epochs}", (epoch + step / steps) / epochs)
        validation = accuracy(average, held_images, held_labels)
        log.append((total / steps, validation))
    write_weights(average.module, weights)
    fitted = {
        "rows": len(images),
        "digest": digest([pixels.tobytes(), classes.tobytes()]),
        "validation_accuracy": round(validation, 4),
    }
    write_record(weights, log, fitted)


def write_weights(model: nn.Module, weights: Path) -> None:
    """Save the parameters and buffers as float16, half the size; accuracy is the same."""
    weights.mkdir(parents=True, exist_ok=True)
    state = {
        name: value.half().contiguous() if value.is_floating_point() else value
        for name, value in model.state_dict().items()
    }
    save_file(state, weights / "model.safetensors")


def load(weights: Path = WEIGHTS) -> Classifier:
    """The network with the committed weights, as float32, for inference."""
    model = Classifier()
    model.load_state_dict(load_file(require(weights / "model.safetensors", "the fitted network")))
    return model.eval()


def train(data: Path | None, report: Report) -> Trained:
    """Load the committed weights, export and check; with `data` evaluate on the test images of `data/cifar10`."""
    report("loading", 0.0)
    model = load()
    fitted = read_record(WEIGHTS)
    report("exporting", 0.2)
    graph = export(model)
    report("comparing", 0.6)
    patches = normalise(sample_patches())
    original, exported = (
        softmax(logits.numpy()) for logits in (torch_logits(model, patches), graph_logits(graph, patches))
    )
    metrics = {"validation_accuracy": fitted["validation_accuracy"]}
    if data is not None:
        report("evaluating", 0.8)
        pixels, classes = read_images(data, "test")
        hits = graph_logits(graph, normalise(pixels)).argmax(1) == torch.from_numpy(classes)
        metrics["test_accuracy"] = float(hits.float().mean())
    settings = {"labels": LABELS, "width": SIZE, "height": SIZE, "resample": "BICUBIC", "mean": MEAN, "std": STD}
    return Trained(
        graph=graph,
        framework="torch residual network",
        labels=list(LABELS),
        data=Data("CIFAR-10", "training images as JPEG files", fitted["rows"], fitted["digest"]),
        metrics=metrics,
        parity=check_labels(original.argmax(1), exported.argmax(1)) | check_probabilities(original, exported),
        files={"preprocess.json": json.dumps(settings, indent=1).encode()},
    )


def sample_patches() -> Array:
    """Photographic input to compare graphs on: uint8 (512, 32, 32, 3).

    They are squares of scikit-learn's two sample photos.
    """
    rng = np.random.default_rng(0)
    patches = []
    for photo in load_sample_images().images:
        image = Image.fromarray(photo)
        for side in rng.integers(SIZE, 256, 256):
            left, top = rng.integers(0, image.width - side), rng.integers(0, image.height - side)
            square = image.resize((SIZE, SIZE), box=(left, top, left + side, top + side))
            patches.append(np.asarray(square))
    return np.stack(patches)


@torch.no_grad()
def torch_logits(model: nn.Module, images: Tensor) -> Tensor:
    """Logits (n, labels) of the original."""
    return torch.cat([model(part) for part in torch.split(images, 250)])


def graph_logits(graph: bytes, images: Tensor) -> Tensor:
    """Logits (n, labels) of the exported graph."""
    run = open_graph(graph)
    return torch.cat([torch.from_numpy(run({"pixel_values": part.numpy()})) for part in torch.split(images, 250)])


def export(model: nn.Module) -> bytes:
    """ONNX: `pixel_values` float32 (n, 3, 32, 32) -> `logits` float32 (n, labels)."""
    n = torch.export.Dim("n")
    return torch_to_onnx(model, {"pixel_values": torch.zeros(2, 3, SIZE, SIZE)}, {"pixel_values": {0: n}}, "logits")
