"""How large a JSON body may be: what its schema admits, written as widely as JSON allows."""

from __future__ import annotations

import asyncio
import re
from typing import Any, NamedTuple

from pydantic import BaseModel

# Smaller bounds would gain nothing, and a list that is too long should be refused as such.
MIN_BYTES = 2**14
MIN_VALUES = 10_000
# A character outside the basic plane, escaped: a surrogate pair.
CHARACTER_BYTES = 12
# The most bytes of a float; and the most characters of a string for which the schema has no bound.
SCALAR_BYTES = 32
SCALAR_CHARACTERS = 24
# Around a value: line break, indentation, quotes, colon, comma.
LAYOUT_BYTES = 24
# Fields that the schema does not know are ignored: every object may have a quarter as many as it knows, and these.
EXTRA_FIELDS = 8
SEPARATORS = (b",", b"[", b"{")
# How much is counted at a time, before other requests have their turn.
PIECE_BYTES = 2**18
# Possessive, so that they take linear time; the group is empty where a string goes on after the piece.
STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+("?)', re.DOTALL)
STRING_END = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+("?)', re.DOTALL)


class JsonBound(NamedTuple):
    """The most bytes and values of a JSON document."""

    max_bytes: int
    max_values: int


def json_bound(schema: type[BaseModel]) -> JsonBound:
    """Return the bound on documents that fit a schema, with room for extra fields and white space.

    A schema that refers to itself counts once.
    """
    document = schema.model_json_schema()
    bound = widest(document, document.get("$defs", {}), ())
    return JsonBound(max(MIN_BYTES, bound.max_bytes), max(MIN_VALUES, bound.max_values))


def widest(schema: Any, definitions: dict[str, Any], inside: tuple[str, ...]) -> JsonBound:
    """Return the bound on a value that fits a schema."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if name in inside:
            return JsonBound(SCALAR_BYTES, 1)
        return widest(definitions[name], definitions, (*inside, name))
    options = [option for key in ("anyOf", "oneOf", "allOf") for option in schema.get(key, ())]
    if options:
        bounds = [widest(option, definitions, inside) for option in options]
        return JsonBound(*map(max, zip(*bounds, strict=True)))
    kind = schema.get("type")
    if kind == "string":
        characters = schema.get("maxLength", SCALAR_CHARACTERS)
        return JsonBound(characters * CHARACTER_BYTES + 2, 1)
    if kind == "array":
        item = widest(schema.get("items", {}), definitions, inside)
        count = schema.get("maxItems", 1)
        # One more, so that a list that is too long is refused as such.
        return JsonBound((count + 1) * (item.max_bytes + LAYOUT_BYTES), (count + 1) * item.max_values + 1)
    if kind == "object":
        names = schema.get("properties", {})
        fields = [widest(part, definitions, inside) for part in names.values()]
        extra = EXTRA_FIELDS + len(fields) // 4
        size = sum(bound.max_bytes for bound in fields) + extra * SCALAR_BYTES
        size += sum(len(name) for name in names) + (len(fields) + extra) * LAYOUT_BYTES
        return JsonBound(size, sum(bound.max_values for bound in fields) + extra + 1)
    return JsonBound(SCALAR_BYTES, 1)


async def has_more_values(body: bytes, max_values: int) -> bool:
    """Return whether a JSON document has more than `max_values` values, without parsing it."""
    # Every value but the first comes after a comma or an opening bracket; only here do those in strings count.
    if len(body) <= max_values or not await has_more_separators(body, max_values):
        return False
    start, separators, in_string = 0, 0, False
    while start < len(body) and separators <= max_values:
        piece = body[start : start + PIECE_BYTES]
        # Do not cut between a backslash and its character.
        if (len(piece) - len(piece.rstrip(b"\\"))) % 2 and len(piece) == PIECE_BYTES:
            piece = piece[:-1]
        start += len(piece)
        found, in_string = count_separators(piece, in_string)
        separators += found
        await asyncio.sleep(0)
    return separators > max_values


async def has_more_separators(body: bytes, count: int) -> bool:
    """Return whether commas and opening brackets, in strings or not, are more than `count`."""
    found = 0
    for start in range(0, len(body), PIECE_BYTES):
        found += sum(body.count(separator, start, start + PIECE_BYTES) for separator in SEPARATORS)
        if found > count:
            return True
        await asyncio.sleep(0)
    return False


def count_separators(piece: bytes, in_string: bool) -> tuple[int, bool]:
    """Count commas and opening brackets outside strings; also return whether the piece ends in a string.

    `in_string` says whether it begins in one.
    """
    if in_string:
        end = STRING_END.match(piece)
        if end is None or not end[1]:
            return 0, True
        piece = piece[end.end() :]
    # Alternately what is outside strings, and how a string ends.
    parts = STRING.split(piece)
    outside = b"".join(parts[::2])
    return sum(map(outside.count, SEPARATORS)), len(parts) > 1 and not parts[-2]
