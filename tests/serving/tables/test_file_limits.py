"""The peak memory of a process that reads malicious files, one at a time."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.support.rows import written

HUGE = 48 * 2**20
LARGE: dict[str, Callable[[], bytes]] = {
    "wide CSV": lambda: b",".join(b"y%d" % i for i in range(9_000)) + b",x91\n" + (b"1," * 9_000 + b"3\n") * 1_000,
    "a header of too many columns": lambda: b"x91" + b",y" * 100_000 + b"\n1" + b",2" * 100_000 + b"\n",
    "one line": lambda: b"x91,x5\n" + b"1" * HUGE,
    "a quoted cell": lambda: b'x91,x5\n"' + b"1,\n" * (HUGE // 3),
    "delimiters": lambda: b"x91,x5\n" + b"," * HUGE,
    "empty lines": lambda: b"x91,x5\n1,\n" + b"\n" * HUGE,
    "an ignored key": lambda: b'{"note": [' + b'"a",' * (HUGE // 4) + b'1], "data": [{"x91": 1}]}',
    "an ignored text": lambda: b'{"note": "' + b"a" * HUGE + b'", "data": [{"x91": 1}]}',
    "ignored keys": lambda: b"{" + b'"a":[],' * (HUGE // 7) + b'"data": [{"x91": 1}]}',
    "ignored values of rows": lambda: b'{"data": [' + b'{"y": [1,1,1,1,1,1,1,1,1], "x91": 1},' * 90_000 + b"{}]}",
    "empty rows": lambda: b'{"data": [' + b"{}," * (HUGE // 3) + b"{}]}",
    "an endless row": lambda: b'{"data": [{"x5": "' + b"a" * HUGE,
    "brackets": lambda: b'{"data": ' + b"[" * HUGE,
    "a line of JSON": lambda: b'{"x91": 1}\n{"x5": "' + b"a" * HUGE,
    "a page of Parquet": lambda: bomb(pa.array(["a" * 2**20] * 250), use_dictionary=False, data_page_size=2**30),
    "a text of Parquet": lambda: bomb(
        pa.DictionaryArray.from_arrays(np.zeros(100_000, np.int32), [" " * 2**22]), dictionary_pagesize_limit=2**30
    ),
    "a list of Parquet": lambda: bomb(
        pa.ListArray.from_arrays([0, 2**25], pa.array(np.zeros(2**25))), use_dictionary=False, data_page_size=2**30
    ),
    "rows of Parquet": lambda: bomb(pa.array(np.zeros(2**24)), row_group_size=2**24),
    "names of Parquet": lambda: written(
        pa.table({f"{i}" * 2_000: [1.0] for i in range(1_000, 1_600)} | {"x91": [1.0]})
    ),
}


def bomb(column: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    pa.parquet.write_table(pa.table({"x12": column}), file, compression="zstd", **options)
    return file.getvalue()


PEAKS = """
import os, sys
from pathlib import Path
import duckdb
from models.model import InvalidInputError
from models.segmentation import Segmentation
from serving.tables.formats import read_items

def peak():
    status = Path("/proc/self/status").read_text().split()
    return int(status[status.index("VmHWM:") + 1]) * 1024

duckdb.connect(":memory:").execute("SELECT 1").close()
for name in sys.argv[1:]:
    if not os.fork():
        before = peak()
        try:
            read_items(Path(name), Segmentation)
        except InvalidInputError:
            pass
        print(peak() - before, flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak of a process's memory since its start")
def test_no_file_takes_more_than_its_share_of_memory(tmp_path: Path) -> None:
    for i, content in enumerate(LARGE.values()):
        (tmp_path / f"{i:02}").write_bytes(content())
    files = sorted(map(str, tmp_path.iterdir()))
    done = subprocess.run(
        [sys.executable, "-c", PEAKS, *files], capture_output=True, text=True, timeout=300, check=True
    )
    peaks = dict(zip(LARGE, map(int, done.stdout.split()), strict=True))
    assert {name: peak for name, peak in peaks.items() if peak > 300 * 2**20} == {}
