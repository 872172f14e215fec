"""Text classifiers of the user's own, from the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from models.model import Array
from training import hub, own
from training.artifact import Artifact, ProgressCallback, TrainingError
from training.sentiment import evaluate, longest_input, network, random_texts, real_texts


def train_from_hub(source: hub.Pretrained, quantized: bool, data: Path | None, report: ProgressCallback) -> Artifact:
    """Make the artifact of any model for AutoModelForSequenceClassification that chooses one label.

    Raises TrainingError if it cannot be served or predicts otherwise than its own pipeline.
    """
    report("loading", 0.0)
    hub.quiet()
    model = hub.load(AutoModelForSequenceClassification, source)
    labels = own.label_names(model, source)
    tokenize = load_tokenizer(model, source)
    longest = longest_input(model, tokenize)
    original = pipeline("text-classification", model=model, tokenizer=tokenize, device="cpu")

    def reference(texts: Sequence[str]) -> Array:
        order = np.argsort([len(text) for text in texts], kind="stable")
        batch_size = 16 if tokenize.pad_token_id is not None else 1
        options = {"top_k": None, "truncation": True, "max_length": longest, "batch_size": batch_size}
        scores = np.empty((len(texts), len(labels)))
        scores[order] = own.original_scores(original, [texts[i] for i in order], labels, **options)
        return scores

    drawn = random_texts(tokenize, longest, count=300)
    # The last one drawn is the longest that is not truncated; the added ones are.
    items = [*real_texts.texts(), *drawn, *(f"{text} {drawn[-1]}" for text in drawn[-20:])]
    theirs = replace(network(model, tokenize, labels), reference=reference, items=items)
    framework = f"transformers {type(model).__name__}"
    return own.train_own(theirs, labels, framework, source.origin, evaluate, quantized, data, report)


def load_tokenizer(model: Any, source: hub.Pretrained) -> Any:
    """Return the tokenizer in a model's folder; raise TrainingError if there is none, or none that fits the model.

    Where files are missing, transformers makes a tokenizer that knows no word.
    """
    name = source.identifier
    tokenize = hub.from_pretrained(AutoTokenizer, source, f"{name} has no usable tokenizer")
    if not tokenize.is_fast:
        raise TrainingError(
            f"{name}: {type(tokenize).__name__} has no fast form (tokenizer.json), which the server needs"
        )
    files = sorted({"tokenizer.json", *tokenize.vocab_files_names.values()})
    if not any((source.folder / file).is_file() for file in files):
        raise TrainingError(f"{name} has no tokenizer, none of {', '.join(files)}: save it there by save_pretrained")
    known = model.get_input_embeddings().weight.shape[0]
    largest = max(tokenize.get_vocab().values())
    if largest >= known:
        raise TrainingError(f"{name}: its tokenizer gives ids up to {largest}, its model knows those below {known}")
    found = {id for text in real_texts.texts() for id in tokenize.encode(text, add_special_tokens=False)}
    if found <= {*tokenize.all_special_ids}:
        raise TrainingError(f"{name}: its tokenizer knows no word of {len(real_texts.texts())} texts")
    return tokenize
