"""The BentoML model store: find models in it, and save models to it."""

from __future__ import annotations

import subprocess
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import bentoml
from bentoml.exceptions import NotFound

from training.artifact import Artifact, Data, Estimate
from training.unsigned import check_products

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


def current(name: str, inputs: str) -> bentoml.Model | None:
    """Return the newest store entry of a model if it was made from these inputs, or is the user's own."""
    entry = newest(name)
    if entry is None or entry.info.metadata.get("inputs_digest") == inputs or origin(entry):
        return entry
    return None


def origin(entry: bentoml.Model) -> str | None:
    """Return where a model of the user's own comes from; None for ours."""
    found: Any = entry.info.metadata.get("origin")
    return found and str(found["from"])


def newest(name: str) -> bentoml.Model | None:
    """Return the newest store entry of a model."""
    try:
        return bentoml.models.get(name)
    except NotFound:
        return None


def metrics(entry: bentoml.Model) -> dict[str, Estimate]:
    """Return the metrics of an entry's evaluation."""
    card: Any = entry.info.metadata["card"]
    return {name: Estimate(**metric) for name, metric in card["metrics"].items()}


def save(
    name: str, artifact: Artifact, inputs: str | None, version: str | None = None, *, changed: bool = False
) -> bentoml.Model:
    """Save a model under `version`, a new one by default.

    With a version given, as for shipping, the metadata leaves out the git commit, since the entry itself is committed.
    `changed` marks a model whose sources differ from the shipped one's as the user's own. Raises TrainingError if the
    graph gives other numbers on some processors.
    """
    check_products(artifact.graph)
    about = metadata(artifact, inputs) | ({"changed_sources": True} if changed else {})
    with bentoml.models.create(
        f"{name}:{version}" if version else name,
        labels={"project": "tiffin", "framework": artifact.framework.split()[0]},
        metadata=about if version else about | {"git_commit": git_commit()},
    ) as entry:
        folder = Path(entry.path)
        (folder / "model.onnx").write_bytes(artifact.graph)
        for file, content in artifact.files.items():
            (folder / file).write_bytes(content)
    return entry


def metadata(artifact: Artifact, inputs: str | None) -> dict[str, Any]:
    """Return the metadata of a model, which `GET /<model>/info` shows; `inputs` is None for a user's own."""
    found = {
        "framework": artifact.framework,
        "labels": artifact.labels,
        "metrics": {metric: estimate.value for metric, estimate in artifact.evaluation.metrics.items()},
        "card": card(artifact),
        "parity": artifact.parity,
        "training_data": training_data(artifact.data),
        "libraries": installed(),
        "inputs_digest": inputs,
        "origin": artifact.origin or None,
    }
    cleaned: dict[str, Any] = without_none(found)
    return cleaned


def card(artifact: Artifact) -> dict[str, Any]:
    """Return the model card (Mitchell et al. 2019, arXiv:1810.03993); metrics have 95 % intervals."""
    return {
        "summary": artifact.summary,
        "data": f"{artifact.data.name}: {artifact.data.source}",
        "licence": artifact.data.licence,
        "procedure": artifact.procedure,
        "limits": artifact.limits,
        "metrics": {name: asdict(estimate) for name, estimate in artifact.evaluation.metrics.items()},
    }


def without_none(value: Any) -> Any:
    """Return the value without entries that are None, which BentoML's metadata cannot hold."""
    if isinstance(value, dict):
        return {key: without_none(entry) for key, entry in value.items() if entry is not None}
    if isinstance(value, list):
        return [without_none(entry) for entry in value if entry is not None]
    return value


def training_data(data: Data) -> dict[str, Any]:
    """Return the training data as the metadata describes it."""
    digest = data.digest and f"sha256:{data.digest}"
    return {"name": data.name, "source": data.source, "licence": data.licence, "rows": data.rows, "digest": digest}


def installed() -> dict[str, str]:
    """Return the installed versions of the libraries that models depend on."""
    versions = {}
    for library in LIBRARIES:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            continue
    return versions


def git_commit() -> str:
    """Return the commit of the checkout, with `-dirty` if it has changes; `unknown` outside of one."""
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
