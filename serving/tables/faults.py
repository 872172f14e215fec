"""Where in a file a fault is that was found in an item, or in an archive's file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models.model import InvalidInputError, Model

# Of the name of an archived file in a message.
MAX_NAME_CHARACTERS = 200


def in_file(error: InvalidInputError, first_row: int, model: type[Model[Any]]) -> InvalidInputError:
    """Return the error of an item as one of the file's row and column, where a model has one column."""
    columns = [column.name for column in model.inputs if column.used]
    column = columns if len(columns) == 1 else error.location
    return InvalidInputError(str(error), ("file", "data", first_row + (error.item or 0), *column), error.kind)


def named(error: InvalidInputError, names: Sequence[str]) -> InvalidInputError:
    """Return an error of a file's row with the name of the archived file that is this row, where there are names."""
    row = next((part for part in error.location if isinstance(part, int)), None)
    name = names[row][:MAX_NAME_CHARACTERS] if row is not None and row < len(names) else ""
    return InvalidInputError(f"{name}: {error}" if name else str(error), error.location, error.kind)
