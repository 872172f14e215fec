"""The segmentation model's parsing of values and its features."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pydantic_core import PydanticCustomError

from models.segmentation.columns import (
    NAMES,
    NUMERIC,
    VARIABLES,
    amounts,
    features,
    parse_money,
    parse_percent,
)
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
        ("1,234,567", 1234567),
        ("$(66.55)", -66.55),
        (" $ (1,234.50) ", -1234.5),
        ("+5", 5),
        (3.5, 3.5),
        (None, None),
    ],
)
def test_money(text: object, amount: object) -> None:
    assert parse_money(text) == amount
    together = amounts([text, "$1.50"])
    assert together is None or amount is None or together.tolist() == [amount, 1.5]


def test_amounts_are_read_together() -> None:
    texts = ["$5,547.78", None, "$-5,032.58", "-$5", "17", "1,234,567", "0.5", "$100.", "-3"]
    found = amounts(texts)
    assert found is not None
    assert np.isnan(found[1])
    assert np.delete(found, 1).tolist() == [parse_money(text) for text in texts if text]
    assert amounts([]) is not None
    assert amounts(["1", 2.0]) is None


@pytest.mark.parametrize(
    "text",
    [
        *("", "$", "5 $", "(5", "5)", "1e3", "٣", "$5.5.5", "five", "66,55", "0,123", "1,2,3", "12,", "1.234,50"),
        *("1234,567", "(-5)", "--5", "$$5", "$5)", "66.55 €", "1'234", "1\u00a0234", "1" * 101),
    ],
)
def test_what_is_no_money(text: str) -> None:
    with pytest.raises(PydanticCustomError):
        parse_money(text)
    assert amounts(["$1.50", text]) is None


def test_an_amount_has_one_line() -> None:
    assert amounts(["1\n2"]) is None
    assert amounts(["1\n2", ""]) is None


@pytest.mark.parametrize(
    ("text", "points"), [("36.29%", 36.29), ("-1 %", -1), (" 5", 5), ("1,036.29%", 1036.29), (7, 7)]
)
def test_percent(text: object, points: object) -> None:
    assert parse_percent(text) == points


@pytest.mark.parametrize("text", ["", "%", "36,29%", "5%%", "n/a", "(5%)", "1" * 101])
def test_what_is_no_percentage(text: str) -> None:
    with pytest.raises(PydanticCustomError):
        parse_percent(text)


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("x12", "x12"),
        ("X12", "x12"),
        (" x12\t", "x12"),
        ("x0", "x0"),
        ("x100", None),
        ("x 12", "x12"),
        ("\ufeffx1\u200b2", "x12"),
        ("x_12", None),
        ("", None),
    ],
)
def test_a_column_is_known_whatever_its_case_and_spaces(name: str, column: str | None) -> None:
    assert NAMES.find(name) == column


@pytest.mark.parametrize(
    "name", ["X12", " x12", "x12 ", "x12\t", "\u00a0x12", "x12\u00a0", "x 12", "x1 2", "\ufeffx12", "x\u200b12"]
)
@pytest.mark.parametrize("indent", [None, 1])
def test_odd_names_are_seen_in_json(name: str, indent: int | None) -> None:
    rows = [{"x12": 1, "a": '"X12": '}, {name: 1, 'b\\"': "c"}]
    for ascii_only in (True, False):
        assert NAMES.has_odd_names(json.dumps(rows, indent=indent, ensure_ascii=ascii_only).encode())


def test_usual_names_are_not_odd() -> None:
    rows = [{"x12": " X12 ", "y": "\\", "a b": "x12 "}, {"x5": 'X"'}, {"x0": [" ", "X"]}]
    assert not NAMES.has_odd_names(json.dumps(rows).encode())


@pytest.mark.parametrize("text", [b"", b'"', b'""', b'{"', b'{"x5":1}', b'{"":1}'])
def test_short_json_has_no_odd_names(text: bytes) -> None:
    assert not NAMES.has_odd_names(text)


def test_features_stand_in_the_order_of_the_variables() -> None:
    matrix = row_features([{"x5": "saturday", "x81": "July", "x91": 2.0, "x12": -3.5}])
    expected = dict.fromkeys(VARIABLES, 0.0) | dict.fromkeys(NUMERIC, np.nan)
    expected |= {"x5_saturday": 1, "x81_July": 1, "x91": 2.0, "x12": -3.5}
    assert np.array_equal(matrix[0], list(expected.values()), equal_nan=True)


def test_features_of_absent_columns_are_those_of_missing_values() -> None:
    absent = features({"x0": [1.0, 2.0]})
    null = row_features([{"x91": None, "x5": None}, {}])
    assert np.array_equal(absent, null, equal_nan=True)


def test_spaces_around_a_category_are_no_part_of_it() -> None:
    assert np.array_equal(features({"x5": [" monday "]}), features({"x5": ["monday"]}), equal_nan=True)
