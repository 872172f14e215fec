"""Models of the user's own: from the Hugging Face hub, or from a folder that `save_pretrained` wrote."""

from __future__ import annotations

import json
import re
import warnings
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
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

from training.artifact import TrainingError

# Loading safetensors cannot run code. Older repositories have pickles only, which torch loads without running code
# either, but by more complicated rules.
FILES = [
    "config.json",
    "*processor_config.json",
    "*token*",
    "vocab*",
    "merges.txt",
    "*.model",
    "model*.safetensors*",
]
OLD_WEIGHTS = ["pytorch_model*.bin*"]
# How transformers words that a package is missing.
PACKAGE = re.compile(
    r"pip install (?:-\S+ )*([\w.-]+)|need to install ([\w.-]+)|requires the ([\w.-]+) library"
    r"|No module named '([\w-]+)|package metadata was found for ([\w.-]+)"
)


@dataclass(frozen=True)
class Pretrained:
    """A folder with a transformers model, and where it came from."""

    folder: Path
    identifier: str
    revision: str | None

    @property
    def origin(self) -> dict[str, str]:
        """The origin for the metadata: the identifier on the hub or the folder, and the revision that was loaded."""
        return {"from": self.identifier} | ({"revision": self.revision} if self.revision else {})


def fetch(identifier: str, revision: str | None) -> Pretrained:
    """Return the folder `identifier` if there is one, else download what the hub has under that name.

    Raises TrainingError where there is neither.
    """
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
    """Download a model's files and return their folder, named after its commit; raise errors of huggingface_hub."""
    offline = False
    try:
        # Unlike a download this asks once, not six times, so that a hub out of reach is known at once.
        revision = HfApi().model_info(identifier, revision=revision, timeout=10).sha
    except (TransportError, OfflineModeIsEnabled):
        offline = True
    found = Path(snapshot_download(identifier, revision=revision, allow_patterns=FILES, local_files_only=offline))
    if not offline and not any(found.glob("*.safetensors")):
        snapshot_download(identifier, revision=revision, allow_patterns=OLD_WEIGHTS)
    return found


def load(auto: Any, source: Pretrained) -> Any:
    """Return the model of an Auto class such as AutoModelForImageClassification, in float32, for inference.

    Raises TrainingError when the files are of another kind or lack the weights of the head, or when the model does
    not choose one label of several.
    """
    failed = f"{source.identifier} is no model for {auto.__name__}"
    model, report = from_pretrained(auto, source, failed, output_loading_info=True, dtype="float32")
    if report["missing_keys"] or report["mismatched_keys"]:
        missing = ", ".join(sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))[:3])
        raise TrainingError(f"{source.identifier} has no trained weights for {auto.__name__}: {missing} is missing")
    kind = model.config.problem_type
    if kind not in (None, "single_label_classification"):
        raise TrainingError(f"{source.identifier} does {kind}, served is one label of several")
    return model.eval()


def from_pretrained(auto: Any, source: Pretrained, failed: str, **options: Any) -> Any:
    """Return what an Auto class loads from a folder, without running code that comes with it.

    Raises TrainingError that names a missing package, or begins with `failed`.
    """
    try:
        return auto.from_pretrained(source.folder, trust_remote_code=False, **options)
    except Exception as error:  # of many classes, as damaged files and missing packages raise them
        if brings_code(source.folder, auto):
            reason = f"{source.identifier} brings code of its own (trust_remote_code), which is not run"
        elif package := missing_package(error, source.folder, auto):
            python = ".venv/bin/python -m pip install"
            reason = f"{source.identifier} needs the package {package}, which is not installed: {python} {package}"
        else:
            reason = f"{failed}: {first_line(error)}"
        raise TrainingError(reason) from error


def brings_code(folder: Path, auto: Any) -> bool:
    """Return whether a folder brings code of its own for an Auto class or its configuration."""
    for path in folder.glob("*config.json"):
        with suppress(ValueError, AttributeError):
            named = json.loads(path.read_text(encoding="utf-8")).get("auto_map", {})
            if auto.__name__ in named or "AutoConfig" in named:
                return True
    return False


def missing_package(error: Exception, folder: Path, auto: Any) -> str | None:
    """Return the missing package that made an Auto class raise this error; None if that is not why."""
    if auto.__name__ == "AutoTokenizer" and find_spec("sentencepiece") is None and needs_sentencepiece(folder):
        return "sentencepiece"  # transformers names tiktoken, which it tries last
    if not isinstance(error, ImportError) and "pip install" not in str(error):
        return None
    found = PACKAGE.search(str(error))
    return found and found[found.lastindex or 0]


def needs_sentencepiece(folder: Path) -> bool:
    """Return whether a folder's only tokenizer is one of sentencepiece: a protocol buffer, while tiktoken's is text."""
    models = [path.read_bytes()[:1] for path in folder.glob("*.model")]
    return b"\n" in models and not (folder / "tokenizer.json").exists()


def quiet() -> None:
    """Silence transformers about unused weights, progress and deprecated names."""
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its class where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
