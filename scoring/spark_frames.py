"""Score Spark's data frames: the driver's part, which sends the model and our code to executors."""

from __future__ import annotations

import atexit
import hashlib
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.functions import arrow_udf
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    BooleanType,
    DataType,
    DoubleType,
    LongType,
    StringType,
    StructField,
    StructType,
)

import scoring
from scoring.engine import Scorer, load_scorer
from scoring.spark_workers import Shipment, installed_versions, predict_arrays, score_batches

TYPES: dict[pa.DataType, DataType] = {
    pa.float64(): DoubleType(),
    pa.int64(): LongType(),
    pa.bool_(): BooleanType(),
    pa.string(): StringType(),
    pa.binary(): BinaryType(),
}
# Our packages, as far as executors may need them; weights are sent with the model that is asked for.
PACKAGES = ("models", "scoring", "serving")


class Shipped(NamedTuple):
    """A model that executors can have: its scorer on the driver, and the file that was sent."""

    scorer: Scorer
    archive: str


def score_frame(
    frame: DataFrame, model: str, *, prefix: str = "", strict: bool = False, drop: Iterable[str] = ()
) -> DataFrame:
    """Return a data frame with a model's output columns, `model_version` and `error` behind its own, as `score` does.

    `model` is what `find_entry` takes; columns named in `drop` are read, but not given back. Raises EntryError and
    ColumnsError. When rows are asked for, the job fails where executors have other versions of packages, or where one
    is bad and `strict` is set.
    """
    shipped = ship(frame.sparkSession, model, prefix)
    shipped.scorer.schema(pa.schema([(name, pa.null()) for name in frame.columns]))
    dropped = tuple(drop)
    kept = [field for field in frame.schema if field.name not in dropped]
    shipment = Shipment(shipped.archive, prefix, strict, dropped, installed_versions())
    schema = StructType([*kept, *output_fields(shipped.scorer)])
    return frame.mapInArrow(partial(score_batches, shipment=shipment), schema)


def predict_udf(spark: SparkSession, model: str) -> Any:
    """Return a function of columns that predicts, for data frames and for `spark.udf.register`.

    It takes a struct of the model's columns, or the only column of a model that has one, and gives a struct of the
    output columns, `model_version` and `error`. `model` is what `find_entry` takes. Raises EntryError.
    """
    shipped = ship(spark, model)
    shipment = Shipment(shipped.archive, versions=installed_versions())

    def predict(rows: Iterator[pa.Array]) -> Iterator[pa.Array]:
        return predict_arrays(rows, shipment)

    return arrow_udf(predict, returnType=StructType(output_fields(shipped.scorer)))


def output_fields(scorer: Scorer) -> list[StructField]:
    """Return the columns that a scorer adds."""
    return [StructField(field.name, spark_type(field.type)) for field in scorer.output_fields()]


def spark_type(kind: pa.DataType) -> DataType:
    """Return Spark's type for that of an output column."""
    return ArrayType(TYPES[kind.value_type]) if pa.types.is_list(kind) else TYPES[kind]


def ship(spark: SparkSession, model: str, prefix: str = "") -> Shipped:
    """Have a session send a model and our code to whatever executors run its tasks; raise EntryError.

    Both are files: a variable that Spark broadcasts would not do, which Spark Connect has not.
    """
    scorer = load_scorer(model, prefix=prefix)
    files = [file for file in scorer.folder.rglob("*") if file.is_file()]
    archive = packed(f"{scorer.id.name}-{scorer.id.version}", scorer.folder, files)
    spark.addArtifacts(str(archive), file=True)
    root = Path(scoring.__file__).resolve().parents[1]
    if root.is_dir():  # else the code itself came in an archive, as --py-files sends it
        code = [file for name in PACKAGES for file in (root / name).rglob("*.py")]
        spark.addArtifacts(str(packed("tiffin", root, code)), pyfile=True)
    return Shipped(scorer, archive.name)


def packed(name: str, folder: Path, files: Iterable[Path]) -> Path:
    """Pack files into an archive, and return it; equal files give an equal one, of the same name.

    Spark refuses a second file of a name that has other content.
    """
    target = archives() / "unnamed"
    with zipfile.ZipFile(target, "w") as archive:
        for file in sorted(files):
            archive.writestr(zipfile.ZipInfo(str(file.relative_to(folder))), file.read_bytes())
    digest = hashlib.sha256(target.read_bytes()).hexdigest()[:12]
    return target.rename(target.with_name(f"{name}-{digest}.zip"))


@cache
def archives() -> Path:
    """Return the folder of archives, from which executors fetch them as long as this process lives."""
    folder = tempfile.mkdtemp(prefix="tiffin-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
