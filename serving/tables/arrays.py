"""Read all rows of a file at once, as arrays of numbers and categories, where no cell needs a closer look.

One cell after the other takes several times as long, but tells which cell is at fault: a file with a doubtful cell is
read again that way.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models.model import Array, Column
from serving.tables.database import quoted
from serving.tables.schema import Schema

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# A file that may have more rows is not held in memory as a whole.
MAX_ROWS = 2**17
# Rows that are checked at a time: the interpreter's lock is held meanwhile.
CHUNK_ROWS = 2**13
# A number as nearly all are written: Python reads it as DuckDB does.
NUMBER = r"-?[0-9]{1,40}(?:\.[0-9]{0,40})?(?:[eE][-+]?[0-9]{1,4})?"
# Longest text in a notation, in bytes: those of all rows are in memory together.
MAX_NOTATION_BYTES = 100
# Spaces of all kinds, which a model may ignore around a category.
SPACE = r"[\s\pZ\pC]"
# What stands for texts that are none of a column's categories, and for those that are too long.
OTHER = "?"
NAN = "CAST('nan' AS DOUBLE)"


def are_possible(schema: Schema) -> bool:
    """Return whether the model reads nothing but numbers and categories, of files of not too many rows."""
    columns = schema.columns.values()
    return schema.max_rows <= MAX_ROWS and all(column.base is float or column.categories for column in columns)


def array_of_text(name: str, cell: str, schema: Schema) -> str:
    """Return the SQL for a column whose cells are texts: numbers, codes of categories, or texts in a notation.

    It is NULL where a cell needs a closer look, except in a notation, where it is for missing cells.
    """
    column = schema.columns[name]
    if column.notation:
        return f"CASE WHEN strlen({cell}) > {MAX_NOTATION_BYTES} THEN {quoted(OTHER)} ELSE {cell} END"
    if column.base is float:
        number = f"WHEN regexp_full_match({cell}, {quoted(NUMBER)}) THEN TRY_CAST({cell} AS DOUBLE)"
        return f"CASE WHEN {cell} IS NULL OR {cell} = '' THEN {NAN} {number} END"
    known = f"list_position([{', '.join(map(quoted, column.categories))}], {cell})"
    doubtful = f"regexp_matches({cell}, {quoted(f'^{SPACE}|{SPACE}$')})"
    count = len(column.categories)
    other = f"WHEN {cell} = '' THEN {count + 1} WHEN NOT {doubtful} THEN {count + 2}"
    return f"COALESCE({known}, CASE WHEN {cell} IS NULL THEN 0 {other} END)"


def arrays(
    connection: DuckDBPyConnection, picked: dict[str, str], source: str, path: Path, schema: Schema
) -> dict[str, Array] | None:
    """Return the columns of a file, or None where a cell needs a closer look.

    It must be known to have at most MAX_ROWS rows: a LIMIT would take as long again. `picked` has the SQL for each
    column, `source` that for the file. Numbers are float64 (rows,), NaN where they are missing; categories and texts
    in a notation are objects (rows,), None where they are missing.
    """
    if not picked:
        return None
    named = ", ".join(f"{cell} AS a{place}" for place, cell in enumerate(picked.values()))
    # No part of the SQL was written by the client.
    found = connection.execute(f"SELECT {named} FROM {source}", [str(path)]).fetchnumpy()  # noqa: S608
    columns: dict[str, Array] = {}
    for name, values in zip(picked, found.values(), strict=True):
        column, array = schema.columns[name], np.ma.getdata(values)
        if array.dtype.hasobject:
            array[np.ma.getmaskarray(values)] = None
        elif np.ma.is_masked(values) or not (column.optional or column.categories or np.isfinite(array).all()):
            return None
        columns[name] = texts_of(column, array) if column.categories else array
    return columns


def texts_of(column: Column, codes: Array) -> Array:
    """Return the texts of a column's codes, objects (rows,)."""
    known = np.array([None, *column.categories, "", OTHER], dtype=np.object_)
    found: Array = known[codes]
    return found


def has_row_without_values(columns: dict[str, Array]) -> bool:
    """Return whether a row has no values."""
    numbers = [values for values in columns.values() if not values.dtype.hasobject]
    rows: Array = np.arange(len(next(iter(columns.values()))))
    for values in numbers:
        rows = rows[np.isnan(values[rows])]
    texts = [values for values in columns.values() if values.dtype.hasobject]
    return any(not any(values[row] for values in texts) for row in rows)
