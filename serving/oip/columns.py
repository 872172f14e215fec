"""Tensors as columns of a model, and columns as tensors."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Sequence
from functools import cache
from typing import Any

import numpy as np

from models.model import Array, Column, Columns, InvalidInputError, Model, check, float_rows, has_plain_rows
from serving.oip.errors import ProtocolError
from serving.oip.tensors import BYTES, DTYPES, Description, Tensor, count_of
from serving.tables.schema import listing

# What a column of numbers may be sent as; whole numbers for others are exact, or refused.
INTEGERS = ("INT64", "INT32", "INT16", "INT8", "UINT64", "UINT32", "UINT16", "UINT8")
NUMBERS = ("FP64", "FP32", "FP16", "BF16", *INTEGERS)
# MLServer's names for how elements are to be read, of those that make sense for columns; "pd" and "np" change nothing.
CONTENT_TYPES = ("str", "base64", "pd", "np")
# So many characters of Base64 are decoded at once, since nothing else runs meanwhile; a multiple of 4.
PIECE = 2**22


def columns_of(tensors: Sequence[Tensor], model: type[Model[Any]]) -> dict[str, Array]:
    """Return a model's input columns, checked, of the input tensors of a request that `check_described` admits.

    Raises ProtocolError for datatypes that the columns cannot have, and InvalidInputError, at (name,) or (row, name),
    for values that do not fit.
    """
    if is_matrix([tensor.description for tensor in tensors], model):
        matrix = tensors[0].values.reshape(tensors[0].shape)
        return check({column.name: matrix[:, place] for place, column in enumerate(model.inputs)}, model.inputs)
    known = {column.name: column for column in model.inputs}
    values = {tensor.name: values_of(tensor, known[tensor.name]) for tensor in tensors if known[tensor.name].used}
    if not values:  # of the columns that are read all may be missing, but not their rows
        values = {column.name: np.full(tensors[0].shape[0], None) for column in model.inputs if column.used}
    return check(values, model.inputs)


def items_of(tensors: Sequence[Tensor], model: type[Model[Any]]) -> Collection[Any]:
    """Return the items of the input tensors of a request that `check_described` admits; raise what `columns_of` does.

    Numbers of all columns are checked together, and column by column only where one may not fit.
    """
    plain = plain_rows(model)
    in_columns = len(tensors) == len(model.inputs)
    if (
        plain is not None
        and all(tensor.values.dtype.kind == "f" for tensor in tensors)
        and (in_columns or is_matrix([tensor.description for tensor in tensors], model))
    ):
        rows = np.empty((tensors[0].shape[0], len(model.inputs)))
        if not in_columns:
            rows[:] = tensors[0].values.reshape(tensors[0].shape)
        else:
            for tensor in tensors:
                rows[:, plain.places[tensor.name]] = tensor.values
        if plain.admits(rows):
            return float_rows(rows)
    return model.items(columns_of(tensors, model))


class PlainRows:
    """The rows of numbers that a model takes: the places of its columns, and their bounds."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self.places = {column.name: place for place, column in enumerate(columns)}
        self.bounds: dict[Any, Array] = {}
        for place, column in enumerate(columns):
            for holds, limit in column.bounds or ():
                unlimited, tighter = (-np.inf, max) if holds in (np.greater, np.greater_equal) else (np.inf, min)
                limits = self.bounds.setdefault(holds, np.full(len(columns), unlimited))
                limits[place] = tighter(limits[place], limit)

    def admits(self, rows: Array) -> bool:
        """Return whether all numbers of rows (n, columns) fit their columns for certain."""
        checks = [np.isfinite(rows), *(holds(rows, limits) for holds, limits in self.bounds.items())]
        return all(np.count_nonzero(found) == rows.size for found in checks)  # for one row faster than `found.all()`


@cache
def plain_rows(model: type[Model[Any]]) -> PlainRows | None:
    """Return the rows that a model takes; None for one that takes others than of numbers, none of them missing."""
    single = all(column.used and not column.optional and not column.is_list for column in model.inputs)
    if not single or not has_plain_rows(model) or any(column.bounds is None for column in model.inputs):
        return None
    return PlainRows(model.inputs)


def check_described(inputs: Sequence[Description], outputs: Sequence[str], model: type[Model[Any]]) -> None:
    """Check what a request says of its input tensors, and the names of the outputs that it asks for.

    Every transport calls it before the elements are read. Raises ProtocolError for what the model does not have or
    cannot be, and InvalidInputError for too many rows.
    """
    known = {column.name: column for column in model.inputs}
    if not is_matrix(inputs, model):
        if len(inputs) == 1 and inputs[0].name not in known and len(inputs[0].shape) == 2 and takes_matrix(model):
            raise ProtocolError(
                f"the shape of {inputs[0].name[:100]} is {list(inputs[0].shape)}; one tensor of all columns must be "
                f"[rows, {len(model.inputs)}], of numbers"
            )
        check_names([entry.name for entry in inputs], known)
    for name, datatype, shape in inputs:
        count_of(name, datatype, shape)
        if shape[1:] not in ((), (1,)) and name in known and not known[name].is_list:
            raise ProtocolError(f"the shape of {name} must be [{shape[0]}] or [{shape[0]}, 1], not {list(shape)}")
    counts = {name: shape[0] for name, _, shape in inputs}
    if len(set(counts.values())) > 1:
        name, other = sorted(counts, key=lambda name: counts[name])[:: len(counts) - 1]
        raise ProtocolError(f"{name} has {counts[name]:,} rows, {other} has {counts[other]:,}")
    check_count(max(counts.values(), default=0), model)
    check_outputs(outputs, model.outputs)


def check_names(names: Sequence[str], known: Collection[str]) -> None:
    """Raise ProtocolError for an input that the model does not have, or that is there twice."""
    seen = set()
    for name in names:
        if name not in known:
            raise ProtocolError(f"the model has no input {name[:100]!r}; it has {listing(known)}")
        if name in seen:
            raise ProtocolError(f"the input {name} is there twice")
        seen.add(name)


def is_matrix(inputs: Sequence[Description], model: type[Model[Any]]) -> bool:
    """Return whether the only tensor has all columns, in their order, of a model that takes numbers only."""
    if len(inputs) != 1 or len(model.inputs) < 2 or any(column.name == inputs[0].name for column in model.inputs):
        return False
    _, datatype, shape = inputs[0]
    numeric = all(datatype in datatypes(column) for column in model.inputs)
    return numeric and datatype != BYTES and shape[1:] == (len(model.inputs),)


def takes_matrix(model: type[Model[Any]]) -> bool:
    """Return whether a model takes one tensor of numbers for all of its columns."""
    return len(model.inputs) > 1 and all(datatypes(column) == NUMBERS for column in model.inputs)


def check_count(rows: int, model: type[Model[Any]]) -> None:
    """Raise ProtocolError for no rows, InvalidInputError for more than a request may have."""
    if not rows:
        raise ProtocolError("the inputs have no rows")
    if rows > model.max_items:
        raise InvalidInputError(
            f"the inputs have {rows:,} rows, at most {model.max_items:,} are allowed", ("inputs",), "too_long"
        )


def datatypes(column: Column) -> tuple[str, ...]:
    """Return the datatypes that an input column may be sent as, its own first."""
    if column.notation:
        return (BYTES, *NUMBERS)
    if column.base is float:
        return NUMBERS
    return INTEGERS if column.base is int else (column.datatype,)


def values_of(tensor: Tensor, column: Column) -> Array:
    """Return the values of a column, (rows,) or (rows, length), still to be checked."""
    admitted = datatypes(column)
    if tensor.datatype not in admitted:
        raise ProtocolError(f"{tensor.name} is {admitted[0]} and cannot be {tensor.datatype}")
    if column.is_list:
        return tensor.values.reshape((tensor.shape[0], -1))
    if tensor.datatype == BYTES:
        return elements_of(tensor, column)
    if tensor.values.dtype == np.object_ and column.base is float:  # whole numbers beside null
        whole = np.array([value or 0 for value in tensor.values], dtype=DTYPES[tensor.datatype])
        column.check_exact(whole, whole.astype(np.float64))
    return tensor.values


def elements_of(tensor: Tensor, column: Column) -> Array:
    """Return the values of a BYTES tensor as a column takes them: text, bytes, or None for what is missing."""
    content_type = tensor.parameters.get("content_type", "str")
    if content_type not in CONTENT_TYPES:
        raise ProtocolError(f"the content_type of {tensor.name} must be one of {', '.join(CONTENT_TYPES)}")
    values = np.empty(len(tensor.values), dtype=np.object_)
    for row, element in enumerate(tensor.values):
        if element is None or (column.optional and not element):
            values[row] = None
            continue
        value = decoded(element, row, column) if content_type == "base64" else element
        if column.base is bytes and not column.notation:
            values[row] = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
        else:
            values[row] = value if isinstance(value, str) else text(value, row, column)
    return values


def text(element: bytes, row: int, column: Column) -> str:
    """Return an element as text; raise InvalidInputError where it is not UTF-8."""
    try:
        return element.decode()
    except UnicodeDecodeError:
        raise InvalidInputError("Input should be text in UTF-8", (row, column.name), "string_unicode") from None


def decoded(element: str | bytes, row: int, column: Column) -> bytes:
    """Return what an element holds in Base64; raise InvalidInputError where that is not what it holds."""
    pieces = (element[start : start + PIECE] for start in range(0, len(element), PIECE))
    try:
        found = [base64.b64decode(piece, validate=True) for piece in pieces]
        if any(len(piece) < PIECE // 4 * 3 for piece in found[:-1]):
            raise binascii.Error("it ends before the element does")
    except (binascii.Error, ValueError):
        raise InvalidInputError("Input should be Base64", (row, column.name), "base64") from None
    return b"".join(found)


def tensors_of(columns: Columns, declared: Sequence[Column], names: Sequence[str], *, square: bool) -> list[Tensor]:
    """Return output columns as tensors, those that are named, or all; single values as [rows, 1] where `square`."""
    known = {column.name: column for column in declared}
    tensors = []
    for name in names or known:
        column = known[name]
        values = columns[name]
        shape = values.shape if column.is_list or not square else (len(values), 1)
        tensors.append(Tensor(name, column.datatype, shape, values.reshape(-1)))
    return tensors


def check_outputs(names: Sequence[str], declared: Sequence[Column]) -> None:
    """Raise ProtocolError for a name that no output has."""
    known = [column.name for column in declared]
    for name in names:
        if name not in known:
            raise ProtocolError(f"the model has no output {name[:100]!r}; it has {listing(known)}")
        if names.count(name) > 1:
            raise ProtocolError(f"the output {name} is asked for twice")
