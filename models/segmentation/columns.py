"""The columns of a customer's row, how their values may be written, and the GLM's variables made of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, FailFast, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from models.model import Array, InvalidInputError, clipped

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
# The columns that they are made of.
USED = tuple(dict.fromkeys(name.partition("_")[0] for name in VARIABLES))
NUMERIC = tuple(name for name in VARIABLES if "_" not in name)
CATEGORICAL = ("x5", "x31", "x81", "x82")
COLUMNS = tuple(f"x{i}" for i in range(100))


def parse_money(value: object) -> object:
    """Dollars from '$5,547.78', '$-5,032.58' or '($66.55)'; a number is left as it is."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(\(?)(-?)\$?(-?)(\d[\d,]*\.?\d*|\.\d+)(\)?)\s*", value, re.ASCII)
    if match is None or bool(match[1]) != bool(match[5]):
        raise PydanticCustomError("money", "Input should be a number or an amount such as '$5,547.78'")
    amount = float(match[4].replace(",", ""))
    return -amount if match[1] or match[2] or match[3] else amount


def parse_percent(value: object) -> object:
    """Percentage points from '36.29%'; a number is left as it is."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(-?(?:\d+\.?\d*|\.\d+))\s*%?\s*", value, re.ASCII)
    if match is None:
        raise PydanticCustomError("percent", "Input should be a number or a percentage such as '36.29%'")
    return float(match[1])


PARSERS = {"x12": parse_money, "x63": parse_percent}


def column_type(name: str, *, text: bool) -> Any:
    """Type of one value of a column; with `text`, numbers may be given as text, as in CSV."""
    if name in CATEGORICAL:
        return str | None
    number = Annotated[float, Field(strict=not text, allow_inf_nan=False)] | None
    return Annotated[number, BeforeValidator(PARSERS[name])] if name in PARSERS else number


Columns = dict[str, list[Any]]

NO_COLUMNS = "the file has none of the columns x0 to x99"

TEXT_COLUMNS: dict[str, TypeAdapter[list[Any]]] = {
    name: TypeAdapter(Annotated[list[column_type(name, text=True)], FailFast()])  # type: ignore[arg-type, misc]
    for name in COLUMNS
}


def invalid(message: str, kind: str, *place: str | int) -> InvalidInputError:
    """The error for a fault in the uploaded file; `place` is row and column where they are known."""
    return InvalidInputError(message, ("file", *place), kind)


def checked(columns: Columns, first_row: int) -> Columns:
    """The columns x0 to x99 among `columns`, parsed; InvalidInputError for the first bad value."""
    known = {name: values for name, values in columns.items() if name in TEXT_COLUMNS}
    if not known:
        raise invalid(NO_COLUMNS, "missing")
    try:
        for name, values in known.items():
            known[name] = TEXT_COLUMNS[name].validate_python(values)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise invalid(fault["msg"], fault["type"], "data", first_row + int(fault["loc"][0]), name) from error
    return known


def features(columns: Mapping[str, Sequence[Any]]) -> Array:
    """The GLM's variables, float32 (rows, 25), of validated columns of equal length.

    Numeric variables keep their units and are NaN where missing (the graph imputes and standardises
    them), categories are 0 or 1.
    """
    rows = len(next(iter(columns.values())))
    matrix = np.empty((rows, len(VARIABLES)), dtype=np.float32)
    for i, variable in enumerate(VARIABLES):
        name, _, category = variable.partition("_")
        values = columns.get(name)
        if category:
            matrix[:, i] = 0 if values is None else [value == category for value in values]
        else:
            matrix[:, i] = np.nan if values is None else clipped(np.array(values, dtype=np.float64))
    return matrix
