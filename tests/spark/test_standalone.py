"""spark-submit on a standalone master with two workers, one of which is killed; executors with another library."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
import pytest

from tests.spark.sparks import Cluster, standalone, submit, wait_until
from tests.spark.tables import check_equal, drawn, scored

PARTITIONS = 40


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with standalone(tmp_path_factory.mktemp("standalone")) as found:
        yield found


def test_an_executor_with_another_version_of_a_library_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    about = tmp_path / "packages" / "numpy-0.1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 0.1\n", encoding="utf-8")
    (tmp_path / "in.csv").write_text("x12\n$5\n", encoding="utf-8")
    setting = f"spark.executorEnv.PYTHONPATH={tmp_path / 'packages'}"
    options = ("--conf", setting, "--conf", "spark.task.maxFailures=1", "--model", "segmentation")
    process = submit(tmp_path, cluster.url, *options, "--input", tmp_path / "in.csv", "--output", tmp_path / "out")
    _, told = process.communicate(timeout=300)
    assert process.returncode == 1
    assert f" has numpy 0.1 where the driver has {numpy_version()}" in told
    assert not list(tmp_path.glob("out/part-*"))


def numpy_version() -> str:
    import numpy as np

    return np.__version__


def test_a_worker_killed_while_it_computes_loses_no_row_and_doubles_none(cluster: Cluster, tmp_path: Path) -> None:
    table = drawn("sentiment")
    table = table.append_column("id", pa.array(range(table.num_rows)))
    pa.parquet.write_table(table, tmp_path / "in.parquet")
    options = ("--model", "sentiment:latest", "--input", tmp_path / "in.parquet", "--output", tmp_path / "out")
    process = submit(tmp_path, cluster.url, *options, "--partitions", str(PARTITIONS))
    try:
        wait_until(lambda: process.poll() is not None or committed(tmp_path / "out"), "a task has ended")
        cluster.workers[0].send_signal(signal.SIGKILL)
        assert committed(tmp_path / "out") < PARTITIONS, "the job ended before"
        printed, told = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 0, told
    expected = scored(table, "sentiment")
    bad = table.num_rows - expected.column("error").null_count
    assert printed.splitlines()[-1] == f"1,000 rows, {bad} bad"
    found = pa.parquet.read_table(tmp_path / "out")
    check_equal(found.take(pc.sort_indices(found.column("id"))), expected)


def committed(output: Path) -> int:
    """Return how many tasks of a job that is not done have ended."""
    return len(list(output.glob("_temporary/0/task_*")))
