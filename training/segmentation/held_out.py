"""Customers on whom explanations are measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from training.segmentation import test_rows


def held_out(data: Path | None, count: int) -> list[tuple[Any, Any]]:
    """Return rows that are never fitted on, as items; `data` is ignored."""
    return [(row, None) for row in test_rows()[0][:count]]
