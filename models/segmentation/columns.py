"""The columns of a customer's row, how their values may be written, and the GLM's variables made of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
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
# The columns that they are made of. Others are neither read nor checked, in rows and in files.
USED = tuple(dict.fromkeys(name.partition("_")[0] for name in VARIABLES))
NUMERIC = tuple(name for name in VARIABLES if "_" not in name)
CATEGORICAL = ("x5", "x31", "x81", "x82")
COLUMNS = tuple(f"x{i}" for i in range(100))

# Marks of a missing value in files, in any case: of R, pandas, SQL, MySQL, Excel.
MISSING = frozenset({"", "na", "n/a", "<na>", "#n/a", "#na", "nan", "nat", "null", "none", "\\n"})

# Longest text that is read as a number.
MAX_CHARACTERS = 100
# Digits, with commas before groups of three or without; possessive, so that no text is gone through twice.
AMOUNT = r"((?:[1-9]\d{0,2}+(?:,\d{3})++|\d++)(?:\.\d*+)?+|\.\d++)"
MONEY = re.compile(rf"([-+]?+)(\$?+) ?+([-(]?+)(\$?+) ?+{AMOUNT}(\)?+)", re.ASCII)
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


def column_type(name: str, *, text: bool) -> Any:
    """Return the type of one value of a column; with `text`, numbers may be given as text, as in CSV."""
    if name not in USED:
        return Any
    if name in CATEGORICAL:
        return str | None
    number = Annotated[float, Field(strict=not text, allow_inf_nan=False)] | None
    return Annotated[number, BeforeValidator(PARSERS[name])] if name in PARSERS else number


Columns = dict[str, list[Any]]

TEXT_COLUMNS: dict[str, TypeAdapter[list[Any]]] = {
    name: TypeAdapter(Annotated[list[column_type(name, text=True)], FailFast()])  # type: ignore[arg-type, misc]
    for name in USED
}


def known_column(name: str) -> str | None:
    """Return the column that a name stands for, whatever its case and the spaces in it; None for other names."""
    if name in KNOWN:
        return name
    plain = SPACES.sub("", name).casefold() if len(name) <= MAX_CHARACTERS else ""
    return plain if plain in KNOWN else None


# Those that are not seen, too: of no width, and byte order marks.
SPACES = re.compile(r"[\s\u200b-\u200f\u2060\ufeff]++")
KNOWN = frozenset(COLUMNS)


def used_columns(names: Iterable[str]) -> dict[str, int]:
    """Return the positions of the columns that the model reads among `names`; ValueError for one that stands twice."""
    found: dict[str, int] = {}
    for position, name in enumerate(names):
        column = known_column(name)
        if column in USED:
            if column in found:
                raise ValueError(f"two columns are named {column}, but for case or spaces")
            found[column] = position
    return found


def has_odd_names(text: bytes) -> bool:
    """Tell whether JSON text may hold a column's name in capitals or with spaces around it.

    Fast and without the interpreter's lock, since decoders know exact names only. Some other names are
    taken for odd ones too.
    """
    letters = np.frombuffer(without_escapes(text), np.uint8)
    quotes = np.flatnonzero(letters == ord('"'))
    opening, closing = quotes[:-1:2], quotes[1::2]
    after = letters[np.minimum(closing + 1, len(letters) - 1)]
    names = (after == ord(":")) | (after <= ord(" "))
    opening, closing = opening[names], closing[names]
    first, second, last = letters[opening + 1], letters[np.minimum(opening + 2, len(letters) - 1)], letters[closing - 1]
    odd = (first == ord("X")) | (first == ord("\\")) | (first <= ord(" ")) | (first >= 128)
    # Names that are known have one or two digits after the x.
    digits = (second >= ord("0")) & (second <= ord("9")) & (last >= ord("0")) & (last <= ord("9"))
    usual = digits & (closing - opening <= 4)
    return bool(np.any(odd | ((first == ord("x")) & ~usual)))


def without_escapes(text: bytes) -> bytes:
    """Return JSON text of the same length in which every quotation mark begins or ends a string."""
    return text.replace(rb"\\", b"__").replace(rb"\"", b"__") if b"\\" in text else text


# Of a file.
MAX_FILE_ROWS = 100_000
TOO_MANY_ROWS = f"the file has more than {MAX_FILE_ROWS:,} rows"
NO_COLUMNS = "the file has none of the columns x0 to x99"


def invalid(message: str, kind: str, *place: str | int) -> InvalidInputError:
    """Return the error for a fault in the uploaded file; `place` is row and column where they are known."""
    return InvalidInputError(message, ("file", *place), kind)


def checked(columns: Columns, first_row: int) -> Columns:
    """Parse the columns that the model reads among `columns`; InvalidInputError for the first bad value."""
    return {name: parsed(name, columns[name], first_row) for name in USED if name in columns}


def parsed(name: str, values: list[Any], first_row: int) -> list[Any]:
    """Parse one column, in which marks of a missing value may stand."""
    if name in NUMERIC:
        for row, value in enumerate(values, first_row):
            if isinstance(value, str) and "_" in value:  # pydantic reads "1_0" as Python does
                raise invalid("Input should be a number, without underscores", "float_parsing", "data", row, name)
    try:
        return TEXT_COLUMNS[name].validate_python(values)
    except ValidationError:
        present = [None if isinstance(value, str) and value.strip().lower() in MISSING else value for value in values]
    try:
        return TEXT_COLUMNS[name].validate_python(present)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise invalid(fault["msg"], fault["type"], "data", first_row + int(fault["loc"][0]), name) from error


# Where a category stands among the variables, by column.
PLACES = {
    column: {name.partition("_")[2]: i for i, name in enumerate(VARIABLES) if name.startswith(f"{column}_")}
    for column in CATEGORICAL
}


def features(columns: Mapping[str, Sequence[Any]]) -> Array:
    """Return the GLM's variables, float32 (rows, 25), of validated columns of equal length.

    Numeric variables keep their units and are NaN where missing (the graph imputes and standardises
    them), categories are 0 or 1; spaces around a category are no part of it.
    """
    rows = len(next(iter(columns.values())))
    matrix = np.zeros((rows, len(VARIABLES)), dtype=np.float32)
    for i, variable in enumerate(VARIABLES):
        if variable in NUMERIC:
            values = columns.get(variable)
            matrix[:, i] = np.nan if values is None else clipped(np.array(values, dtype=np.float64))
    for column, places in PLACES.items():
        found = [places.get(value.strip(), -1) if value else -1 for value in columns.get(column, ())]
        place = np.array(found, dtype=np.int64)
        known = np.flatnonzero(place >= 0)
        matrix[known, place[known]] = 1
    return matrix
