"""Requests like those of users: the n-th for a model is always the same, and no two are alike.

Uses nothing of the server's code, since a load test is a client like any other.
"""

from __future__ import annotations

import functools
import io
import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from PIL import Image

from loadtest.tensors import BYTES, Tensor, column

JSON = "application/json"
BOUNDARY = "tiffin-load-test"
MULTIPART = f"multipart/form-data; boundary={BOUNDARY}"


def phrases(listed: str) -> list[str]:
    """Split a list at its bars."""
    return listed.split("|")


# Parts of sentences as long as those of SST-2: 19 words, with a standard deviation of 9.
OPENINGS = phrases("after a slow start|at its best|for all its charm|despite a fine cast|to be fair|like most sequels")
SUBJECTS = phrases(
    "the film|the screenplay|its director|the second half|this remake|the leading lady|an unknown cast|"
    "the score|every scene at sea|the dialogue|a subplot about money|the young hero|the camera|"
    "nobody here"
)
VERBS = phrases(
    "never finds|slowly earns|hardly needs|throws away|quietly delivers|cannot hide|almost redeems|"
    "repeats|keeps|loses|makes the most of|settles for|wins us over with|drowns in"
)
QUALITIES = phrases(
    "tender|clumsy|brilliant|predictable|warm|tedious|sharp|lifeless|inventive|muddled|graceful|loud|"
    "unforgettable|ordinary|honest|overlong|moving|shallow"
)
THINGS = phrases(
    "humour|pace|ending|story|performances|jokes|images|characters|sentiment|twists|silences|ambition|"
    "romance|melodrama|observations|action"
)
LINKS = phrases(", and|, but|, though|; still|, while|, because")
# The reference row of breast_cancer, a malignant tumour in the units of the Wisconsin diagnostic data.
TUMOUR = {
    "concavity_mean": 0.3001,
    "concave_points_mean": 0.1471,
    "perimeter_se": 8.589,
    "area_se": 153.4,
    "texture_worst": 17.33,
    "area_worst": 2019.0,
}
CATEGORIES = {
    "x5": ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"),
    "x31": ("america", "asia", "germany", "japan"),
    "x81": ("January", "February", "March", "May", "June", "July", "August", "September", "October", "December"),
    "x82": ("Female", "Male"),
}
# The columns of customers that hold text; the others hold numbers.
TEXT_COLUMNS = {*CATEGORIES, "x12", "x63"}
PICTURES = 48


@dataclass(frozen=True)
class Request:
    """A POST request: path, content type and body.

    `json_bytes` is how many bytes of the body are JSON, where binary tensors follow it.
    """

    path: str
    content_type: str
    body: bytes
    json_bytes: int | None = None


def rng(number: int) -> random.Random:
    """Return a generator of random numbers that depend on the request's number alone."""
    return random.Random(number)  # noqa: S311


def text(number: int) -> str:
    """Return a sentence about a film, made unique by its last word."""
    draw = rng(number)
    length = max(3, min(50, round(draw.gauss(19, 9))))
    words: list[str] = draw.choice(OPENINGS).split() if draw.random() < 0.3 else []
    while len(words) < length:
        clause = (SUBJECTS, VERBS, QUALITIES, THINGS, LINKS)
        words += " ".join(map(draw.choice, clause)).replace(" ,", ",").replace(" ;", ";").split()
    return " ".join([*words[: length - 1], str(number)])


def tumour(number: int) -> dict[str, float]:
    """Return measurements around those of the reference row."""
    draw = rng(number)
    return {name: round(value * draw.uniform(0.5, 1.5), 7) for name, value in TUMOUR.items()}


def customer(number: int) -> dict[str, float | str | None]:
    """Return a row of x0 to x99 with one value in twenty missing, made unique by its x0."""
    draw = rng(number)
    row: dict[str, float | str | None] = {f"x{i}": round(draw.gauss(0, 1), 6) for i in range(100)}
    row |= {name: draw.choice(categories) for name, categories in CATEGORIES.items()}
    row |= {"x12": f"${draw.gauss(0, 3_000):,.2f}", "x63": f"{draw.uniform(0, 100):.2f}%"}
    return {name: None if draw.random() < 0.05 else value for name, value in row.items()} | {"x0": float(number)}


@functools.cache
def pictures() -> list[bytes]:
    """Return JPEG files of soft shapes, 160 to 640 pixels wide."""
    made = []
    for number in range(PICTURES):
        draw = rng(number)
        seed = Image.frombytes("RGB", (8, 6), draw.randbytes(8 * 6 * 3))
        width = draw.choice((160, 320, 640))
        file = io.BytesIO()
        seed.resize((width, width * 3 // 4), Image.Resampling.BICUBIC).save(file, "JPEG", quality=85)
        made.append(file.getvalue())
    return made


def picture(number: int) -> bytes:
    """Return a JPEG file made unique by a comment: new to every cache, decoded and classified like any other."""
    file = pictures()[number % PICTURES]
    comment = str(number).encode()
    return file[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + file[2:]


def form(field: str, name: str, content_type: str, content: bytes) -> bytes:
    """Return a multipart body with one file."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n'
    return f"{head}Content-Type: {content_type}\r\n\r\n".encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()


def sentiment(number: int) -> Request:
    """Return a request with one text."""
    return Request("/sentiment/predict", JSON, json.dumps({"text": [text(number)]}).encode())


def breast_cancer(number: int) -> Request:
    """Return a request with one tumour."""
    return Request("/breast_cancer/predict", JSON, json.dumps(tumour(number)).encode())


def segmentation(number: int) -> Request:
    """Return a request with one customer."""
    return Request("/segmentation/predict", JSON, json.dumps({"data": [customer(number)]}).encode())


def segmentation_file(number: int, rows: int = 10_000) -> Request:
    """Return a request with a CSV file of customers."""
    first = number * rows
    lines = [",".join(f"x{i}" for i in range(100))]
    for row in map(customer, range(first, first + rows)):
        lines.append(",".join('""' if value is None else f'"{value}"' for value in row.values()))
    body = form("file", "customers.csv", "text/csv", "\n".join(lines).encode())
    return Request("/segmentation/uploadfile", MULTIPART, body)


def image(number: int) -> Request:
    """Return a request with one picture, whose result is post-processed."""
    return Request("/image/predict", MULTIPART, form("image_file", "picture.jpg", "image/jpeg", picture(number)))


REQUESTS: dict[str, Callable[[int], Request]] = {
    made.__name__: made for made in (sentiment, breast_cancer, segmentation, image)
}


def text_tensors(number: int) -> list[Tensor]:
    """Return one text as an input tensor."""
    return [column("text", [text(number)], BYTES)]


def tumour_tensors(numbers: Iterable[int]) -> list[Tensor]:
    """Return tumours as input tensors, one for each measurement."""
    rows = list(map(tumour, numbers))
    return [column(name, [row[name] for row in rows]) for name in TUMOUR]


def customer_tensors(numbers: Iterable[int]) -> list[Tensor]:
    """Return customers as input tensors, one for each column."""
    rows = list(map(customer, numbers))
    return [column(name, [row[name] for row in rows], BYTES if name in TEXT_COLUMNS else "FP64") for name in rows[0]]


def picture_tensors(number: int) -> list[Tensor]:
    """Return one picture as an input tensor."""
    return [column("image", [picture(number)], BYTES)]


# The inputs of requests with one text, row or picture, by model.
TENSORS: dict[str, Callable[[int], list[Tensor]]] = {
    "sentiment": text_tensors,
    "breast_cancer": lambda number: tumour_tensors([number]),
    "segmentation": lambda number: customer_tensors([number]),
    "image": picture_tensors,
}
