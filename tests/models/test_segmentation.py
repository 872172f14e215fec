"""Parsing and features of the segmentation model."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic_core import PydanticCustomError

from models.segmentation.columns import NUMERIC, VARIABLES, features, parse_money, parse_percent
from models.segmentation.rows import row_features


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("$5,547.78", 5547.78),
        ("$-5,032.58", -5032.58),
        ("-$5,032.58", -5032.58),
        ("($66.55)", -66.55),
        ("$6,882.34 ", 6882.34),
        ("17", 17),
        ("$.5", 0.5),
        (3.5, 3.5),
        (None, None),
    ],
)
def test_money(text: object, amount: object) -> None:
    assert parse_money(text) == amount


@pytest.mark.parametrize("text", ["", "$", "5 $", "(5", "5)", "1e3", "٣", "$5.5.5", "five"])
def test_what_is_no_money(text: str) -> None:
    with pytest.raises(PydanticCustomError):
        parse_money(text)


@pytest.mark.parametrize(("text", "points"), [("36.29%", 36.29), ("-1 %", -1), (" 5", 5), (7, 7), (None, None)])
def test_percent(text: object, points: object) -> None:
    assert parse_percent(text) == points


def test_features_stand_in_the_order_of_the_variables() -> None:
    matrix = row_features([{"x5": "saturday", "x81": "July", "x91": 2.0, "x12": -3.5}])
    expected = dict.fromkeys(VARIABLES, 0.0) | dict.fromkeys(NUMERIC, np.nan)
    expected |= {"x5_saturday": 1, "x81_July": 1, "x91": 2.0, "x12": -3.5}
    assert np.array_equal(matrix[0], list(expected.values()), equal_nan=True)


def test_features_of_absent_columns_are_those_of_missing_values() -> None:
    absent = features({"x0": [1.0, 2.0]})
    null = row_features([{"x91": None, "x5": None}, {}])
    assert np.array_equal(absent, null, equal_nan=True)
