"""Many rows, in a request and in files, against what reads them in a script."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pandas

from benchmarks.explaining import FRESH
from benchmarks.speed_bench import SpeedBench, say
from loadtest import inputs
from loadtest.processes import tiffin

# In a file; of a quick run the second.
ROWS, FEW_ROWS = 100_000, 2_000
# At most so many different rows are made, which takes most of the time; the file repeats them, with another x0 each.
DIFFERENT = 10_000


def table(count: int) -> pandas.DataFrame:
    """Return so many rows of a hundred columns as a data frame."""
    different = min(count, DIFFERENT)
    rows = pandas.DataFrame(list(map(inputs.customer, range(different))))
    found = pandas.concat([rows] * (count // different), ignore_index=True)
    found["x0"] = range(count)
    return found


def csv(frame: pandas.DataFrame, path: Path) -> None:
    """Write the rows as CSV."""
    frame.to_csv(path, index=False)


def parquet(frame: pandas.DataFrame, path: Path) -> None:
    """Write the rows as Parquet."""
    frame.to_parquet(path)


def records(frame: pandas.DataFrame, path: Path) -> None:
    """Write the rows as JSON."""
    path.write_text(f'{{"data": {frame.to_json(orient="records")}}}', encoding="utf-8")


def read_json(path: Path) -> pandas.DataFrame:
    """Read rows as the originals do."""
    return pandas.DataFrame(json.loads(path.read_bytes())["data"])


# By format: what writes a file, what reads it in a script, and how that is called.
FORMATS: dict[str, tuple[Callable[[pandas.DataFrame, Path], None], Callable[[Path], Any], str]] = {
    "CSV": (csv, pandas.read_csv, "pandas.read_csv"),
    "Parquet": (parquet, pandas.read_parquet, "pandas.read_parquet"),
    "JSON": (records, read_json, "json.loads and a DataFrame"),
}


def many_rows(bench: SpeedBench) -> None:
    """Compare 10 000 rows of segmentation in one request with reading them with json and pandas."""
    data = [inputs.customer(number) for number in range(10_000)]
    with tiffin(bench.home, models="segmentation") as address, httpx.Client(base_url=address, timeout=30) as client:

        def measure(number: int) -> tuple[float, float]:
            data[0]["x0"] = number + 0.5
            body = json.dumps({"data": data}).encode()
            headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
            started = time.perf_counter()
            client.post("/segmentation/predict", content=body, headers=headers).raise_for_status()
            ours = time.perf_counter() - started
            started = time.perf_counter()
            pandas.DataFrame(json.loads(body)["data"])
            return ours, time.perf_counter() - started

        measure(-1)
        ratio, a, b = bench.ratio(measure)
    say("segmentation, 10 000 rows in one request", ratio, "x json.loads and a DataFrame", f"{a:.2f} : {b:.2f} s")


def uploads(bench: SpeedBench) -> None:
    """Compare the answer to a file of segmentation's rows with reading it into a data frame."""
    count = FEW_ROWS if bench.assets.small else ROWS
    frame = table(count)
    with tiffin(bench.home, models="segmentation") as address, httpx.Client(base_url=address, timeout=60) as client:
        for kind, (write, read, called) in FORMATS.items():
            path = bench.folder / f"rows.{kind.lower()}"
            write(frame, path)

            def measure(_: int, path: Path = path, read: Callable[[Path], Any] = read) -> tuple[float, float]:
                started = time.perf_counter()
                with path.open("rb") as file:
                    answer = client.post("/segmentation/uploadfile", files={"file": file}, headers=FRESH)
                ours = time.perf_counter() - started
                if len(answer.raise_for_status().json()["predicted_class"]) != count:
                    raise RuntimeError(f"not every row of the {path.suffix} file was answered")
                started = time.perf_counter()
                read(path)
                return ours, time.perf_counter() - started

            measure(-1)
            ratio, a, b = bench.ratio(measure)
            say(f"segmentation, {count:,} rows of {kind}", ratio, f"x {called}", f"{a:.2f} : {b:.2f} s")
