"""What the text peers share: texts in, all labels with their scores out, by the engine that ENGINE names.

`torch` is the eager transformers pipeline of MODEL, a folder that save_pretrained wrote. `onnx` is Tiffin's own graph
and tokenizer in MODEL, its entry in the BentoML store. Both use the threads that their libraries use by default.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

Ranking = list[dict[str, str | float]]
Classify = Callable[[Sequence[str]], list[Ranking]]

# The limits of Tiffin's own batches, given to every server that batches.
MAX_BATCH = 8
WAIT_SECONDS = 0.002


def load() -> Classify:
    """Load the engine and return it: a function of a batch of texts, padded to the longest."""
    return {"torch": transformers_pipeline, "onnx": onnx_session}[os.environ["ENGINE"]](Path(os.environ["MODEL"]))


def transformers_pipeline(folder: Path) -> Classify:
    """Load it as the documentation of transformers shows; the texts go through the model as one batch."""
    from transformers import pipeline

    classify = pipeline("text-classification", model=str(folder), top_k=None, trust_remote_code=True)
    return lambda texts: classify(list(texts), batch_size=len(texts), truncation=True)


def onnx_session(folder: Path) -> Classify:
    """Load it as the documentation of tokenizers and of onnxruntime shows."""
    import numpy as np
    import onnxruntime
    from tokenizers import Tokenizer

    settings = json.loads((folder / "preprocess.json").read_text(encoding="utf-8"))
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding()
    tokenizer.enable_truncation(settings["max_length"])

    def classify(texts: Sequence[str]) -> list[Ranking]:
        encodings = tokenizer.encode_batch(list(texts))
        arrays = {
            "input_ids": [encoding.ids for encoding in encodings],
            "attention_mask": [encoding.attention_mask for encoding in encodings],
            "token_type_ids": [encoding.type_ids for encoding in encodings],
        }
        inputs = {name: np.array(arrays[name], dtype=np.int64) for name in settings["inputs"]}
        (logits,) = session.run(None, inputs)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        scores = odds / odds.sum(axis=1, keepdims=True)
        return [[{"label": settings["labels"][i], "score": float(row[i])} for i in np.argsort(-row)] for row in scores]

    return classify
