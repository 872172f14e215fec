"""Boxes of pictures, and heat maps over them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.image import ImageClassifier, Upload
from models.model import Array, View
from serving.bento.shipped import FOLDER
from serving.explanations.pictures import AGAINST, FOR, boxes, heat_map, occluded
from tests.support.photos import photo

GREEN = (0, 200, 0)


def view(height: int, width: int) -> View:
    """Return a green picture that is seen as it is."""
    return View(np.full((height, width, 3), GREEN, np.uint8), (0, 0, width, height), width, height)


@pytest.mark.parametrize("size", [(32, 32), (7, 30)])
def test_each_box_is_blanked_once_and_at_last_all_are(size: tuple[int, int]) -> None:
    seen = view(*size)
    *parts, blank = occluded(seen, 4)
    changed = np.array([(pixels != seen.pixels).any(2) for pixels in parts])
    assert (changed.sum(0) == 1).all()
    assert (blank != seen.pixels).any(2).all()


def classifier(**changes: object) -> ImageClassifier:
    """Return the shipped classifier with other settings."""
    made = ImageClassifier(FOLDER / "image")
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def test_boxes_are_in_the_pixels_of_the_picture_that_was_sent() -> None:
    seen = classifier().view(Upload(photo("JPEG", (640, 480)), resize=True))
    assert boxes(seen, 2) == [(0, 0, 320, 240), (320, 0, 640, 240), (0, 240, 320, 480), (320, 240, 640, 480)]


def test_of_a_picture_whose_middle_is_seen_boxes_are_there() -> None:
    seen = classifier(shortest_edge=40).view(Upload(photo("PNG", (160, 80)), resize=True))
    assert seen.pixels.shape == (32, 32, 3)
    # Brought to 80 x 40, of which the middle 32 x 32 are seen.
    assert boxes(seen, 1) == [(48, 8, 112, 72)]


def test_what_lies_outside_of_a_picture_has_no_box() -> None:
    seen = classifier(whole=(16, 32)).view(Upload(photo("PNG", (160, 320)), resize=True))
    assert boxes(seen, 4)[:4] == [None, (0.0, 0.0, 80.0, 80.0), (80.0, 0.0, 160.0, 80.0), None]


def test_a_picture_on_its_side_has_the_boxes_of_what_viewers_show() -> None:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (64, 32)).save(file, "JPEG", exif=exif)
    assert boxes(classifier().view(Upload(file.getvalue(), resize=True)), 1) == [(0, 0, 32, 64)]


def test_pixels_of_a_view_are_answered_as_the_picture_is() -> None:
    model = classifier()
    upload = Upload(photo("PNG", (100, 50)), resize=True)
    pixels = model.view(upload).pixels
    assert np.array_equal(model.preprocess(upload)["pixel_values"], model.preprocess(pixels)["pixel_values"])
    assert model.key(upload) != model.key(pixels)


def colours(values: Array) -> Array:
    """Return the mean colours (2, 2, 3) of the quarters of a heat map of four values."""
    image = Image.open(io.BytesIO(heat_map(view(32, 32), values)))
    assert image.format == "PNG"
    return np.asarray(image.resize((2, 2), Image.Resampling.BOX)).astype(int)


def test_a_heat_map_is_red_where_it_speaks_for_the_label_and_blue_where_against() -> None:
    found = colours(np.array([1.0, -1.0, 0.5, 0.0]))
    distances = [
        [np.abs(found - colour).sum(2)[place] for colour in (FOR, AGAINST, GREEN)] for place in np.ndindex(2, 2)
    ]
    assert np.argmin(distances, axis=1).tolist() == [0, 1, 2, 2]
    assert distances[0][0] < distances[2][0] < distances[3][0]
    assert found[1, 1].tolist() == list(GREEN)


def test_a_picture_without_any_contribution_stays_as_it_is() -> None:
    assert (colours(np.zeros(4)) == GREEN).all()


def test_a_heat_map_is_large_enough_to_be_seen(tmp_path: Path) -> None:
    assert Image.open(io.BytesIO(heat_map(view(20, 50), np.zeros(16)))).size == (650, 260)
