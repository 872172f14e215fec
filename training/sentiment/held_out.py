"""Texts on which explanations are measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from training.sentiment import challenge_set, evaluation_file


def held_out(data: Path | None, count: int) -> list[tuple[Any, Any]]:
    """Return texts of several words of `data/sst2/dev.tsv`; without `data` those of the challenge set."""
    if data is None:
        found = [row["text"] for row in challenge_set()]
    else:
        lines = evaluation_file(data).read_text(encoding="utf-8").splitlines()
        found = [line.rpartition("\t")[0] for line in lines]
    texts = [text for text in found if len(text.split()) > 1]
    return [(texts[place], None) for place in np.random.default_rng(0).permutation(len(texts))[:count]]
