"""Cut JSON files into arrays of some rows, so that no file is decoded as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

import msgspec
import numpy as np

from models.model import UNDECODABLE, Array, without_escapes
from serving.tables.schema import Schema, invalid

# What is cut, and then decoded, at a time: the interpreter's lock is held meanwhile.
BLOCK_BYTES = 2**18
# Longest row, and longest text beside the rows.
MAX_ROW_BYTES = 2**20
# More columns of a row would take long to be told apart.
MAX_COLUMNS = 5_000
SPACE = b" \t\r\n"
ONE = msgspec.json.Decoder(msgspec.Raw)
LINE = msgspec.json.Decoder(dict[str, msgspec.Raw])


def has_rows_in_lines(file: IO[bytes], schema: Schema) -> bool:
    """Return whether the first line is a row by itself; the file is left where it was."""
    start = file.tell()
    line = file.readline(MAX_ROW_BYTES)
    file.seek(start)
    if without_escapes(line).count(b'"') > 4 * MAX_COLUMNS:
        return False
    try:
        names = LINE.decode(line)
    except UNDECODABLE:
        return False
    return "data" not in names and schema.names.count(names) > 0


def line_arrays(file: IO[bytes]) -> Iterator[bytes]:
    """Yield JSON arrays of the rows that stand in the lines of a file."""
    carry = b""
    while block := file.read(BLOCK_BYTES):
        *lines, carry = (carry + block).split(b"\n")
        carry = carry.lstrip(SPACE)
        check_size(carry)
        yield from array_of_lines(lines)
    yield from array_of_lines([carry])


def array_of_lines(lines: list[bytes]) -> Iterator[bytes]:
    """Yield the JSON array of the rows that stand in lines, unless all are blank."""
    if rows := [line for line in lines if line.strip()]:
        for row in rows:
            ONE.decode(row)  # or a comma or line break of ours would stand in the place of one that is missing
        yield b"[" + b",".join(rows) + b"]"


def check_size(text: bytes | bytearray) -> None:
    """Raise InvalidInputError for a row that is too long to be decoded at once."""
    if len(text) > MAX_ROW_BYTES:
        raise invalid(f"a row, or a text beside the rows, takes more than {MAX_ROW_BYTES:,} bytes", "json_too_long")


class Wrapped:
    """A file between two texts, to be read in pieces."""

    def __init__(self, start: bytes, file: IO[bytes], end: bytes) -> None:
        self.start = start
        self.file = file
        self.end = end

    def read(self, size: int) -> bytes:
        """Return the next bytes, about `size` of them; none at the end."""
        start, self.start = self.start, b""
        block = start + self.file.read(size)
        if not block:
            block, self.end = self.end, b""
        return block


def with_data(file: IO[bytes]) -> Wrapped:
    """Return a file that begins with an array as one in which this array is named data; any other as it is."""
    place = file.tell()
    is_array = file.read(1) == b"["
    file.seek(place)
    return Wrapped(b'{"data":', file, b"}") if is_array else Wrapped(b"", file, b"")


def data_arrays(file: Wrapped) -> Iterator[bytes]:
    """Yield JSON arrays of some of the rows of `{"data": [row, …]}` at a time; other keys are passed over.

    What stands under these is looked through for its brackets only. msgspec.DecodeError for what is no JSON.
    """
    outline = bytearray()  # the file without what stands in the arrays and objects of its object
    carry = b""
    depth = 0
    found = in_data = first = False
    while block := file.read(BLOCK_BYTES):
        text = carry + block
        plain = without_escapes(text)
        brackets = Brackets(plain, depth)
        position = 0
        for place, opens in brackets.outermost():
            if opens:
                outline += plain[position : place + 1]
                position = place + 1
                if is_data(outline):
                    if found:
                        raise msgspec.DecodeError("two arrays are named data")
                    found = in_data = first = True
            else:
                if in_data and text[position:place].strip(SPACE):
                    yield array(text[position:place], first=first)
                in_data = False
                position = place
        if in_data:
            depth = 2
            if (end := brackets.last_row_end()) > position:
                yield array(text[position:end], first=first)
                first = False
                position = end
        else:
            depth = brackets.depth
            if depth < 2:
                outline += plain[position : brackets.end]
                outline[len(outline.rstrip(SPACE)) + 1 :] = b""  # of white space at its end one character
            position = brackets.end
        carry = without_leading_space(text[position:])
        check_size(carry)
        check_size(outline)
    whole = bytes(outline) + carry
    ONE.decode(whole)
    if not whole.lstrip(SPACE).startswith(b"{") or not found:
        raise invalid('the file has neither an object with an array "data" nor a row in each line', "missing")


def without_leading_space(rows: bytes) -> bytes:
    """Return rows, or a string, without the white space before and after the comma that may stand first."""
    rows = rows.lstrip(SPACE)
    return b"," + rows[1:].lstrip(SPACE) if rows.startswith(b",") else rows


class Brackets:
    """The brackets of a piece of JSON, except those in strings; the piece begins outside of any string."""

    def __init__(self, text: bytes, depth: int) -> None:
        letters = np.frombuffer(text, np.uint8)
        quotes = np.flatnonzero(letters == ord('"'))
        folded = letters | 32  # takes [ for { and ] for }
        places = np.flatnonzero((folded == ord("{")) | (folded == ord("}")))
        self.places: Array = places[np.searchsorted(quotes, places) % 2 == 0]
        self.opens: Array = folded[self.places] == ord("{")
        # How many arrays and objects are open after each.
        self.depths: Array = depth + np.cumsum(np.where(self.opens, 1, -1))
        self.depth = int(self.depths[-1]) if len(self.places) else depth
        # Where the string begins that does not end in this piece, or the end of the piece.
        self.end = int(quotes[-1]) if len(quotes) % 2 else len(text)

    def outermost(self) -> list[tuple[int, bool]]:
        """Return the position of each bracket of an array or object in the file's object, and whether it opens one."""
        chosen = np.flatnonzero(self.depths == np.where(self.opens, 2, 1))
        return list(zip(self.places[chosen].tolist(), self.opens[chosen].tolist(), strict=True))

    def last_row_end(self) -> int:
        """Return where the last object or array in an array of the file's object ends, or 0."""
        ends = self.places[(self.depths == 2) & ~self.opens]
        return int(ends[-1]) + 1 if len(ends) else 0


def is_data(outline: bytearray) -> bool:
    """Return whether an outline ends where the array "data" begins."""
    name, colon, rest = bytes(outline[-1024:]).rpartition(b":")
    return bool(colon) and rest.strip(SPACE) == b"[" and name.rstrip(SPACE).endswith(b'"data"')


def array(rows: bytes, *, first: bool) -> bytes:
    """Return a JSON array of rows as they stand in a file, where a comma precedes all but the first."""
    rows = rows.strip(SPACE)
    if not first:
        if not rows.startswith(b",") or rows == b",":
            raise msgspec.DecodeError("rows are not separated by commas")
        rows = rows[1:]
    return b"[" + rows + b"]"
