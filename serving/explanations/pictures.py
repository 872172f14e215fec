"""Pictures: boxes of a view, the view with one of them blanked, and the heat map of what each contributes."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from models.model import Array, View

Box = tuple[float, float, float, float]

# What takes the place of a box: a plain grey, as in Zeiler and Fergus 2014.
GREY = 128
# A heat map's sides are at least so long, in pixels.
MIN_SIDE = 256
# The most of a heat map's colour that covers the picture.
OPACITY = 0.65
# Colours of what speaks for the label, and of what speaks against it.
FOR, AGAINST = (214, 39, 40), (31, 119, 180)


def edges(length: int, count: int) -> list[int]:
    """Return the edges of `count` parts of a side of so many pixels."""
    return [length * place // count for place in range(count + 1)]


def slices(view: View, side: int) -> list[tuple[slice, slice]]:
    """Return the rows and columns of the boxes of a grid of `side` x `side`, row by row."""
    height, width = view.pixels.shape[:2]
    down, across = edges(height, side), edges(width, side)
    return [
        (slice(down[row], down[row + 1]), slice(across[column], across[column + 1]))
        for row in range(side)
        for column in range(side)
    ]


def occluded(view: View, side: int) -> list[Array]:
    """Return the pixels with each box of the grid blanked in turn, then with all of them blanked.

    (Zeiler and Fergus 2014, "Visualizing and understanding convolutional networks", section 4.2.)
    """
    found = []
    for rows, columns in slices(view, side):
        pixels = view.pixels.copy()
        pixels[rows, columns] = GREY
        found.append(pixels)
    return [*found, np.full_like(view.pixels, GREY)]


def boxes(view: View, side: int) -> list[Box | None]:
    """Return the boxes of the grid in pixels of the picture as it was sent; None for one that lies outside of it."""
    height, width = view.pixels.shape[:2]
    left, top, right, bottom = view.box
    across, down = (right - left) / width, (bottom - top) / height
    found: list[Box | None] = []
    for rows, columns in slices(view, side):
        box = (
            clipped(left + columns.start * across, view.width),
            clipped(top + rows.start * down, view.height),
            clipped(left + columns.stop * across, view.width),
            clipped(top + rows.stop * down, view.height),
        )
        found.append(box if box[0] < box[2] and box[1] < box[3] else None)
    return found


def clipped(place: float, length: int) -> float:
    """Return a coordinate within a side of so many pixels, to a hundredth of one."""
    return round(min(max(place, 0.0), float(length)), 2)


def heat_map(view: View, values: Array) -> bytes:
    """Draw the contributions (side * side,) over the view and return it as PNG: red speaks for the label, blue against.

    Opacity is in proportion to the contribution, the largest of either sign being the most opaque.
    """
    side = round(len(values) ** 0.5)
    height, width = view.pixels.shape[:2]
    scale = max(1, -(-MIN_SIDE // min(height, width)))
    size = (width * scale, height * scale)
    strength = values / (np.abs(values).max() or 1.0)
    overlay = np.zeros((height, width, 4), dtype=np.uint8)
    for (rows, columns), share in zip(slices(view, side), strength.tolist(), strict=True):
        overlay[rows, columns, :3] = FOR if share > 0 else AGAINST
        overlay[rows, columns, 3] = round(255 * OPACITY * abs(share))
    picture = Image.fromarray(view.pixels).resize(size, Image.Resampling.BICUBIC).convert("RGBA")
    picture.alpha_composite(Image.fromarray(overlay).resize(size, Image.Resampling.NEAREST))
    file = io.BytesIO()
    picture.convert("RGB").save(file, "PNG")
    return file.getvalue()
