"""Fitting the sentiment classifier: a low-rank adapter on the encoder, and the head."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from torch.nn import functional

from training import fitting
from training.sentiment import BASE, LABELS, WEIGHTS, tokenizer, untrained
from training.trained import Report, digest, require

EPOCHS = 4
PATIENCE = 2
BATCH = 64
VALIDATION = 500
LEARNING_RATE = 8e-4

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


@torch.no_grad()
def logits_of(model: Any, rows: list[list[int]], where: torch.device) -> Tensor:
    """Logits float32 (n, labels) of tokenized texts, in their order, without dropout."""
    model.eval()
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    out = torch.empty(len(rows), len(LABELS))
    for start in range(0, len(order), BATCH):
        index = order[start : start + BATCH]
        ids, mask = pad([rows[i] for i in index])
        out[index] = model(ids.to(where), mask.to(where)).float().cpu()
    return out


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


def fit(data: Path, report: Report, weights: Path = WEIGHTS, epochs: int = EPOCHS, held_out: int = VALIDATION) -> None:
    """Fit adapter and head on `data/sst2` (train.tsv, train_phrases.tsv) and write them to `weights`.

    Validated on sentences of train.tsv that are kept back, never on dev.tsv; one line per epoch
    goes to `log.csv`. The head is divided by the temperature that fits these sentences best, so
    that scores are calibrated.
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
        r=16,
        lora_alpha=32,
        lora_dropout=0.1,
        target_modules=["query", "key", "value", "dense"],
        modules_to_save=["classifier"],
    )
    where = fitting.device()
    model: Any = get_peft_model(untrained(), config).to(where)
    trainable = torch.nn.ParameterList(p for p in model.parameters() if p.requires_grad)
    steps = -(-len(rows) // BATCH) + 1
    optimizer = torch.optim.AdamW(trainable, lr=LEARNING_RATE, weight_decay=0.01)
    schedule = fitting.schedule(optimizer, epochs * steps, warm_up=0.06, decay=0.94)

    def epoch(number: int) -> tuple[float, float]:
        model.train()
        total = 0.0
        for step, index in enumerate(batches(lengths, generator), start=1):
            ids, mask = pad([rows[i] for i in index])
            with torch.autocast(where.type, dtype=torch.bfloat16):
                logits = model(ids.to(where), mask.to(where))
            loss = functional.cross_entropy(logits.float(), labels[index].to(where))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(trainable, 1.0)
            optimizer.step()
            schedule.step()
            total += loss.item()
            report(f"epoch {number + 1} of {epochs}", (number + step / steps) / epochs)
        hits = logits_of(model, held_rows, where).argmax(1) == held_labels
        return total / step, float(hits.float().mean())

    phrases_digest = digest(text.encode() + b"\t%d" % label for text, label in phrases)
    log = fitting.run_epochs(
        epoch,
        epochs=epochs,
        patience=PATIENCE,
        model=trainable,
        others={"optimizer": optimizer, "schedule": schedule},
        generator=generator,
        checkpoint=weights.with_suffix(".checkpoint"),
        inputs=digest([phrases_digest.encode(), f"{epochs} {BATCH} {LEARNING_RATE} {config}".encode()]),
    )
    divisor = temperature(logits_of(model, held_rows, where), held_labels)
    head = model.base_model.model.classifier.modules_to_save["default"]
    with torch.no_grad():
        head.weight.div_(divisor)
        head.bias.div_(divisor)
    model.peft_config["default"].base_model_name_or_path = BASE
    # Otherwise it asks the hub whether the base model's vocabulary has changed.
    model.half().save_pretrained(weights, save_embedding_layers=False)
    (weights / "README.md").unlink()  # an empty template
    fitting.write_record(weights, log, rows=len(rows), digest=phrases_digest, temperature=round(divisor, 4))
    weights.with_suffix(".checkpoint").unlink()
