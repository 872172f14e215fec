"""What training makes: an artifact that is ready for the store, its metrics, and the checks it must pass."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from models.model import Array
from serving.inference.session import open_session

# Called with the step that begins and the share of the work that is done, from 0 to 1.
ProgressCallback = Callable[[str, float], None]


class TrainingError(RuntimeError):
    """A model could not be made or failed a check; nothing was saved."""


@dataclass(frozen=True)
class Estimate:
    """A metric measured on a sample: its value, its 95 % interval and how many examples it was measured on."""

    value: float
    low: float
    high: float
    examples: int


@dataclass(frozen=True)
class Evaluation:
    """Metrics by name, and pictures as PNG by file name."""

    metrics: dict[str, Estimate] = field(default_factory=dict)
    pictures: dict[str, bytes] = field(default_factory=dict)

    def __or__(self, other: Evaluation) -> Evaluation:
        """Return the metrics and pictures of both; those of `other` win."""
        return Evaluation(self.metrics | other.metrics, self.pictures | other.pictures)


@dataclass(frozen=True)
class Data:
    """The data that a model was fitted on; `rows` and `digest` are not known of models made elsewhere."""

    name: str
    source: str
    licence: str
    rows: int | None = None
    digest: str | None = None


@dataclass(frozen=True)
class Artifact:
    """A model that is ready to be saved.

    `graph` is an ONNX file with one output, `files` what its model class reads beside it, by file name. `parity` holds
    the differences between the graph and the original that it was exported from. `summary`, `procedure` (how it was
    made) and `limits` are shown in its card; `origin` tells where a user's own model comes from.
    """

    graph: bytes
    framework: str
    labels: list[str]
    data: Data
    summary: str
    procedure: str
    limits: list[str]
    evaluation: Evaluation
    parity: dict[str, float]
    files: dict[str, bytes] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """What a command did to a model: a line for the user, the model's metrics, and where they deviate from its card."""

    line: str
    metrics: dict[str, Estimate]
    deviations: list[str] = field(default_factory=list)


def deviations(found: dict[str, Estimate], card: dict[str, Estimate]) -> list[str]:
    """Return a line for each metric that lies outside the interval on a model's card."""
    return [
        f"{name} {estimate.value:.4f} is outside of what its card says, {card[name].low:.4f} to {card[name].high:.4f}"
        for name, estimate in found.items()
        if name in card and not card[name].low <= estimate.value <= card[name].high
    ]


def digest(parts: Iterable[bytes]) -> str:
    """Return the SHA-256 of the parts, each preceded by its length, as hexadecimal digits."""
    total = hashlib.sha256()
    for part in parts:
        total.update(len(part).to_bytes(8, "big") + part)
    return total.hexdigest()


def open_graph(
    graph: Path | bytes, threads: int = 0, *, signed: bool | None = None
) -> Callable[[dict[str, Array]], Array]:
    """Return a function that runs a graph, given as bytes or a file, on a batch of inputs and returns its only output.

    `threads` and `signed` are those of `open_session`.
    """
    session = open_session(graph, threads, signed=signed)

    def run(inputs: dict[str, Array]) -> Array:
        (output,) = session.run(None, inputs)
        return output  # type: ignore[no-any-return]

    return run


def check_labels(original: Array, exported: Array) -> dict[str, float]:
    """Compare labels (n,) of original and graph; raise TrainingError unless 500 or more are given, all equal."""
    if len(original) < 500:
        raise TrainingError(
            f"{len(original)} inputs are too few to compare the graph with the original, 500 are needed"
        )
    different = int((original != exported).sum())
    if different:
        raise TrainingError(f"the exported graph gives {different} of {len(original)} inputs another label")
    return {"inputs": len(original), "different_labels": different}


def check_probabilities(original: Array, exported: Array, tolerance: float = 1e-4) -> dict[str, float]:
    """Compare probabilities, or other numbers, (n, ...); raise TrainingError where they differ by over `tolerance`."""
    if original.shape != exported.shape:
        raise TrainingError(f"the exported graph returns {exported.shape}, the original {original.shape}")
    difference = float(abs(original - exported).max())
    if not difference <= tolerance:
        raise TrainingError(f"the exported graph's numbers differ by {difference:.2g}, more than {tolerance:g}")
    return {"largest_difference": difference}


def compare_quantized(exported: Array, quantized: Array) -> dict[str, float]:
    """Return how far probabilities (n, labels) of the quantized graph are from those of the exported one."""
    return {
        "quantized_different_labels": int((exported.argmax(1) != quantized.argmax(1)).sum()),
        "quantized_largest_difference": float(abs(exported - quantized).max()),
    }


def require(path: Path, what: str) -> Path:
    """Return `path` if it exists; raise TrainingError that names it otherwise."""
    if not path.exists():
        raise TrainingError(f"{what} is missing: {path}")
    return path
