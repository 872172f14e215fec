"""Trainers: the functions that `training/<model>` offers to `python -m training`, imported when they are needed.

A model's trainer is a module, `training/<model>.py`, or a package, `training/<model>/`. Only a package can have more
parts: `fit.py`, which fits the weights anew, `own.py`, which takes the user's own model, and `held_out.py`, which gives
inputs to measure explanations on.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from training.artifact import Artifact, Evaluation, ProgressCallback, TrainingError
from training.sources import trainer_file

if TYPE_CHECKING:
    from training.hub import Pretrained
    from training.network import Network
    from training.served import Served


@dataclass(frozen=True)
class Trainer:
    """The functions that make one model: every trainer has `train` and `evaluate`, the others are optional.

    `train` takes a folder of data to evaluate on; `evaluate` a model as it is served, and such a folder. `samples`
    returns the items, 500 or more, on which two graphs of the model are compared; `bench` a network, items to measure
    its speed on, and the form in which it is shipped. `weights`, called WEIGHTS in a trainer, is the folder of
    committed weights.
    """

    train: Callable[[Path | None, ProgressCallback], Artifact]
    evaluate: Callable[[Served, Path | None], Evaluation]
    samples: Callable[[], Collection[Any]] | None = None
    bench: Callable[[], tuple[Network, Sequence[Any], str]] | None = None
    weights: Path | None = None


@dataclass(frozen=True)
class OwnTrainer:
    """The functions that make a user's own model: from a transformers model and, optionally, from files.

    All take whether to quantize it and a folder of data to evaluate it on; those of an ONNX file and of a Keras model
    take a file of labels, too.
    """

    train_from_hub: Callable[[Pretrained, bool, Path | None, ProgressCallback], Artifact]
    train_from_onnx: Callable[[Path, Path, bool, Path | None, ProgressCallback], Artifact] | None = None
    train_from_keras: Callable[[Path, Path, bool, Path | None, ProgressCallback], Artifact] | None = None


def find(name: str) -> Trainer:
    """Import and return a model's trainer, which takes seconds if it needs torch.

    Raises TrainingError where there is none, or where it lacks `train` or `evaluate`.
    """
    module = load(name)
    optional = vars(module)
    return Trainer(
        train=required(module, "train"),
        evaluate=required(module, "evaluate"),
        samples=optional.get("samples"),
        bench=optional.get("bench"),
        weights=optional.get("WEIGHTS"),
    )


def find_fit(name: str) -> Callable[[Path, ProgressCallback], None]:
    """Return the function that fits a model's weights on a folder of data; raise TrainingError where there is none."""
    fit: Callable[[Path, ProgressCallback], None] = required(load(name, "fit"), "fit")
    return fit


def find_own(name: str) -> OwnTrainer:
    """Return the functions that replace a model by a user's own; raise TrainingError where there are none."""
    module = load(name, "own")
    return OwnTrainer(
        required(module, "train_from_hub"), vars(module).get("train_from_onnx"), vars(module).get("train_from_keras")
    )


def find_held_out(name: str) -> Callable[[Path | None, int], Sequence[tuple[Any, Any]]]:
    """Return the function that gives so many inputs that a model was not fitted on; one that gives none without it.

    An input is an item and the row of columns that it was made of, None where there is none.
    """
    if not trainer_file(name).with_name("held_out.py").is_file():
        return lambda data, count: []
    found: Callable[[Path | None, int], Sequence[tuple[Any, Any]]] = required(load(name, "held_out"), "held_out")
    return found


def load(name: str, part: str | None = None) -> ModuleType:
    """Import a model's trainer, or a part of it; raise TrainingError where there is none."""
    file = trainer_file(name)
    if part is None:
        return importlib.import_module(f"training.{name}")
    if file.name != "__init__.py" or not file.with_name(f"{part}.py").is_file():
        raise TrainingError(f"training/{name}/{part}.py is missing: {name} cannot do that")
    return importlib.import_module(f"training.{name}.{part}")


def required(module: ModuleType, function: str) -> Any:
    """Return a function of a module; raise TrainingError that names both where it is missing."""
    found = vars(module).get(function)
    if found is None:
        raise TrainingError(f"{module.__name__.replace('.', '/')} has no {function}()")
    return found
