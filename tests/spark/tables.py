"""Tables to score, as drawn for tests/scoring, and the comparison of scored ones."""

from __future__ import annotations

import math

import pyarrow as pa

from scoring import score
from tests.scoring.drawn import customers, pictures, texts, tumours

TOLERANCE = 1e-6
MODELS = ("breast_cancer", "image", "segmentation", "sentiment")


def drawn(model: str) -> pa.Table:
    """Return the rows for a model, some of them bad."""
    if model == "segmentation":
        return pa.Table.from_pylist([each.row for each in customers(10_000, seed=20_261_127)])
    if model == "breast_cancer":
        return pa.Table.from_pylist(tumours(2_000)[0])
    if model == "sentiment":
        return pa.table({"text": pa.array(texts(1_000), pa.string())})
    return pa.table({"image": pa.array(pictures(), pa.binary())})


def scored(table: pa.Table, model: str) -> pa.Table:
    """Return what `score` makes of a table on this machine."""
    return pa.Table.from_batches(score(table.to_batches(), model))


def check_equal(found: pa.Table, expected: pa.Table) -> None:
    """Check that two tables have the same columns and rows: numbers to TOLERANCE, all else exactly."""
    assert found.schema.names == expected.schema.names
    assert found.num_rows == expected.num_rows
    for name in expected.schema.names:
        pairs = zip(found.column(name).to_pylist(), expected.column(name).to_pylist(), strict=True)
        different = [(row, *pair) for row, pair in enumerate(pairs) if not is_near(*pair)]
        assert not different, f"{name}: {different[:5]}"


def is_near(found: object, expected: object) -> bool:
    """Return whether two cells are equal, numbers to TOLERANCE."""
    if isinstance(found, list) and isinstance(expected, list):
        return len(found) == len(expected) and all(map(is_near, found, expected))
    if isinstance(found, float) and isinstance(expected, float):
        return math.isclose(found, expected, rel_tol=0, abs_tol=TOLERANCE)
    return found == expected
