"""Fit the networks of the image classifier on CIFAR-10."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD, AdamW
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from models.model import Array
from training import fitting
from training.artifact import ProgressCallback, digest
from training.image import (
    LABELS,
    MEAN,
    SETTINGS,
    STD,
    WEIGHTS,
    calibration_batches,
    load,
    prepare_ours,
    read_images,
    torch_network,
)
from training.image.networks import Ensemble, pretrain, save
from training.quantize import quantize


@dataclass(frozen=True)
class NetworkRecipe:
    """How one network of the `Ensemble` is fitted; `warm_up` and `decay` are those of `fitting.schedule`."""

    network: str
    epochs: int
    batch: int
    optimizer: Callable[..., torch.optim.Optimizer]
    warm_up: float
    decay: float
    bfloat16: bool = False


# The second recipe of a network continues from the weights of the first (warm restart, arXiv:1608.03983).
RECIPES = (
    NetworkRecipe(
        "residual",
        36,
        256,
        partial(SGD, lr=0.2, momentum=0.9, weight_decay=5e-4, nesterov=True),
        0.05,
        0.5,
        bfloat16=True,
    ),
    NetworkRecipe("efficient", 10, 128, partial(AdamW, lr=1e-3, weight_decay=0.05), 0.1, 0.8),
    NetworkRecipe("efficient", 12, 128, partial(AdamW, lr=5e-4, weight_decay=0.05), 0.1, 0.8),
)
PATIENCE = 10
VALIDATION = 2_500
CALIBRATION = 1_024


def decode(files: list[bytes]) -> Array:
    """Return pixels uint8 (n, 32, 32, 3) of image files of that size."""
    return np.stack([np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files])


def normalise(pixels: Array) -> Tensor:
    """Normalise pixels uint8 (n, h, w, 3) by the training set's mean and deviation to float32 (n, 3, h, w)."""
    scaled = (pixels.astype(np.float32) / 255 - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return torch.from_numpy(scaled.transpose(0, 3, 1, 2))


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Flip images at random, shift them by up to 4 pixels and blank an 8 x 8 square; the shape stays.

    The random numbers come from a generator of the CPU, so that a GPU fits on the same images.
    """
    n, channels, height, width = images.shape

    def draw(choices: int) -> Tensor:
        return torch.randint(0, choices, (n, 1), generator=generator).to(images.device)

    flipped, top, left, hole_top, hole_left = (draw(choices) for choices in (2, 9, 9, height - 7, width - 7))
    y, x = torch.arange(height, device=images.device), torch.arange(width, device=images.device)
    in_rows, in_columns = (y >= hole_top) & (y < hole_top + 8), (x >= hole_left) & (x < hole_left + 8)
    hole = in_rows[:, :, None] & in_columns[:, None, :]
    padded = functional.pad(images, (4, 4, 4, 4), mode="reflect")
    rows, columns = top + y, left + torch.where(flipped == 1, width - 1 - x, x)
    image = torch.arange(n, device=images.device)[:, None, None, None]
    channel = torch.arange(channels, device=images.device)[:, None, None]
    shifted = padded[image, channel, rows[:, None, :, None], columns[:, None, None, :]]
    return shifted.masked_fill(hole[:, None], 0.0)


def batches(n: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield batches of indices of one shuffled epoch; drop an incomplete last batch."""
    order = torch.randperm(n, generator=generator)
    for start in range(0, n - size + 1, size):
        yield order[start : start + size]


@torch.no_grad()
def logits_of(model: nn.Module, images: Tensor) -> Tensor:
    """Return logits (n, labels) of normalised images, in inference mode."""
    model.eval()
    return torch.cat([model(part) for part in torch.split(images, 250)])


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the share of images whose highest logit is that of their label."""
    return float((logits_of(model, images).argmax(1) == labels).float().mean())


def fit(
    data: Path,
    report: ProgressCallback,
    weights: Path = WEIGHTS,
    recipes: Sequence[NetworkRecipe] = RECIPES,
    held_out: int = VALIDATION,
) -> None:
    """Fit the networks on the training images of `data/cifar10` and write their averaged weights to `weights`.

    Validation uses `held_out` training images, never test images; `log.csv` gets a line per epoch. The last layers are
    divided by the temperature that fits the held-out images best, so that scores are calibrated.
    """
    fitting.reuse_memory()
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    files, names = read_images(data, "train")
    pixels, classes = decode(files), np.array([LABELS.index(name) for name in names])
    where = fitting.device()
    order = torch.randperm(len(pixels), generator=generator)
    images, labels = normalise(pixels)[order].to(where), torch.from_numpy(classes)[order].to(where)
    held_images, held_labels = images[:held_out], labels[:held_out]
    images, labels = images[held_out:], labels[held_out:]

    model = Ensemble(len(LABELS))
    pretrain(model.efficient, images[:1_024].cpu())
    model.to(where, memory_format=torch.channels_last)  # type: ignore[call-overload]
    rows = digest([pixels.tobytes(), classes.tobytes()])
    checkpoints = [weights.with_suffix(f".checkpoint{number}") for number in range(len(recipes))]
    log: list[fitting.Epoch] = []
    total = sum(recipe.epochs for recipe in recipes)

    def run(number: int, recipe: NetworkRecipe) -> list[fitting.Epoch]:
        network: nn.Module = getattr(model, recipe.network)
        moving_average = get_ema_multi_avg_fn(0.998)  # type: ignore[no-untyped-call]
        average = AveragedModel(network, multi_avg_fn=moving_average, use_buffers=True)
        optimizer = recipe.optimizer(network.parameters())
        steps = len(images) // recipe.batch
        schedule = fitting.schedule(optimizer, recipe.epochs * steps, recipe.warm_up, recipe.decay)
        before = sum(recipe.epochs for recipe in recipes[:number])

        def epoch(done: int) -> tuple[float, float]:
            network.train()
            losses = 0.0
            for step, index in enumerate(batches(len(images), recipe.batch, generator), start=1):
                x = augment(images[index], generator).to(memory_format=torch.channels_last)
                with torch.autocast(where.type, dtype=torch.bfloat16, enabled=recipe.bfloat16):
                    logits = network(x)
                loss = functional.cross_entropy(logits.float(), labels[index], label_smoothing=0.1)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
                average.update_parameters(network)
                losses += loss.item()
                report(f"epoch {before + done + 1} of {total}", (before + done + step / steps) / total)
            return losses / steps, accuracy(average, held_images, held_labels)

        epochs = fitting.run_epochs(
            epoch,
            epochs=recipe.epochs,
            patience=PATIENCE,
            model=average,
            others={"model": network, "optimizer": optimizer, "schedule": schedule},
            generator=generator,
            checkpoint=checkpoints[number],
            inputs=digest([rows.encode(), f"{recipes} {held_out} {model}".encode()]),
        )
        network.load_state_dict(average.module.state_dict())
        return epochs

    for number, recipe in enumerate(recipes):
        log += run(number, recipe)
    divisor = calibrate(model, held_images, held_labels)
    weights.mkdir(parents=True, exist_ok=True)
    save(model, weights / "model.safetensors")
    write_ranges(weights, data)
    fitting.write_record(
        weights,
        log,
        validation_accuracy=accuracy(model, held_images, held_labels),
        rows=len(images),
        digest=rows,
        temperature=round(divisor, 4),
    )
    for checkpoint in checkpoints:
        checkpoint.unlink()


@torch.no_grad()
def calibrate(model: Ensemble, images: Tensor, labels: Tensor) -> float:
    """Divide the last layers by the temperature that fits these images best, and return the temperature."""
    divisor = fitting.temperature(logits_of(model, images).cpu(), labels.cpu())
    for network in (model.residual, model.efficient):
        for parameter in network[-1].parameters():
            parameter.div_(divisor)
    return divisor


def write_ranges(weights: Path, data: Path) -> None:
    """Measure the ranges of the network's activations on training images and write them to `ranges.json`."""
    ranges = weights / "ranges.json"
    ranges.unlink(missing_ok=True)
    graph = torch_network(load(weights), SETTINGS, prepare_ours, data).export()
    quantize(graph, lambda: calibration_batches(SETTINGS, data, graph, CALIBRATION), ranges)
