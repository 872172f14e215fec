"""Data frames scored on two executors: equal to `score`, in any partitions, whatever dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from scoring import ColumnsError
from scoring.spark import predict_udf, score_frame
from tests.spark.sparks import wait_until
from tests.spark.tables import MODELS, check_equal, drawn, scored


@pytest.mark.parametrize("model", MODELS)
def test_spark_gives_what_score_gives(model: str, spark: SparkSession) -> None:
    table = drawn(model)
    found = score_frame(spark.createDataFrame(table), f"{model}:latest").toArrow()
    assert 0 < found.column("error").null_count < found.num_rows
    check_equal(found, scored(table, model))


def test_a_column_function_predicts_in_a_data_frame_and_in_sql(spark: SparkSession) -> None:
    table = drawn("segmentation").slice(0, 500)
    frame = spark.createDataFrame(table)
    predict = predict_udf(spark, "segmentation:latest")
    in_frame = frame.select(predict(F.struct("*")).alias("found")).select("found.*").toArrow()
    spark.udf.register("predict", predict)
    frame.createOrReplaceTempView("customers")
    in_sql = spark.sql("SELECT found.* FROM (SELECT predict(struct(*)) AS found FROM customers)").toArrow()
    expected = scored(table, "segmentation").drop_columns(table.schema.names)
    check_equal(in_frame, expected)
    check_equal(in_sql, expected)


def test_the_only_column_of_a_model_needs_no_struct(spark: SparkSession) -> None:
    frame = spark.createDataFrame([("a delight from start to finish",), (None,)], ["review"])
    predict = predict_udf(spark, "sentiment")
    first, second = (row["found"] for row in frame.select(predict("review").alias("found")).collect())
    assert (first["label"], first["error"]) == ("POSITIVE", None)
    assert (second["label"], second["error"]) == (None, "text: Input should be a valid string")


def test_a_skewed_input_is_scored_once_and_rightly(spark: SparkSession) -> None:
    table = drawn("segmentation").slice(0, 3_000)
    table = table.append_column("id", pa.array(range(table.num_rows)))
    frame = spark.createDataFrame(table).repartitionByRange(6, F.greatest(F.col("id"), F.lit(2_990)))
    assert sorted(row["count"] for row in frame.groupBy(F.spark_partition_id()).count().collect())[-1] > 2_900
    check_equal(score_frame(frame, "segmentation").orderBy("id").toArrow(), scored(table, "segmentation"))


def test_columns_that_cannot_be_scored_are_refused_before_a_job_runs(spark: SparkSession) -> None:
    with pytest.raises(ColumnsError, match="no column text"):
        score_frame(spark.createDataFrame([("dull",)], ["words"]), "sentiment")


# How far above the process that computes: its parent forks Python workers, whose parent is the executor.
@pytest.mark.parametrize("above", [0, 2], ids=["python-worker", "executor"])
def test_what_is_killed_while_it_computes_loses_no_row_and_doubles_none(
    above: int, spark: SparkSession, tmp_path: Path
) -> None:
    table = drawn("segmentation")
    table = table.append_column("id", pa.array(range(table.num_rows)))
    frame = held(spark.createDataFrame(table).repartition(4), tmp_path / "process", above)
    with ThreadPoolExecutor(1) as thread:
        job = thread.submit(score_frame(frame, "segmentation").write.parquet, str(tmp_path / "out"))
        wait_until(lambda: job.done() or (tmp_path / "process").exists(), "a task computes")
        os.kill(int((tmp_path / "process").read_text(encoding="utf-8")), signal.SIGKILL)
        job.result()
    found = pa.parquet.read_table(tmp_path / "out")
    check_equal(found.take(pc.sort_indices(found.column("id"))), scored(table, "segmentation"))


def held(frame: DataFrame, file: Path, above: int) -> DataFrame:
    """Return a data frame whose first task, some way on, writes a process into a file and waits to be killed."""
    path = str(file)

    def hold(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import time
        from pathlib import Path

        import psutil

        for batch in batches:
            yield batch.slice(0, 100)
            try:
                Path(f"{path}.claimed").touch(exist_ok=False)
            except FileExistsError:
                pass
            else:
                own = psutil.Process()
                Path(f"{path}.written").write_text(str(([own, *own.parents()])[above].pid), encoding="utf-8")
                Path(f"{path}.written").rename(path)
                time.sleep(600)
            yield batch.slice(100)

    return frame.mapInArrow(hold, frame.schema)
