"""Models of the user's own: from the Hugging Face hub, or from a folder that `save_pretrained` wrote."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from httpx2 import HTTPError, TransportError
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from transformers.utils import logging

from training.network import Network, make_graph
from training.served import Served, serve
from training.trained import Data, Evaluation, Report, Trained, TrainingError

# Weights as safetensors cannot run code when they are loaded; older repositories have pickles only, which
# torch loads without running code either, but under more complicated rules.
FILES = ["config.json", "preprocessor_config.json", "*token*", "vocab*", "merges.txt", "*.model", "model*.safetensors*"]
OLD_WEIGHTS = ["pytorch_model*.bin*"]


@dataclass(frozen=True)
class Pretrained:
    """A folder with a transformers model and where it came from."""

    folder: Path
    identifier: str
    revision: str | None

    @property
    def origin(self) -> dict[str, str]:
        """For the metadata: identifier on the hub or folder, and the revision that was loaded."""
        return {"from": self.identifier} | ({"revision": self.revision} if self.revision else {})


def fetch(identifier: str, revision: str | None) -> Pretrained:
    """The folder `identifier` if it is one, else what the hub has under that name; TrainingError when there is none."""
    folder = Path(identifier)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise TrainingError(f"folder {identifier} holds no config.json, as save_pretrained writes it")
        if revision is not None:
            raise TrainingError(f"--revision belongs to models on the hub, {identifier} is a folder")
        return Pretrained(folder.resolve(), str(folder.resolve()), None)
    try:
        found = download(identifier, revision)
    except HFValidationError as error:
        raise TrainingError(f"{identifier} is neither a folder nor a name on the hub") from error
    except GatedRepoError as error:
        raise TrainingError(f"{identifier} is gated: ask for access on the hub, then set HF_TOKEN") from error
    except RevisionNotFoundError as error:
        raise TrainingError(f"{identifier} has no revision {revision} on the hub") from error
    except RepositoryNotFoundError as error:
        raise TrainingError(f"the hub has no model {identifier}; a private one needs HF_TOKEN") from error
    except LocalEntryNotFoundError as error:
        raise TrainingError(
            f"no hub within reach to load {identifier} from; give a folder that save_pretrained wrote instead"
        ) from error
    except (HTTPError, OSError) as error:
        raise TrainingError(f"{identifier} could not be loaded from the hub: {first_line(error)}") from error
    return Pretrained(found, identifier, found.name)


def download(identifier: str, revision: str | None) -> Path:
    """The local copy of a model's files, named after its commit; errors of huggingface_hub."""
    offline = False
    try:
        # Unlike a download this asks once and not six times, so that a missing hub is known at once.
        revision = HfApi().model_info(identifier, revision=revision, timeout=10).sha
    except (TransportError, OfflineModeIsEnabled):
        offline = True
    found = Path(snapshot_download(identifier, revision=revision, allow_patterns=FILES, local_files_only=offline))
    if not offline and not any(found.glob("*.safetensors")):
        snapshot_download(identifier, revision=revision, allow_patterns=OLD_WEIGHTS)
    return found


def load(auto: Any, source: Pretrained) -> Any:
    """The model of an Auto class such as AutoModelForImageClassification, in float32, for inference.

    TrainingError when its files are of another kind or lack the head's weights.
    """
    try:
        model, report = auto.from_pretrained(source.folder, output_loading_info=True, dtype="float32")
    except (OSError, ValueError, KeyError) as error:
        raise TrainingError(f"{source.identifier} is no model for {auto.__name__}: {first_line(error)}") from error
    if report["missing_keys"] or report["mismatched_keys"]:
        missing = ", ".join(sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))[:3])
        raise TrainingError(f"{source.identifier} has no trained weights for {auto.__name__}: {missing} is missing")
    return model.eval()


def quiet() -> None:
    """Keep transformers from telling of weights it leaves out, of its progress and of names it deprecates."""
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


def label_names(model: Any, source: Pretrained) -> list[str]:
    """The labels in the order of the logits; TrainingError unless each logit has a name of its own."""
    names = model.config.id2label
    labels = [str(names.get(i, "")) for i in range(model.config.num_labels)]
    if len(labels) < 2:
        raise TrainingError(f"{source.identifier} has {len(labels)} label, a classifier needs two or more")
    if "" in labels or len(set(labels)) < len(labels):
        raise TrainingError(f"{source.identifier} does not name each of its {len(labels)} labels once in id2label")
    return labels


def first_line(error: Exception) -> str:
    """The error's first line, for a message of one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def train_own(
    network: Network,
    labels: list[str],
    framework: str,
    origin: dict[str, str],
    evaluate: Callable[[Served, Path | None], Evaluation],
    quantized: bool,
    data: Path | None,
    report: Report,
) -> Trained:
    """A user's own model, of which we know where it comes from and how it does, but not how it was fitted.

    Compared with the original, quantized when asked to, evaluated when there is data.
    """
    graph, parity = make_graph(network, quantized, report)
    report("evaluating", 0.8)
    with serve(network.name, graph, network.files) as served:
        evaluation = evaluate(served, data)
    return Trained(
        graph=graph,
        framework=framework,
        labels=labels,
        data=Data("unknown", "see the model's own card", "see the model's own card"),
        summary=f"{network.name.capitalize()} classifier {origin['from']}.",
        procedure=f"Loaded from {origin['from']}, served as ONNX in {'int8' if quantized else 'float32'}.",
        limits=["See the model's own card."],
        evaluation=evaluation,
        parity=parity,
        files=network.files,
        origin=origin,
    )
