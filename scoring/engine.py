"""Scoring of Arrow record batches by a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

import models
from models.model import Array, Column, ColumnNames, InvalidInputError
from scoring.columns import Fault, read_column
from scoring.entries import Entry, EntryError, find_entry
from serving.inference.padding import run_by_length
from serving.inference.session import open_session
from serving.tables.schema import listing

TYPES = {float: pa.float64(), int: pa.int64(), bool: pa.bool_(), str: pa.string(), bytes: pa.binary()}
VERSION, ERROR = "model_version", "error"


class ColumnsError(ValueError):
    """The columns of a batch do not fit the model."""


class Scored(NamedTuple):
    """A batch with its output columns, and how many cells are faulty, by column and kind of fault."""

    batch: pa.RecordBatch
    faults: Counter[tuple[str, str]]


class Scorer:
    """A model that scores record batches, on a session of `threads` threads of its own.

    The names of its output columns begin with `prefix`. `open_session` opens the session of a graph's file.
    """

    def __init__(
        self,
        entry: Entry,
        threads: int = 1,
        prefix: str = "",
        *,
        open_session: Callable[[Path, int], Any] = open_session,
    ) -> None:
        self.id = entry.id
        self.folder = entry.folder
        self.prefix = prefix
        self.model_class = models.find(entry.id.name)
        self.model = self.model_class(entry.folder)
        self.session = open_session(entry.folder / "model.onnx", threads)
        self.names = ColumnNames(self.model_class.inputs)
        self.used = [column for column in self.model_class.inputs if column.used]

    def schema(self, given: pa.Schema) -> pa.Schema:
        """Return the schema of what a batch of the schema `given` becomes.

        Raises ColumnsError where a column is missing, stands twice, or has the name of an output.
        """
        found = self.places(given)
        missing = [column.name for column in self.used if not column.optional and column.name not in found]
        if missing:
            raise ColumnsError(f"the input has no column {' and no column '.join(missing)}")
        if not self.names.count(given.names):
            raise ColumnsError(f"the input has none of the columns {listing(self.names.columns)}")
        outputs = self.output_fields()
        for field in outputs:
            if field.name in given.names:
                raise ColumnsError(f"the input has a column {field.name}, which the output has, too: set a prefix")
        return pa.schema([*given, *outputs], given.metadata)

    def places(self, given: pa.Schema) -> dict[str, int]:
        """Return the places of the columns that the model reads; raise ColumnsError where a column stands twice."""
        if len(set(given.names)) < len(given.names):
            raise ColumnsError("the input has two columns of the same name")
        try:
            return self.names.positions(given.names)
        except ValueError as error:
            raise ColumnsError(str(error)) from None

    def output_fields(self) -> list[pa.Field]:
        """Return the columns that are added: the model's, null in bad rows, its version, and what is wrong."""
        added = [pa.field(self.prefix + column.name, arrow_type(column)) for column in self.model_class.outputs]
        return [*added, *(pa.field(self.prefix + name, pa.string()) for name in (VERSION, ERROR))]

    def score(self, batch: pa.RecordBatch) -> Scored:
        """Return a batch with its output columns, its rows in their order; a bad row has an error and nulls.

        Raises what `schema` raises.
        """
        schema = self.schema(batch.schema)
        places = self.places(batch.schema)
        columns: dict[str, Array] = {}
        faults: list[Fault] = []
        for column in self.used:
            if column.name in places:
                read = read_column(column, batch.column(places[column.name]))
                columns[column.name] = read.values
                faults += read.faults
            else:
                columns[column.name] = column.array([None] * batch.num_rows)
        good = np.ones(batch.num_rows, dtype=np.bool_)
        good[[fault.row for fault in faults]] = False
        if faults:
            columns = {name: values[good] for name, values in columns.items()}
        outputs, more = self.outputs(columns, np.flatnonzero(good))
        good[[fault.row for fault in more]] = False
        added = [*self.answers(outputs, good), repeated(str(self.id), batch.num_rows), errors(faults + more, len(good))]
        found = Counter((fault.column, fault.kind) for fault in faults + more)
        return Scored(pa.record_batch([*batch.columns, *added], schema=schema), found)

    def outputs(self, columns: dict[str, Array], rows: Array) -> tuple[Array | None, list[Fault]]:
        """Return the graph's outputs (n, ...) of rows that can be preprocessed, None where there are none; and faults.

        `rows` has the number of each row in its batch.
        """
        if not rows.size:
            return None, []
        items = self.model_class.items(columns)
        if self.model.vectorized:
            most = self.model.max_batch
            blocks = [items[start : start + most] for start in range(0, len(items), most)]  # type: ignore[index]
            return np.concatenate([self.run(self.model.preprocess(block)) for block in blocks]), []
        return self.outputs_by_length(list(items), rows)

    def outputs_by_length(self, items: Sequence[Any], rows: Array) -> tuple[Array | None, list[Fault]]:
        """Return `outputs` of items that are preprocessed one by one, some at a time, and run by their length.

        Equal items are computed once.
        """
        equal: dict[bytes, list[int]] = {}
        for place, item in enumerate(items):
            equal.setdefault(self.model.key(item), []).append(place)
        distinct = list(equal.values())
        found: list[Array] = []
        faults: list[Fault] = []
        index = np.full(len(items), -1)
        count = 0
        for start in range(0, len(distinct), self.model.max_items):
            inputs: list[dict[str, Array]] = []
            for places in distinct[start : start + self.model.max_items]:
                try:
                    inputs.append(self.model.preprocess(items[places[0]]))
                except InvalidInputError as error:
                    faults += [self.fault(error, int(rows[place])) for place in places]
                else:
                    index[places] = count
                    count += 1
            if inputs:
                found.append(run_by_length(self.run, inputs, self.model.max_batch))
        return (np.concatenate(found)[index[index >= 0]] if found else None), faults

    def fault(self, error: InvalidInputError, row: int) -> Fault:
        """Return the fault of an item; where a model has one column, it is that column's."""
        column = self.used[0].name if len(self.used) == 1 else ".".join(map(str, error.location))
        return Fault(row, column, str(error), error.kind)

    def run(self, inputs: dict[str, Array]) -> Array:
        """Return the graph's only output for inputs with a batch axis."""
        (output,) = self.session.run(None, inputs)
        found: Array = output
        return found

    def answers(self, outputs: Array | None, good: Array) -> list[pa.Array]:
        """Return the output columns, null where a row is not good."""
        if outputs is None:
            return [pa.nulls(len(good), arrow_type(column)) for column in self.model_class.outputs]
        columns = self.model.columns(outputs)
        arrays = [arrow_array(columns[column.name], arrow_type(column)) for column in self.model_class.outputs]
        if good.all():
            return arrays
        # Of the rows that are good, the first, second and so on; null elsewhere.
        places = pa.array(np.cumsum(good) - 1, mask=~good)
        return [array.take(places) for array in arrays]


def arrow_type(column: Column) -> pa.DataType:
    """Return the Arrow type of an output column."""
    return pa.list_(TYPES[column.base]) if column.is_list else TYPES[column.base]


def arrow_array(values: Array, kind: pa.DataType) -> pa.Array:
    """Return values (n,), or lists (n, length), as an Arrow array."""
    if not pa.types.is_list(kind):
        return pa.array(values).cast(kind)
    ends = np.arange(0, values.size + 1, values.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(values.reshape(-1)).cast(kind.value_type))


def repeated(text: str, count: int) -> pa.Array:
    """Return an array of the same text in each row."""
    return pa.repeat(pa.scalar(text), count)


def errors(faults: list[Fault], rows: int) -> pa.Array:
    """Return what is wrong with each row, all of its faults in one text; null where nothing is."""
    if not faults:
        return pa.nulls(rows, pa.string())
    texts: dict[int, str] = {}
    for fault in faults:
        told = f"{fault.column}: {fault.message}"
        texts[fault.row] = f"{texts[fault.row]}; {told}" if fault.row in texts else told
    return pa.array([texts.get(row) for row in range(rows)], pa.string())


def load_scorer(model: str, threads: int = 1, prefix: str = "") -> Scorer:
    """Return a scorer of a model as `find_entry` finds it; raise EntryError, also for an entry that is damaged."""
    entry = find_entry(model)
    try:
        return Scorer(entry, threads, prefix)
    except Exception as error:  # of a damaged entry onnxruntime and tokenizers raise errors of many classes
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise EntryError(f"the entry in {entry.folder} cannot be loaded: {reason}") from error


@cache
def open_scorer(model: str, threads: int = 1, prefix: str = "") -> Scorer:
    """Return the scorer of a model: one for each process, loaded when it is first needed; raise EntryError."""
    return load_scorer(model, threads, prefix)


def score(
    batches: Iterable[pa.RecordBatch], model: str, *, threads: int = 1, prefix: str = ""
) -> Iterator[pa.RecordBatch]:
    """Score record batches one after the other; `functools.partial(score, model=...)` suits Spark's `mapInArrow`.

    `model` is what `find_entry` takes. Raises EntryError, and ColumnsError for batches that lack a column.
    """
    scorer = open_scorer(model, threads, prefix)
    for batch in batches:
        yield scorer.score(batch).batch
