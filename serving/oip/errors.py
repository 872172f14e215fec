"""What a request of the Open Inference Protocol can be refused for, besides the engine's own errors."""

from __future__ import annotations

from typing import Any

from models.model import InvalidInputError, Model


class ProtocolError(ValueError):
    """A request that breaks the protocol, or that asks for something that the model does not have."""


def placed(error: InvalidInputError, model: type[Model[Any]]) -> InvalidInputError:
    """Return the error of an item, or of a column, as one of an input tensor: at ("inputs", name, row).

    Its message says where, since the clients of the protocol show nothing else.
    """
    if not error.location and error.item is None:
        return InvalidInputError(str(error), ("inputs",), error.kind)
    used = [column.name for column in model.inputs if column.used]
    row = next((part for part in error.location if isinstance(part, int)), error.item)
    name = next((part for part in error.location if part in used), used[0] if len(used) == 1 else None)
    place: list[str | int] = [] if name is None else [name]
    place += [] if row is None else [row]
    parts = [f"row {part}" if isinstance(part, int) else part for part in place]
    message = f"{', '.join(parts)}: {error}" if parts else str(error)
    return InvalidInputError(message, ("inputs", *place), error.kind, row)
