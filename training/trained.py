"""What the making of a model takes and gives."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnxruntime

from models.model import Array

# Tells what is being done and how much of it, from 0 to 1.
Report = Callable[[str, float], None]


class TrainingError(RuntimeError):
    """A model could not be made as it should be; nothing was saved."""


@dataclass(frozen=True)
class Data:
    """The data that a model was fitted on."""

    name: str
    source: str
    rows: int
    digest: str


@dataclass(frozen=True)
class Trained:
    """A model that is ready to be saved.

    `graph` is an ONNX file with one output, `files` what lies beside it by name, `parity` the
    differences to the original that it was exported from.
    """

    graph: bytes
    framework: str
    labels: list[str]
    data: Data
    metrics: dict[str, float]
    parity: dict[str, float]
    files: dict[str, bytes] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)


def digest(parts: Iterable[bytes]) -> str:
    """SHA-256 of the parts, each preceded by its length."""
    total = hashlib.sha256()
    for part in parts:
        total.update(len(part).to_bytes(8, "big") + part)
    return total.hexdigest()


def write_record(weights: Path, epochs: Sequence[tuple[float, float]], fitted: dict[str, Any]) -> None:
    """How weights were fitted, beside them: loss and validation accuracy per epoch, and what `read_record` gives."""
    with (weights / "log.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["epoch", "loss", "validation_accuracy"])
        table.writerows([i, f"{loss:.4f}", f"{accuracy:.4f}"] for i, (loss, accuracy) in enumerate(epochs))
    (weights / "fit.json").write_text(json.dumps(fitted, indent=1) + "\n", encoding="utf-8")


def read_record(weights: Path) -> dict[str, Any]:
    """What is known of the fit of committed weights: rows, digest, validation accuracy and more."""
    record: dict[str, Any] = json.loads((weights / "fit.json").read_text(encoding="utf-8"))
    return record


def open_graph(graph: bytes) -> Callable[[dict[str, Array]], Array]:
    """A function that runs the graph on a batch of inputs and gives its single output."""
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])

    def run(inputs: dict[str, Array]) -> Array:
        (output,) = session.run(None, inputs)
        return output  # type: ignore[no-any-return]

    return run


def check_labels(original: Array, exported: Array) -> dict[str, float]:
    """That the labels (n,) of graph and original are equal, on at least 500 inputs."""
    if len(original) < 500:
        raise TrainingError(
            f"{len(original)} inputs are too few to compare the graph with the original, 500 are needed"
        )
    different = int((original != exported).sum())
    if different:
        raise TrainingError(f"the exported graph gives {different} of {len(original)} inputs another label")
    return {"inputs": len(original), "different_labels": different}


def check_probabilities(original: Array, exported: Array, tolerance: float = 1e-4) -> dict[str, float]:
    """That probabilities (n, ...) of graph and original differ by `tolerance` at most."""
    difference = float(abs(original - exported).max())
    if not difference <= tolerance:
        raise TrainingError(f"the exported graph's probabilities differ by {difference:.2g}, more than {tolerance:g}")
    return {"largest_difference": difference}


def require(path: Path, what: str) -> Path:
    """`path` if it is there; TrainingError that names it otherwise."""
    if not path.exists():
        raise TrainingError(f"{what} is missing: {path}")
    return path
