"""JSON bodies of any size: legal ones, written as widely as JSON allows, and hostile ones."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable

from tests.attacks.targets import Target
from tests.fuzz_values import Json

# The widest encoding of a character: two escapes, 12 bytes.
WIDE_CHARACTER = rb"\ud83c\udf88"
WIDE_NUMBER = b"1.2345678901234567e-100"
# Length of strings for which the schema has no bound.
CHARACTERS = 20

Pattern = tuple[bytes, bytes, bytes]
# Generates this many bytes, or a few less.
Maker = Callable[[int], bytes]

# Each is a start, a repeated part and an end. FIELD stands for the name of the route's array.
PATTERNS: dict[str, Pattern] = {
    "objects without the fields": (b'{"FIELD":[', b'{"a":1},', b'{"a":1}]}'),
    "objects in an unknown field": (b'{"x":[', b'{"a":1},', b'{"a":1}]}'),
    "empty objects": (b'{"FIELD":[', b"{},", b"{}]}"),
    "wrong types": (b'{"FIELD":[', b'null,true,-1e999,"",[],{},[{"x12":[]}],', b"0]}"),
    "rows of wrong types": (b'{"FIELD":[', b'{"x12":[],"x5":{},"area_se":"a"},', b"{}]}"),
    "null": (b'{"FIELD":[', b"null,", b"null]}"),
    "one character": (b'{"FIELD":[', b'"a",', b'"a"]}'),
    "numbers": (b'{"FIELD":[', b"1,", b"1]}"),
    "open arrays": (b"", b"[", b""),
    "open objects": (b"", b'{"a":', b"1"),
    "open arrays in the field": (b'{"FIELD":', b"[", b""),
    "short nesting": (b'{"FIELD":[', b"[[[[[[[[[[]]]]]]]]]],", b"[]]}"),
    "the field again": (b"{", b'"FIELD":[{}],', b'"FIELD":[]}'),
    "an unknown field again": (b"{", b'"a":1,', b'"a":1}'),
    "a number of many digits": (b'{"FIELD":[', b"1", b"]}"),
    "numbers of 4,000 digits": (b'{"FIELD":[', b"1" * 4_000 + b",", b"1]}"),
    "a fraction of many digits": (b'{"FIELD":[0.', b"1", b"]}"),
    "numbers out of range": (b'{"FIELD":[', b"1e999,", b"1]}"),
    "escaped letters": (b'{"FIELD":["', rb"\u0041", b'"]}'),
    "escaped emoji": (b'{"FIELD":["', WIDE_CHARACTER, b'"]}'),
    "halves of emoji": (b'{"FIELD":["', rb"\ud83c", b'"]}'),
    "backslashes": (b'{"FIELD":["', rb"\\", b'"]}'),
    "quotes": (b'{"FIELD":["', rb"\"", b'"]}'),
    "commas in a string": (b'{"FIELD":["', b",", b'"]}'),
    "brackets in a string": (b'{"FIELD":["', b"[{:", b'"]}'),
    "texts of halves of emoji": (b'{"FIELD":[', b'"' + rb"\ud83c" * 15_000 + b'",', b'"a"]}'),
    "texts of backslashes": (b'{"FIELD":[', b'"' + rb"\\" * 40_000 + b'",', b'"a"]}'),
    "rows of escaped letters": (b'{"FIELD":[', b'{"x1":"' + rb"\u0041" * 15_000 + b'"},', b"{}]}"),
    "rows of long categories": (b'{"FIELD":[', b'{"x5":"' + rb"\"" * 40_000 + b'"},', b"{}]}"),
    "rows with lists": (b'{"FIELD":[', b'{"x1":[],"x2":"' + b"a" * 6_600 + b'"},', b"{}]}"),
    "a list beside": (b'{"FIELD":[{}],"x":[' + b"[]," * 200, b'"' + rb"\"" * 1_000 + b'",', b"1]}"),
    "an open string": (b'{"FIELD":["', b"a", b""),
    "no amount": (b'{"FIELD":[{"x12":"', b"1", b'x"}]}'),
    "no percentage": (b'{"FIELD":[{"x63":"', b"1", b'x"}]}'),
    "spaces around nothing": (b'{"FIELD":[{"x12":"', b" ", b'x"}]}'),
    "white space": (b"", b" \r\n\t", b""),
    "a long key": (b'{"', b"a", b'":1}'),
    "bytes that are no text": (b'{"FIELD":["', b"\xff", b'"]}'),
    "zeros": (b"", b"\0", b""),
}

# Of the first input tensor of a route, up to its shape.
TENSOR = b'{"inputs":[{"name":"NAME","datatype":"TYPE",'
TENSOR_PATTERNS: dict[str, Pattern] = {
    "a tensor of escapes": (TENSOR + b'"shape":[1],"data":["', rb"\u0041", b'"]}]}'),
    "a tensor of Base64": (
        TENSOR + b'"shape":[1],"parameters":{"content_type":"base64"},"data":["',
        b"QUJD",
        b'"]}]}',
    ),
    "a tensor of backslashes": (TENSOR + b'"shape":[1],"data":["', rb"\\", b'"]}]}'),
    "a tensor of texts": (TENSOR + b'"shape":[256],"data":[', b'"a",', b'"a"]}]}'),
    "a tensor of numbers": (TENSOR + b'"shape":[1000000],"data":[', b"1.25,", b"1]}]}"),
    "a tensor of digits": (TENSOR + b'"shape":[1],"data":[', b"1", b"]}]}"),
    "a tensor of rows": (TENSOR + b'"shape":[1,1],"data":[', b"[1],", b"[1]]}]}"),
    "a tensor of open arrays": (TENSOR + b'"shape":[1],"data":', b"[", b""),
    "a shape of many sizes": (TENSOR + b'"data":[1],"shape":[', b"1,", b"1]}]}"),
    "a size of many digits": (TENSOR + b'"data":[1],"shape":[', b"9", b"]}]}"),
    "many tensors": (b'{"inputs":[', b'{"name":"NAME","datatype":"TYPE","shape":[1],"data":["a"]},', b"1]}"),
    "many parameters": (TENSOR + b'"shape":[1],"data":["a"],"parameters":{', b'"a":1,', b'"a":1}}]}'),
    "a long id": (b'{"id":"', b"a", b'","inputs":[]}'),
    "many outputs": (TENSOR + b'"shape":[1],"data":["a"]}],"outputs":[', b'{"name":"label"},', b'{"name":"label"}]}'),
}


def repeated(pattern: Pattern, size: int, field: str) -> bytes:
    """Repeat a pattern as often as `size` bytes allow."""
    start, unit, end = (part.replace(b"FIELD", field.encode()) for part in pattern)
    return start + unit * ((size - len(start) - len(end)) // len(unit)) + end


def widest(schema: Json) -> bytes:
    """Return a value that conforms to a schema, written as widely as possible; arrays have one item."""
    if "anyOf" in schema:
        kinds = {option.get("type"): option for option in schema["anyOf"]}
        if "number" in kinds:
            kinds.pop("string", None)  # it is a number in a notation of the column's own
        return max(map(widest, kinds.values()), key=len)
    kind = schema.get("type", "number")
    if kind == "object":
        members = [b'"%b": %b' % (name.encode(), widest(field)) for name, field in schema["properties"].items()]
        return b"{" + b", ".join(members) + b"}"
    if kind == "array":
        return b"[" + widest(schema["items"]) + b"]"
    if kind == "string":
        return b'"' + WIDE_CHARACTER * int(schema.get("maxLength", CHARACTERS)) + b'"'
    return {"number": WIDE_NUMBER, "integer": b"1", "boolean": b"false", "null": b"null"}[kind]


def legal(target: Target, size: int, item: bytes = b"") -> bytes:
    """Return a body of `size` bytes that conforms to a route's schema: as many items as allowed, and white space.

    Every item is `item` if it is given.
    """
    if target.max_rows:
        return tensors(target, size)
    array = target.fields[target.array]
    if array.get("type") != "array":
        body = widest(target.schema)
    else:
        item = item or widest(array["items"])
        start, end = b'{"%b": [' % target.array.encode(), b"]}"
        room = (size - len(start) - len(end)) // (len(item) + 2)
        body = start + b", ".join([item] * min(array["maxItems"], room)) + end
    return body + b" " * (size - len(body))


def tensors(target: Target, size: int) -> bytes:
    """Return a body of `size` bytes with as many rows as are allowed, each that of the schema's example."""
    inputs = target.schema["example"]["inputs"]
    rows = min(target.max_rows, max(1, size // (len(json.dumps(inputs)) + 32 * len(inputs))))
    columns = [{**column, "shape": [rows], "data": column["data"] * rows} for column in inputs]
    return json.dumps({"inputs": columns}).encode().ljust(size)


@functools.cache
def members(size: int) -> bytes:
    """Return fields with different names, in at least `size` bytes."""
    return b"".join(b'"%x":0,' % number for number in range(16**6, 16**6 + size // 12 + 1))


def keys(size: int) -> bytes:
    """Return an object with different keys, in at most `size` bytes."""
    fields = members(1 << size.bit_length())
    return b"{" + fields[: fields.rindex(b",", 0, size - 7) + 1] + b'"a":0}'


def extra_fields(target: Target, size: int) -> bytes:
    """Return a body that conforms but for fields that the schema does not know."""
    end = widest(target.schema)[1:]
    return repeated((b"{", b'"extra":0,', end), size, "")


def hostile(target: Target) -> dict[str, Maker]:
    """Return generators of hostile bodies of any size, by name."""

    def filled(pattern: Pattern) -> Maker:
        return lambda size: repeated(pattern, size, target.array).ljust(size)

    patterns = dict(PATTERNS)
    if target.max_rows:
        first = target.schema["example"]["inputs"][0]
        name, datatype = first["name"].encode(), first["datatype"].encode()
        for kind, pattern in TENSOR_PATTERNS.items():
            start, unit, end = (part.replace(b"NAME", name).replace(b"TYPE", datatype) for part in pattern)
            patterns[kind] = (start, unit, end)
    made = {name: filled(pattern) for name, pattern in patterns.items()}
    made["different keys"] = keys
    made["unknown fields"] = functools.partial(extra_fields, target)
    made["cut off"] = lambda size: legal(target, size).rstrip()[:-1].rjust(size)
    return made
