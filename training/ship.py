"""`python -m training ship` and `reproduce`: write models/shipped, and check that training makes what is there."""

from __future__ import annotations

import shutil
from pathlib import Path

import bentoml

from serving.bento.shipped import FOLDER, content_version, read_info
from training import store
from training.artifact import Estimate, ProgressCallback, Result, TrainingError, deviations
from training.served import Served, serve
from training.sources import inputs_digest
from training.trainer import Trainer

# Largest difference between an output of a shipped model and one of the same model made anew.
TOLERANCE = 1e-4
# The fewest inputs to compare outputs on.
MIN_INPUTS = 500


def ship(name: str, trainer: Trainer, data: Path | None, report: ProgressCallback) -> Result:
    """Make a model, save it under the tag that follows from its content, and copy the entry to `models/shipped`."""
    artifact = trainer.train(data, report)
    inputs = inputs_digest(name, None)
    version = content_version({"model.onnx": artifact.graph, **artifact.files}, store.metadata(artifact, inputs))
    tag, folder = f"{name}:{version}", FOLDER / name
    if is_whole(folder, version):
        return Result(f"{tag} is shipped already", artifact.evaluation.metrics)
    stored = next(iter(bentoml.models.list(tag)), None)
    if stored is not None and not is_whole(Path(stored.path), version):
        bentoml.models.delete(tag)
        stored = None
    entry = stored or store.save(name, artifact, inputs, version)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(entry.path, folder)
    for path in (folder, *folder.iterdir()):
        path.chmod(0o755 if path.is_dir() else 0o644)
    report("shipped", 1.0)
    return Result(f"{tag} shipped", artifact.evaluation.metrics)


def is_whole(folder: Path, version: str) -> bool:
    """Return whether an entry's folder holds exactly the content of a version."""
    if not (folder / "model.yaml").is_file():
        return False
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "model.yaml"}
    return content_version(files, read_info(folder)["metadata"]) == version


def reproduce(name: str, trainer: Trainer, data: Path | None, report: ProgressCallback) -> Result:
    """Make a model and compare it with what is shipped: outputs on 500 inputs or more, and its metrics.

    Raises TrainingError if an output differs by more than TOLERANCE.
    """
    folder = FOLDER / name
    if not (folder / "model.yaml").is_file():
        raise TrainingError(f"no {name} is shipped; ship it with: python -m training ship {name}")
    if trainer.samples is None:
        raise TrainingError(f"training/{name} has no samples(), inputs to compare {name} on")
    artifact = trainer.train(data, report)
    report("comparing", 0.9)
    items = trainer.samples()
    if len(items) < MIN_INPUTS:
        raise TrainingError(f"samples() in training/{name} gives {len(items)} inputs, {MIN_INPUTS} are needed")
    with serve(name, artifact.graph, artifact.files) as made:
        difference = float(abs(made.outputs(items) - Served(name, folder).outputs(items)).max())
        # Measured anew, since the artifact may only repeat what is recorded beside its weights.
        found = trainer.evaluate(made, data).metrics
    if not difference <= TOLERANCE:
        raise TrainingError(f"outputs of the shipped {name} differ by {difference:.2g}, more than {TOLERANCE:g}")
    card = {metric: Estimate(**shipped) for metric, shipped in read_info(folder)["metadata"]["card"]["metrics"].items()}
    report("compared", 1.0)
    line = f"{name} is what is shipped: {len(items)} outputs within {difference:.1g}"
    return Result(line, found, deviations(found, card))
