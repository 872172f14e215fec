"""Rows are read in record batches, and cut into parts without being copied."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest

from scoring.sources import cut


def batches(lengths: list[int], read: list[int]) -> Iterator[pa.RecordBatch]:
    """Yield batches of these lengths, of rows that are counted on; note the lengths of those that are read."""
    for place, length in enumerate(lengths):
        read.append(length)
        first = sum(lengths[:place])
        yield pa.record_batch({"row": pa.array(range(first, first + length), pa.int64())})


@pytest.mark.parametrize("lengths", [[10], [3, 3, 4], [1] * 10, [0, 4, 0, 6, 0], [4, 4], [9, 3]], ids=str)
@pytest.mark.parametrize("rows", [1, 4, 10, 20])
def test_parts_have_the_rows_in_their_order(lengths: list[int], rows: int) -> None:
    found = [
        [row for piece in part for row in piece.column("row").to_pylist()] for part in cut(batches(lengths, []), rows)
    ]
    count = sum(lengths)
    assert found == [list(range(start, min(start + rows, count))) for start in range(0, count, rows)]


@pytest.mark.parametrize("lengths", [[], [0, 0]], ids=str)
def test_no_rows_are_no_part(lengths: list[int]) -> None:
    assert list(cut(batches(lengths, []), 5)) == []


def test_a_part_ends_before_the_next_batch_is_read() -> None:
    read: list[int] = []
    parts = cut(batches([2, 2, 2], read), 4)
    assert [piece.num_rows for piece in next(parts)] == [2, 2]
    assert read == [2, 2]
