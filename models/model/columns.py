"""The columns of a model: named inputs and outputs, the types of their values, and the checks that follow."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
import numpy as np
from numpy.typing import NDArray
from pydantic import AllowInfNan, BaseModel, BeforeValidator, FailFast, Strict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

Array = NDArray[Any]
# An array (n, ...) for each column that is there, by name: float64 with NaN for what is missing, int64, bool, or
# objects (str, bytes, None for what is missing).
Columns = Mapping[str, Array]

# The Open Inference Protocol's names of datatypes, and numpy's.
DATATYPES = {float: "FP64", int: "INT64", bool: "BOOL", str: "BYTES", bytes: "BYTES"}
BOUNDS = {"ge": np.greater_equal, "gt": np.greater, "le": np.less_equal, "lt": np.less}
DTYPES = {float: np.float64, int: np.int64, bool: np.bool_, str: np.object_, bytes: np.object_}


class InvalidInputError(ValueError):
    """Input that fits the schema but cannot be used, such as a file that is not an image.

    `location` names the faulty part of the request, or row and column; `kind` is a short machine-readable type; `item`
    is the index of the faulty one among several items, where it is known.
    """

    def __init__(self, message: str, location: tuple[str | int, ...], kind: str, item: int | None = None) -> None:
        super().__init__(message)
        self.location = location
        self.kind = kind
        self.item = item


@dataclass(frozen=True)
class Column:
    """A named input or output of a model, with one value per item.

    `type` is a pydantic type of one value, made of float, int, bool, str or bytes; with None its values may be missing,
    and the column left out. A list of them makes a row of values per item. `notation`: numbers come as text in a
    notation of the column's own, which `type` parses. `read_all` may read many such texts at once, in a fraction of the
    time: it returns float64 (n,), NaN for None, or None to leave them to `type`; numbers are then taken as they are.
    `categories` are the texts that the model knows, where all others count the same. A column that is not `used` is
    neither read nor checked.
    """

    name: str
    type: Any
    example: Any = None
    notation: bool = False
    read_all: Callable[[Sequence[Any]], Array | None] | None = None
    categories: tuple[str, ...] = ()
    used: bool = True

    @cached_property
    def base(self) -> type:
        """The Python type of a value: float, int, bool, str or bytes."""
        found = base_types(self.type)
        if len(found) != 1:
            raise TypeError(f"column {self.name} must have values of one type, it has {self.type}")
        return found.pop()

    @cached_property
    def optional(self) -> bool:
        """Whether values may be missing."""
        return has_none(self.type)

    @cached_property
    def datatype(self) -> str:
        """The Open Inference Protocol's name for the datatype of the values as they are sent."""
        return "BYTES" if self.notation else DATATYPES[self.base]

    @cached_property
    def dtype(self) -> Any:
        """The numpy dtype of checked values."""
        return DTYPES[self.base]

    @cached_property
    def is_list(self) -> bool:
        """Whether an item has a row of values, not one."""
        return any(get_origin(part) is list for part in parts(self.type))

    @cached_property
    def max_length(self) -> int | None:
        """The most characters of a text; None where there is no limit."""
        return next((entry.max_length for entry in self.metadata if isinstance(entry, annotated_types.MaxLen)), None)

    @cached_property
    def metadata(self) -> list[Any]:
        """The constraints of the type."""
        return [entry for part in parts(self.type) for entry in constraints(part)]

    @cached_property
    def adapter(self) -> TypeAdapter[list[Any]]:
        """The validator of a list of values, which stops at the first bad one."""
        return TypeAdapter(Annotated[list[self.type], FailFast()])  # type: ignore[arg-type, name-defined]

    def described(self) -> dict[str, Any]:
        """Return what clients need to know of the column; in its shape -1 stands for any length."""
        return {
            "name": self.name,
            "datatype": self.datatype,
            "shape": [-1, -1] if self.is_list else [-1],
            "optional": self.optional,
            "used": self.used,
        }

    def checked(self, values: Array) -> Array:
        """Return values (n, ...) as the model takes them; numbers are converted where nothing is lost.

        Raises InvalidInputError, at (row, name), for the first value that does not fit the type.
        """
        if values.dtype.kind in "fiu" and self.base is float:
            floats = values.astype(np.float64, copy=False)
            if values.dtype.kind != "f":
                self.check_exact(values, floats)
            if self.is_within_bounds(floats):
                return floats
        given = values.tolist()
        together = self.read_all(given) if self.read_all else None
        if together is not None and self.is_within_bounds(together):
            return together
        if self.optional and values.dtype.kind == "f":
            given = [None if value != value else value for value in given]
        try:
            found = self.adapter.validate_python(given)
        except ValidationError as error:
            fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
            raise InvalidInputError(fault["msg"], (int(fault["loc"][0]), self.name), fault["type"]) from None
        return self.array(found)

    def check_exact(self, values: Array, floats: Array) -> None:
        """Raise InvalidInputError for the first whole number that no float64 equals."""
        inexact: Array = np.flatnonzero(floats.astype(values.dtype) != values)
        if inexact.size:
            message = f"Input of {values.dtype} should be a number that {self.datatype} has"
            raise InvalidInputError(message, (int(inexact.min()), self.name), "inexact")

    def array(self, values: Sequence[Any]) -> Array:
        """Return values as an array of the column's dtype, with NaN for what is missing of numbers.

        Raises InvalidInputError, at (row, name), for a whole number of more than 64 bits.
        """
        if self.base is float:
            return np.array(values, dtype=np.float64)
        if self.optional and self.base in (int, bool) and None in values:
            return np.array(values, dtype=np.float64)
        array: Array = np.empty(len(values), dtype=self.dtype)
        try:
            array[:] = values
        except OverflowError:
            row = next(row for row, value in enumerate(values) if not -(2**63) <= value < 2**63)
            raise InvalidInputError(
                "Input should be a whole number of at most 64 bits", (row, self.name), "int_range"
            ) from None
        return array

    @cached_property
    def bounds(self) -> list[tuple[Any, float]] | None:
        """The comparisons that a number must hold; None where the type has constraints of other kinds, too."""
        found: list[tuple[Any, float]] = []
        for entry in self.metadata:
            limits = [(BOUNDS[name], getattr(entry, name)) for name in BOUNDS if getattr(entry, name, None) is not None]
            passed = isinstance(entry, Strict | AllowInfNan) or (self.read_all and isinstance(entry, BeforeValidator))
            if not limits and not passed:
                return None  # a validator, or a constraint of another kind
            found += limits
        return found

    def is_within_bounds(self, values: Array) -> bool:
        """Return whether numbers fit the type for certain; the type itself decides where this says no."""
        if self.bounds is None:
            return False
        known = values[~np.isnan(values)] if self.optional else values
        return bool(np.isfinite(known).all()) and all(holds(known, limit).all() for holds, limit in self.bounds)


def parts(type_: Any) -> Iterator[Any]:
    """Yield a type and those that it is made of."""
    yield type_
    if get_origin(type_) in (Annotated, Union, types.UnionType, list):
        for argument in get_args(type_)[: 1 if get_origin(type_) is Annotated else None]:
            yield from parts(argument)


def constraints(type_: Any) -> Iterator[Any]:
    """Yield what an annotated type says of its values."""
    if get_origin(type_) is Annotated:
        for entry in get_args(type_)[1:]:
            yield from entry.metadata if isinstance(entry, FieldInfo) else [entry]


def base_types(type_: Any) -> set[type]:
    """Return the Python types of a type's values, None aside."""
    found: set[type] = set()
    for part in parts(type_):
        if get_origin(part) is Literal:
            found |= {type(value) for value in get_args(part)}
        elif part is Path:
            found.add(bytes)
        elif part in DATATYPES:
            found.add(part)
    return found


def has_none(type_: Any) -> bool:
    """Return whether None is one of a type's values."""
    if get_origin(type_) is Annotated:
        return has_none(get_args(type_)[0])
    return get_origin(type_) in (Union, types.UnionType) and type(None) in get_args(type_)


def columns_of(schema: type[BaseModel], examples: Mapping[str, Any]) -> tuple[Column, ...]:
    """Return the columns of a row's schema, one for each field."""
    return tuple(
        Column(name, Annotated[field.annotation, field], examples.get(name))
        for name, field in schema.model_fields.items()
    )


def check(columns: Columns, inputs: Sequence[Column]) -> dict[str, Array]:
    """Return the columns that a model reads, with values as it takes them; those that may be missing and are, too.

    Raises InvalidInputError, at (name,) or (row, name), for a column that is missing, has another number of rows than
    the others or holds a value that does not fit.
    """
    found: dict[str, Array] = {}
    counts = sorted({len(values) for values in columns.values()})
    if len(counts) > 1:
        raise InvalidInputError(f"the columns have {' and '.join(map(str, counts))} rows", (), "columns")
    for column in inputs:
        if column.used and column.name in columns:
            found[column.name] = column.checked(columns[column.name])
        elif column.used and not column.optional:
            raise InvalidInputError(f"the column {column.name} is missing", (column.name,), "missing")
        elif column.used:
            found[column.name] = column.array([None] * sum(counts))
    return found


def check_outputs(columns: Columns, outputs: Sequence[Column], rows: int) -> None:
    """Raise TypeError unless there is an array of so many rows, with one axis or two, for each output column."""
    declared = [column.name for column in outputs]
    if sorted(columns) != sorted(declared):
        raise TypeError(f"columns() returns {', '.join(columns)}; outputs declares {', '.join(declared)}")
    for column in outputs:
        shape = np.shape(columns[column.name])
        if len(shape) != 1 + column.is_list or shape[0] != rows:
            expected = f"({rows}, ...)" if column.is_list else f"({rows},)"
            raise TypeError(f"columns() returns {column.name} of shape {shape} for {rows} items, not {expected}")
