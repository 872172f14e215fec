"""Models of the user's own: compared with what their own library predicts, then made into an artifact."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.model import Array
from training.artifact import Artifact, Data, Evaluation, ProgressCallback, TrainingError
from training.hub import Pretrained, first_line
from training.network import Network, make_graph
from training.served import Served


def label_names(model: Any, source: Pretrained) -> list[str]:
    """Return the labels in the order of the logits, made unique.

    Raises TrainingError if there are fewer than two, or one has no name.
    """
    names = model.config.id2label
    labels = [str(names.get(i, "")).strip() for i in range(model.config.num_labels)]
    if len(labels) < 2:
        raise TrainingError(f"{source.identifier} has {len(labels)} label, a classifier needs two or more")
    if "" in labels:
        raise TrainingError(f"{source.identifier} does not name each of its {len(labels)} labels in id2label")
    return tell_apart(labels)


def tell_apart(labels: Sequence[str]) -> list[str]:
    """Return the labels, those of the same name made unique by their numbers.

    ImageNet has two cranes: the bird, 134, and the machine, 517.
    """
    counts = Counter(labels)
    taken = set(labels)
    found = []
    for number, label in enumerate(labels):
        name = label
        while counts[label] > 1 and name in taken:
            name = f"{name} ({number})"
        taken.add(name)
        found.append(name)
    return found


def original_scores(pipeline: Any, inputs: Sequence[Any], labels: Sequence[str], **options: Any) -> Array:
    """Return the scores (n, labels) that the original's own transformers pipeline predicts.

    They depend on its tokenizer or image processor, its activation and its labels, so these are compared, too.
    """
    pipeline.model.config.id2label = dict(enumerate(labels))
    numbers = {label: number for number, label in enumerate(labels)}
    scores = np.zeros((len(inputs), len(labels)))
    try:
        for row, answer in zip(scores, pipeline(list(inputs), **options), strict=True):
            for entry in answer:
                row[numbers[entry["label"]]] = entry["score"]
    except Exception as error:  # of many classes, as models raise them
        raise TrainingError(f"its own pipeline of transformers cannot answer: {first_line(error)}") from error
    return scores


def train_own(
    network: Network,
    labels: list[str],
    framework: str,
    origin: dict[str, str],
    evaluate: Callable[[Served, Path | None], Evaluation],
    quantized: bool,
    data: Path | None,
    report: ProgressCallback,
) -> Artifact:
    """Make the artifact of a user's own model: compare it with the original, quantize it if asked, evaluate it on data.

    Its card tells where it comes from, but not how it was fitted, which is not known here.
    """
    graph, parity, evaluation = make_graph(network, quantized, evaluate, data, report)
    return Artifact(
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
