"""The rows of a JSON body: their schema, and how they are read fast, with the verdicts and values of the schema."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import msgspec
import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, FailFast, Field, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError
from typing_extensions import TypedDict

from models.model import LARGE_BYTES, Array, stand_in
from models.segmentation.columns import (
    CATEGORICAL,
    COLUMNS,
    EXAMPLE,
    NAMES,
    PARSERS,
    READERS,
    USED,
    column_type,
    features,
)

MAX_ROWS = 10_000
# Rows and about as many bytes are read at a time: neither library releases the interpreter lock within a call.
SLICE_ROWS = 500
SLICE_BYTES = 2**20
# Pydantic refuses whole numbers of more digits, wherever they stand, and what is nested more than 200 levels deep.
MAX_DIGITS = 4_300
MAX_NESTED = 150


def list_all_columns(schema: dict[str, Any]) -> None:
    """Add the columns that the model does not read, and so takes with any value, to a row's JSON schema."""
    read = schema["properties"]
    schema["properties"] = {name: read.get(name, {"title": name.upper()}) for name in COLUMNS}


def by_known_names(row: object) -> object:
    """Return the columns that the model reads of a row, whatever the case of their names and the spaces around them."""
    if not isinstance(row, dict):
        return row
    names = list(row)
    try:
        return {column: row[names[place]] for column, place in NAMES.positions(names).items()}
    except ValueError as error:
        raise PydanticCustomError("duplicate_column", str(error)) from error


if TYPE_CHECKING:
    Row = dict[str, float | str | None]
else:
    Columns = TypedDict("Row", {name: column_type(name) for name in USED}, total=False)
    Columns.__pydantic_config__ = ConfigDict(json_schema_extra=list_all_columns)
    Row = Annotated[Columns, BeforeValidator(by_known_names)]


class Rows(BaseModel):
    """Rows of x0 to x99; a field may be null or absent and is then imputed, other fields are ignored."""

    model_config = ConfigDict(json_schema_extra={"example": {"data": [EXAMPLE]}})

    # Of many bad rows the first is reported: ten thousand would make an answer larger than the request.
    data: Annotated[list[Row], Field(min_length=1, max_length=MAX_ROWS), FailFast()]

    def features(self) -> Array:
        """Return the GLM's variables, float32 (rows, 25)."""
        return row_features(self.data)


class ReadRows(NamedTuple):
    """Rows of which only the features are kept."""

    matrix: Array

    def features(self) -> Array:
        """Return the GLM's variables, float32 (rows, 25)."""
        return self.matrix


def row_features(rows: Sequence[Row]) -> Array:
    """Return `features` of validated rows."""
    return features({name: [row.get(name) for row in rows] for name in USED})


def read_rows(body: bytes) -> ReadRows:
    """Read a JSON body as `Rows.model_validate_json` does, in a fifth of the time; raises its ValidationError.

    Only the columns that the model reads become objects, and those of a few rows at a time.
    """
    rows = split(body, BODY)
    if rows is None:
        small = body if len(body) <= LARGE_BYTES else stand_in(body, "data")
        return ReadRows(Rows.model_validate_json(small).features())
    if len(rows) > MAX_ROWS:
        return ReadRows(Rows.model_validate({"data": [{}] * len(rows)}).features())  # refused
    slices = cut(rows)
    opened = brackets(body)
    # By all brackets but those of the rows; what is nested deeply is up to the schema.
    deep = opened - len(rows) > MAX_NESTED
    if deep and opened - sum(map(brackets, slices)) > MAX_NESTED:
        check_beside(body)
    read = checked_features if deep else slice_features
    first, matrices = 0, []
    for text in slices:
        matrices.append(read(text, first))
        first += len(matrices[-1])
    return ReadRows(np.concatenate(matrices))


def cut(rows: Sequence[msgspec.Raw]) -> list[bytes]:
    """Return JSON lists of at most SLICE_ROWS rows each, and of SLICE_BYTES or a row more."""
    slices: list[list[msgspec.Raw]] = [[]]
    size = 0
    for row in rows:
        if len(slices[-1]) == SLICE_ROWS or size > SLICE_BYTES:
            slices.append([])
            size = 0
        slices[-1].append(row)
        size += len(row)
    return [b"[" + b",".join(rows) + b"]" for rows in slices]


def check_beside(body: bytes) -> None:
    """Raise ValidationError for a field beside the rows that is nested too deeply, or too long to find that out."""
    for name, value in FIELDS.decode(body).items():
        if name == "data" or brackets(value) <= MAX_NESTED:
            continue
        if len(value) > LARGE_BYTES:
            kind = PydanticCustomError(
                "json_too_long",
                f"This field, which is not read, holds lists or objects and more than {LARGE_BYTES:,} bytes",
            )
            raise ValidationError.from_exception_data("Rows", [InitErrorDetails(type=kind, loc=(name,), input=None)])
        Rows.model_validate_json(b'{"data":[{}],"":' + value + b"}")


def brackets(text: bytes | msgspec.Raw) -> int:
    """Count opening brackets, those in strings included."""
    text = bytes(text)
    return text.count(b"{") + text.count(b"[")


class Body(msgspec.Struct, gc=False):
    """A body of `predict` whose rows are left as they stand."""

    data: list[msgspec.Raw]


def value_type(name: str) -> Any:
    """Return what a column may hold before its text is parsed; msgspec takes a whole number for a float, no boolean."""
    if name in CATEGORICAL:
        return str | None
    return float | str | None if name in PARSERS else float | None


BODY = msgspec.json.Decoder(Body)
FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
LONG_ROW = msgspec.Raw(b'"a row of more than 1 MiB"')
FAST_ROW: Any = msgspec.defstruct("Row", [(name, value_type(name), None) for name in USED], gc=False)
FAST_ROWS = msgspec.json.Decoder(list[FAST_ROW])


class Slice(BaseModel):
    """Some rows of a body, however many."""

    data: Annotated[list[Row], FailFast()]


def split(body: bytes, decoder: msgspec.json.Decoder[Any]) -> list[msgspec.Raw] | None:
    """Return the rows of a body unread; None for what is no list of rows, or what msgspec would take more lightly."""
    if not is_utf8(body) or has_long_number(body):
        return None
    try:
        (rows,) = msgspec.structs.astuple(decoder.decode(body))
    except (msgspec.DecodeError, RecursionError):  # also of what pydantic reads, such as NaN where nobody looks
        return None
    # No more, and none so long, are read: these are refused for it.
    return [row if len(row) <= LARGE_BYTES else LONG_ROW for row in rows[: MAX_ROWS + 1]] or None


def is_utf8(body: bytes) -> bool:
    """Whether a body is valid UTF-8, strings that are passed over included."""
    if body.isascii():
        return True
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for start in range(0, len(body), 2**20):
            decoder.decode(body[start : start + 2**20])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def has_long_number(body: bytes, step: int = 64) -> bool:
    """Whether a body may have a number of more than MAX_DIGITS digits; looks at each 64th byte."""
    if len(body) <= MAX_DIGITS:
        return False
    bytes_ = np.frombuffer(body, np.uint8)[::step]
    others = np.flatnonzero((bytes_ < ord("0")) | (bytes_ > ord("9")))
    return bool(np.diff(others, prepend=-1, append=len(bytes_)).max() > MAX_DIGITS // step)


def slice_features(text: bytes, first: int) -> Array:
    """Return `features` of a JSON list of rows that begin with the one of index `first`; raises ValidationError."""
    try:
        if not NAMES.has_odd_names(text):
            return features(fast_columns(text))
    except (msgspec.DecodeError, ValueError):
        pass
    return checked_features(text, first)  # the schema decides, and explains


def fast_columns(text: bytes) -> dict[str, Any]:
    """Return the columns of a JSON list of rows; raises an error for what does not fit their types."""
    rows = FAST_ROWS.decode(text)
    columns: dict[str, Any] = {name: list(map(attrgetter(name), rows)) for name in USED}
    for name in PARSERS.keys() & columns.keys():
        together = READERS[name](columns[name])
        if together is None:
            together = np.array([PARSERS[name](value) for value in columns[name]], dtype=np.float64)
        columns[name] = together
        if np.isinf(columns[name]).any():
            raise ValueError("out of range")
    return columns


def checked_features(text: bytes, first: int) -> Array:
    """Return `features` of a JSON list of rows by the schema, whose ValidationError counts rows from `first`."""
    try:
        return row_features(Slice.model_validate_json(b'{"data":' + text + b"}").data)
    except ValidationError as error:
        faults: list[InitErrorDetails] = []
        for fault in error.errors(include_url=False, include_input=False, include_context=False):
            # Where in the text is of no use: it is another.
            kind: Any = PydanticCustomError(fault["type"], fault["msg"].partition(" at line ")[0])
            name, place = fault["loc"][:1], fault["loc"][1:]
            location = (*name, *(first + int(index) for index in place[:1]), *place[1:])
            faults.append(InitErrorDetails(type=kind, loc=location, input=None))
        raise ValidationError.from_exception_data("Rows", faults) from None
