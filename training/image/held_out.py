"""Pictures on which explanations are measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from models.image import Upload
from training.image import read_images


def held_out(data: Path | None, count: int) -> list[tuple[Any, Any]]:
    """Return test images of `data`; none without it."""
    if data is None:
        return []
    files, _ = read_images(data, "test")
    chosen = np.random.default_rng(0).permutation(len(files))[:count]
    return [(Upload(files[place], resize=True), None) for place in chosen]
