"""Large JSON bodies: read in pieces, or answered for by a few bytes that a schema refuses as it would the whole."""

from __future__ import annotations

from typing import Any

import msgspec

# What a schema refuses in a larger body is looked at by `stand_in`.
LARGE_BYTES = 2**20
# What msgspec raises for what is no JSON, or not of the type that it is to be.
UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Items(msgspec.Struct, gc=False):
    """A body of `infer` whose items are left as they stand."""

    items: list[msgspec.Raw]


RAW_ITEMS = msgspec.json.Decoder(Items)


def stand_in(body: bytes, field: str) -> bytes:
    """Return a few bytes of JSON that a schema refuses as it would a large body without a list in `field`.

    Pydantic reads a body in one call, and nothing else runs meanwhile; for what is refused anyway that is too long.
    """
    outline: Any = msgspec.defstruct("Outline", [(field, msgspec.Raw, msgspec.Raw())])
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
        start = body.lstrip()[:1]
        if start != b"{":
            return {b"[": b"[]", b'"': b'""'}.get(start, b"0")
        value = bytes(memoryview(getattr(msgspec.json.decode(body, type=outline), field))[:100])
    except UNDECODABLE:
        return b"{"
    if value.startswith(b"["):
        kind = b"[]" if value[1:].lstrip().startswith(b"]") else b"{"  # what it holds is no JSON
    else:
        kind = {b"": b"", b"{": b"{}", b'"': b'""', b"n": b"null"}.get(value[:1], b"0")
    return b'{"%b":%b}' % (field.encode(), kind) if kind else b"{}"
