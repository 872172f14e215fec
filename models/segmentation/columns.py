"""The columns of a customer's row, how their values may be written, and the GLM's variables made of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from models.model import Array, Column, ColumnNames, clipped

THRESHOLD = 0.75

# The GLM's variables in its published order: a numeric column or `column_category`. A category that
# is not named is part of the reference, as is a missing or unknown one.
VARIABLES = (
    "x5_saturday",
    "x81_July",
    "x81_December",
    "x31_japan",
    "x81_October",
    "x5_sunday",
    "x31_asia",
    "x81_February",
    "x91",
    "x81_May",
    "x5_monday",
    "x81_September",
    "x81_March",
    "x53",
    "x81_November",
    "x44",
    "x81_June",
    "x12",
    "x5_tuesday",
    "x81_August",
    "x81_January",
    "x62",
    "x31_germany",
    "x58",
    "x56",
)
# The columns that they are made of. Others are neither read nor checked, in rows and in files.
USED = tuple(dict.fromkeys(name.partition("_")[0] for name in VARIABLES))
NUMERIC = tuple(name for name in VARIABLES if "_" not in name)
CATEGORICAL = ("x5", "x31", "x81", "x82")
COLUMNS = tuple(f"x{i}" for i in range(100))

# Longest text that is read as a number.
MAX_CHARACTERS = 100
# Digits, with commas before groups of three or without; possessive, so that no text is gone through twice.
AMOUNT = r"((?:[1-9]\d{0,2}+(?:,\d{3})++|\d++)(?:\.\d*+)?+|\.\d++)"
MONEY = re.compile(rf"([-+]?+)(\$?+) ?+([-(]?+)(\$?+) ?+{AMOUNT}(\)?+)", re.ASCII)
# Amounts in lines, as nearly all are written; none is longer than MAX_CHARACTERS.
PLAIN_AMOUNT = r"(?:\$-?|-?\$?)(?:[1-9]\d{0,2}(?:,\d{3}){1,15}|\d{1,60})(?:\.\d{0,30})?"
PLAIN_AMOUNTS = re.compile(rf"(?:{PLAIN_AMOUNT}\n)*+", re.ASCII)
PERCENT = re.compile(rf"([-+]?+){AMOUNT}\s*+%?+", re.ASCII)


def parse_money(value: object) -> object:
    """Return the dollars of '$5,547.78', '$-5,032.58', '-$5' or '($66.55)'; leave a number as it is."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    match = MONEY.fullmatch(text) if len(text) <= MAX_CHARACTERS else None
    if match is not None:
        sign, dollar, inner, inner_dollar, amount, close = match.groups()
        if not (sign and inner) and not (dollar and inner_dollar) and (inner == "(") == bool(close):
            number = float(amount.replace(",", ""))
            return -number if sign == "-" or inner else number
    raise PydanticCustomError(
        "money",
        "Input should be a number or an amount such as '$5,547.78', with commas only before groups of three digits",
    )


def amounts(values: Sequence[Any]) -> Array | None:
    """Return the dollars, float64 (n,), of texts as `parse_money` does, NaN for None.

    None where other values or seldom written amounts are among them, which it leaves to `parse_money`.
    """
    texts = [value for value in values if value is not None]
    try:
        lines = "\n".join([*texts, ""])
    except TypeError:  # numbers
        return None
    if PLAIN_AMOUNTS.fullmatch(lines) is None or lines.count("\n") != len(texts):
        return None
    dollars = list(map(float, lines.replace("$", "").replace(",", "").split()))
    found = np.full(len(values), np.nan)
    found[[value is not None for value in values]] = dollars
    return found


def parse_percent(value: object) -> object:
    """Return the percentage points of '36.29%' or '1,036.29%'; leave a number as it is."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    match = PERCENT.fullmatch(text) if len(text) <= MAX_CHARACTERS else None
    if match is None:
        raise PydanticCustomError("percent", "Input should be a number or a percentage such as '36.29%'")
    number = float(match[2].replace(",", ""))
    return -number if match[1] == "-" else number


PARSERS = {"x12": parse_money, "x63": parse_percent}
READERS = {"x12": amounts}


# An example of a row as a client sends it.
EXAMPLE: dict[str, Any] = {
    "x0": 0.04,
    "x5": "monday",
    "x12": "$5,547.78",
    "x31": "germany",
    "x44": -0.61,
    "x53": 0.33,
    "x56": None,
    "x58": 0.22,
    "x62": 0.37,
    "x63": "36.29%",
    "x81": "October",
    "x82": "Female",
    "x91": 0.04,
    "x99": -60.3,
}


def column_type(name: str) -> Any:
    """Return the type of one value of a column."""
    if name in CATEGORICAL:
        return str | None
    number = Annotated[float, Field(strict=True, allow_inf_nan=False)] | None
    if name not in PARSERS:
        return number
    return Annotated[number, BeforeValidator(PARSERS[name], json_schema_input_type=float | str | None)]


def column(name: str) -> Column:
    """Return a column that may be missing."""
    categories = tuple(variable.partition("_")[2] for variable in VARIABLES if variable.startswith(f"{name}_"))
    return Column(
        name,
        column_type(name),
        EXAMPLE.get(name),
        notation=name in PARSERS,
        read_all=READERS.get(name),
        categories=categories,
        used=name in USED,
    )


INPUTS = tuple(map(column, COLUMNS))
NAMES = ColumnNames(INPUTS)

NUMERIC_PLACES = [VARIABLES.index(name) for name in NUMERIC]
# Where a category stands among the variables, by column.
PLACES = {
    column: {name.partition("_")[2]: i for i, name in enumerate(VARIABLES) if name.startswith(f"{column}_")}
    for column in CATEGORICAL
}


def features(columns: Mapping[str, Sequence[Any] | Array]) -> Array:
    """Return the GLM's variables, float32 (rows, 25), of validated columns of equal length.

    Numeric variables keep their units and are NaN where missing (the graph imputes and standardises
    them), categories are 0 or 1; spaces around a category are no part of it.
    """
    rows = len(next(iter(columns.values())))
    # The last column is for categories that are part of the reference.
    matrix = np.zeros((rows, len(VARIABLES) + 1), dtype=np.float32)
    missing = [None] * rows
    numbers = [missing if columns.get(name) is None else columns[name] for name in NUMERIC]
    matrix[:, NUMERIC_PLACES] = clipped(np.array(numbers, dtype=np.float64)).T
    each = np.arange(rows)
    for column, places in PLACES.items():
        values = columns.get(column)
        if values is not None:
            place_of = {value: places.get(value.strip(), -1) if value else -1 for value in set(values)}
            matrix[each, [place_of[value] for value in values]] = 1
    return np.ascontiguousarray(matrix[:, :-1])
