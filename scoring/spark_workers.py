"""What Spark's Python workers do: open the model that the driver has sent, once each, and score batches by it."""

from __future__ import annotations

import importlib.metadata
import platform
import tempfile
import zipfile
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pyspark import SparkFiles, TaskContext

from scoring.engine import ERROR, Scorer
from scoring.entries import entry_in
from scoring.run import BadRowError, part_rows
from serving.inference.session import open_session

# Packages by which answers may differ: the driver and all executors need the same versions.
PACKAGES = ("msgspec", "numpy", "onnxruntime", "pillow", "protobuf", "pyarrow", "pydantic", "tokenizers")


class VersionsError(Exception):
    """An executor has another version of a package than the driver; the text names both."""


class Shipment(NamedTuple):
    """What a worker is told: which file of the driver's has the model, and how to score.

    `dropped` names columns of the input that are not given back. `versions` has the driver's packages.
    """

    archive: str
    prefix: str = ""
    strict: bool = False
    dropped: tuple[str, ...] = ()
    versions: tuple[tuple[str, str], ...] = ()


def installed_versions() -> tuple[tuple[str, str], ...]:
    """Return the versions of PACKAGES, "none" of one that is not there."""
    found = []
    for name in PACKAGES:
        try:
            found.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            found.append((name, "none"))
    return tuple(found)


def check_versions(expected: tuple[tuple[str, str], ...]) -> None:
    """Raise VersionsError where this process has not the expected versions."""
    found = dict(installed_versions())
    differences = [
        f"{name} {found[name]} where the driver has {version}" for name, version in expected if found[name] != version
    ]
    if differences:
        raise VersionsError(f"the executor on {platform.node()} has {', '.join(differences)}")


@cache
def open_shipped(archive: str, prefix: str, versions: tuple[tuple[str, str], ...]) -> Scorer:
    """Return the scorer of a model that the driver has sent: one for each Python worker, opened at its first task.

    Raises VersionsError.
    """
    check_versions(versions)
    context = TaskContext.get()
    threads = context.cpus() if context else 1
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(SparkFiles.get(archive)) as packed:
            packed.extractall(folder)
        # Other tasks want the executor's cores.
        return Scorer(entry_in(Path(folder)), threads, prefix, open_session=partial(open_session, spinning=False))


def score_batches(batches: Iterator[pa.RecordBatch], shipment: Shipment) -> Iterator[pa.RecordBatch]:
    """Score the batches of a partition, in pieces that suit the model.

    Raises VersionsError, and BadRowError for the first bad row where none may be.
    """
    done = 0
    for batch in batches:
        for scored in pieces(batch, shipment):
            if shipment.strict:
                check_rows(scored.column(shipment.prefix + ERROR), done)
            done += scored.num_rows
            yield scored.drop_columns(list(shipment.dropped)) if shipment.dropped else scored


def predict_arrays(arrays: Iterator[pa.Array], shipment: Shipment) -> Iterator[pa.Array]:
    """Return for arrays of structs, or of what is the model's only column, structs of the model's output columns."""
    for array in arrays:
        scorer = open_shipped(shipment.archive, shipment.prefix, shipment.versions)
        names = [field.name for field in scorer.output_fields()]
        if pa.types.is_struct(array.type):
            batch = pa.record_batch(array.flatten(), names=array.type.names)
        else:
            batch = pa.record_batch([array], names=[scorer.model_class.inputs[0].name])
        found = [scored.select(names).to_struct_array() for scored in pieces(batch, shipment)]
        yield pa.concat_arrays(found)


def pieces(batch: pa.RecordBatch, shipment: Shipment) -> Iterator[pa.RecordBatch]:
    """Yield a batch scored, as many rows at a time as suit the model; an empty one as a whole.

    Spark's batches have a number of rows that is meant for tables; texts and pictures take more memory.
    """
    scorer = open_shipped(shipment.archive, shipment.prefix, shipment.versions)
    rows = part_rows(scorer.model_class)
    for start in range(0, max(1, batch.num_rows), rows):
        yield scorer.score(batch.slice(start, rows)).batch


def check_rows(errors: pa.Array, done: int) -> None:
    """Raise BadRowError for the first row that has an error; `done` rows of the partition precede."""
    row = pc.index(errors.is_valid(), True).as_py()
    if row >= 0:
        context = TaskContext.get()
        partition = context.partitionId() if context else 0
        raise BadRowError(f"partition {partition}, row {done + row:,}: {errors[row]}")
