"""Make what the servers serve, once, below .cache/compare: each file is the same for Tiffin and for its peers.

The networks with random weights also come in a small size, for checks in which their speed does not matter: of the same
kind, made, exported and served by the same code, but with few layers.

python -m benchmarks.compare.assets KIND FOLDER
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtest.processes import ROOT

FOLDER = ROOT / ".cache" / "compare"


@dataclass(frozen=True)
class Assets:
    """Folders by the kind of what they hold; `small` asks for small networks."""

    folder: Path
    small: bool = False

    def of(self, kind: str) -> Path:
        """Return the folder `kind`, made now unless it exists; raise RuntimeError with the last lines if that fails."""
        if self.small and f"small_{kind}" in SAVERS:
            kind = f"small_{kind}"
        folder = self.folder / f"{kind}-{digest(kind)}"
        if not folder.exists():
            print(f"making {kind}", file=sys.stderr, flush=True)
            unfinished = folder.with_suffix(".unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            # In a process of its own, since torch would stay in the memory of this one.
            command = [sys.executable, "-m", "benchmarks.compare.assets", kind, str(unfinished)]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"{kind} could not be made:\n{(done.stdout + done.stderr)[-3000:]}")
            unfinished.rename(folder)
        return folder


def entry(home: Path, model: str) -> Path:
    """Return the folder of the newest version of a model in the BentoML home `home`."""
    stored = home / "models" / model
    return stored / (stored / "latest").read_text(encoding="utf-8").strip()


def save_distilbert(folder: Path, **shape: Any) -> None:
    """Save DistilBERT's shape with seeded random weights in `torch`, and as int8 ONNX in the BentoML home `home`.

    `shape` holds the values of its configuration that differ from DistilBERT's.
    """
    import torch
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    from training.sentiment import LABELS, tokenizer

    torch.manual_seed(0)
    labels: dict[str, Any] = {
        "id2label": dict(enumerate(LABELS)),
        "label2id": {name: i for i, name in enumerate(LABELS)},
    }
    config = DistilBertConfig(**labels, **shape)
    model = DistilBertForSequenceClassification(config)
    # Large enough for the labels to differ by more than rounding.
    torch.nn.init.normal_(model.classifier.weight)
    model.save_pretrained(folder / "torch")
    save_tokenizer(tokenizer(), folder / "torch")
    take("sentiment", folder, "--quantize")


def save_sentiment(folder: Path) -> None:
    """Save Tiffin's own text classifier, its adapter merged in, in `torch` for AutoModelForSequenceClassification.

    Its ONNX file is that of the BentoML store.
    """
    from benchmarks.compare.mean_pooled import MeanPooledClassifier
    from training.sentiment import LABELS, assemble, tokenizer

    ours = assemble()
    config = ours.encoder.config
    config.id2label = dict(enumerate(LABELS))
    config.label2id = {name: i for i, name in enumerate(LABELS)}
    MeanPooledClassifier.register_for_auto_class(  # type: ignore[no-untyped-call]
        "AutoModelForSequenceClassification"
    )
    model = MeanPooledClassifier(config)
    model.bert.load_state_dict(ours.encoder.state_dict())
    model.classifier.load_state_dict(ours.classifier.state_dict())
    model.save_pretrained(folder / "torch")
    save_tokenizer(tokenizer(), folder / "torch")


def save_tokenizer(tokenize: object, folder: Path) -> None:
    """Save a tokenizer without the segments (token type ids), which neither model reads."""
    tokenize.save_pretrained(folder)  # type: ignore[attr-defined]  # transformers has no type for all of them
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config |= {"model_input_names": ["input_ids", "attention_mask"], "model_max_length": 512}
    path.write_text(json.dumps(config), encoding="utf-8")


def save_resnet(folder: Path, side: int = 224, **shape: Any) -> None:
    """Save ResNet-50's shape with seeded random weights and 1 000 labels as float32 ONNX in the BentoML home `home`.

    It takes pictures of `side` pixels; `shape` holds the values of its configuration that differ from ResNet-50's.
    """
    import torch
    from transformers import ResNetConfig, ResNetForImageClassification

    torch.manual_seed(0)
    names = [f"thing {i}" for i in range(1_000)]
    labels: dict[str, Any] = {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    config = ResNetConfig(**labels, **shape)
    ResNetForImageClassification(config).save_pretrained(folder / "torch")
    processor = {"image_processor_type": "ConvNextImageProcessor", "crop_pct": 0.875, "size": {"shortest_edge": side}}
    (folder / "torch" / "preprocessor_config.json").write_text(json.dumps(processor), encoding="utf-8")
    take("image", folder)


def take(model: str, folder: Path, *options: str) -> None:
    """Make `folder/torch` a model of the BentoML home `folder/home` with the training command."""
    (folder / "home").mkdir()
    subprocess.run(
        [sys.executable, "-m", "training", model, "--from-hub", str(folder / "torch"), *options],
        cwd=ROOT,
        env={**os.environ, "BENTOML_HOME": str(folder / "home"), "BENTOML_DO_NOT_TRACK": "True"},
        check=True,
    )


def save_tabular(folder: Path) -> None:
    """Save `breast_cancer.joblib`, the fitted ensemble, and `segmentation.csv`, the rows Tiffin's GLM is fitted on."""
    import joblib
    import pandas

    from models.breast_cancer import FEATURES
    from models.segmentation.columns import VARIABLES
    from training import breast_cancer, segmentation

    rows, _, classes, _ = breast_cancer.split()
    fitted = breast_cancer.pipeline().fit(pandas.DataFrame(rows, columns=list(FEATURES)), classes)
    joblib.dump(fitted, folder / "breast_cancer.joblib")
    columns, bought = segmentation.draw(segmentation.ROWS, seed=26)
    pandas.DataFrame(columns | {"y": bought}).to_csv(folder / "segmentation.csv", index=False)
    (folder / "variables.json").write_text(json.dumps(VARIABLES), encoding="utf-8")


def digest(kind: str) -> str:
    """Return eight hexadecimal digits that change with the sources of an asset."""
    content = hashlib.sha256(Path(__file__).read_bytes())
    for pattern in SOURCES[kind]:
        for path in sorted(ROOT.glob(pattern)):
            content.update(path.read_bytes())
    return content.hexdigest()[:8]


SAVERS: dict[str, Callable[[Path], None]] = {
    "distilbert": save_distilbert,
    "small_distilbert": functools.partial(save_distilbert, n_layers=1, dim=96, hidden_dim=192),
    "sentiment": save_sentiment,
    "resnet": save_resnet,
    "small_resnet": functools.partial(save_resnet, side=64, depths=[1, 1, 1, 1], hidden_sizes=[32, 64, 96, 128]),
    "tabular": save_tabular,
}
# The files that each depends on.
SOURCES = {
    "distilbert": ("training/sentiment/__init__.py", "training/quantize.py"),
    "small_distilbert": ("training/sentiment/__init__.py", "training/quantize.py"),
    "sentiment": (
        "training/sentiment/__init__.py",
        "training/sentiment/weights/*",
        "benchmarks/compare/mean_pooled.py",
    ),
    "resnet": ("training/image/own.py",),
    "small_resnet": ("training/image/own.py",),
    "tabular": (
        "training/breast_cancer/__init__.py",
        "training/segmentation/__init__.py",
        "training/segmentation/glm26.json",
        "benchmarks/compare/peers/fastapi_tabular.*",
    ),
}


if __name__ == "__main__":
    SAVERS[sys.argv[1]](Path(sys.argv[2]))
