"""Hypothesis strategies for fuzz requests: from an OpenAPI document, and beyond what any document describes.

Strategies are built once, not inside `draw`, where building them would take longer than drawing. They are our own:
Schemathesis, which tests/test_openapi.py runs, could replace only `fitting` and `changed`, and generates a sixth as
many requests per second; hypothesis-jsonschema 0.23 fails with the pinned hypothesis.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from tests import fuzz_values as odd
from tests.fuzz_values import Json

T = TypeVar("T")
Header = tuple[bytes, bytes]


@dataclass(frozen=True)
class FuzzRequest:
    """Bytes to send on a new connection, in `pieces`.

    `kind` is the path for a POST to a documented operation; `head`: the method is HEAD; `answered`: the request is
    complete, so the server must respond, and not wait for more.
    """

    kind: str
    pieces: tuple[bytes, ...]
    head: bool = False
    answered: bool = True


FILES = st.deferred(lambda: st.sampled_from(odd.files()))  # made when they are first drawn
WORDS = st.text(st.characters(), max_size=5)
SCALARS = st.sampled_from(odd.VALUES) | st.text(st.characters(), max_size=20) | st.floats() | st.integers()
ODD = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(WORDS, SCALARS, max_size=3)
SIZES = st.integers(0, 2**20)
FEW_BYTES = st.binary(max_size=8)
MORE_BYTES = st.binary(max_size=200)


def pick(draw: DrawFn, choice: Sequence[T]) -> T:
    """Draw one element of `choice`."""
    return choice[draw(SIZES) % len(choice)]


def requests(document: Json) -> SearchStrategy[FuzzRequest]:
    """Return a strategy for requests to the operations of an OpenAPI document, and for arbitrary requests."""
    paths = [path.encode() for path in document["paths"]]
    kinds = [odd_requests(paths), raw_requests(paths)]
    for path, methods in document["paths"].items():
        if "post" in methods:
            ((media_type, content),) = methods["post"]["requestBody"]["content"].items()
            schema = expanded(content["schema"], document["components"]["schemas"])
            body = json_bodies(schema, fitting(schema)) if media_type == "application/json" else form_bodies(schema)
            kinds.append(operation(path, body))
    return st.one_of(kinds)


def expanded(schema: Json, schemas: Json) -> Json:
    """Return a schema with its references resolved."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            return expanded(schemas[schema["$ref"].rpartition("/")[2]], schemas)
        return {name: expanded(part, schemas) for name, part in schema.items()}
    return [expanded(part, schemas) for part in schema] if isinstance(schema, list) else schema


def fitting(schema: Json) -> SearchStrategy[Json]:
    """Return a strategy for values that conform to a schema."""
    if "anyOf" in schema:
        return st.one_of([fitting(option) for option in schema["anyOf"]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kind = schema.get("type", "number")  # a field without a type takes any value
    if kind == "object":
        return objects(
            {name: fitting(field) for name, field in schema.get("properties", {}).items()}, schema.get("required", [])
        )
    if kind == "array":
        return st.lists(fitting(schema["items"]), min_size=schema.get("minItems", 0), max_size=5)
    if kind == "string":
        return st.text(min_size=schema.get("minLength", 0), max_size=60)
    if kind == "number":
        least = schema.get("exclusiveMinimum", schema.get("minimum"))
        return st.floats(least, exclude_min="exclusiveMinimum" in schema, allow_nan=False, allow_infinity=False)
    return {"boolean": st.booleans(), "null": st.none(), "integer": st.integers(schema.get("minimum"))}[kind]


@st.composite
def objects(draw: DrawFn, fields: dict[str, SearchStrategy[Json]], required: list[str]) -> Json:
    """Draw an object with the required fields and up to six others."""
    others = [name for name in fields if name not in required]
    names = [*required, *(pick(draw, others) for _ in range(pick(draw, range(7)) if others else 0))]
    return {name: draw(fields[name]) for name in dict.fromkeys(names)}


def changed(draw: DrawFn, value: Json) -> Json:
    """Change a value in one place: replace a part, or add or drop a field or item."""
    if not isinstance(value, dict | list) or not value or pick(draw, range(4)) == 0:
        return draw(ODD)
    action = pick(draw, ["change", "change", "change", "add", "drop"])
    if isinstance(value, list):
        place = pick(draw, range(len(value)))
        if action == "change":
            return [*value[:place], changed(draw, value[place]), *value[place + 1 :]]
        return [*value[:place], *([draw(ODD)] if action == "add" else []), *value[place + 1 :]]
    name = pick(draw, sorted(value))
    if action == "change":
        return value | {name: changed(draw, value[name])}
    if action == "add":
        return value | {draw(WORDS): draw(ODD)}
    return {other: part for other, part in value.items() if other != name}


def damaged(draw: DrawFn, data: bytes) -> bytes:
    """Damage bytes in one to three places."""
    for _ in range(pick(draw, range(1, 4))):
        start = pick(draw, range(len(data) + 1))
        end = min(len(data), start + pick(draw, range(20)))
        fault = pick(draw, ["cut", "put", "drop", "double", "number"])
        if fault == "cut":
            data = data[:start]
        elif fault == "put":
            data = data[:start] + draw(FEW_BYTES) + data[end:]
        elif fault == "drop":
            data = data[:start] + data[end:]
        elif fault == "double":
            data = data[:end] + data[start:]
        elif numbers := list(re.finditer(rb"\d+(\.\d+)?", data[:5_000])):
            number = pick(draw, numbers)
            data = data[: number.start()] + pick(draw, odd.NUMBERS) + data[number.end() :]
    return data


@st.composite
def json_bodies(draw: DrawFn, schema: Json, valid: SearchStrategy[Json]) -> tuple[bytes, bytes]:
    """Draw the media type and body of a JSON request."""
    way = pick(draw, ["fit", "fit", "fit", "example", "change", "change", "change", "odd", "damage", "text"])
    if way == "text":
        return b"application/json", pick(draw, odd.TEXTS)
    example = schema.get("example", {})
    value = draw(ODD) if way == "odd" else example if way == "example" else draw(valid)
    if way == "change":
        value = changed(draw, pick(draw, [value, example]))
    body = json.dumps(value, ensure_ascii=pick(draw, [True, False])).encode("utf-8", "surrogatepass")
    return b"application/json", damaged(draw, body) if way == "damage" else body


@st.composite
def form_bodies(draw: DrawFn, schema: Json) -> tuple[bytes, bytes]:
    """Draw the media type and body of a form request."""
    boundary = pick(draw, [b"boundary"] * len(odd.BOUNDARIES) + odd.BOUNDARIES)
    parts = form_parts(draw, schema["properties"])
    body = b"".join(b"--%b\r\n%b\r\n\r\n%b\r\n" % (boundary, head, content) for head, content in parts)
    body += b"--" + boundary + b"--\r\n"
    quote = pick(draw, [b"", b'"'])
    media_type = b"multipart/form-data; boundary=" + quote + boundary + quote
    return media_type, damaged(draw, body) if pick(draw, range(5)) == 0 else body


def form_parts(draw: DrawFn, fields: Json) -> Iterator[tuple[bytes, bytes]]:
    """Yield the headers and content of each part of a form."""
    for name, field in fields.items():
        binary = field["type"] in ("array", "string")
        for _ in range(pick(draw, [1, 1, 1, 1, 1, 1, 1, 0, 2, 5])):
            head = b'Content-Disposition: form-data; name="%b"' % name.encode()
            if binary == (pick(draw, range(20)) > 0):
                head += b'; filename="%b"' % pick(draw, [b"a"] * len(odd.FILE_NAMES) + odd.FILE_NAMES)
            head += pick(draw, [b""] * 3 * len(odd.PART_HEADERS) + odd.PART_HEADERS)
            content = draw(FILES) if binary else pick(draw, [b"true"] * len(odd.SWITCHES) + odd.SWITCHES)
            yield head, damaged(draw, content) if pick(draw, range(4)) == 0 else content
    if pick(draw, range(5)) == 0:
        head = b'Content-Disposition: form-data; name="%b"' % pick(draw, odd.FIELD_NAMES)
        yield head + pick(draw, [b"", b'; filename="a"', b"; filename*=utf-8''%ff"]), draw(FILES)


def odd_headers(draw: DrawFn, choice: dict[bytes, list[bytes]]) -> list[Header]:
    """Draw one or two headers with odd values."""
    names = [pick(draw, list(choice)) for _ in range(pick(draw, [1, 2]))]
    return [(name, pick(draw, choice[name])) for name in names]


@st.composite
def operation(draw: DrawFn, path: str, content: SearchStrategy[tuple[bytes, bytes]]) -> FuzzRequest:
    """Draw a POST request; one in five has odd headers."""
    media_type, body = draw(content)
    headers = odd_headers(draw, odd.HEADERS) if pick(draw, range(5)) == 0 else []
    if b"Content-Type" not in dict(headers) or pick(draw, [True, False]):
        headers.append((b"Content-Type", media_type))
    if pick(draw, range(5)):
        headers.append((b"Content-Length", b"%d" % len(body)))
    else:
        headers.append((b"Transfer-Encoding", b"chunked"))
        body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
    return sent(draw, path, written(b"POST", path.encode(), headers, body))


@st.composite
def odd_requests(draw: DrawFn, paths: list[bytes]) -> FuzzRequest:
    """Draw a request of any method to any path, with odd headers and a correctly framed body."""
    method = pick(draw, odd.METHODS)
    path = pick(draw, [*paths, *odd.PATHS])
    if pick(draw, range(4)) == 0:
        path = re.sub(rb"[\0-\x20\x7f]", b"", damaged(draw, path)) or b"/"
    body = draw(MORE_BYTES) if pick(draw, [True, False]) else b""
    headers = [*odd_headers(draw, odd.HEADERS), (b"Content-Length", b"%d" % len(body))]
    return sent(draw, "odd", written(method, path, headers, body), head=method == b"HEAD")


@st.composite
def raw_requests(draw: DrawFn, paths: list[bytes]) -> FuzzRequest:
    """Draw bytes that are barely HTTP: odd framing, damaged requests, or noise."""
    body = draw(MORE_BYTES) if pick(draw, [True, False]) else pick(draw, odd.CHUNKS)
    headers = [(b"Content-Type", b"application/json"), *odd_headers(draw, odd.FRAMING)]
    data = written(pick(draw, [b"POST", b"GET"]), pick(draw, paths), headers, body)
    way = pick(draw, ["odd headers", "damage", "binary"])
    if way != "odd headers":
        data = damaged(draw, data) if way == "damage" else draw(MORE_BYTES)
    return FuzzRequest("raw", (data,), head=data.startswith(b"HEAD"), answered=False)


def written(method: bytes, path: bytes, headers: list[Header], body: bytes) -> bytes:
    """Return the bytes of a request."""
    lines = [b"%b %b HTTP/1.1" % (method, path), b"Host: localhost", *(b": ".join(header) for header in headers)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def sent(draw: DrawFn, kind: str, data: bytes, *, head: bool = False) -> FuzzRequest:
    """Draw how a request is sent: whole, twice, in two pieces, or only in part."""
    way = pick(draw, ["whole"] * 7 + ["twice", "pieces", "part"])
    place = pick(draw, range(1, len(data)))
    pieces = {"whole": (data,), "twice": (data, data), "pieces": (data[:place], data[place:]), "part": (data[:place],)}
    return FuzzRequest(kind, pieces[way], head, answered=way != "part")
