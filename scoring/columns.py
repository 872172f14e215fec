"""Arrow columns as the columns of a model, with the faults of the cells that do not fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.model import Array, Column, InvalidInputError
from scoring.notations import bytes_of, has_shapes, shaped_numbers
from serving.tables.cells import MISSING, values_of
from serving.tables.json_files import decoded

# Texts that are certain to be numbers and read alike by Arrow and by Python; others are left to the column.
NUMBER = r"^-?\d{1,100}(\.\d{1,100})?([eE][-+]?\d{1,2})?$"
MAX_DECIMAL_BYTES = 100
MARKS = pa.array(sorted(MISSING | {mark.upper() for mark in MISSING} | {"NaN"}))
# Stands for a cell that is neither number nor text where a number should be, as in uploaded Parquet.
NO_NUMBER = "?"


class Fault(NamedTuple):
    """A cell that does not fit, by its row; `kind` is a short machine-readable type."""

    row: int
    column: str
    message: str
    kind: str


class Read(NamedTuple):
    """The values (n, ...) of a column as the model takes them, anything in faulty rows; and the faults."""

    values: Array
    faults: list[Fault]


def read_column(column: Column, array: pa.Array) -> Read:
    """Return the values of a column; the verdict on each cell is that of an uploaded file.

    Numbers are checked together. Of what else there is, each distinct value is checked once.
    """
    array = without_views(array)
    if column.is_list:
        return read_lists(column, array)
    if column.base is float and not column.notation and column.bounds is not None:
        return read_numbers(column, array)
    if has_shapes(column) and (pa.types.is_string(array.type) or pa.types.is_large_string(array.type)):
        return read_notation(column, array)
    return read_distinct(column, array)


def read_numbers(column: Column, array: pa.Array) -> Read:
    """Return the values of a column of plain numbers; only cells that may not fit become Python objects."""
    values, doubtful = numbers(column, array)
    fits = np.isfinite(values)
    for holds, limit in column.bounds or ():
        fits &= holds(values, limit)
    if column.optional:
        fits |= np.isnan(values)
    rows = np.flatnonzero(~fits | doubtful)
    if not rows.size:
        return Read(values, [])
    values = values.copy()  # Arrow's memory cannot be written to
    faults = []
    for row, cell in zip(rows.tolist(), cells_of(column, array.take(pa.array(rows))), strict=True):
        try:
            if isinstance(cell, int):
                whole = np.array([cell])
                column.check_exact(whole, whole.astype(np.float64))
            values[row] = column.checked(values_of(column, [cell]))[0]
        except InvalidInputError as error:
            faults.append(Fault(row, column.name, str(error), error.kind))
    return Read(values, faults)


def numbers(column: Column, array: pa.Array) -> tuple[Array, Array]:
    """Return the cells of a column as float64 (n,), NaN for what is missing or unclear, and which are unclear."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        array = array.dictionary_decode()
        kind = array.type
    unclear = np.zeros(len(array), dtype=np.bool_)
    if pa.types.is_integer(kind):
        whole = pc.fill_null(array, 0).to_numpy(zero_copy_only=False)
        unclear = whole.astype(np.float64).astype(whole.dtype) != whole
    elif is_text(kind):
        text = array.storage if isinstance(array, pa.ExtensionArray) else array
        array, unclear = parsed(text, optional=column.optional)
    elif not (pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        unclear = array.is_valid().to_numpy(zero_copy_only=False)
        array = pa.nulls(len(array), pa.float64())
    floats = pc.cast(array, pa.float64(), safe=False)
    return pc.fill_null(floats, np.nan).to_numpy(zero_copy_only=False), unclear


def parsed(text: pa.Array, *, optional: bool) -> tuple[pa.Array, Array]:
    """Return texts as numbers, null for what is missing or unclear, and which are unclear."""
    found = decimals(text, optional=optional)
    if found is not None:
        return found, np.zeros(len(text), dtype=np.bool_)
    if optional:
        text = pc.if_else(pc.is_in(text, MARKS), pa.scalar(None, text.type), text)
    certain = pc.fill_null(pc.match_substring_regex(text, NUMBER), True)
    if not pc.all(certain).as_py():
        text = pc.if_else(certain, text, pa.scalar(None, text.type))
    return text.cast(pa.float64()), ~certain.to_numpy(zero_copy_only=False)


def decimals(text: pa.Array, *, optional: bool) -> pa.Array | None:
    """Return texts as numbers, null for what is missing; None unless all of them have digits, points and minus only.

    Faster than to match a pattern, since what is no number then stops Arrow.
    """
    offsets, data = bytes_of(text)
    lengths = np.diff(offsets)
    # The bytes "-./0123456789" are one behind the other; compared, they cost a tenth of looking each up.
    if not ((data >= ord("-")) & (data <= ord("9")) & (data != ord("/"))).all():
        return None
    if lengths.max(initial=0) > MAX_DECIMAL_BYTES:
        return None
    if optional and not lengths.all():
        text = pc.if_else(pa.array(lengths > 0), text, pa.scalar(None, text.type))
    try:
        return text.cast(pa.float64())
    except pa.ArrowInvalid:
        return None


def read_notation(column: Column, text: pa.Array) -> Read:
    """Return the values of a column of numbers in a notation; what no shape tells is read one by one."""
    values, known = shaped_numbers(column, text)
    rows = np.flatnonzero(~known)
    if not rows.size:
        return Read(values, [])
    others = read_distinct(column, text.take(pa.array(rows)))
    values[rows] = others.values
    return Read(values, [fault._replace(row=int(rows[fault.row])) for fault in others.faults])


def read_distinct(column: Column, array: pa.Array) -> Read:
    """Return the values of a column, of which each distinct one is checked by the column itself."""
    encoded = array if pa.types.is_dictionary(array.type) else plain(array).dictionary_encode()
    places = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    texts = encoded.dictionary
    if isinstance(array, pa.ExtensionArray):
        texts = pa.ExtensionArray.from_storage(array.type, texts)
    # The last one, at -1, stands for null.
    values, faults = checked(column, [*cells_of(column, texts), None], null=bool(encoded.null_count))
    if not faults:
        return Read(values[places], [])
    place_of = places % len(values)
    rows = np.flatnonzero(np.isin(place_of, np.array(list(faults))))
    errors = [(row, faults[place]) for row, place in zip(rows.tolist(), place_of[rows].tolist(), strict=True)]
    return Read(values[places], [Fault(row, column.name, str(error), error.kind) for row, error in errors])


def checked(column: Column, cells: Sequence[Any], *, null: bool) -> tuple[Array, dict[int, InvalidInputError]]:
    """Return the values of distinct cells, anything for faulty ones, and the faults by place.

    The last cell, None, is checked only where `null` says that there is one.
    """
    faults: dict[int, InvalidInputError] = {}
    values = halved(column, cells if null else cells[:-1], 0, faults)
    return (values if null else np.concatenate([values, placeholder(column)])), faults


def halved(column: Column, cells: Sequence[Any], first: int, faults: dict[int, InvalidInputError]) -> Array:
    """Return the values of cells from place `first` on; collect the faults by bisection.

    Columns stop at the first bad cell, so that a run that fails is cheap.
    """
    if not cells:
        return column.array([])
    try:
        return column.checked(values_of(column, list(cells)))
    except InvalidInputError as error:
        if len(cells) == 1:
            faults[first] = error
            return placeholder(column)
    middle = len(cells) // 2
    parts = [halved(column, cells[:middle], first, faults), halved(column, cells[middle:], first + middle, faults)]
    return np.concatenate(parts)


def placeholder(column: Column) -> Array:
    """Return a value (1,) for a cell that has none."""
    return column.array([None]) if column.optional else np.zeros(1, dtype=column.dtype)


def cells_of(column: Column, array: pa.Array) -> list[Any]:
    """Return the cells of an array as uploaded files have them: text, numbers, bytes, None; JSON as what it holds."""
    if isinstance(array, pa.ExtensionArray):
        cells = [None if text is None else decoded(msgspec.Raw(text.encode())) for text in array.storage.to_pylist()]
    else:
        cells = array.to_pylist()
    numeric = column.base in (float, int)
    admitted: tuple[type, ...] = (
        (str, int, float) if numeric else (bool, str) if column.base is bool else (column.base,)
    )
    return [cell if cell is None or fits(cell, admitted) else (NO_NUMBER if numeric else True) for cell in cells]


def fits(cell: Any, admitted: tuple[type, ...]) -> bool:
    """Return whether a cell is of one of these types, where a truth value is no number."""
    return isinstance(cell, admitted) and (not isinstance(cell, bool) or bool in admitted)


def plain(array: pa.Array) -> pa.Array:
    """Return an array that Arrow can encode by distinct values; cells of nested types become truth values."""
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        return array.storage
    if pa.types.is_nested(kind):
        return pc.if_else(array.is_valid(), True, pa.scalar(None, pa.bool_()))
    if pa.types.is_decimal(kind):
        return array.cast(pa.float64())
    return array


def without_views(array: pa.Array) -> pa.Array:
    """Return an array of string or binary views as one of large strings or binaries, which Arrow computes with."""
    if pa.types.is_string_view(array.type):
        return array.cast(pa.large_string())
    return array.cast(pa.large_binary()) if pa.types.is_binary_view(array.type) else array


def read_lists(column: Column, array: pa.Array) -> Read:
    """Return the values (n, length) of a column of lists of numbers; those not as long as the first are faulty."""
    if not pa.types.is_nested(array.type):
        message = "Input should be a list of numbers"
        return Read(
            np.zeros((len(array), 1)), [Fault(row, column.name, message, "list_type") for row in range(len(array))]
        )
    lengths = pc.fill_null(pc.list_value_length(array), -1).to_numpy(zero_copy_only=False)
    length = int(next((found for found in lengths if found >= 0), 1))
    same = lengths == length
    values = np.zeros((len(array), length), dtype=column.dtype)
    faults = [
        Fault(row, column.name, f"Input should be a list of {length} numbers, as that of the first row", "list_length")
        for row in np.flatnonzero(~same).tolist()
    ]
    rows = array.filter(pa.array(same))
    given = rows.flatten().to_numpy(zero_copy_only=False).reshape(-1, length)
    places = np.flatnonzero(same)
    try:
        values[places] = column.checked(given)
    except InvalidInputError:
        for row, value in zip(places.tolist(), given, strict=True):
            try:
                values[row] = column.checked(value[None])[0]
            except InvalidInputError as error:
                faults.append(Fault(row, column.name, str(error), error.kind))
    return Read(values, sorted(faults))


def is_text(kind: pa.DataType) -> bool:
    """Return whether a type's cells are text, or JSON."""
    return isinstance(kind, pa.JsonType) or pa.types.is_string(kind) or pa.types.is_large_string(kind)
