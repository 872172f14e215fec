"""What is read of a file: the columns of a model, and the faults that a file can have."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from models.model import Array, ColumnNames, InvalidInputError, Model

# The cells of some rows by column, as they stand in the file: text, numbers, bytes, None; or as `arrays` has them.
Cells = dict[str, list[Any] | Array]

# Longest number, or text that may be one of a few categories, in bytes; what is longer is neither.
MAX_NUMBER_BYTES = 1_000
# Longest text, in characters, where the column sets no bound.
MAX_TEXT_CHARACTERS = 2**16
# Longest file in a cell or an archive.
MAX_FILE_BYTES = 32 * 2**20


class Schema:
    """The columns that a model reads of a file, of at most `max_rows` rows, by default as many as the model says."""

    def __init__(self, model: type[Model[Any]], max_rows: int | None = None) -> None:
        self.model = model
        self.columns = {column.name: column for column in model.inputs if column.used}
        self.names = ColumnNames(model.inputs)
        self.max_rows = max_rows or model.max_file_items
        self.too_many_rows = f"the file has more than {self.max_rows:,} rows"
        # Names that are read as numbers, and of these the ones with a notation of their own.
        self.numeric = [name for name, column in self.columns.items() if column.base in (float, int)]
        self.notations = [name for name in self.numeric if self.columns[name].notation]
        self.blobs = [name for name, column in self.columns.items() if column.base is bytes]

    @property
    def listing(self) -> str:
        """The names of all columns, in words."""
        return listing(self.names.columns)

    def check_names(self, names: list[str]) -> None:
        """Raise InvalidInputError where none of the names is that of a column."""
        if not self.names.count(names):
            raise invalid(f"the file has none of the columns {self.listing}", "missing")

    def positions(self, names: list[str], *place: str | int) -> dict[str, int]:
        """Return the positions of the columns that are read; InvalidInputError for one that stands twice."""
        try:
            return self.names.positions(names)
        except ValueError as error:
            raise invalid(str(error), "duplicate_column", *place) from error

    def max_characters(self, name: str) -> int | None:
        """Return the most characters of a column of text; None for other columns, and for those of categories."""
        column = self.columns[name]
        return None if column.categories or column.base is not str else column.max_length or MAX_TEXT_CHARACTERS

    def max_bytes(self, name: str) -> int:
        """Return the most bytes of a cell."""
        characters = self.max_characters(name)
        if self.columns[name].base is bytes:
            return MAX_FILE_BYTES
        return MAX_NUMBER_BYTES if characters is None else 4 * characters


def listing(names: Iterable[str]) -> str:
    """Return names in words: all, or of many the first and the last."""
    known = list(names)
    return ", ".join(known) if len(known) <= 10 else f"{known[0]} to {known[-1]}"


def invalid(message: str, kind: str, *place: str | int) -> InvalidInputError:
    """Return the error for a fault in the uploaded file; `place` is "data", row and column where they are known."""
    return InvalidInputError(message, ("file", *place), kind)
