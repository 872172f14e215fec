"""What the parts of a model's items are: words of a text, boxes of a picture, or columns of a row."""

from __future__ import annotations

from typing import Any

from models.model import Model, ShowsPictures


def kind_of(model: type[Model[Any]]) -> str:
    """Return what a model's contributions are to: `span`, `box` or `name`."""
    if issubclass(model, ShowsPictures):
        return "box"
    used = [column for column in model.inputs if column.used]
    is_text = len(used) == 1 and used[0].base is str and not used[0].categories
    return "span" if is_text else "name"
