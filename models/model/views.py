"""What a model of pictures shows of them, so that its answers can be explained."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

from models.model.columns import Array


class View(NamedTuple):
    """A picture as a model sees it.

    `pixels` are uint8 (height, width, 3). `box` is the part of the upright picture that they show, (left, top, right,
    bottom) in its own pixels, of which it has `width` x `height`; black borders lie outside.
    """

    pixels: Array
    box: tuple[float, float, float, float]
    width: int
    height: int


@runtime_checkable
class ShowsPictures(Protocol):
    """A model whose items are pictures. Its `preprocess` and `key` also take the pixels of a view as an item."""

    def view(self, item: Any) -> View:
        """Return the picture of an item as the model sees it; raise InvalidInputError."""
