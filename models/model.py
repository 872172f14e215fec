"""What the rest of the project asks of a model: a subclass of `Model`, one file each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar, get_type_hints

import msgspec
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, TypeAdapter

Item = TypeVar("Item")

# What a schema refuses in a larger body is looked at by `stand_in`.
LARGE_BYTES = 2**20
# What msgspec raises for what is no JSON, or not of the type that it is to be.
UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

Array = NDArray[Any]

# Outputs of the ONNX graph for a sequence of items, stacked: (n, ...), in the items' order.
Infer = Callable[[Collection[Item]], Awaitable[Array]]


class InvalidInputError(ValueError):
    """Input that fits the schema but cannot be used, such as a file that is not an image.

    `location` names the faulty part of the request, `kind` is a short machine-readable type.
    """

    def __init__(self, message: str, location: tuple[str | int, ...], kind: str) -> None:
        super().__init__(message)
        self.location = location
        self.kind = kind


class LabelScore(BaseModel):
    """A label and its probability."""

    label: str
    score: float


def clipped(values: Array) -> Array:
    """Return the values, NaN included, between -1e30 and 1e30: as float32 they stay finite when scaled and added."""
    bounded: Array = np.clip(values, -1e30, 1e30)
    return bounded


def softmax(logits: Array) -> Array:
    """Probabilities float64 of logits (..., labels): the last axis sums to 1."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    odds = np.exp(shifted)
    probabilities: Array = odds / odds.sum(axis=-1, keepdims=True)
    return probabilities


def ranking(probabilities: Array, labels: Sequence[str], most: int | None = None) -> list[LabelScore]:
    """Return the labels with their probabilities (labels,), highest first: all, or at most so many."""
    order = np.argsort(-probabilities, kind="stable")[:most]
    return [LabelScore(label=labels[i], score=float(probabilities[i])) for i in order]


def stand_in(body: bytes, field: str) -> bytes:
    """Return a few bytes of JSON that a schema refuses as it would a large body without a list in `field`.

    Pydantic reads a body in one call, and nothing else runs meanwhile; for what is refused anyway that is too long.
    """
    outline: Any = msgspec.defstruct("Outline", [(field, msgspec.Raw, msgspec.Raw())])
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
        start = body.lstrip()[:1]
        if start != b"{":
            return {b"[": b"[]", b'"': b'""'}.get(start, b"0")
        value = bytes(memoryview(getattr(msgspec.json.decode(body, type=outline), field))[:100])
    except UNDECODABLE:
        return b"{"
    if value.startswith(b"["):
        kind = b"[]" if value[1:].lstrip().startswith(b"]") else b"{"  # what it holds is no JSON
    else:
        kind = {b"": b"", b"{": b"{}", b'"': b'""', b"n": b"null"}.get(value[:1], b"0")
    return b'{"%b":%b}' % (field.encode(), kind) if kind else b"{}"


@dataclass(frozen=True)
class Route:
    """A route `POST /<model>/<name>`: its method on the model and the schemas of its bodies."""

    name: str
    request: type[BaseModel]
    response: type[BaseModel]
    summary: str
    upload: bool
    cacheable: bool
    max_body_bytes: int | None = None
    decode: Callable[[bytes], Any] | None = None


Method = TypeVar("Method", bound=Callable[..., Awaitable[BaseModel]])


def route(
    *,
    upload: bool = False,
    cacheable: bool = True,
    max_body_bytes: int | None = None,
    decode: Callable[[bytes], Any] | None = None,
) -> Callable[[Method], Method]:
    """Mark `async def name(self, request: Request, infer: Infer) -> Response` as a route.

    The annotations are the schemas. `upload` admits the larger bodies that files need; `cacheable` says that
    equal requests get equal answers, which may then be cached. A body may have as many bytes as the schema
    admits, or `max_body_bytes`. `decode` reads a JSON body faster than `Request.model_validate_json`: it
    returns what the method takes in place of `request`, or raises pydantic's ValidationError. It is called
    in a thread when the body is large.
    """

    def mark(method: Method) -> Method:
        method.__dict__.update(upload=upload, cacheable=cacheable, max_body_bytes=max_body_bytes, decode=decode)
        return method

    return mark


class Model(ABC, Generic[Item]):
    """One model: request and response schemas, preprocessing, postprocessing, batch settings.

    An *item* is the smallest thing the model answers (a text, a row, an image). Items are cached
    and batched one by one, whatever requests they came in.
    """

    # Type of one element of `POST /<model>/infer`, validated by pydantic, and an example as a client sends it
    # (None for files, which need their own example_items).
    input: ClassVar[Any]
    input_example: ClassVar[Any] = None
    # Most items in one request to `infer`, and in one call of the ONNX session.
    max_items: ClassVar[int] = 256
    max_batch: ClassVar[int] = 32
    # Whether items are rows of one array, and `preprocess` and `key` take several rows, (n, ...), as they take one.
    # Of a request of many rows whole blocks are then cached and computed, without an object per row.
    vectorized: ClassVar[bool] = False

    def __init__(self, folder: Path) -> None:
        """Load what preprocessing and postprocessing need from `folder`, the model's store entry."""

    @classmethod
    def items(cls, inputs: Sequence[Any]) -> Collection[Item]:
        """Return the items of validated elements of `infer`; as they are by default."""
        return inputs

    @classmethod
    def without_unread(cls, body: bytes) -> bytes:
        """Return a JSON body of `infer` without what the model does not read; as it is by default.

        BentoML parses the rest in one go, on the event loop. It is called in a thread when the body is large.
        """
        return body

    @classmethod
    def example_items(cls) -> Collection[Item]:
        """Return the items of `input_example`, with which the server warms up."""
        return cls.items(TypeAdapter(list[cls.input]).validate_python([cls.input_example]))  # type: ignore[name-defined]

    def key(self, item: Item) -> bytes:
        """Return the item's canonical bytes: equal keys mean equal answers. Text and arrays by default."""
        if isinstance(item, str):
            return item.encode("utf-8", "surrogatepass")
        if isinstance(item, np.ndarray):
            return item.tobytes()
        raise TypeError(f"{type(self).__name__} must define key() for items of type {type(item).__name__}")

    @abstractmethod
    def preprocess(self, item: Item) -> dict[str, Array]:
        """Return the graph's inputs by name, for one item: arrays without the batch axis.

        Where the first axis differs between the items of a batch, shorter ones are padded with zeros.
        Raises InvalidInputError.
        """

    @classmethod
    def routes(cls) -> list[Route]:
        """Return the methods marked with `route`, in the order of their definition."""
        found = []
        for name, method in vars(cls).items():
            if "upload" not in getattr(method, "__dict__", {}):
                continue
            hints = get_type_hints(method)
            summary = (method.__doc__ or name).strip().splitlines()[0]
            options = {
                option: getattr(method, option) for option in ("upload", "cacheable", "max_body_bytes", "decode")
            }
            found.append(Route(name, hints["request"], hints["return"], summary, **options))
        return found
