"""Customer segmentation: the probability that a customer buys, by a GLM over 25 variables of a row."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, FailFast, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict, override

from models.model import Array, Infer, InvalidInputError, Model, clipped, route

MAX_ROWS = 10_000
MAX_UPLOAD_ROWS = 100_000
# Rows of an upload that are decoded at a time, so that memory does not grow with the file.
CHUNK_ROWS = 5_000
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


if TYPE_CHECKING:
    Row = dict[str, float | str | None]
else:
    Row = TypedDict("Row", {name: column_type(name, text=False) for name in COLUMNS}, total=False)

EXAMPLE_ROW: dict[str, Any] = {
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


class Rows(BaseModel):
    """Rows of x0 to x99; a field may be null or absent and is then imputed, other fields are ignored."""

    model_config = ConfigDict(json_schema_extra={"example": {"data": [EXAMPLE_ROW]}})

    # Of many bad rows the first is reported: ten thousand would make an answer larger than the request.
    data: Annotated[list[Row], Field(min_length=1, max_length=MAX_ROWS), FailFast()]


class File(BaseModel):
    """A file of up to 100 000 rows."""

    file: Path = Field(description='JSON ({"data": [...]}), CSV with a header, or Parquet')


class Segments(BaseModel):
    """One probability and class per row, in the rows' order; class 1 where the probability is over 0.75."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"class_probability": [0.37], "predicted_class": [0], "input_variables": list(VARIABLES)}
        }
    )

    class_probability: list[float]
    predicted_class: list[int]
    input_variables: list[str]


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


def row_features(rows: Sequence[Row]) -> Array:
    """`features` of validated rows."""
    return features({name: [row.get(name) for row in rows] for name in USED})


class Segmentation(Model[Array]):
    """An item is a row of `features`, its output the probabilities of both classes."""

    input = Row
    input_example = EXAMPLE_ROW
    max_items = MAX_ROWS
    max_batch = 4_096

    @classmethod
    @override
    def items(cls, inputs: Sequence[Row]) -> Array:
        return row_features(inputs)

    @override
    def preprocess(self, item: Array) -> dict[str, Array]:
        return {"features": item}

    @route()
    async def predict(self, request: Rows, infer: Infer[Array]) -> Segments:
        """Score 1 to 10 000 rows."""
        return segments(await infer(await asyncio.to_thread(row_features, request.data)))

    @route(upload=True)
    async def uploadfile(self, request: File, infer: Infer[Array]) -> Segments:
        """Score a file of up to 100 000 rows."""
        return segments(await infer(await asyncio.to_thread(read_file, request.file)))


def segments(probabilities: Array) -> Segments:
    """The response for the probabilities of both classes, float32 (rows, 2)."""
    probability = probabilities[:, 1]
    return Segments(
        class_probability=probability.tolist(),
        predicted_class=(probability > THRESHOLD).astype(int).tolist(),
        input_variables=list(VARIABLES),
    )


def read_file(path: Path) -> Array:
    """`features` of a file's rows; its format is recognised by its content.

    Raises InvalidInputError that names row and column of the first fault.
    """
    with path.open("rb") as file:
        start = file.read(64).lstrip()
        file.seek(0)
        if start.startswith(b"PAR1"):
            chunks = parquet_chunks(path)
        elif start.startswith((b"{", b"[")):
            chunks = json_chunks(file)
        else:
            chunks = csv_chunks(file)
        matrices: list[Array] = []
        rows = 0
        for columns in chunks:
            matrix = features(checked(columns, rows))
            matrices.append(matrix)
            rows += len(matrix)
            if rows > MAX_UPLOAD_ROWS:
                raise invalid(f"the file has more than {MAX_UPLOAD_ROWS:,} rows", "too_long")
    if not rows:
        raise invalid("the file has no rows", "too_short")
    return np.concatenate(matrices)


def invalid(message: str, kind: str, *place: str | int) -> InvalidInputError:
    """The error for a fault in the uploaded file; `place` is row and column where they are known."""
    return InvalidInputError(message, ("file", *place), kind)


Columns = dict[str, list[Any]]

NO_DATA = 'the file is not an object with an array "data"'
NO_COLUMNS = "the file has none of the columns x0 to x99"
SPACE = re.compile(r"[ \t\n\r]*")


def refuse_constant(name: str) -> float:
    """NaN and Infinity are no JSON, though Python reads them."""
    raise json.JSONDecodeError(f"{name} is not JSON", name, 0)


DECODER = json.JSONDecoder(parse_constant=refuse_constant)
# How columns of some types are read. Text is cut off, since a small file can hold gigabytes of it.
PARQUET_READERS = {
    "FLOAT": "CASE WHEN isnan({0}) THEN NULL ELSE {0} END",
    "DOUBLE": "CASE WHEN isnan({0}) THEN NULL ELSE {0} END",
    "VARCHAR": "left({}, 100)",
}

TEXT_COLUMNS: dict[str, TypeAdapter[list[Any]]] = {
    name: TypeAdapter(Annotated[list[column_type(name, text=True)], FailFast()])  # type: ignore[arg-type, misc]
    for name in COLUMNS
}


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


def transposed(rows: Iterable[Mapping[str, Any]]) -> Iterator[Columns]:
    """Columns of every CHUNK_ROWS rows."""
    rows = iter(rows)
    while chunk := list(islice(rows, CHUNK_ROWS)):
        names = list(chunk[0])
        if names and all(list(row) == names for row in chunk):
            # The usual case, in a third of the time.
            yield dict(zip(names, map(list, zip(*(row.values() for row in chunk), strict=True)), strict=True))
        else:
            yield {name: [row.get(name) for row in chunk] for name in COLUMNS}


def json_chunks(file: io.BufferedReader) -> Iterator[Columns]:
    """Columns of `{"data": [{...}, ...]}`."""
    try:
        yield from transposed(json_rows(file.read().decode("utf-8-sig")))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid("the file is not valid JSON", "json_invalid") from error


def json_rows(text: str) -> Iterator[Mapping[str, Any]]:
    """The rows of `{"data": [{...}, ...]}`, decoded one by one; other keys are passed over.

    Decoded at once, a large file would take ten times its size in memory.
    """
    position = 0

    def peek() -> str:
        """The next character that is not white space, or nothing at the end."""
        nonlocal position
        position = SPACE.match(text, position).end()  # type: ignore[union-attr]  # it matches the empty text
        return text[position : position + 1]

    def take(characters: str) -> str:
        """Read one of `characters`."""
        nonlocal position
        found = peek()
        if not found or found not in characters:
            raise json.JSONDecodeError(f"expected one of {characters}", text, position)
        position += 1
        return found

    def value() -> Any:
        """Read a value."""
        nonlocal position
        peek()
        decoded, position = DECODER.raw_decode(text, position)
        return decoded

    def entries(close: str) -> Iterator[None]:
        """Once per entry of an array or object: reads the commas and the closing bracket."""
        if peek() == close:
            take(close)
            return
        while True:
            yield
            if take("," + close) == close:
                return

    if peek() == "[":
        raise invalid(NO_DATA, "missing")
    take("{")
    found = False
    for _ in entries("}"):
        key = value()
        take(":")
        if key != "data":
            value()
            continue
        found = True
        take("[")
        for _ in entries("]"):
            row = value()
            if not isinstance(row, dict):
                raise invalid("a row of data is not an object", "dict_type")
            yield row
    if peek():
        raise json.JSONDecodeError("more than one value", text, position)
    if not found:
        raise invalid(NO_DATA, "missing")


def csv_chunks(file: io.BufferedReader) -> Iterator[Columns]:
    """Columns of a UTF-8 CSV file with a header; an empty cell is missing."""
    lines = csv.reader(io.TextIOWrapper(file, encoding="utf-8-sig", newline=""), strict=True)

    def rows(width: int) -> Iterator[list[str]]:
        """The lines that are not empty, each of `width` cells."""
        for line in filter(None, lines):
            if len(line) != width:
                raise invalid(f"line {lines.line_num} has {len(line)} cells, the header has {width}", "csv")
            yield line

    try:
        header = next(lines, [])
        wanted = {name: i for i, name in enumerate(header) if name in TEXT_COLUMNS}
        complete = rows(len(header))
        while chunk := list(islice(complete, CHUNK_ROWS)):
            yield {name: [line[i] or None for line in chunk] for name, i in wanted.items()}
    except (csv.Error, UnicodeDecodeError) as error:
        raise invalid("the file is not JSON, Parquet or UTF-8 CSV", "csv") from error


def parquet_chunks(path: Path) -> Iterator[Columns]:
    """Columns of a Parquet file; NaN, pandas' mark of a missing number, is missing."""
    import duckdb  # 70 MB, which only servers that are given Parquet need to load

    settings: dict[str, Any] = {
        "threads": 1,
        "memory_limit": "512MB",
        "temp_directory": "",
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    try:
        with duckdb.connect(":memory:", config=settings) as connection:
            types = connection.execute("DESCRIBE SELECT * FROM read_parquet(?)", [str(path)]).fetchall()
            wanted = {name: PARQUET_READERS.get(kind, "{}") for name, kind, *_ in types if name in TEXT_COLUMNS}
            if not wanted:
                raise invalid(NO_COLUMNS, "missing")
            columns = ", ".join(reader.format(name) for name, reader in wanted.items())
            # The columns are names of ours.
            rows = connection.execute(f"SELECT {columns} FROM read_parquet(?)", [str(path)])  # noqa: S608
            while chunk := rows.fetchmany(CHUNK_ROWS):
                yield dict(zip(wanted, map(list, zip(*chunk, strict=True)), strict=True))
    except duckdb.Error as error:
        raise invalid("the file is not readable Parquet", "parquet") from error
