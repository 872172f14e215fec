"""What the rest of the project asks of a model: a subclass of `Model`, in a file or a folder each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from inspect import getdoc, getmodule
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar, get_type_hints

import numpy as np
from pydantic import BaseModel, ConfigDict, TypeAdapter, create_model

from models.model.columns import Array, Column, Columns, columns_of

Item = TypeVar("Item")

# Outputs of the ONNX graph for a sequence of items, stacked: (n, ...), in the items' order.
Infer = Callable[[Collection[Item]], Awaitable[Array]]
Handler = Callable[[Any, Any, Any], Awaitable[BaseModel]]


@dataclass(frozen=True)
class Route:
    """A route `POST /<model>/<name>`: what answers it, given the model, a request and `Infer`, and its schemas.

    `upload` admits the larger bodies that files need; `cacheable` says that equal requests get equal answers, which may
    then be cached. A body may have as many bytes as the schema admits, or `max_body_bytes`. `decode` reads a JSON body
    faster than `request.model_validate_json`: it returns what the handler takes in place of a request, or raises
    pydantic's ValidationError. It is called in a thread when the body is large.
    """

    name: str
    handler: Handler
    request: type[BaseModel]
    response: type[BaseModel]
    summary: str
    upload: bool = False
    cacheable: bool = True
    max_body_bytes: int | None = None
    decode: Callable[[bytes], Any] | None = None


def route(**options: Any) -> Callable[[Handler], Route]:
    """Make a route of `async def name(self, request: Request, infer: Infer) -> Response`, with Route's options.

    The annotations are the schemas, the first line of the docstring is the summary.
    """

    def declared(method: Any) -> Route:
        hints = get_type_hints(method)
        return Route(method.__name__, method, hints["request"], hints["return"], summary(method), **options)

    return declared


def summary(documented: Any) -> str:
    """Return the first line of a docstring."""
    return (getdoc(documented) or "").partition("\n")[0]


class Model(ABC, Generic[Item]):
    """One model: its columns, preprocessing, postprocessing, batch settings, and routes of its own.

    An *item* is the smallest thing the model answers (a text, a row, an image). Items are cached
    and batched one by one, whatever requests they came in.
    """

    # Type of one element of `POST /<model>/infer`, validated by pydantic: a row, or the value of the only input column.
    # And an example as a client sends it; None for files.
    input: ClassVar[Any]
    input_example: ClassVar[Any] = None
    # The input columns, by default the fields of `input`; and the output columns.
    inputs: ClassVar[tuple[Column, ...]]
    outputs: ClassVar[tuple[Column, ...]]
    # Most items in one request to `infer`, in one call of the ONNX session, and in a file.
    max_items: ClassVar[int] = 256
    max_batch: ClassVar[int] = 32
    max_file_items: ClassVar[int] = 10_000
    # Whether items are rows of one array, and `preprocess` and `key` take several rows, (n, ...), as they take one.
    # Of a request of many rows whole blocks are then cached and computed, without an object per row.
    vectorized: ClassVar[bool] = False
    # What the answer to a file holds beside the output columns: the defaults of this schema's other fields.
    file_response: ClassVar[type[BaseModel] | None] = None

    def __init_subclass__(cls, **options: Any) -> None:
        """Take the input columns from `input` where a model declares none."""
        super().__init_subclass__(**options)
        if "inputs" not in vars(cls) and is_schema(getattr(cls, "input", None)):
            cls.inputs = columns_of(cls.input, cls.input_example or {})

    def __init__(self, folder: Path) -> None:
        """Load what preprocessing and postprocessing need from `folder`, the model's store entry."""

    @classmethod
    def items(cls, columns: Columns) -> Collection[Item]:
        """Return the items of input columns as `check` returns them; by default float32 rows (n, columns)."""
        rows = np.empty((len(columns[cls.inputs[0].name]), len(cls.inputs)))
        for place, column in enumerate(cls.inputs):
            rows[:, place] = columns[column.name]
        return float_rows(rows)

    @abstractmethod
    def preprocess(self, item: Item) -> dict[str, Array]:
        """Return the graph's inputs by name, for one item: arrays without the batch axis.

        Where the first axis differs between the items of a batch, shorter ones are padded with zeros.
        Raises InvalidInputError.
        """

    @abstractmethod
    def columns(self, outputs: Array) -> Columns:
        """Return the output columns of the graph's outputs (n, ...) for n items."""

    def key(self, item: Item) -> bytes:
        """Return the item's canonical bytes: equal keys mean equal answers. Text and arrays by default."""
        if isinstance(item, str):
            return item.encode("utf-8", "surrogatepass")
        if isinstance(item, np.ndarray):
            return item.tobytes()
        raise TypeError(f"{type(self).__name__} must define key() for items of type {type(item).__name__}")

    @classmethod
    def items_of(cls, elements: Sequence[Any]) -> Collection[Item]:
        """Return the items of validated elements of `infer`, or of a row each."""
        if has_plain_rows(cls) and elements and isinstance(elements[0], BaseModel):
            names = [column.name for column in cls.inputs]
            return float_rows([[getattr(element, name) for name in names] for element in elements])
        return cls.items({column.name: column.array(values) for column, values in cls.values(elements)})

    @classmethod
    def values(cls, elements: Sequence[Any]) -> list[tuple[Column, list[Any]]]:
        """Return the values of each column that the model reads, of validated elements of `infer`."""
        used = [column for column in cls.inputs if column.used]
        if elements and isinstance(elements[0], BaseModel):
            return [(column, [getattr(element, column.name) for element in elements]) for column in used]
        if elements and isinstance(elements[0], Mapping):
            return [(column, [element.get(column.name) for element in elements]) for column in used]
        return [(column, [read(element) for element in elements]) for column in used]

    @classmethod
    def without_unread(cls, body: bytes) -> bytes:
        """Return a JSON body of `infer` without what the model does not read; as it is by default.

        BentoML parses the rest in one go, on the event loop. It is called in a thread when the body is large.
        """
        return body

    @classmethod
    def example_items(cls) -> Collection[Item]:
        """Return the items of one example, with which the server warms up."""
        if cls.input_example is None:
            return cls.items({column.name: column.array([column.example]) for column in cls.inputs})
        return cls.items_of(TypeAdapter(list[cls.input]).validate_python([cls.input_example]))  # type: ignore[name-defined]

    @classmethod
    def routes(cls) -> list[Route]:
        """Return the routes that the class declares, in the order of their definition; `predict` in any case."""
        declared = [value for value in vars(cls).values() if isinstance(value, Route)]
        return declared if any(route.name == "predict" for route in declared) else [predict_route(cls), *declared]


def float_rows(rows: Any) -> Array:
    """Return rows of numbers (n, columns) as float32, clipped; NaN for None."""
    return clipped(np.asarray(rows, dtype=np.float64)).astype(np.float32)


@cache
def has_plain_rows(model: type[Model[Any]]) -> bool:
    """Return whether items are the default's: of numbers only, they are made a third of the time without columns."""
    return model.items.__func__ is Model.items.__func__ and all(column.base is float for column in model.inputs)  # type: ignore[attr-defined]


def clipped(values: Array) -> Array:
    """Return the values, NaN included, between -1e30 and 1e30: as float32 they stay finite when scaled and added."""
    bounded: Array = np.minimum(np.maximum(values, -1e30), 1e30)  # np.clip takes twice as long for a row
    return bounded


def read(element: Any) -> Any:
    """Return a file's content, or nothing when it is gone; anything else as it is.

    A client that left a batch takes its file along.
    """
    if not isinstance(element, Path):
        return element
    try:
        return element.read_bytes()
    except FileNotFoundError:
        return b""


@cache
def predict_route(model: type[Model[Any]]) -> Route:
    """Return the route that answers one row with one row: the input columns with the output columns, by name."""
    request = model.input if is_schema(model.input) else row_schema(model, "Row", model.inputs)

    async def predict(self: Model[Any], request: BaseModel, infer: Infer[Any]) -> BaseModel:
        columns = self.columns(await infer(self.items_of([request])))
        return response.model_validate({name: values.tolist()[0] for name, values in columns.items()})

    response = row_schema(model, "Answer", model.outputs)
    return Route("predict", predict, request, response, summary(getmodule(model)))


def is_schema(type_: Any) -> bool:
    """Return whether a type is a schema of fields."""
    return isinstance(type_, type) and issubclass(type_, BaseModel)


def row_schema(model: type[Model[Any]], name: str, columns: Sequence[Column]) -> type[BaseModel]:
    """Return the schema of one row of columns, with their examples."""
    fields: dict[str, Any] = {column.name: (column.type, None if column.optional else ...) for column in columns}
    config = ConfigDict(json_schema_extra={"example": {column.name: column.example for column in columns}})
    return create_model(f"{model.__name__}{name}", __config__=config, __module__=model.__module__, **fields)
