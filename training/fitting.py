"""Fitting a network epoch by epoch: with validation, early stopping and checkpoints to resume from."""

from __future__ import annotations

import csv
import ctypes
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from training.artifact import Estimate, Evaluation


class Stateful(Protocol):
    """A part of a checkpoint: a model, an optimizer, a schedule."""

    def state_dict(self) -> dict[str, Any]:
        """Return all that changes while fitting."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """Restore that state."""


@dataclass(frozen=True)
class Epoch:
    """One pass over the training data: mean loss, share of validation examples that were right, seconds."""

    loss: float
    accuracy: float
    seconds: float


def device() -> torch.device:
    """Return the GPU when there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def reuse_memory() -> None:
    """Have glibc keep freed memory: returning each step's tensors to the system took half of the time."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        # Constants of malloc.h, see mallopt(3): nothing by mmap, no trimming.
        m_trim_threshold, m_mmap_max = -1, -4
        libc.mallopt(m_mmap_max, 0)
        libc.mallopt(m_trim_threshold, -1)


def schedule(optimizer: torch.optim.Optimizer, steps: int, warm_up: float, decay: float) -> Any:
    """Return a trapezoidal schedule of the learning rate.

    It rises during the first `warm_up` share of the steps and falls to 0 during the last `decay` share.
    """

    def factor(step: int) -> float:
        return min(1.0, (step + 1) / (warm_up * steps), max(0, steps - step) / (decay * steps))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def run_epochs(
    epoch: Callable[[int], tuple[float, float]],
    *,
    epochs: int,
    patience: int,
    model: Stateful,
    others: dict[str, Stateful],
    generator: torch.Generator,
    checkpoint: Path,
    inputs: str,
) -> list[Epoch]:
    """Run `epoch(number)`, which returns mean loss and validation accuracy, and leave `model` at its best.

    Stops early when the accuracy has not risen for `patience` epochs. After each epoch everything that changes is
    written to `checkpoint`: `model`, `others` and the state of the random generators. A checkpoint of the same
    `inputs`, a digest of settings and data, is resumed; the caller removes it once the weights are written.
    """
    log: list[Epoch] = []
    best: dict[str, Any] = {}
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
        if saved["inputs"] == inputs:
            log = [Epoch(*entry) for entry in saved["log"]]
            best = saved["best"]
            model.load_state_dict(saved["model"])
            for name, other in others.items():
                other.load_state_dict(saved["others"][name])
            generator.set_state(saved["generator"])
            set_random_state(saved["random"])
    while len(log) < epochs and not stalled(log, patience):
        started = time.perf_counter()
        loss, accuracy = epoch(len(log))
        if not log or accuracy > max(entry.accuracy for entry in log):
            best = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
        log.append(Epoch(loss, accuracy, time.perf_counter() - started))
        state = {
            "inputs": inputs,
            "log": [(entry.loss, entry.accuracy, entry.seconds) for entry in log],
            "best": best,
            "model": model.state_dict(),
            "others": {name: other.state_dict() for name, other in others.items()},
            "generator": generator.get_state(),
            "random": random_state(),
        }
        unfinished = checkpoint.with_suffix(".unfinished")
        torch.save(state, unfinished)
        unfinished.replace(checkpoint)
    model.load_state_dict(best)
    return log


def temperature(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the temperature that minimises the negative log-likelihood (Guo et al. 2017, arXiv:1706.04599)."""
    log_t = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.LBFGS([log_t], lr=0.1, max_iter=100)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(logits / log_t.exp(), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return float(log_t.detach().exp())


def stalled(log: list[Epoch], patience: int) -> bool:
    """Return whether the best accuracy is `patience` epochs old."""
    accuracies = [entry.accuracy for entry in log]
    return bool(log) and len(log) - 1 - accuracies.index(max(accuracies)) >= patience


def random_state() -> list[torch.Tensor]:
    """Return the state of torch's own generators, which dropout draws from: the CPU's, then each GPU's."""
    return [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]


def set_random_state(states: list[torch.Tensor]) -> None:
    """Restore a state of `random_state`; with another number of GPUs only that of the CPU."""
    torch.set_rng_state(states[0])
    if len(states) - 1 == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states[1:])


def write_record(weights: Path, log: Sequence[Epoch], *, validation_accuracy: float, **fitted: Any) -> None:
    """Write beside weights how they were fitted: `log.csv`, a line per epoch, and what `read_record` returns."""
    with (weights / "log.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["epoch", "loss", "validation_accuracy", "seconds"])
        for number, epoch in enumerate(log, start=1):
            table.writerow([number, f"{epoch.loss:.4f}", f"{epoch.accuracy:.4f}", f"{epoch.seconds:.0f}"])
    fitted["validation_accuracy"] = round(validation_accuracy, 4)
    (weights / "fit.json").write_text(json.dumps(fitted, indent=1) + "\n", encoding="utf-8")


def read_record(weights: Path) -> dict[str, Any]:
    """Return the record of how weights were fitted: rows, digest, validation accuracy and more."""
    record: dict[str, Any] = json.loads((weights / "fit.json").read_text(encoding="utf-8"))
    return record


def record_evaluation(weights: Path, evaluation: Evaluation) -> None:
    """Add the metrics of fitted weights to their record, for cards that are written where the data is missing."""
    record = read_record(weights) | {"metrics": {name: asdict(metric) for name, metric in evaluation.metrics.items()}}
    (weights / "fit.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def recorded(record: dict[str, Any]) -> Evaluation:
    """Return the metrics that a record holds."""
    return Evaluation({name: Estimate(**metric) for name, metric in record.get("metrics", {}).items()})
