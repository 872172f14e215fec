"""Odd values for every part of a request, for fuzzing."""

from __future__ import annotations

import io
import json
import math
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from tests.support.photos import photo

Json = Any

VALUES: list[Json] = [
    *(None, True, False, "", " ", "\0", "\ud800", "\U0001f388" * 50, "a" * 10_001, "NaN", "$1", "9" * 400, "(", "%"),
    *(0, -1, -0.0, 1, 2**63, -(2**64), 10**400, 5e-324, 1e308, -1e308, math.nan, math.inf, -math.inf),
    *(
        [],
        {},
        [[]],
        [None],
        {"": None},
        [{}] * 300,
        ["a"] * 300,
        {"__proto__": 1},
        {"$ref": "#"},
        json.loads("[" * 10 + "]" * 10),
        json.loads("[" * 200 + "]" * 200),
    ),
]
NUMBERS = [
    b"1e999",
    b"-1e999",
    b"9" * 5_000,
    b"1." + b"1" * 5_000,
    b"NaN",
    b"-Infinity",
    b"01",
    b"0x1",
    b"1.",
    b"-",
]
FORM_FIELDS = [(b"text", b"[" * 50_000), (b"items", b"a"), (b"data", b"[{}]"), (b"area_se", b"9" * 5_000)]
TEXTS = [
    b"",
    b"{",
    b"null",
    b"[" * 50_000,
    b'{"a":' * 50_000,
    b"[" * 300_000,
    b"\xef\xbb\xbf{}",
    b"{}{}",
    b'"\\ud800"',
    # Forms, for requests whose headers contradict each other about the media type.
    *(b'--x\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n--x--\r\n' % field for field in FORM_FIELDS),
]
MEDIA_TYPES = [
    *(b"", b"text/plain", b"application/json", b"application/JSON;charset=utf-16", b"application/json; =", b"\xff"),
    *(
        b"multipart/form-data; boundary=x",
        b"multipart/form-data",
        b"multipart/form-data; boundary=",
        b"multipart/form-data; boundary=\xff",
    ),
    *(b'multipart/form-data; boundary="', b"multipart/form-data; boundary=" + b"b" * 300, b"multipart/mixed"),
    *(b"application/vnd.bentoml+pickle", b"application/octet-stream", b"image/png", b"a" * 10_000, b";", b"/"),
]
HEADERS: dict[bytes, list[bytes]] = {
    b"Content-Type": MEDIA_TYPES,
    b"Content-Encoding": [b"gzip", b"br", b"identity", b"\xff"],
    b"X-Request-ID": [b"", b"a" * 129, b"\xff", b"a b", b"a\tb", b"../..", b"%0d%0aA: b", b"abc"],
    b"Cache-Control": [b"no-store", b"no-cache, no-store", b"max-age=-1", b",,,", b"\xff", b"no-store" * 500],
    b"Authorization": [b"", b"Bearer", b"Bearer \xff", b"Basic Og==", b"Bearer " + b"k" * 8_000],
    b"X-API-Key": [b"", b"\xff", b"key"],
    b"Host": [b"", b"\xff", b"a:b:c", b"[::1", b"evil.example"],
    b"Accept": [b"", b"text/html", b"application/vnd.bentoml+pickle", b"\xff"],
    b"Expect": [b"100-continue", b"200-ok"],
    b"Connection": [b"close", b"keep-alive, Upgrade", b"\xff"],
    b"traceparent": [b"00-0-0-0", b"00-" + b"f" * 32 + b"-" + b"f" * 16 + b"-01", b"\xff"],
    b"X-Forwarded-For": [b"\xff", b"1.2.3.4, ::1"],
    b"X-Bentoml-Task": [b"1"],
    b"Range": [b"bytes=0-0,-1", b"bytes=9-1"],
    b"Origin": [b"null", b"http://evil.example"],
    b"Cookie": [b"a" * 4_000, b"=;=\xff"],
    b"Upgrade": [b"h2c", b"\xff"],
}
# With these the server may wait for a body that never comes.
FRAMING: dict[bytes, list[bytes]] = {
    b"Content-Length": [b"", b"-1", b"0", b"1", b"+5", b"5, 5", b"0x5", b"9" * 30, b"100000000", b"\xb2", b"1 "],
    b"Transfer-Encoding": [b"chunked", b"identity", b"gzip, chunked", b"chunked, chunked", b"\xff", b""],
    b"Upgrade": [b"websocket"],
    b"": [b"", b"a"],
    b"A\0": [b"b"],
    b"A": [b"\0", b"a\rb", b"a\nb", b"\r\n\r\n", b"b" * 100_000],
}
METHODS = [b"GET", b"HEAD", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"TRACE", b"POST", b"PROPFIND", b"post"]
PATHS = [
    b"/",
    b"//",
    b"/static_content/",
    b"/static_content/../../service.py",
    b"/static_content/%2e%2e/%2e%2e/x",
    b"*",
]
PATHS += [
    b"/static_content/swagger-ui.css",
    b"/schema.json",
    b"/%",
    b"/%ff",
    b"/%00",
    b"/\xc3\xa9",
    b"/" + b"a" * 9_000,
]
PATHS += [b"http://evil.example/", b"/sentiment/predict?a=" + b"b" * 5_000, b"/sentiment/predict#a", b"/..;/"]
CHUNKS = [b"5\r\nab", b"zz\r\n", b"-1\r\n", b"0\r\n", b"\xff" * 100]
PART_HEADERS = [
    *(b"\r\nContent-Type: application/json", b"\r\nContent-Type: \xff", b"\r\nContent-Transfer-Encoding: base64"),
    *(b"\r\nContent-Type: image/png; charset=idna", b"\r\n: ", b"\r\nA", b"; a=\xff", b"\r\nC:" + b"d" * 9_000),
]
BOUNDARIES = [b"x", b"-" * 30, b"a b", b"'", b"b" * 70, b"b" * 71, b"\xff", b"a;b", b""]
SWITCHES = [b"true", b"false", b"True", b"1", b"", b"null", b"2", b"[]", b"\xff", b"[" * 50_000, b"9" * 5_000, b"NaN"]
FIELD_NAMES = [b"", b"other", b"\xff", b"a" * 1_000, b"file[]", b"__class__", b'a"b', b"self", b"with_resize"]
FILE_NAMES = [
    b"a",
    b"",
    b"../../etc/passwd",
    b"a" * 201,
    b"\xff",
    b"a\0b",
    b"/",
    b"CON",
    b'a\\"b',
    b"\xf0\x9f\x8e\x88.png",
]


def parquet(**columns: Any) -> bytes:
    """Return a Parquet file with these columns."""
    file = io.BytesIO()
    pyarrow.parquet.write_table(pa.table(columns), file)
    return file.getvalue()


def files() -> list[bytes]:
    """Return pictures and tables, some of them valid."""
    pictures = [photo(form, size) for form in ("JPEG", "PNG", "WEBP", "GIF") for size in ((32, 32), (90, 40), (1, 1))]
    arrays = [
        *(pa.array([1.5, None]), pa.array([1, 2]), pa.array(["$1", "monday"]), pa.array([True, None]), pa.nulls(2)),
        *(
            pa.array([b"\xff", b""]),
            pa.array([[1.0], []]),
            pa.array([{"a": 1}, None]),
            pa.array([0, 1], pa.timestamp("s")),
        ),
        *(
            pa.array(["a", "b"]).dictionary_encode(),
            pa.array([math.nan, math.inf]),
            pa.array([1, 2], pa.decimal128(9, 2)),
        ),
    ]
    tables = [parquet(**{name: array}) for array in arrays for name in ("x0", "x5", "x12", "x63", "other")]
    rows = [
        b'{"data": [{"x0": 1, "x12": "$1"}]}',
        b'{"data": []}',
        b"[]",
        b"x0,x5\n1,monday\n,\n",
        b"x0\n" + b"1\n" * 200,
    ]
    return [
        *pictures,
        *tables,
        *rows,
        b"x0,x0\n1,2\n",
        b'x5\n"a\n',
        b"x12\n\xff\n",
        b"\n",
        b"",
        b"PAR1PAR1",
        b"\0" * 500,
    ]
