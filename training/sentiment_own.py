"""Text classifiers of the user's own, from the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoModelForSequenceClassification, AutoTokenizer

from training import hub
from training.sentiment import evaluate, network
from training.trained import Report, Trained, TrainingError


def train_from_hub(source: hub.Pretrained, quantized: bool, data: Path | None, report: Report) -> Trained:
    """Export any model for AutoModelForSequenceClassification whose labels exclude each other."""
    report("loading", 0.0)
    hub.quiet()
    model = hub.load(AutoModelForSequenceClassification, source)
    labels = hub.label_names(model, source)
    if model.config.problem_type not in (None, "single_label_classification"):
        raise TrainingError(f"{source.identifier} does {model.config.problem_type}, served is one label of several")
    try:
        tokenize = AutoTokenizer.from_pretrained(source.folder)
    except (OSError, ValueError, KeyError) as error:
        raise TrainingError(f"{source.identifier} has no usable tokenizer: {hub.first_line(error)}") from error
    theirs = network(model, tokenize, labels)
    framework = f"transformers {type(model).__name__}"
    return hub.train_own(theirs, labels, framework, source.origin, evaluate, quantized, data, report)
