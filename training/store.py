"""The BentoML model store: what is in it, and saving to it."""

from __future__ import annotations

import subprocess
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import bentoml
from bentoml.exceptions import NotFound

import models
from training.trained import Data, Estimate, Trained, digest

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = (
    "bentoml",
    "numpy",
    "onnx",
    "onnxruntime",
    "peft",
    "scikit-learn",
    "skl2onnx",
    "tokenizers",
    "torch",
    "transformers",
)


def inputs_digest(name: str, data: Path | None) -> str:
    """Digest of all that a model is made from: code, weights, pinned libraries, data folder.

    Of the data the files' names and sizes count, so that this takes no time.
    """
    files = [
        *sorted((ROOT / "training").glob("*.py")),
        *sorted((ROOT / "training").glob("*.json")),
        *sorted((ROOT / "training").glob("*.tsv")),
        *sorted((ROOT / "training" / "weights" / name).glob("*")),
        ROOT / "models" / "model.py",
        ROOT / "models" / f"{name}.py",
        ROOT / "requirements" / "training.txt",
        ROOT / "requirements" / "serving.txt",
    ]
    others = tuple(f"{other}{part}.py" for other in models.names() if other != name for part in ("", "_fit", "_own"))
    parts = [
        part
        for path in files
        if path.exists() and not (path.parent.name == "training" and path.name in others)
        for part in (str(path.relative_to(ROOT)).encode(), path.read_bytes())
    ]
    if data is not None:
        for path in sorted(path for path in data.rglob("*") if path.is_file()):
            parts += [str(path.relative_to(data)).encode(), str(path.stat().st_size).encode()]
    return digest(parts)


def current(name: str, inputs: str) -> bentoml.Model | None:
    """The newest store entry of a model if it was made from these inputs, or is the user's own."""
    entry = newest(name)
    if entry is None or entry.info.metadata.get("inputs_digest") == inputs or origin(entry):
        return entry
    return None


def origin(entry: bentoml.Model) -> str | None:
    """Where a model of the user's own comes from; None of ours."""
    found: Any = entry.info.metadata.get("origin")
    return found and str(found["from"])


def newest(name: str) -> bentoml.Model | None:
    """The newest store entry of a model."""
    try:
        return bentoml.models.get(name)
    except NotFound:
        return None


def metrics(entry: bentoml.Model) -> dict[str, Estimate]:
    """The metrics of an entry's evaluation."""
    card: Any = entry.info.metadata["card"]
    return {name: Estimate(**metric) for name, metric in card["metrics"].items()}


def save(name: str, trained: Trained, inputs: str | None) -> bentoml.Model:
    """Save a model under a new version."""
    with bentoml.models.create(
        name,
        labels={"project": "tiffin", "framework": trained.framework.split()[0]},
        metadata=metadata(name, trained, inputs),
    ) as entry:
        folder = Path(entry.path)
        (folder / "model.onnx").write_bytes(trained.graph)
        for file, content in trained.files.items():
            (folder / file).write_bytes(content)
    return entry


def metadata(name: str, trained: Trained, inputs: str | None) -> dict[str, Any]:
    """What is known of a model, as `GET /<model>/info` shows it; `inputs` is None of a user's own."""
    model = models.find(name)
    predict = next(route for route in model.routes() if route.name == "predict")
    found = {
        "framework": trained.framework,
        "labels": trained.labels,
        "metrics": {metric: estimate.value for metric, estimate in trained.evaluation.metrics.items()},
        "card": card(trained),
        "parity": trained.parity,
        "training_data": training_data(trained.data),
        "input_schema": predict.request.model_json_schema(),
        "output_schema": predict.response.model_json_schema(),
        "libraries": installed(),
        "git_commit": git_commit(),
        "inputs_digest": inputs,
        "origin": trained.origin or None,
    }
    cleaned: dict[str, Any] = without_none(found)
    return cleaned


def card(trained: Trained) -> dict[str, Any]:
    """The model card (Mitchell et al. 2019, arXiv:1810.03993); metrics have 95 % intervals."""
    return {
        "summary": trained.summary,
        "data": f"{trained.data.name}: {trained.data.source}",
        "licence": trained.data.licence,
        "procedure": trained.procedure,
        "limits": trained.limits,
        "metrics": {name: asdict(estimate) for name, estimate in trained.evaluation.metrics.items()},
    }


def without_none(value: Any) -> Any:
    """The value without entries that are None, which BentoML's metadata cannot hold."""
    if isinstance(value, dict):
        return {key: without_none(entry) for key, entry in value.items() if entry is not None}
    if isinstance(value, list):
        return [without_none(entry) for entry in value if entry is not None]
    return value


def training_data(data: Data) -> dict[str, Any]:
    """The description of training data as it stands in the metadata."""
    digest = data.digest and f"sha256:{data.digest}"
    return {"name": data.name, "source": data.source, "licence": data.licence, "rows": data.rows, "digest": digest}


def installed() -> dict[str, str]:
    """Versions of the libraries that a model depends on."""
    versions = {}
    for library in LIBRARIES:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            continue
    return versions


def git_commit() -> str:
    """Commit of the checkout, with `-dirty` when it has changes; `unknown` outside of one."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],  # noqa: S607
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()
