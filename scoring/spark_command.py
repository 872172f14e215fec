"""The command line of scoring on Spark: read files, score them, write files."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, Observation, SparkSession
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql.types import ArrayType

import models
from scoring.engine import ERROR, ColumnsError
from scoring.entries import EntryError, find_entry
from scoring.run import part_rows
from scoring.spark_frames import score_frame
from serving.tables.schema import Schema

CSV, TSV, JSON, PARQUET, PICTURES = "csv", "tsv", "jsonl", "parquet", "pictures"
READ, WRITTEN = (CSV, TSV, JSON, PARQUET, PICTURES), (CSV, JSON, PARQUET)
SUFFIXES = {"csv": CSV, "tsv": TSV, "json": JSON, "jsonl": JSON, "ndjson": JSON, "parquet": PARQUET}
# Spark's column with the content of a file.
CONTENT = "content"
# How Python begins to tell of an error in a worker, and the line at its end: module, class, text.
TRACEBACK = "Traceback (most recent call last):"
FAULT = re.compile(r"^([\w.]+\.)?(\w+): (.+)$", re.MULTILINE)
# How Spark tells of errors of its own, causes last: [CLASS] text. SQLSTATE: code
ERROR_CLASS = re.compile(r"\[[A-Z_]+(?:\.[A-Z_]+)?\] (.+?)\.?(?:\s+SQLSTATE: \w+)?$", re.MULTILINE)
# Bounds the memory of a batch of pictures; Spark's own setting is meant for tables.
BATCH_ROWS = "spark.sql.execution.arrow.maxRecordsPerBatch"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    found = argparse.ArgumentParser(
        prog="scoring/spark.py", description="Answer the rows of files by a model, on Spark."
    )
    found.add_argument("--model", required=True, help="name, name:version, or the folder of a model's entry")
    found.add_argument("--input", required=True, nargs="+", help="files, folders or patterns that Spark reads")
    found.add_argument("--output", required=True, help="a folder that is not there yet")
    found.add_argument("--input-format", choices=READ, help="(default: by the ending of the first input, else parquet)")
    found.add_argument("--output-format", choices=WRITTEN, help="(default: the input's, csv of pictures)")
    found.add_argument("--overwrite", action="store_true", help="replace the output, if there is one")
    found.add_argument("--strict", action="store_true", help="fail, and write nothing, where a row is bad")
    found.add_argument("--prefix", default="", help="begin the names of the columns that are added")
    found.add_argument("--partitions", type=int, help="deal rows out anew to so many tasks, where files are too few")
    found.add_argument(
        "--one-line-rows", action="store_true", help="no cell of CSV has a line break: many tasks may read one file"
    )
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line on a session of its own; return the exit status."""
    options = parser().parse_args(arguments)
    spark = SparkSession.builder.appName(f"tiffin: {options.model}").getOrCreate()
    try:
        return answer(spark, options)
    finally:
        spark.stop()


def answer(spark: SparkSession, options: argparse.Namespace) -> int:
    """Do what the command line says; return 0, or 1 with one line on standard error where it could not be done."""
    try:
        rows, bad = run(spark, options)
    except (ColumnsError, EntryError) as error:
        return failed(str(error))
    except (PySparkException, Py4JJavaError) as error:
        return failed(reason(str(error)))
    print(f"{rows:,} rows, {bad:,} bad")
    return 0


def run(spark: SparkSession, options: argparse.Namespace) -> tuple[int, int]:
    """Read, score and write; return how many rows there are, and how many are bad."""
    model = models.find(find_entry(options.model).id.name)
    form = options.input_format or form_of(options.input[0], PARQUET)
    frame = read(spark, options.input, form, splittable=options.one_line_rows)
    dropped: list[str] = []
    if Schema(model).blobs:
        spark.conf.set(BATCH_ROWS, part_rows(model))
    if form == PICTURES:
        (column,) = dropped = list(Schema(model).columns)
        frame = frame.withColumnRenamed(CONTENT, column)
    if options.partitions:
        frame = frame.repartition(options.partitions)
    counts = Observation()
    error = F.col(f"`{options.prefix}{ERROR}`")
    scored = score_frame(frame, options.model, prefix=options.prefix, strict=options.strict, drop=dropped)
    scored = scored.observe(counts, F.count(F.lit(1)).alias("rows"), F.count(error).alias("bad"))
    write(scored, options.output, options.output_format or (form if form in WRITTEN else CSV), options.overwrite)
    return counts.get["rows"], counts.get["bad"]


def form_of(path: str, other: str) -> str:
    """Return the format that the ending of a path tells, with or without that of a compression, or the other."""
    ending = re.search(r"\.([a-z]+)(\.(gz|bz2|zst|lz4|snappy))?/?$", path, re.IGNORECASE)
    return SUFFIXES.get(ending[1].lower(), other) if ending else other


def read(spark: SparkSession, paths: list[str], form: str, *, splittable: bool) -> DataFrame:
    """Return the rows of files: of CSV all cells as they stand there; a file that is no such fails the job."""
    if form == PARQUET:
        return spark.read.parquet(*paths)
    if form == JSON:
        return spark.read.json(paths, mode="FAILFAST")
    if form == PICTURES:
        return spark.read.format("binaryFile").option("recursiveFileLookup", True).load(paths)
    cells = spark.read.csv(
        paths,
        sep="\t" if form == TSV else ",",
        header=True,
        enforceSchema=False,
        escape='"',
        multiLine=not splittable,
        mode="FAILFAST",
    )
    return cells.fillna("")


def write(frame: DataFrame, path: str, form: str, overwrite: bool) -> None:
    """Write rows into a folder; of CSV, lists are written as JSON."""
    if form == CSV:
        lists = [field.name for field in frame.schema if isinstance(field.dataType, ArrayType)]
        frame = frame.withColumns({name: F.to_json(F.col(f"`{name}`")) for name in lists})
    writer = frame.write.mode("overwrite" if overwrite else "errorifexists")
    if form == PARQUET:
        writer.parquet(path)
    elif form == JSON:
        writer.json(path, ignoreNullFields=False)
    else:
        writer.csv(path, header=True, escape='"', ignoreLeadingWhiteSpace=False, ignoreTrailingWhiteSpace=False)


def reason(told: str) -> str:
    """Return in one line what Spark tells of an error: what a worker raised, else the fault and what caused it."""
    _, traceback, rest = told.rpartition(TRACEBACK)
    fault = FAULT.search(rest) if traceback else None
    if fault:
        module, kind, text = fault.groups()
        return text if (module or "").startswith("scoring.") else f"a Python worker failed: {kind}: {text}"
    found = ERROR_CLASS.findall(told)
    return ": ".join(dict.fromkeys([found[0], found[-1]])) if found else told.splitlines()[0]


def failed(line: str) -> int:
    """Print a line on standard error; return the exit status."""
    print(line, file=sys.stderr)
    return 1
