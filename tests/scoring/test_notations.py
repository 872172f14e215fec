"""Numbers, plain ones and those in a notation, are read together as the column reads them one by one."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from models.model import Column, InvalidInputError
from models.segmentation.columns import INPUTS
from scoring.columns import read_column
from serving.tables.cells import values_of

MONEY, PLAIN = (column for column in INPUTS if column.name in ("x12", "x44"))
LETTERS = np.array(list("0123456789" * 2 + "$$,,..--+()% e_N\u0663é"))
HARD = ["$0,100", "$1,000", "0", "-0", "(0.00)", "$-0", "-5", "(5)", "5.", "$.5", "007", "-007", "", "NA", "1.2.3", "."]


def one_by_one(column: Column, texts: list[str | None]) -> tuple[list[float | None], list[tuple[int, str]]]:
    """Return what the column says of each text: its value, None where there is none, and the faults."""
    values: list[float | None] = []
    faults = []
    for row, text in enumerate(texts):
        try:
            values.append(float(column.checked(values_of(column, [text]))[0]))
        except InvalidInputError as error:
            values.append(None)
            faults.append((row, str(error)))
    return values, faults


@pytest.mark.parametrize("seed", range(20))
def test_each_text_is_read_as_the_column_reads_it(seed: int) -> None:
    draw = np.random.default_rng(seed)
    odd = ["".join(draw.choice(LETTERS, draw.integers(0, 9))) for _ in range(200)]
    amounts = [f"${value:,.2f}" for value in draw.normal(0, 3_000, 200)]
    texts: list[str | None] = [*HARD, *odd, *amounts, None]
    array = pa.array(["$1", *(texts[place] for place in draw.permutation(len(texts)))]).slice(1)
    found = read_column(MONEY, array)
    values, faults = one_by_one(MONEY, array.to_pylist())
    assert [(fault.row, fault.message) for fault in found.faults] == faults
    good = [row for row, value in enumerate(values) if value is not None]
    assert np.array_equal(found.values[good], np.array([values[row] for row in good]), equal_nan=True)


@pytest.mark.parametrize(
    "odd", [[], ["-"], ["1.2.3"], ["1-"], ["1e3", "NA", "+1"], ["9" * 400, "0." + "1" * 400]], ids=str
)
def test_each_decimal_is_read_as_the_column_reads_it(odd: list[str]) -> None:
    array = pa.array(
        ["1", "", None, "5.", ".5", "-.5", "-0", "007", "0.1", "123456789012345678901234567890", *odd]
    ).slice(1)
    found = read_column(PLAIN, array)
    values, faults = one_by_one(PLAIN, array.to_pylist())
    assert [(fault.row, fault.message) for fault in found.faults] == faults
    good = [row for row, value in enumerate(values) if value is not None]
    assert np.array_equal(found.values[good], np.array([values[row] for row in good]), equal_nan=True)
