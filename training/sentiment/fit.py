"""Fit the sentiment classifier: a low-rank adapter on the encoder, and the head.

Three adapters are fitted on the labels, by different recipes. Their mean prediction is right more often than that of
any one; the last adapter then learns it (knowledge distillation, Hinton et al. 2015, arXiv:1503.02531), on texts
without a label, too.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from torch.nn import functional

from training import fitting
from training.artifact import ProgressCallback, digest, require
from training.sentiment import BASE, LABELS, WEIGHTS, tokenizer, untrained


@dataclass(frozen=True)
class AdapterRecipe:
    """How an adapter is fitted."""

    epochs: int
    learning_rate: float
    first_token: bool = False  # see `PooledClassifier`


# The last becomes the student, which is served; its head is on the mean.
TEACHERS = (AdapterRecipe(3, 1.5e-3), AdapterRecipe(3, 1e-3, first_token=True), AdapterRecipe(4, 8e-4))
DISTILLATION = AdapterRecipe(3, 6e-4)
# Weight of the label in the target of a labelled phrase; the rest is that of the teachers' prediction.
LABEL_SHARE = 0.4
SPANS = 60_000
# Decay of the moving average of the weights.
AVERAGE_KEEPS = 0.999
PATIENCE = 2
BATCH = 64
VALIDATION = 500

# Texts with their labels.
Examples = list[tuple[str, int]]


def read_texts(path: Path) -> Examples:
    """Return (text, label) from lines `text<TAB>label`; label 1 is positive."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [(text, int(label)) for text, label in (line.rsplit("\t", 1) for line in lines)]


def split(folder: Path, generator: torch.Generator, held_out: int) -> tuple[Examples, Examples]:
    """Return phrases to fit on and sentences to validate on, no phrase being a part of such a sentence."""
    sentences = read_texts(folder / "train.tsv")
    order = torch.randperm(len(sentences), generator=generator).tolist()
    held = [sentences[i] for i in order[:held_out]]
    held_words = "\n".join(words(text) for text, _ in held)
    phrases = read_texts(folder / "train_phrases.tsv")
    return [(text, label) for text, label in phrases if words(text) not in held_words], held


def words(text: str) -> str:
    """Return the words of a text between spaces, without punctuation, in which sentences and their phrases differ."""
    return f" {' '.join(re.findall('[a-z0-9]+', text))} "


def batches(lengths: list[int], generator: torch.Generator) -> Iterator[list[int]]:
    """Yield shuffled batches of indices of texts of like length, so that little is padded."""
    order = torch.randperm(len(lengths), generator=generator).tolist()
    pool = BATCH * 50
    cut = []
    for start in range(0, len(order), pool):
        chunk = sorted(order[start : start + pool], key=lengths.__getitem__)
        cut += [chunk[i : i + BATCH] for i in range(0, len(chunk), BATCH)]
    for i in torch.randperm(len(cut), generator=generator).tolist():
        yield cut[i]


def pad(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Pad token ids of unequal length; return int64 ids and attention mask, both (n, longest)."""
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
    lengths = torch.tensor([len(row) for row in rows])
    return ids, (torch.arange(ids.shape[1]) < lengths[:, None]).long()


def batch_logits(model: Any, rows: list[list[int]], where: torch.device) -> Tensor:
    """Return logits float32 (n, labels) of a batch of tokenized texts, computed in bfloat16."""
    ids, mask = pad(rows)
    with torch.autocast(where.type, dtype=torch.bfloat16):
        logits: Tensor = model(ids.to(where), mask.to(where))
    return logits.float()


@torch.no_grad()
def logits_of(model: Any, rows: list[list[int]], where: torch.device) -> Tensor:
    """Return logits float32 (n, labels) of tokenized texts, in their order, without dropout."""
    model.eval()
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    out = torch.empty(len(rows), len(LABELS))
    for start in range(0, len(order), BATCH):
        index = order[start : start + BATCH]
        out[index] = batch_logits(model, [rows[i] for i in index], where).cpu()
    return out


def spans(sentences: list[str], count: int) -> list[str]:
    """Return up to `count` different parts of sentences, of 5 words or more."""
    rng = random.Random(0)  # noqa: S311
    split_sentences = [words for words in map(str.split, sentences) if len(words) >= 5]
    found: dict[str, None] = {}
    for _ in range(3 * count if split_sentences else 0):
        chosen = rng.choice(split_sentences)
        length = rng.randint(5, len(chosen))
        start = rng.randint(0, len(chosen) - length)
        found[" ".join(chosen[start : start + length])] = None
        if len(found) == count:
            break
    return list(found)


@torch.no_grad()
def copy_into(kept: Iterable[Tensor], values: Iterable[Tensor], share: float = 1.0) -> None:
    """Move tensors towards values by a share of the distance, by default all of it."""
    for tensor, value in zip(kept, values, strict=True):
        tensor.lerp_(value, share)


@dataclass
class AdapterFit:
    """Tokenized texts to fit on, with target probabilities (n, labels), and texts to validate on, with labels (m,)."""

    rows: list[list[int]]
    targets: Tensor
    held_rows: list[list[int]]
    held_labels: Tensor

    def run(
        self,
        model: Any,
        recipe: AdapterRecipe,
        seed: int,
        checkpoint: Path,
        inputs: str,
        report: Callable[[int, float], None],
    ) -> list[fitting.Epoch]:
        """Fit the trainable parameters of `model` and leave it with their moving average at its best."""
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        where = fitting.device()
        model.to(where)
        trainable = torch.nn.ParameterList(p for p in model.parameters() if p.requires_grad)
        average = torch.nn.ParameterList(p.detach().clone() for p in trainable)
        lengths = [len(row) for row in self.rows]
        steps = -(-len(self.rows) // BATCH) + 1
        optimizer = torch.optim.AdamW(trainable, lr=recipe.learning_rate, weight_decay=0.01)
        schedule = fitting.schedule(optimizer, recipe.epochs * steps, warm_up=0.06, decay=0.94)

        def epoch(number: int) -> tuple[float, float]:
            model.train()
            total = 0.0
            for step, index in enumerate(batches(lengths, generator), start=1):
                logits = batch_logits(model, [self.rows[i] for i in index], where)
                loss = functional.cross_entropy(logits, self.targets[index].to(where))
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(trainable, 1.0)
                optimizer.step()
                schedule.step()
                # During the first steps the average follows closely.
                done = number * steps + step
                copy_into(average, trainable, 1 - min(AVERAGE_KEEPS, (1 + done) / (10 + done)))
                total += loss.item()
                report(number, step / steps)
            fitted = [parameter.detach().clone() for parameter in trainable]
            copy_into(trainable, average)
            hits = logits_of(model, self.held_rows, where).argmax(1) == self.held_labels
            copy_into(trainable, fitted)
            return total / step, float(hits.float().mean())

        log = fitting.run_epochs(
            epoch,
            epochs=recipe.epochs,
            patience=PATIENCE,
            model=average,
            others={"model": trainable, "optimizer": optimizer, "schedule": schedule},
            generator=generator,
            checkpoint=checkpoint,
            inputs=digest([inputs.encode(), f"{recipe} {BATCH} {seed}".encode()]),
        )
        copy_into(trainable, average)
        return log

    def calibrate(self, model: Any) -> float:
        """Divide the head by the temperature that fits the validation texts best, and return the temperature."""
        divisor = fitting.temperature(logits_of(model, self.held_rows, fitting.device()), self.held_labels)
        head = model.base_model.model.classifier.modules_to_save["default"]
        with torch.no_grad():
            head.weight.div_(divisor)
            head.bias.div_(divisor)
        return divisor


def adapted(recipe: AdapterRecipe) -> Any:
    """Return the encoder with an adapter and a head that have not been fitted."""
    # The adapter has no dropout of its own beside the encoder's: drawing it took a third of the time.
    config = LoraConfig(
        r=16,
        lora_alpha=32,
        target_modules=["query", "key", "value", "dense"],
        modules_to_save=["classifier"],
    )
    return get_peft_model(untrained(first_token=recipe.first_token), config)


def fit(
    data: Path,
    report: ProgressCallback,
    weights: Path = WEIGHTS,
    recipes: tuple[AdapterRecipe, ...] = (*TEACHERS, DISTILLATION),
    held_out: int = VALIDATION,
) -> None:
    """Fit adapter and head on `data/sst2` (train.tsv, train_phrases.tsv) and write them to `weights`.

    All recipes but the last are for teachers, the last of which becomes the student. Validation uses `held_out`
    sentences of train.tsv, never dev.tsv; `log.csv` gets a line per epoch. The head is divided by the temperature that
    fits the held-out sentences best, so that scores are calibrated.
    """
    folder = data / "sst2"
    for file in ("train.tsv", "train_phrases.tsv"):
        require(folder / file, "training data")
    tokenize = tokenizer()
    phrases, held = split(folder, torch.Generator().manual_seed(0), held_out)
    kept_back = {text for text, _ in held}
    sentences = [text for text, _ in read_texts(folder / "train.tsv") if text not in kept_back]
    unlabelled = spans(sentences, SPANS)
    rows, more_rows, held_rows = (
        [tokenize(text, truncation=True)["input_ids"] for text in texts]
        for texts in ([text for text, _ in phrases], unlabelled, [text for text, _ in held])
    )
    labels = functional.one_hot(torch.tensor([label for _, label in phrases]), len(LABELS)).float()
    held_labels = torch.tensor([label for _, label in held])
    phrases_digest = digest(text.encode() + b"\t%d" % label for text, label in phrases)
    total = sum(recipe.epochs for recipe in recipes)
    checkpoints = [weights.with_suffix(f".checkpoint{number}") for number in range(len(recipes))]
    log: list[fitting.Epoch] = []

    def progress(number: int, epoch: int, done: float) -> None:
        before = sum(recipe.epochs for recipe in recipes[:number]) + epoch
        report(f"epoch {before + 1} of {total}", (before + done) / total)

    said = torch.zeros(len(rows) + len(more_rows), len(LABELS))
    *teachers, last = recipes
    for number, recipe in enumerate(teachers):
        torch.manual_seed(number)
        model = adapted(recipe)
        work = AdapterFit(rows, labels, held_rows, held_labels)
        log += work.run(model, recipe, number, checkpoints[number], phrases_digest, partial(progress, number))
        work.calibrate(model)
        said += torch.softmax(logits_of(model, rows + more_rows, fitting.device()), 1) / len(teachers)
    targets = torch.cat([LABEL_SHARE * labels + (1 - LABEL_SHARE) * said[: len(rows)], said[len(rows) :]])
    work = AdapterFit(rows + more_rows, targets, held_rows, held_labels)
    learned = work.run(model, last, len(teachers), checkpoints[-1], phrases_digest, partial(progress, len(teachers)))
    divisor = work.calibrate(model)
    model.peft_config["default"].base_model_name_or_path = BASE
    # With embedding layers, peft would ask the hub whether the base model's vocabulary has changed.
    model.half().save_pretrained(weights, save_embedding_layers=False)
    (weights / "README.md").unlink()  # an empty template
    fitting.write_record(
        weights,
        log + learned,
        validation_accuracy=max(entry.accuracy for entry in learned),
        rows=len(rows),
        digest=phrases_digest,
        temperature=round(divisor, 4),
    )
    for checkpoint in checkpoints:
        checkpoint.unlink()
