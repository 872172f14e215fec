"""Cells of a file as values of a column: numbers that are written as text, and marks of what is missing."""

from __future__ import annotations

from functools import cache
from types import NoneType
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, FailFast, Field, TypeAdapter, ValidationError

from models.model import Array, Column, InvalidInputError
from serving.tables.schema import MAX_TEXT_CHARACTERS

# Marks of a missing number, in any case: of R, pandas, SQL, MySQL, Excel.
MISSING = frozenset({"", "na", "n/a", "<na>", "#n/a", "#na", "nan", "nat", "null", "none", "\\n"})


def stripped(cell: Any) -> Any:
    """Return a text without the spaces around it, as numbers are read; anything else as it is."""
    return cell.strip() if isinstance(cell, str) else cell


# How a number may be written.
LAX: dict[type, Any] = {
    float: Annotated[float, Field(allow_inf_nan=False)],
    int: int,
    bool: Annotated[bool, BeforeValidator(stripped)],
}


def values_of(column: Column, cells: list[Any] | Array) -> Array:
    """Return a column's cells as values (n,), still to be checked.

    Raises InvalidInputError, at (row, name), for the first cell that is no number where one should be.
    """
    if isinstance(cells, np.ndarray):
        return cells
    if column.base in (str, bytes):
        check_length(column, cells)
        return objects(cells)
    if column.notation:
        return objects(with_missing(cells))
    kinds = set(map(type, cells))
    if column.base is float and kinds <= {float, NoneType}:  # as Parquet has them
        values = column.array(cells)
        if np.isfinite(values).sum() == len(cells) - (cells.count(None) if column.optional else 0):
            return values
    if str in kinds and not (kinds <= {str, NoneType} and "_" not in "".join(filter(None, cells))):
        refuse_underscores(column, cells)
    numbers = numbers_of(column.base, column.optional)
    try:
        found = numbers.validate_python(cells)
    except ValidationError:
        found = None
    try:
        return column.array(found or numbers.validate_python(with_missing(cells) if column.optional else cells))
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise InvalidInputError(fault["msg"], (int(fault["loc"][0]), column.name), fault["type"]) from error


def refuse_underscores(column: Column, cells: list[Any]) -> None:
    """Raise InvalidInputError for the first number as text that has one: pydantic reads "1_0" as Python does."""
    for row, cell in enumerate(cells):
        if isinstance(cell, str) and "_" in cell:
            message = "Input should be a number, without underscores"
            raise InvalidInputError(message, (row, column.name), "float_parsing")


def check_length(column: Column, cells: list[Any]) -> None:
    """Raise InvalidInputError for the first text that is too long, where the column sets no bound."""
    if column.base is bytes or column.categories or column.max_length is not None:
        return
    for row, cell in enumerate(cells):
        if isinstance(cell, str) and len(cell) > MAX_TEXT_CHARACTERS:
            message = f"Input should be a text of at most {MAX_TEXT_CHARACTERS:,} characters"
            raise InvalidInputError(message, (row, column.name), "string_too_long")


def with_missing(cells: list[Any]) -> list[Any]:
    """Return cells with None in the place of marks of a missing value."""
    return [None if isinstance(cell, str) and cell.strip().lower() in MISSING else cell for cell in cells]


@cache
def numbers_of(base: type, optional: bool) -> TypeAdapter[list[Any]]:
    """Return the reader of a column of numbers, which stops at the first that is none."""
    number = LAX[base] | None if optional else LAX[base]
    return TypeAdapter(Annotated[list[number], FailFast()])  # type: ignore[arg-type, valid-type]


def objects(cells: list[Any]) -> Array:
    """Return cells as an array of objects."""
    array: Array = np.empty(len(cells), dtype=np.object_)
    array[:] = cells
    return array
