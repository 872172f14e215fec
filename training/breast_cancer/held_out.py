"""Tumours on which explanations are measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from models.breast_cancer import FEATURES
from training.breast_cancer import split


def held_out(data: Path | None, count: int) -> list[tuple[Any, Any]]:
    """Return tumours of the held-out fifth, as items and as rows of columns; `data` is ignored."""
    rows = split()[1][:count]
    return [(row, dict(zip(FEATURES, row.tolist(), strict=True))) for row in rows]
