"""What the making of a model takes and gives."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from models.model import Array
from serving.inference.session import open_session

# Tells what is being done and how much of it, from 0 to 1.
ProgressCallback = Callable[[str, float], None]


class TrainingError(RuntimeError):
    """A model could not be made as it should be; nothing was saved."""


@dataclass(frozen=True)
class Estimate:
    """A metric measured on a sample: its value, its 95 % interval and how many examples it was measured on."""

    value: float
    low: float
    high: float
    examples: int


@dataclass(frozen=True)
class Evaluation:
    """Metrics by name, and PNG files by file name."""

    metrics: dict[str, Estimate] = field(default_factory=dict)
    pictures: dict[str, bytes] = field(default_factory=dict)

    def __or__(self, other: Evaluation) -> Evaluation:
        """Both together."""
        return Evaluation(self.metrics | other.metrics, self.pictures | other.pictures)


@dataclass(frozen=True)
class Data:
    """The data that a model was fitted on; `rows` and `digest` are unknown of a model made elsewhere."""

    name: str
    source: str
    licence: str
    rows: int | None = None
    digest: str | None = None


@dataclass(frozen=True)
class Artifact:
    """A model that is ready to be saved.

    `graph` is an ONNX file with one output, `files` what lies beside it by name, `parity` the
    differences to the original that it was exported from. `summary`, `procedure` (how it was made)
    and `limits` stand in its card; `origin` tells where a user's own model comes from.
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
    """What a command did to a model: a line for the user, the model's metrics, and what is not as its card says."""

    line: str
    metrics: dict[str, Estimate]
    deviations: list[str] = field(default_factory=list)


def deviations(found: dict[str, Estimate], card: dict[str, Estimate]) -> list[str]:
    """Return a line for each metric that lies outside of the interval that a model's card gives."""
    return [
        f"{name} {estimate.value:.4f} is outside of what its card says, {card[name].low:.4f} to {card[name].high:.4f}"
        for name, estimate in found.items()
        if name in card and not card[name].low <= estimate.value <= card[name].high
    ]


def digest(parts: Iterable[bytes]) -> str:
    """SHA-256 of the parts, each preceded by its length."""
    total = hashlib.sha256()
    for part in parts:
        total.update(len(part).to_bytes(8, "big") + part)
    return total.hexdigest()


def open_graph(
    graph: Path | bytes, threads: int = 0, *, signed: bool | None = None
) -> Callable[[dict[str, Array]], Array]:
    """Return a function that runs a graph, given or in a file, on a batch of inputs and gives its single output.

    `threads` and `signed` are those of `open_session`.
    """
    session = open_session(graph, threads, signed=signed)

    def run(inputs: dict[str, Array]) -> Array:
        (output,) = session.run(None, inputs)
        return output  # type: ignore[no-any-return]

    return run


def check_labels(original: Array, exported: Array) -> dict[str, float]:
    """Raise TrainingError unless the labels (n,) of graph and original are equal, on at least 500 inputs."""
    if len(original) < 500:
        raise TrainingError(
            f"{len(original)} inputs are too few to compare the graph with the original, 500 are needed"
        )
    different = int((original != exported).sum())
    if different:
        raise TrainingError(f"the exported graph gives {different} of {len(original)} inputs another label")
    return {"inputs": len(original), "different_labels": different}


def check_probabilities(original: Array, exported: Array, tolerance: float = 1e-4) -> dict[str, float]:
    """Raise TrainingError unless probabilities (n, ...) of graph and original differ by `tolerance` at most."""
    difference = float(abs(original - exported).max())
    if not difference <= tolerance:
        raise TrainingError(f"the exported graph's probabilities differ by {difference:.2g}, more than {tolerance:g}")
    return {"largest_difference": difference}


def compare_quantized(exported: Array, quantized: Array) -> dict[str, float]:
    """How far probabilities (n, labels) of the quantized graph lie from those of the exported one."""
    return {
        "quantized_different_labels": int((exported.argmax(1) != quantized.argmax(1)).sum()),
        "quantized_largest_difference": float(abs(exported - quantized).max()),
    }


def require(path: Path, what: str) -> Path:
    """`path` if it is there; TrainingError that names it otherwise."""
    if not path.exists():
        raise TrainingError(f"{what} is missing: {path}")
    return path
