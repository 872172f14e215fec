"""Bad table files, by mistake or malice, get the status and message of the contract, never a 5xx."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest

from tests.support.bad_input import NESTED, error_details
from tests.support.rows import written


def upload(client: httpx.Client, content: bytes) -> httpx.Response:
    return client.post("/segmentation/uploadfile", files={"file": ("rows", content)})


def parquet(**columns: Any) -> bytes:
    return written(pa.table(columns))


BAD_FILES = [
    (b"", ["file"], "too_short"),
    (b"\n\n", ["file"], "too_short"),
    (b"x1,x2\n", ["file"], "too_short"),
    (b"a,b\n1,2\n", ["file"], "missing"),
    (b"x5,x91\n1\n", ["file"], "csv"),
    (b"x5,x91\n1,2,3\n", ["file"], "csv"),
    (b'x5,x91\n"1,2\n', ["file"], "csv"),
    (b"x5,x91\n\xff,1\n", ["file"], "csv"),
    (b"x91,x53\n1,2\n3,abc\n", ["file", "data", 1, "x53"], "float_parsing"),
    (b"x91,x53\n1,inf\n", ["file", "data", 0, "x53"], "finite_number"),
    (b"x91,x12\n1,much\n", ["file", "data", 0, "x12"], "money"),
    (b"x91\n" + b"1\n" * 100_001, ["file"], "too_long"),
    (b"x91\n" + b"1" * 1_000_000 + b"\n", ["file", "data", 0, "x91"], "float_parsing"),
    (b"x91\n" + b"1" * 3_000_000 + b"\n", ["file"], "csv"),
    (b"{", ["file"], "json_invalid"),
    (b"{}", ["file"], "missing"),
    (b"[]", ["file"], "too_short"),
    (b'{"rows": [{"x91": 1}]}', ["file"], "missing"),
    (b'{"data": []}', ["file"], "too_short"),
    (b'{"data": [{"x91": 1},]}', ["file"], "json_invalid"),
    (b'{"data": [{"x91": 1}]} {}', ["file"], "json_invalid"),
    (b'{"data": [1]}', ["file", "data", 0], "dict_type"),
    (b'{"data": [{"x91": "a"}]}', ["file", "data", 0, "x91"], "float_parsing"),
    (b'{"data": [{"x91": [1]}]}', ["file", "data", 0, "x91"], "float_type"),
    (b'{"data": [{"x91": NaN}]}', ["file"], "json_invalid"),
    (b'{"data": [{"x91": 1}', ["file"], "json_invalid"),
    (b'{"data": [' + NESTED.encode() + b"]}", ["file"], "json_invalid"),
    (b"PAR1", ["file"], "parquet"),
    (b"PAR1" + b"\0" * 100 + b"PAR1", ["file"], "parquet"),
    (parquet(x91=[1.0])[:-20], ["file"], "parquet"),
    (parquet(x91=["a"]), ["file", "data", 0, "x91"], "float_parsing"),
    (parquet(x5=[1]), ["file", "data", 0, "x5"], "string_type"),
    (parquet(a=[1]), ["file"], "missing"),
    (parquet(x91=[None, [1.0]]), ["file", "data", 1, "x91"], "float_parsing"),
    (parquet(x91=pa.array([], pa.float64())), ["file"], "too_short"),
    (parquet(x91=pa.nulls(100_001, pa.float64())), ["file"], "too_long"),
]


@pytest.mark.parametrize(("content", "location", "kind"), BAD_FILES, ids=range(len(BAD_FILES)))
def test_a_bad_file_is_422(client: httpx.Client, content: bytes, location: list[str | int], kind: str) -> None:
    (problem,) = error_details(upload(client, content), 422)
    assert (problem["loc"], problem["type"]) == (location, kind)


@pytest.mark.parametrize("seed", range(30))
def test_a_damaged_parquet_file_is_no_fault_of_the_server(client: httpx.Client, seed: int) -> None:
    content = bytearray(parquet(x91=[1.0, 2.0] * 500, x5=["monday", None] * 500, x12=["$1", "($2)"] * 500))
    rng = np.random.default_rng(seed)
    for place in rng.integers(4, len(content), 10):
        content[place] = rng.integers(256)
    assert upload(client, bytes(content)).status_code in (200, 422)


def test_the_faulty_line_of_a_csv_file_is_named(client: httpx.Client) -> None:
    (problem,) = error_details(upload(client, b"x91,x53\n1,2\n\n3\n4,5\n"), 422)
    assert problem["msg"] == "line 4 has 1 cells, the header has 2"


def test_nan_in_parquet_is_missing(client: httpx.Client) -> None:
    first, second = upload(client, parquet(x91=[float("nan"), None])).json()["class_probability"]
    assert first == second


def test_a_csv_file_may_have_a_byte_order_mark(client: httpx.Client) -> None:
    assert upload(client, "\ufeffx91,x5\r\n0.5,monday\r\n".encode()).status_code == 200
