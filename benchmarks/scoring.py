"""Print how fast files of customers are scored by one core, as ratios to pandas with statsmodels and to the session.

python -m benchmarks.scoring [--rows 200000] [--peer-rows 50000]
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from benchmarks.compare import environments
from benchmarks.compare.assets import FOLDER, Assets
from benchmarks.speed_bench import say
from loadtest import inputs
from loadtest.processes import ROOT, bound_to, own_cores
from models.model import Array
from scoring import Scorer
from scoring.columns import read_column
from scoring.entries import entry_in

MODEL = ROOT / "models" / "shipped" / "segmentation"
PEER = "fastapi_tabular"
# Distinct customers, which are repeated, since drawing one takes longer than scoring hundreds.
CUSTOMERS = 20_000
ROUNDS = 5
# Of each command the run counts that others on the machine disturbed least.
RUNS = 3


def main() -> int:
    """Measure, and print the ratios."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scoring", description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--peer-rows", type=int, default=50_000, help="of the ways that take longer")
    options = parser.parse_args()
    core = own_cores()[:1]
    drawn = pa.Table.from_pylist([inputs.customer(number) for number in range(CUSTOMERS)])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours = {form: by_command(folder, drawn, form, options.rows, core) for form in ("csv", "parquet")}
        for form, rate in ours.items():
            say(f"python -m scoring, 100 columns of {form}", rate / 1_000, "thousand rows/s", "")
        for way, meaning in (("frames", "data frames of 10 000 rows"), ("requests", "its service's function")):
            theirs = by_peer(folder, drawn, way, options.peer_rows, core)
            ratio = ours["csv"] / theirs
            say(
                f"the same CSV, {meaning}",
                ratio,
                "x pandas and statsmodels",
                f"{ours['csv']:,.0f} : {theirs:,.0f} rows/s",
            )
    in_memory, bare = by_batch(drawn)
    say(
        "score() of batches in memory", in_memory / bare, "x the bare session", f"{in_memory:,.0f} : {bare:,.0f} rows/s"
    )
    return 0


def repeated(drawn: pa.Table, rows: int) -> pa.Table:
    """Return so many rows of a table, from its first again where it ends."""
    return pa.concat_tables([drawn] * (rows // len(drawn) + 1)).slice(0, rows)


def write(path: Path, table: pa.Table) -> Path:
    """Write a table as the file that the name tells."""
    if path.suffix == ".csv":
        pa.csv.write_csv(table, path)
    else:
        pa.parquet.write_table(table, path)
    return path


def by_command(folder: Path, drawn: pa.Table, form: str, rows: int, core: Sequence[int]) -> float:
    """Return the rows of a CPU second of `python -m scoring`, not counting its start."""

    def seconds(count: int) -> float:
        source, target = write(folder / f"in.{form}", repeated(drawn, count)), folder / f"out.{form}"
        command = [sys.executable, "-m", "scoring", str(MODEL), str(source), str(target), "--threads", "1"]
        return least_elapsed(command, target, core, ROOT)

    return (rows - 1) / (seconds(rows) - seconds(1))


def by_peer(folder: Path, drawn: pa.Table, way: str, rows: int, core: Sequence[int]) -> float:
    """Return the rows of a CPU second of pandas and statsmodels, not counting their start."""
    python = environments.python(PEER)
    model = Assets(FOLDER).of("tabular")
    env = {"MODEL": str(model), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    if not (model / "segmentation.joblib").exists():
        environments.run([str(python), "fastapi_tabular.py"], PEER, env)

    def seconds(count: int) -> float:
        source, target = write(folder / "peer.csv", repeated(drawn, count)), folder / "peer-out.csv"
        command = [str(python), "tabular_files.py", way, str(source), str(target)]
        return least_elapsed(command, target, core, environments.PEERS, env)

    return (rows - 1) / (seconds(rows) - seconds(1))


def least_elapsed(
    command: list[str], target: Path, core: Sequence[int], folder: Path, env: dict[str, str] | None = None
) -> float:
    """Return the least seconds that RUNS runs of a command, which writes a file anew, compute on a core."""
    found = []
    for _ in range(RUNS):
        target.unlink(missing_ok=True)
        found.append(elapsed(command, core, folder, env))
    return min(found)


def elapsed(command: list[str], core: Sequence[int], folder: Path, env: dict[str, str] | None = None) -> float:
    """Return the seconds that a command computes on a core, whatever else runs there."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [*bound_to(core), *command], cwd=folder, env={**os.environ, **(env or {})}, check=True, capture_output=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def by_batch(drawn: pa.Table) -> tuple[float, float]:
    """Return the rows of a CPU second of `score()` on batches in memory, and of the session on their variables."""
    scorer = Scorer(entry_in(MODEL))
    (batch,) = drawn.combine_chunks().to_batches()
    read = {column.name: read_column(column, batch.column(column.name)).values for column in scorer.used}
    items = scorer.model_class.items(read)
    most = scorer.model.max_batch

    def bare() -> None:
        for start in range(0, len(items), most):
            block: Array = items[start : start + most]  # type: ignore[index]
            scorer.run({"features": block})

    rates = []
    for work in (lambda: scorer.score(batch), bare):
        times = []
        for _ in range(ROUNDS):
            started = time.process_time()
            work()
            times.append(time.process_time() - started)
        rates.append(batch.num_rows / sorted(times)[ROUNDS // 2])
    return rates[0], rates[1]


if __name__ == "__main__":
    sys.exit(main())
